"""One stream of a connection: negotiation of its protocol, its outgoing bytes, its handler.

A `StreamHandler` is what a protocol puts on a stream. It is called synchronously as bytes come and
must be done with them when it returns, apart from an incomplete message which it holds within its
own limit and reports as `buffered_bytes`.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from p2p.lanes import Lane
from p2p.multistream import MultistreamDialer, MultistreamListener

Piece = bytes | memoryview


class StreamHandler:
    """Callbacks of a stream; the defaults ignore what they are told."""

    buffered_bytes = 0

    def agreed(self, stream: Stream) -> None:
        """The peer speaks the protocol of this stream, which we opened."""

    def refused(self, stream: Stream) -> None:
        """The peer does not speak the protocol; the stream is gone."""

    def data(self, stream: Stream, data: bytes) -> None:
        """Bytes came."""

    def ended(self, stream: Stream) -> None:
        """The peer sends nothing more."""

    def aborted(self, stream: Stream, reason: str) -> None:
        """The stream is gone: reset by the peer, or the link lost. Not called after our reset."""


class Source(Protocol):
    """Produces a stream's bytes at the last moment, so that a queue can still drop them before."""

    def has_more(self) -> bool:
        """Whether `refill` would give anything."""

    def refill(self, out: deque[Piece], room_bytes: int) -> None:
        """Appends at least one piece, about `room_bytes` in all."""


class StreamOwner(Protocol):
    """What a stream needs of its connection."""

    def wake(self, stream: Stream) -> None:
        """Schedules the stream, which has something to send."""

    def drop(self, stream: Stream) -> None:
        """Resets the stream."""


class Stream:
    """Outgoing bytes leave through `take`, called by the connection's writer alone."""

    __slots__ = (
        "deadline_s",
        "finished",
        "finishing",
        "handler",
        "held_bytes",
        "lane",
        "negotiation",
        "open",
        "out",
        "owner",
        "protocol_id",
        "scheduled",
        "source",
        "stream_id",
    )

    def __init__(
        self,
        owner: StreamOwner,
        stream_id: int,
        *,
        lane: Lane,
        handler: StreamHandler,
        negotiation: MultistreamDialer | MultistreamListener,
    ) -> None:
        self.owner = owner
        self.stream_id = stream_id
        self.lane = lane
        self.handler = handler
        self.negotiation: MultistreamDialer | MultistreamListener | None = negotiation
        self.protocol_id = ""
        self.source: Source | None = None
        self.out: deque[Piece] = deque()
        self.scheduled = False
        self.finishing = False
        self.finished = False
        self.open = True
        # What the handler held of an incomplete message when it was last asked.
        self.held_bytes = 0
        # Monotonic second at which an inbound stream is reset; None once it has brought its due.
        self.deadline_s: float | None = None

    @property
    def has_output(self) -> bool:
        """Whether `take` would give bytes."""
        return bool(self.out) or (self.source is not None and self.source.has_more())

    def write(self, *pieces: bytes) -> None:
        """Appends bytes. The caller bounds what it appends: a request, a response, a status."""
        assert not self.finishing
        self.out.extend(piece for piece in pieces if piece)
        self.owner.wake(self)

    def finish(self) -> None:
        """Ends our direction behind the bytes written so far."""
        if not self.finishing:
            self.finishing = True
            self.owner.wake(self)

    def reset(self) -> None:
        """Drops the stream at once; the handler hears nothing more."""
        if self.open:
            self.owner.drop(self)

    def take(self, limit_bytes: int) -> tuple[list[Piece], int]:
        """Pieces to send now and their size, at most `limit_bytes`."""
        pieces: list[Piece] = []
        room = limit_bytes
        out = self.out
        while room:
            if not out:
                if self.source is None or not self.source.has_more():
                    break
                self.source.refill(out, room)
            piece = out[0]
            size = len(piece)
            if size <= room:
                pieces.append(out.popleft())
                room -= size
            else:
                view = memoryview(piece)
                pieces.append(view[:room])
                out[0] = view[room:]
                room = 0
        return pieces, limit_bytes - room
