"""net_*: who this node is connected to."""

from __future__ import annotations

from ledger.identity import peer_id
from rpc.context import Call
from rpc.forms import peer_form
from rpc.registry import method
from rpc.values import PAGE_DEFAULT_COUNT, Cursor, Limit, Order, page_of


@method("net_peers", cost=2)
def net_peers(
    call: Call,
    limit: Limit = PAGE_DEFAULT_COUNT,
    cursor: Cursor | None = None,
    order: Order = "asc",
) -> object:
    """Connected peers, by PeerID: {items, nextCursor}."""
    return page_of(
        "peers",
        call.node.peers(),
        lambda peer: peer_id(peer.node_key),
        peer_form,
        limit=limit,
        cursor=cursor,
        descending=order == "desc",
    ).as_object()


METHODS = (net_peers,)
