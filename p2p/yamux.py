"""yamux, the stream multiplexer, as a synchronous core: bytes in, events and bytes out.

Frame: version u8 = 0, type u8, flags u16, stream id u32, length u32, big-endian; only Data frames
have a body of `length` bytes.

    type            length is            flags
    0 Data          body bytes           SYN ACK FIN RST
    1 WindowUpdate  window to add        SYN ACK FIN RST
    2 Ping          opaque value         SYN asks, ACK answers (stream 0)
    3 GoAway        0 normal 1 protocol error 2 internal error (stream 0)

Streams of the dialer have odd ids, of the listener even ones. SYN opens, ACK confirms, FIN ends one
direction, RST ends both. Each direction of a stream starts with a window of 256 KiB; a sender never
exceeds it, a receiver widens it as its reader consumes.

    state of a stream   send side        receive side     gone when
    open                may send         may receive      RST either way
    local FIN           closed           may receive      peer's FIN
    remote FIN          may send         closed           our FIN

Frames for a stream that existed are dropped silently (the peer had not seen our RST yet); frames
for one that never did, wrong parity, flags that mean nothing, a breached window: all end the
session. The core holds no payload: data leaves as events as it comes, also in the middle of a
frame, and outgoing payload stays with its producer until there is window.
Source: hashicorp/yamux spec.md.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec

from p2p.errors import YamuxViolation

INITIAL_WINDOW_BYTES = 256 * 1024
HEADER_BYTES = 12

TYPE_DATA, TYPE_WINDOW_UPDATE, TYPE_PING, TYPE_GO_AWAY = range(4)
FLAG_SYN, FLAG_ACK, FLAG_FIN, FLAG_RST = 1, 2, 4, 8

MAX_WINDOW_BYTES = 0xFFFF_FFFF
MAX_STREAM_ID = 0xFFFF_FFFF

# Answers to pings and resets wait here while the peer does not read. 5,000 of them unread means the
# peer only writes, and is cut off.
CONTROL_MAX_BYTES = 60 * 1024

_HEADER = struct.Struct(">BBHII")
_pack = _HEADER.pack
_unpack_from = _HEADER.unpack_from


class GoAwayCode(IntEnum):
    """Why a session ends."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


class Event(msgspec.Struct, frozen=True):
    """Base of what `YamuxSession.receive` yields."""


class StreamOpened(Event, frozen=True):
    """The peer opened a stream."""

    stream_id: int


class StreamData(Event, frozen=True):
    """Payload, in order. The reader must report it with `consumed`."""

    stream_id: int
    data: bytes


class StreamEnded(Event, frozen=True):
    """The peer sends nothing more on this stream."""

    stream_id: int


class StreamReset(Event, frozen=True):
    """The peer dropped the stream in both directions."""

    stream_id: int


class WindowGrew(Event, frozen=True):
    """There is window again on a stream which had none."""

    stream_id: int


class Pong(Event, frozen=True):
    """Our ping came back."""

    value: int


class GoneAway(Event, frozen=True):
    """The peer ends the session with `code`."""

    code: int


class _Stream:
    __slots__ = ("consumed", "local_fin", "receive_window", "remote_fin", "send_window")

    def __init__(self, receive_window: int) -> None:
        self.send_window = INITIAL_WINDOW_BYTES
        self.receive_window = receive_window
        self.consumed = 0
        self.local_fin = False
        self.remote_fin = False


