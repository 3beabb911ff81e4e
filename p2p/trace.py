"""What the p2p room reports. Addresses are "host:port", `dialed` says that we dialled the link."""

from __future__ import annotations

from ledger.trace import TraceEvent


class Listening(TraceEvent, frozen=True):
    """The host accepts links."""

    peer_id: str
    address: str


class LinkSecured(TraceEvent, frozen=True):
    """A link proved its identity and is multiplexed."""

    peer_id: str
    address: str
    dialed: bool


class LinkRefused(TraceEvent, frozen=True):
    """A link ended before it was secured; `kind` as in `PeerFault.kind`, or "lost", "timeout"."""

    address: str
    dialed: bool
    kind: str
    detail: str


class LinkClosed(TraceEvent, frozen=True):
    """A secured link is gone."""

    peer_id: str
    address: str
    dialed: bool
    reason: str
    bytes_in: int
    bytes_out: int


class StatusAccepted(TraceEvent, frozen=True):
    """A link of a Tallystick peer of our network stands."""

    peer_id: str
    connection_class: str
    height: int
    dialed: bool


class StatusRefused(TraceEvent, frozen=True):
    """The status exchange ended in a refusal, by us or by the peer; `code` as in p2p.status."""

    peer_id: str
    code: str
    detail: str
    by_peer: bool


class ForeignPeer(TraceEvent, frozen=True):
    """A libp2p program that does not speak our status protocol."""

    peer_id: str


class PeerUp(TraceEvent, frozen=True):
    """First link of a peer accepted."""

    peer_id: str


class PeerDown(TraceEvent, frozen=True):
    """Last link of a peer gone."""

    peer_id: str
    reason: str


class DialFailed(TraceEvent, frozen=True):
    """A dial of a persistent peer failed; the next attempt follows in `retry_s`."""

    peer_id: str
    connection_class: str
    attempt: int
    retry_s: float
    reason: str


class MessagesDropped(TraceEvent, frozen=True):
    """Outgoing messages were dropped; `rule`: "oldest", "newest" (queue full), "lost" (link)."""

    peer_id: str
    protocol_id: str
    count: int
    rule: str


class PeerCharged(TraceEvent, frozen=True):
    """A peer's fault was charged; `total_points` after decay and addition."""

    peer_id: str
    kind: str
    points: float
    total_points: float


class PeerBanned(TraceEvent, frozen=True):
    """A peer went past the fault limit and is refused for `seconds`."""

    peer_id: str
    kind: str
    seconds: float


class RequestFailed(TraceEvent, frozen=True):
    """A request of ours brought no answer; `kind` names the exception."""

    peer_id: str
    protocol_id: str
    kind: str
    detail: str


class ResponseRefused(TraceEvent, frozen=True):
    """A peer's request was answered with no."""

    peer_id: str
    protocol_id: str
    reason: str
