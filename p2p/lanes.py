"""Lanes: which bytes of a connection go first.

    L0 votes, proposals, heartbeats        strictly first; its producers cap the size of a message
    L1 block parts, evidence               -
    L2 transactions, gossip control         | deficit round-robin by the quanta below,
    L3 discovery                            | so that none starves
    L4 sync and bulk                       -

Inside a lane, streams take turns, a chunk each. This decides only what is written next: it works
because few bytes hide in kernel buffers (see `p2p.connection`).
Source: M. Shreedhar and G. Varghese, Efficient Fair Queuing using Deficit Round Robin (1995).
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

# One chunk holds up everything behind it; 16 KiB take 7 ms at 20 Mbit/s and fit one TLS record.
CHUNK_BYTES = 16 * 1024 - 12


class Lane(IntEnum):
    """Priority of a protocol's bytes; lower is more urgent."""

    L0 = 0
    L1 = 1
    L2 = 2
    L3 = 3
    L4 = 4


# Shares of the lanes below L0 while all are busy: 1/2, 1/4, 1/16, 3/16.
QUANTUM_BYTES = {
    Lane.L1: 8 * CHUNK_BYTES,
    Lane.L2: 4 * CHUNK_BYTES,
    Lane.L3: 1 * CHUNK_BYTES,
    Lane.L4: 3 * CHUNK_BYTES,
}
_SHARED = tuple(QUANTUM_BYTES)


class _HasLane(Protocol):
    @property
    def lane(self) -> Lane: ...


S = TypeVar("S", bound=_HasLane)


class LaneScheduler(Generic[S]):
    """Streams with something to send, in the order in which they may.

    `pick` takes a stream out; `done` reports what it sent and puts it back while it has more. The
    caller adds a stream at most once, so the queues are bounded by the streams of the connection.
    """

    __slots__ = ("_deficit", "_queues", "_turn")

    def __init__(self) -> None:
        self._queues: list[deque[S]] = [deque() for _ in Lane]
        self._deficit = [0] * len(Lane)
        self._turn = 0

    def __bool__(self) -> bool:
        return any(self._queues)

    def add(self, stream: S) -> None:
        """Puts a stream at the end of its lane."""
        self._queues[stream.lane].append(stream)

    def pick(self) -> S | None:
        """The stream whose turn it is, taken out; None when there is none."""
        if self._queues[Lane.L0]:
            return self._queues[Lane.L0].popleft()
        for _ in _SHARED:
            lane = _SHARED[self._turn]
            queue = self._queues[lane]
            if queue:
                # A debt is less than one chunk, so one quantum always settles it; and no lane ever
                # has more than one quantum in hand, so an idle one saves nothing up.
                if self._deficit[lane] <= 0:
                    self._deficit[lane] += QUANTUM_BYTES[lane]
                return queue.popleft()
            self._turn = (self._turn + 1) % len(_SHARED)
        return None

    def done(self, stream: S, sent_bytes: int, *, more: bool) -> None:
        """Reports what the picked stream sent."""
        lane = stream.lane
        self._deficit[lane] -= sent_bytes
        if more:
            self._queues[lane].append(stream)
        if lane is not Lane.L0 and self._deficit[lane] <= 0:
            self._turn = (_SHARED.index(lane) + 1) % len(_SHARED)