class YamuxSession:
    """One side of a session. After YamuxViolation the session must be torn down.

    `receive_window_bytes` (at least 256 KiB) is what a peer may have in flight on one stream;
    `inbound_max_count` bounds the streams the peer may hold open.
    """

    def __init__(
        self,
        *,
        dialer: bool,
        inbound_max_count: int,
        receive_window_bytes: int = INITIAL_WINDOW_BYTES,
    ) -> None:
        assert INITIAL_WINDOW_BYTES <= receive_window_bytes < 2**31
        self._streams: dict[int, _Stream] = {}
        self._next_id = 1 if dialer else 2
        self._remote_parity = 0 if dialer else 1
        self._highest_remote_id = 0
        self._inbound_count = 0
        self._inbound_max_count = inbound_max_count
        self._window_bytes = receive_window_bytes
        self._control = bytearray()
        self._head = b""
        self._body_left = 0
        self._body_stream_id = 0
        self._body_flags = 0
        self._pinging: int | None = None
        self._dead = False

    # -- sending --------------------------------------------------------------------------------

    @property
    def stream_count(self) -> int:
        """Streams open in either direction."""
        return len(self._streams)

    @property
    def control_bytes(self) -> int:
        """Bytes waiting in `take_control`."""
        return len(self._control)

    def open_stream(self) -> int:
        """Opens a stream and returns its id. Raises YamuxViolation when the ids are used up."""
        stream_id = self._next_id
        if stream_id > MAX_STREAM_ID:
            raise YamuxViolation("stream ids used up")
        self._next_id += 2
        self._streams[stream_id] = _Stream(self._window_bytes)
        self._control += _pack(
            0, TYPE_WINDOW_UPDATE, FLAG_SYN, stream_id, self._window_bytes - INITIAL_WINDOW_BYTES
        )
        return stream_id

    def send_window(self, stream_id: int) -> int:
        """Bytes that may be sent now; 0 also on a stream that is gone or finished."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None or stream.local_fin else stream.send_window

    def is_open(self, stream_id: int) -> bool:
        """Whether either direction of the stream is open."""
        return stream_id in self._streams

    def data_header(self, stream_id: int, size_bytes: int) -> bytes:
        """The header of a Data frame whose body the caller writes behind it; uses up window."""
        stream = self._streams[stream_id]
        assert 0 < size_bytes <= stream.send_window
        assert not stream.local_fin
        stream.send_window -= size_bytes
        return _pack(0, TYPE_DATA, 0, stream_id, size_bytes)

    def finish(self, stream_id: int) -> None:
        """Ends our direction. Frames made before must be written before `take_control`'s bytes."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.local_fin:
            return
        stream.local_fin = True
        self._control += _pack(0, TYPE_WINDOW_UPDATE, FLAG_FIN, stream_id, 0)
        if stream.remote_fin:
            self._forget(stream_id)

    def reset(self, stream_id: int) -> None:
        """Drops a stream in both directions."""
        if stream_id in self._streams:
            self._control += _pack(0, TYPE_WINDOW_UPDATE, FLAG_RST, stream_id, 0)
            self._forget(stream_id)

    def consumed(self, stream_id: int, size_bytes: int) -> None:
        """The reader is done with `size_bytes`; the window is widened by halves, not per call."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.remote_fin:
            return
        stream.consumed += size_bytes
        if 2 * stream.consumed >= self._window_bytes:
            stream.receive_window += stream.consumed
            self._control += _pack(0, TYPE_WINDOW_UPDATE, 0, stream_id, stream.consumed)
            stream.consumed = 0

    def ping(self, value: int) -> None:
        """Asks for a Pong with `value` (u32). One ping at a time: a new one replaces the last."""
        self._pinging = value
        self._control += _pack(0, TYPE_PING, FLAG_SYN, 0, value)

    def go_away(self, code: GoAwayCode) -> None:
        """Announces the end of the session."""
        self._control += _pack(0, TYPE_GO_AWAY, 0, 0, code)

    def take_control(self) -> bytes:
        """Control frames to send now, in order."""
        control = bytes(self._control)
        self._control.clear()
        return control

    # -- receiving ------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """The events in `data`, cut anywhere. Raises YamuxViolation."""
        assert not self._dead
        events: list[Event] = []
        try:
            self._receive(data, events)
        except YamuxViolation:
            self._dead = True
            raise
        return events

    def _receive(self, data: bytes, events: list[Event]) -> None:
        offset = 0
        size = len(data)
        if self._head:
            data = self._head + data
            size = len(data)
            self._head = b""
        while True:
            if self._body_left:
                offset = self._take_body(data, offset, events)
            if size - offset < HEADER_BYTES:
                self._head = data[offset:]
                break
            version, kind, flags, stream_id, length = _unpack_from(data, offset)
            offset += HEADER_BYTES
            if version or kind > TYPE_GO_AWAY or flags > 15:
                raise YamuxViolation(f"header {version}/{kind}/{flags}", stream_id)
            if kind == TYPE_DATA:
                self._handle_data(flags, stream_id, length, events)
            elif kind == TYPE_WINDOW_UPDATE:
                self._handle_window(flags, stream_id, length, events)
            elif stream_id:
                raise YamuxViolation("session frame on a stream", stream_id)
            elif kind == TYPE_PING:
                self._handle_ping(flags, length, events)
            else:
                events.append(GoneAway(length))
        if len(self._control) > CONTROL_MAX_BYTES:
            raise YamuxViolation("peer writes without reading")

    def _take_body(self, data: bytes, offset: int, events: list[Event]) -> int:
        """Hands on what is there of a Data frame's body; the offset behind it."""
        end = min(offset + self._body_left, len(data))
        self._body_left -= end - offset
        if end > offset and self._body_stream_id in self._streams:
            events.append(StreamData(self._body_stream_id, data[offset:end]))
        if not self._body_left and self._body_flags & (FLAG_FIN | FLAG_RST):
            self._end(self._body_stream_id, self._body_flags, events)
        return end

    def _handle_data(self, flags: int, stream_id: int, length: int, events: list[Event]) -> None:
        stream = self._lookup(flags, stream_id, events)
        if stream is not None:
            if stream.remote_fin and length:
                raise YamuxViolation("data behind the end", stream_id)
            if length > stream.receive_window:
                raise YamuxViolation("window breached", stream_id)
            stream.receive_window -= length
        elif length > self._window_bytes:
            raise YamuxViolation("window breached", stream_id)
        if length:
            self._body_left = length
            self._body_stream_id = stream_id
            self._body_flags = flags
        elif flags & (FLAG_FIN | FLAG_RST):
            self._end(stream_id, flags, events)

    def _handle_window(self, flags: int, stream_id: int, delta: int, events: list[Event]) -> None:
        stream = self._lookup(flags, stream_id, events)
        if stream is not None and delta:
            if stream.send_window + delta > MAX_WINDOW_BYTES:
                raise YamuxViolation("window past 2^32", stream_id)
            if stream.send_window == 0 and not stream.local_fin:
                events.append(WindowGrew(stream_id))
            stream.send_window += delta
        if flags & (FLAG_FIN | FLAG_RST):
            self._end(stream_id, flags, events)

    def _handle_ping(self, flags: int, value: int, events: list[Event]) -> None:
        if flags == FLAG_SYN:
            self._control += _pack(0, TYPE_PING, FLAG_ACK, 0, value)
        elif flags == FLAG_ACK:
            if value == self._pinging:
                self._pinging = None
                events.append(Pong(value))
        else:
            raise YamuxViolation(f"ping with flags {flags}")

    def _lookup(self, flags: int, stream_id: int, events: list[Event]) -> _Stream | None:
        """The stream a frame belongs to, opened by SYN; None for one that is gone."""
        if flags & FLAG_SYN:
            return self._open_inbound(stream_id, events)
        stream = self._streams.get(stream_id)
        if stream is None:
            if stream_id % 2 == self._remote_parity:
                known = 0 < stream_id <= self._highest_remote_id
            else:
                known = 0 < stream_id < self._next_id
            if not known:
                raise YamuxViolation("stream never opened", stream_id)
        elif flags & FLAG_ACK and stream_id % 2 == self._remote_parity:
            raise YamuxViolation("ACK of a stream the peer opened", stream_id)
        return stream

    def _open_inbound(self, stream_id: int, events: list[Event]) -> _Stream | None:
        if stream_id % 2 != self._remote_parity or stream_id <= self._highest_remote_id:
            raise YamuxViolation("SYN with a used or foreign id", stream_id)
        self._highest_remote_id = stream_id
        if self._inbound_count >= self._inbound_max_count:
            self._control += _pack(0, TYPE_WINDOW_UPDATE, FLAG_RST, stream_id, 0)
            return None
        self._inbound_count += 1
        stream = self._streams[stream_id] = _Stream(self._window_bytes)
        self._control += _pack(
            0, TYPE_WINDOW_UPDATE, FLAG_ACK, stream_id, self._window_bytes - INITIAL_WINDOW_BYTES
        )
        events.append(StreamOpened(stream_id))
        return stream

    def _end(self, stream_id: int, flags: int, events: list[Event]) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if flags & FLAG_RST:
            self._forget(stream_id)
            events.append(StreamReset(stream_id))
            return
        if stream.remote_fin:
            raise YamuxViolation("second FIN", stream_id)
        stream.remote_fin = True
        events.append(StreamEnded(stream_id))
        if stream.local_fin:
            self._forget(stream_id)

    def _forget(self, stream_id: int) -> None:
        del self._streams[stream_id]
        if stream_id % 2 == self._remote_parity:
            self._inbound_count -= 1
