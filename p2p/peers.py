"""What the host holds about a connected Tallystick peer."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from p2p.connection import Connection
from p2p.lanes import Lane
from p2p.messages import OutgoingMessages
from p2p.requests import RequestWindow
from p2p.status import ConnectionClass
from p2p.stream import Stream


class PeerInfo(msgspec.Struct, frozen=True):
    """A connected peer, for operators. `queues` maps protocol ids to messages waiting."""

    peer_id: str
    address: str
    direction: str
    classes: tuple[str, ...]
    rtt_ms: float | None
    height: int
    bytes_in: int
    bytes_out: int
    queues: dict[str, int]
    queued_bytes: int
    dropped_count: int
    agent: str
    since_s: float


@dataclass(slots=True, eq=False)
class Peer:
    """A peer with an accepted link. The tables are bounded by the registered protocols."""

    peer_id: str
    since_s: float
    agent: str = ""
    connections: dict[ConnectionClass, Connection] = field(default_factory=dict)
    queues: dict[str, OutgoingMessages] = field(default_factory=dict)
    windows: dict[str, RequestWindow] = field(default_factory=dict)
    # Streams on which it sends messages, by protocol.
    incoming: dict[str, list[Stream]] = field(default_factory=dict)
    dropped_count: int = 0

    def route(self, lane: Lane) -> Connection | None:
        """The link for a lane: votes take the urgent one, the rest the bulk one, if it stands."""
        wanted = ConnectionClass.URGENT if lane is Lane.L0 else ConnectionClass.BULK
        found = self.connections.get(wanted)
        if found is None:
            found = next(iter(self.connections.values()), None)
        return found

    def rebind(self) -> None:
        """Moves every queue to the link that now suits it."""
        for queue in self.queues.values():
            queue.bind(self.route(queue.protocol.lane))

    def info(self, height: int) -> PeerInfo:
        """The operator's view."""
        links = [self.connections[kind] for kind in ConnectionClass if kind in self.connections]
        rtts = [link.rtt_ms for link in links if link.rtt_ms is not None]
        queues = {name: queue.queued_count for name, queue in self.queues.items()}
        return PeerInfo(
            peer_id=self.peer_id,
            address=links[0].address,
            direction="outbound" if links[0].dialed else "inbound",
            classes=tuple(kind.value for kind in ConnectionClass if kind in self.connections),
            rtt_ms=min(rtts, default=None),
            height=height,
            bytes_in=sum(link.bytes_in for link in links),
            bytes_out=sum(link.bytes_out for link in links),
            queues=queues,
            queued_bytes=sum(queue.queued_bytes for queue in self.queues.values())
            + sum(link.queued_bytes for link in links),
            dropped_count=self.dropped_count,
            agent=self.agent,
            since_s=self.since_s,
        )
