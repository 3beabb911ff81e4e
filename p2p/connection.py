"""The shell around one link: an asyncio transport below, streams above.

Reading never waits for writing: `data_received` takes every record in what came, hands the payload
to the streams' handlers and returns. There is one way to write: streams with something to send wait
in the lane scheduler, and `_flush` cuts batches of chunks from them, seals each batch and gives it
to the transport, once per turn of the event loop and only while the transport takes it.

A priority queue does nothing for bytes that already hide in buffers below it, so those are kept
small: TCP_NOTSENT_LOWAT bounds the unsent bytes in the kernel, low write limits the event loop's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast

from p2p.clock import Clock
from p2p.errors import (
    FrameTooLarge,
    HandshakeTimeout,
    LinkLost,
    P2PError,
    PeerFault,
)
from p2p.keys import PublicKey
from p2p.lanes import CHUNK_BYTES, Lane, LaneScheduler
from p2p.limits import Limits
from p2p.link import SecureLink, Stage
from p2p.multistream import MultistreamDialer, MultistreamListener
from p2p.status import ConnectionClass
from p2p.stream import Piece, Stream, StreamHandler
from p2p.yamux import (
    Event,
    GoAwayCode,
    GoneAway,
    Pong,
    StreamData,
    StreamEnded,
    StreamOpened,
    StreamReset,
    WindowGrew,
    YamuxSession,
)

# Sealed in one go and written with one system call: four TLS records.
BATCH_BYTES = 64 * 1024
# Batches per turn of the event loop, so that one fast link does not starve the others.
BATCHES_MAX_COUNT = 4


class ConnectionOwner(Protocol):
    """What a connection needs of its host. None of these may raise but for a bug."""

    clock: Clock
    limits: Limits

    def connection_made(self, connection: Connection) -> None:
        """The transport stands."""

    def connection_secured(self, connection: Connection) -> None:
        """The peer's identity is proved and streams may be opened."""

    def connection_closed(self, connection: Connection) -> None:
        """The link is of no more use; `close_error` says why. Called exactly once."""

    def connection_gone(self, connection: Connection) -> None:
        """The transport is gone too."""

    def supports(self, connection: Connection, protocol_id: str) -> bool:
        """Whether the peer may open streams of the protocol."""

    def accept_stream(self, connection: Connection, stream: Stream) -> None:
        """Sets handler and lane of an inbound stream; `stream.protocol_id` is agreed."""

    def peer_fault(self, connection: Connection, fault: PeerFault) -> None:
        """The peer on a secured link broke the rules."""

    def fail(self, error: BaseException) -> None:
        """A handler died: our own bug."""


