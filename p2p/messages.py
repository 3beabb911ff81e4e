"""One-way messages: a bounded queue and one long-lived stream per peer and protocol.

Payloads travel behind a uvarint length. They wait in the queue, where the overflow rule of the
protocol can still drop them, and move to the stream only when the writer has room for them. Order
is kept while the link stands; what was on its way when a link died is lost and not sent again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ledger.errors import InvalidData
from p2p.connection import Connection
from p2p.errors import MalformedFrame
from p2p.lanes import Lane
from p2p.stream import Piece, Stream, StreamHandler
from p2p.wire import FrameReader, encode_uvarint

# Joining a small payload to its length prefix is cheaper than sending two pieces.
_JOIN_BYTES = 1024

QUEUE_MAX_COUNT = 4096
"""Default bound of a queue: one second of small messages at 4,000/s."""

STREAMS_MAX_COUNT = 4
"""Streams on which one peer may send messages of one protocol. It needs one, and another while its
queue moves to a new link; each may hold an incomplete message of the largest size."""

L0_MAX_BYTES = 1024 * 1024
"""Largest message of lane L0, before which everything else waits: 80 ms at 100 Mbit/s."""

QUEUE_MIN_BYTES = 1024 * 1024
"""Least default bound in bytes: 250 bytes for each of those."""


class Overflow(Enum):
    """What a full queue drops."""

    DROP_OLDEST = "oldest"
    DROP_NEWEST = "newest"


MessageHandler = Callable[[str, bytes], None]


def from_everybody(_peer_id: str) -> bool:
    """A protocol on which every peer of ours is heard."""
    return True


@dataclass(frozen=True, slots=True)
class MessageProtocol:
    """A registered one-way protocol. `handler(peer_id, payload)` is called in order, synchronously.

    `queue_bytes` bounds the payload bytes queued for one peer; it holds at least one message. Of a
    peer that `hears` does not want to hear, nothing is buffered: its streams are reset.
    """

    protocol_id: str
    lane: Lane
    max_size_bytes: int
    handler: MessageHandler
    queue_count: int
    queue_bytes: int
    overflow: Overflow
    hears: Callable[[str], bool] = from_everybody

    def __post_init__(self) -> None:
        assert self.max_size_bytes > 0
        assert self.lane is not Lane.L0 or self.max_size_bytes <= L0_MAX_BYTES
        assert self.queue_count > 0
        assert self.queue_bytes >= self.max_size_bytes


class MessageOwner(Protocol):
    """What the message services need of the host."""

    def messages_dropped(self, peer_id: str, protocol_id: str, count: int, rule: str) -> None:
        """Outgoing messages were dropped."""

    def invalid_message(self, peer_id: str, protocol_id: str, error: InvalidData) -> None:
        """A handler refused a payload as invalid."""


class OutgoingMessages(StreamHandler):
    """The queue of one peer and protocol, and the stream it feeds."""

    def __init__(self, owner: MessageOwner, peer_id: str, protocol: MessageProtocol) -> None:
        self.protocol = protocol
        self.peer_id = peer_id
        self.queued_bytes = 0
        self.dropped_count = 0
        self.supported = True
        self._owner = owner
        self._queue: deque[bytes] = deque()
        self._connection: Connection | None = None
        self._stream: Stream | None = None

    @property
    def queued_count(self) -> int:
        """Messages waiting."""
        return len(self._queue)

    def put(self, payload: bytes) -> bool:
        """Queues a payload; False when it was dropped. Raises ValueError past the size limit."""
        protocol = self.protocol
        size = len(payload)
        if size > protocol.max_size_bytes:
            limit = protocol.max_size_bytes
            raise ValueError(f"{protocol.protocol_id}: {size} bytes, at most {limit} are allowed")
        if not self.supported:
            self._count_dropped(1, "unsupported")
            return False
        queue = self._queue
        if len(queue) >= protocol.queue_count or self.queued_bytes + size > protocol.queue_bytes:
            if protocol.overflow is Overflow.DROP_NEWEST:
                self._count_dropped(1, protocol.overflow.value)
                return False
            self._drop_oldest(size)
        queue.append(payload)
        self.queued_bytes += size
        stream = self._stream
        if stream is None:
            self._open()
        elif not stream.scheduled:
            stream.owner.wake(stream)
        return True

    def bind(self, connection: Connection | None) -> None:
        """Moves the queue to another link, or (None) to no link, where it empties itself."""
        if connection is self._connection:
            return
        old, self._stream = self._stream, None
        if old is not None:
            # A message that was begun is finished on the old stream.
            old.source = None
            old.finish()
        self._connection = connection
        if connection is None:
            self._count_dropped(len(self._queue), "lost")
            self._queue.clear()
            self.queued_bytes = 0
        elif self._queue:
            self._open()

    def _open(self) -> None:
        if self._connection is not None and not self._connection.closed:
            protocol = self.protocol
            stream = self._connection.open_stream(protocol.protocol_id, protocol.lane, self)
            self._stream = stream
            stream.source = self
            stream.owner.wake(stream)

    def _drop_oldest(self, size_bytes: int) -> None:
        protocol = self.protocol
        queue = self._queue
        count = 0
        while queue and (
            len(queue) >= protocol.queue_count
            or self.queued_bytes + size_bytes > protocol.queue_bytes
        ):
            self.queued_bytes -= len(queue.popleft())
            count += 1
        self._count_dropped(count, protocol.overflow.value)

    def _count_dropped(self, count: int, rule: str) -> None:
        if count:
            self.dropped_count += count
            self._owner.messages_dropped(self.peer_id, self.protocol.protocol_id, count, rule)

    # -- Source ---------------------------------------------------------------------------------

    def has_more(self) -> bool:
        """Whether messages wait."""
        return bool(self._queue)

    def refill(self, out: deque[Piece], room_bytes: int) -> None:
        """Moves messages from the queue to the stream."""
        queue = self._queue
        while queue and room_bytes > 0:
            payload = queue.popleft()
            size = len(payload)
            self.queued_bytes -= size
            if size <= _JOIN_BYTES:
                out.append(encode_uvarint(size) + payload)
            else:
                out.append(encode_uvarint(size))
                out.append(payload)
            room_bytes -= size + 2

    # -- StreamHandler --------------------------------------------------------------------------

    def refused(self, stream: Stream) -> None:
        """The peer does not speak the protocol: nothing more is queued for it."""
        if stream is self._stream:
            self._stream = None
            self.supported = False
            self._count_dropped(len(self._queue), "unsupported")
            self._queue.clear()
            self.queued_bytes = 0

    def data(self, _stream: Stream, _data: bytes) -> None:
        """Nothing may come back on a one-way stream."""
        raise MalformedFrame(self.protocol.protocol_id, "bytes on a one-way stream")

    def aborted(self, stream: Stream, _reason: str) -> None:
        """The next message opens a new stream."""
        if stream is self._stream:
            self._stream = None


class IncomingMessages(StreamHandler):
    """A peer's stream of one-way messages to us."""

    def __init__(self, owner: MessageOwner, peer_id: str, protocol: MessageProtocol) -> None:
        self._owner = owner
        self._peer_id = peer_id
        self._protocol = protocol
        self._reader = FrameReader(protocol.protocol_id, protocol.max_size_bytes)

    @property
    def buffered_bytes(self) -> int:  # type: ignore[override]
        """Bytes of an incomplete message."""
        return self._reader.buffered_bytes

    def data(self, stream: Stream, data: bytes) -> None:
        """Hands complete messages to the protocol's handler."""
        if not self._protocol.hears(self._peer_id):
            stream.reset()
            return
        handler = self._protocol.handler
        peer_id = self._peer_id
        for payload in self._reader.feed(data):
            try:
                handler(peer_id, payload)
            except InvalidData as error:
                self._owner.invalid_message(peer_id, self._protocol.protocol_id, error)
            if not stream.open:
                return

    def ended(self, stream: Stream) -> None:
        """The peer moved to another link or leaves."""
        stream.finish()
