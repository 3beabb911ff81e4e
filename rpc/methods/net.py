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


@method("net_info", cost=2)
def net_info(call: Call) -> object:
    """This node on the network: {peerId, listening, agent, links, inbound, outbound, …}.

    `dialing` are the links it keeps up by itself, with `failures` in a row (a link that the peer
    dialled first needs none of ours); `foreign` are connected libp2p programs of another kind.
    """
    network, peers = call.node.network(), call.node.peers()
    outbound = sum(peer.outbound for peer in peers)
    return {
        "peerId": peer_id(network.node_key),
        "listening": network.listening,
        "agent": network.agent,
        "links": network.links,
        "inbound": len(peers) - outbound,
        "outbound": outbound,
        "validators": sum(peer.validator is not None for peer in peers),
        "dialing": [
            {
                "peerId": peer_id(each.node_key),
                "address": each.address,
                "link": each.link,
                "failures": each.failures,
                "lastFailure": each.last_failure or None,
            }
            for each in network.dialing
        ],
        "foreign": [
            {"peerId": name, "address": address, "agent": agent}
            for name, address, agent in network.foreign
        ],
    }


METHODS = (net_info, net_peers)