class Connection(asyncio.Protocol):
    """One link with one peer."""

    def __init__(self, owner: ConnectionOwner, link: SecureLink, *, dialed: bool) -> None:
        self._owner = owner
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._yamux = YamuxSession(
            dialer=dialed,
            inbound_max_count=owner.limits.streams_max_count,
            receive_window_bytes=owner.limits.stream_window_bytes,
        )
        self._streams: dict[int, Stream] = {}
        self._scheduler: LaneScheduler[Stream] = LaneScheduler()
        self._paused = False
        self._flush_scheduled = False
        self._buffered_bytes = 0
        self._ping_value = 0
        self._ping_sent_s: float | None = None
        self._last_ping_s = 0.0
        self._suspected: tuple[float, float] | None = None
        self._closing = False
        self.dialed = dialed
        self.address = ""
        self.peer_key: PublicKey | None = None
        self.peer_id = ""
        self.connection_class: ConnectionClass | None = None
        self.since_s = owner.clock.monotonic_s()
        self.last_received_s = self.since_s
        # When the present stage must be over; None when there is nothing to wait for.
        self.deadline_s: float | None = self.since_s + owner.limits.handshake_s
        self.rtt_ms: float | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.close_error: P2PError | None = None

    @property
    def closed(self) -> bool:
        """Whether the link is of no more use."""
        return self._closing

    @property
    def attached(self) -> bool:
        """Whether there is a transport."""
        return self._transport is not None

    @property
    def stage(self) -> Stage:
        """How far the link has come."""
        return self._link.stage

    # -- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection stands."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = f"{peer[0]}:{peer[1]}" if peer else "?"
        self._transport.set_write_buffer_limits(high=self._owner.limits.write_buffer_bytes)
        self.limit_unsent(self._owner.limits.bulk_unsent_bytes)
        self._set_socket_option(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._owner.connection_made(self)
        if self.dialed and not self._closing:
            self._link.start()
            self._write(self._link.take_output())

    def data_received(self, data: bytes) -> None:
        """Takes everything there is in `data`."""
        if self._closing:
            return
        self.last_received_s = self._owner.clock.monotonic_s()
        self.bytes_in += len(data)
        try:
            pieces = self._link.receive(data, self._owner.clock.wall_s())
            if self.peer_key is None:
                self._advance()
            for piece in pieces:
                for event in self._yamux.receive(piece):
                    _HANDLERS[type(event)](self, event)
                    if self.closed:
                        return
        except PeerFault as fault:
            self._handle_fault(fault)
            return
        except Exception as error:  # noqa: BLE001 - a handler's bug ends the host, not the loop
            self._owner.fail(error)
            self.abort(LinkLost("internal error"))
            return
        if self._link.closed_by_peer:
            self.close(LinkLost("closed by the peer"))
        else:
            self._flush()

    def eof_received(self) -> None:
        """The peer sends nothing more: the transport closes itself."""
        self._end(LinkLost("closed by the peer"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection is gone."""
        self._end(LinkLost(str(exc) if exc is not None else "closed"))
        self._transport = None
        self._owner.connection_gone(self)

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self._paused = True

    def resume_writing(self) -> None:
        """The transport takes more."""
        self._paused = False
        self._flush()

    # -- streams --------------------------------------------------------------------------------

    def open_stream(self, protocol_id: str, lane: Lane, handler: StreamHandler) -> Stream:
        """Opens a stream and proposes its protocol; bytes may be written at once behind that."""
        assert not self._closing
        negotiation = MultistreamDialer([protocol_id])
        stream_id = self._yamux.open_stream()
        stream = Stream(self, stream_id, lane=lane, handler=handler, negotiation=negotiation)
        stream.protocol_id = protocol_id
        self._streams[stream_id] = stream
        stream.write(negotiation.start())
        return stream

    def wake(self, stream: Stream) -> None:
        """Schedules a stream that has something to send."""
        if not stream.scheduled and stream.open:
            stream.scheduled = True
            self._scheduler.add(stream)
            self._schedule_flush()

    def drop(self, stream: Stream) -> None:
        """Resets a stream."""
        self._yamux.reset(stream.stream_id)
        self._forget(stream)
        self._schedule_flush()

    @property
    def queued_bytes(self) -> int:
        """Bytes written to streams and not yet sent, without the message queues."""
        return sum(len(piece) for stream in self._streams.values() for piece in stream.out)

    # -- timers ---------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Checks deadlines and keeps the link alive; called every `Limits.tick_s`."""
        limits = self._owner.limits
        if self._closing:
            if self.deadline_s is not None and now_s >= self.deadline_s:
                self._abort_transport()
            return
        if self.deadline_s is not None and now_s >= self.deadline_s:
            self.abort(HandshakeTimeout(self.stage.value, limits.handshake_s))
            return
        if self.peer_key is None:
            return
        if now_s - self.last_received_s >= limits.silence_s:
            self.abort(LinkLost(f"silent for {limits.silence_s:g} s"))
            return
        if self._suspected is not None:
            asked_s, answer_due_s = self._suspected
            if self.last_received_s > asked_s:
                self._suspected = None
            elif now_s >= answer_due_s:
                self.abort(LinkLost("silent when asked"))
                return
        if now_s - self._last_ping_s >= limits.ping_interval_s:
            self.probe(now_s)
        for stream in list(self._streams.values()):
            if stream.deadline_s is not None and now_s >= stream.deadline_s:
                self.drop(stream)

    def suspect(self) -> None:
        """Somebody doubts that this link lives: it must show life soon, or is dropped."""
        if self._suspected is None:
            now_s = self._owner.clock.monotonic_s()
            self._suspected = (now_s, now_s + self._owner.limits.suspicion_s)
            self.probe(now_s)

    def probe(self, now_s: float) -> None:
        """Pings the peer; the answer updates `rtt_ms` and `last_received_s`."""
        self._last_ping_s = now_s
        self._ping_value = (self._ping_value + 1) & 0xFFFF_FFFF
        self._ping_sent_s = now_s
        self._yamux.ping(self._ping_value)
        self._schedule_flush()

    # -- ending ---------------------------------------------------------------------------------

    def close(self, error: P2PError, code: GoAwayCode = GoAwayCode.NORMAL) -> None:
        """Sends what is ready, says goodbye and lingers until the peer has read it."""
        if self._closing or self._transport is None:
            self._end(error)
            return
        if self.peer_key is not None and not self._paused:
            batch = self._collect()
            self._yamux.go_away(code)
            # A broken TLS state takes no last words.
            with contextlib.suppress(PeerFault):
                self._write(self._link.seal(batch + self._yamux.take_control()))
                self._write(self._link.close())
        self._end(error)
        self.deadline_s = self._owner.clock.monotonic_s() + self._owner.limits.linger_s
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self, error: P2PError) -> None:
        """Drops the link at once."""
        self._end(error)
        self._abort_transport()

    def limit_unsent(self, unsent_bytes: int) -> None:
        """Bounds the unsent bytes in the kernel, where the system can."""
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if option is not None:
            self._set_socket_option(socket.IPPROTO_TCP, option, unsent_bytes)

    # -- inside ---------------------------------------------------------------------------------

    def _advance(self) -> None:
        self._write(self._link.take_output())
        if self._link.stage is Stage.OPEN:
            key = self._link.peer_key
            assert key is not None
            self.peer_key = key
            self.peer_id = key.peer_id
            self.deadline_s = None
            self._owner.connection_secured(self)

    def _handle_ended(self, event: StreamEnded) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            if stream.finished:
                self._forget(stream)
            stream.handler.ended(stream)

    def _handle_reset(self, event: StreamReset) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._forget(stream)
            stream.handler.aborted(stream, "reset by the peer")

    def _handle_window(self, event: WindowGrew) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None and (stream.has_output or stream.finishing):
            self.wake(stream)

    def _handle_pong(self, _event: Pong) -> None:
        if self._ping_sent_s is not None:
            self.rtt_ms = (self.last_received_s - self._ping_sent_s) * 1000
            self._ping_sent_s = None

    def _handle_gone(self, event: GoneAway) -> None:
        self.close(LinkLost(f"the peer went away with code {event.code}"))

    def _handle_opened(self, event: StreamOpened) -> None:
        listener = MultistreamListener(self._supports)
        stream = Stream(
            self, event.stream_id, lane=Lane.L2, handler=StreamHandler(), negotiation=listener
        )
        stream.deadline_s = self.last_received_s + self._owner.limits.stream_opening_s
        self._streams[event.stream_id] = stream

    def _supports(self, protocol_id: str) -> bool:
        return self._owner.supports(self, protocol_id)

    def _handle_data(self, event: StreamData) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        data = event.data
        self._yamux.consumed(event.stream_id, len(data))
        if stream.negotiation is not None:
            data = self._negotiate(stream, data)
            if not data or not stream.open:
                return
        stream.handler.data(stream, data)
        if stream.open:
            held = stream.handler.buffered_bytes
            self._buffered_bytes += held - stream.held_bytes
            stream.held_bytes = held
            limit = self._owner.limits.link_buffer_bytes
            if self._buffered_bytes > limit:
                raise FrameTooLarge("messages in parts", self._buffered_bytes, limit)

    def _negotiate(self, stream: Stream, data: bytes) -> bytes:
        negotiation = stream.negotiation
        assert negotiation is not None
        progress = negotiation.receive(data)
        if progress.refused:
            self.drop(stream)
            stream.handler.refused(stream)
            return b""
        if progress.output and not stream.finishing:
            stream.write(progress.output)
        if progress.agreed is None:
            return b""
        stream.negotiation = None
        if isinstance(negotiation, MultistreamListener):
            stream.protocol_id = progress.agreed
            stream.deadline_s = None
            self._owner.accept_stream(self, stream)
        else:
            stream.handler.agreed(stream)
        return progress.rest

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled and not self._closing:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_soon)

    def _flush_soon(self) -> None:
        self._flush_scheduled = False
        self._flush()

    def _flush(self) -> None:
        """Writes batches while there are any and the transport takes them."""
        if self.peer_key is None:
            return
        try:
            for _ in range(BATCHES_MAX_COUNT):
                if self._paused or self._closing:
                    return
                batch = self._collect()
                if not batch:
                    return
                self._write(self._link.seal(batch))
        except PeerFault as fault:
            self._handle_fault(fault)
        except Exception as error:  # noqa: BLE001 - as in data_received
            self._owner.fail(error)
            self.abort(LinkLost("internal error"))
        else:
            if self._scheduler:
                self._schedule_flush()

    def _collect(self) -> bytes:
        """The next batch of frames: control first, then chunks in the scheduler's order."""
        yamux = self._yamux
        pieces: list[Piece] = []
        room = BATCH_BYTES
        if yamux.control_bytes:
            control = yamux.take_control()
            pieces.append(control)
            room -= len(control)
        while room > 0:
            stream = self._scheduler.pick()
            if stream is None:
                break
            if not stream.open:
                self._scheduler.done(stream, 0, more=False)
                continue
            window = yamux.send_window(stream.stream_id)
            body, size = stream.take(min(CHUNK_BYTES, window, room))
            if size:
                pieces.append(yamux.data_header(stream.stream_id, size))
                pieces += body
                room -= size
            has_output = stream.has_output
            # Without window the stream sleeps until WindowGrew wakes it.
            more = has_output and window > size
            stream.scheduled = more
            self._scheduler.done(stream, size, more=more)
            if stream.finishing and not has_output and not stream.finished:
                stream.finished = True
                yamux.finish(stream.stream_id)
                if not yamux.is_open(stream.stream_id):
                    self._forget(stream)
                pieces.append(yamux.take_control())
        return b"".join(pieces)

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self.bytes_out += len(data)
            self._transport.write(data)

    def _forget(self, stream: Stream) -> None:
        if stream.open:
            stream.open = False
            stream.out = deque()
            self._buffered_bytes -= stream.held_bytes
            self._streams.pop(stream.stream_id, None)

    def _handle_fault(self, fault: PeerFault) -> None:
        if self.peer_key is None:
            self._write(self._link.take_output())
        self.close(fault, GoAwayCode.PROTOCOL_ERROR)
        if self.peer_id:
            self._owner.peer_fault(self, fault)

    def _end(self, error: P2PError) -> None:
        if self._closing:
            return
        self._closing = True
        self.close_error = error
        streams = list(self._streams.values())
        self._streams.clear()
        for stream in streams:
            stream.open = False
            stream.handler.aborted(stream, str(error))
        self._owner.connection_closed(self)

    def _abort_transport(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _set_socket_option(self, level: int, option: int, value: int) -> None:
        assert self._transport is not None
        sock: Any = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(level, option, value)


_HANDLERS: dict[type[Event], Callable[[Connection, Any], None]] = {
    StreamData: Connection._handle_data,
    StreamOpened: Connection._handle_opened,
    StreamEnded: Connection._handle_ended,
    StreamReset: Connection._handle_reset,
    WindowGrew: Connection._handle_window,
    Pong: Connection._handle_pong,
    GoneAway: Connection._handle_gone,
}
