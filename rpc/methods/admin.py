"""admin_*: the operator's commands, through the node's unix socket or with its token.

What they change lives as long as the process; settings stay as they are written.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rpc.context import Call
from rpc.errors import InvalidParams, MethodDisabled, NotFound, Unauthorized
from rpc.ports import AdminApi, LogLevel
from rpc.registry import method
from rpc.values import AddressText, address_of

# A PeerID of 53 characters, a host name of 253 and a port.
PeerText = Annotated[str, Field(min_length=1, max_length=320)]


def _operator(call: Call) -> AdminApi:
    admin = call.desk.admin
    if admin is None:
        raise MethodDisabled("this node takes no commands")
    return admin


@method("admin_addPeer", auth="admin", errors=(Unauthorized, InvalidParams), cost=1)
def admin_add_peer(call: Call, peer: PeerText) -> object:
    """Keeps links to `peer`, "PeerID@host:port", until the node stops: {peerId}."""
    try:
        return {"peerId": _operator(call).add_peer(peer)}
    except ValueError as error:
        raise InvalidParams(
            f"peer: {error}", reason="INVALID_PEER", facts={"parameter": "peer"}
        ) from None


@method("admin_removePeer", auth="admin", errors=(Unauthorized, NotFound), cost=1)
def admin_remove_peer(call: Call, peer_id: AddressText) -> object:
    """Stops dialling a peer and closes its links; it may come back by itself: {peerId}."""
    address_of(peer_id, "peerId")
    if not _operator(call).remove_peer(peer_id):
        raise NotFound("no such peer is dialled or connected", reason="PEER_NOT_FOUND")
    return {"peerId": peer_id}


@method("admin_setLogLevel", auth="admin", errors=(Unauthorized,), cost=1)
def admin_set_log_level(call: Call, level: LogLevel) -> object:
    """Logs from this level on, until the node stops: {level}."""
    _operator(call).set_log_level(level)
    return {"level": level}


@method("admin_stop", auth="admin", errors=(Unauthorized,), cost=1)
def admin_stop(call: Call) -> object:
    """Stops the node in order, after this answer: {stopping}."""
    _operator(call).stop()
    return {"stopping": True}


METHODS = (admin_add_peer, admin_remove_peer, admin_set_log_level, admin_stop)
