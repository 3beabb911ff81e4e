"""Requests and responses: one stream each, with windows of requests in flight.

    request    uvarint length, payload, end of our direction
    response   uvarint length, 0x00, payload         answered
               uvarint length, 0x01, UTF-8 reason    refused

The asking side keeps at most `max_inflight_count` requests to a peer in flight and lets
`max_waiting_count` wait; the answering side serves at most `max_serving_count` of a peer at a time
and refuses more. A request is being served until its answer has left: a peer that asks and does not
take would otherwise have answers pile up here. For the same reason the answers to all peers
together are bounded (`max_unsent_bytes`), and one that is not taken within `Limits.request_s` of
the opening of its stream is dropped. Nothing else makes an accepted request go without its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from ledger.errors import InvalidData
from p2p.connection import Connection
from p2p.errors import (
    FrameTooLarge,
    MalformedFrame,
    PeerUnavailable,
    RequestError,
    RequestRefused,
    RequestTimeout,
    ResponseTooLarge,
)
from p2p.lanes import Lane
from p2p.stream import Stream, StreamHandler
from p2p.wire import FrameReader, encode_uvarint

_ANSWERED = b"\0"
_REFUSED = b"\1"

REASON_MAX_BYTES = 200

RequestHandler = Callable[[str, bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class RequestProtocol:
    """A registered protocol. `handler(peer_id, payload)` answers, or raises `refuse(reason)`."""

    protocol_id: str
    lane: Lane
    max_request_bytes: int
    max_response_bytes: int
    handler: RequestHandler
    # Enough to fill a long path with small requests; times the response limit bounds the memory.
    max_inflight_count: int = 16
    # Callers beyond this get PeerUnavailable at once and can ask another peer.
    max_waiting_count: int = 256
    # What one peer may make us do at the same time, and hold for it until it takes it.
    max_serving_count: int = 16
    # Answers on their way to all peers: a dozen of the largest batches of blocks.
    max_unsent_bytes: int = 128 << 20


class RequestWindow:
    """Requests in flight to one peer over one protocol, and those that wait."""

    __slots__ = ("_semaphore", "_waiting_count", "protocol")

    def __init__(self, protocol: RequestProtocol) -> None:
        self.protocol = protocol
        self._semaphore = asyncio.Semaphore(protocol.max_inflight_count)
        self._waiting_count = 0

    async def acquire(self, peer_id: str) -> None:
        """Waits for a place. Raises PeerUnavailable when too many wait already."""
        if self._waiting_count >= self.protocol.max_waiting_count:
            raise PeerUnavailable(peer_id, self.protocol.protocol_id, "too many requests wait")
        self._waiting_count += 1
        try:
            await self._semaphore.acquire()
        finally:
            self._waiting_count -= 1

    def release(self) -> None:
        """Gives the place back."""
        self._semaphore.release()


class RequestCall(StreamHandler):
    """One request of ours; `answer` gets the payload or a RequestError."""

    def __init__(self, peer_id: str, protocol: RequestProtocol) -> None:
        self._peer_id = peer_id
        self._protocol = protocol
        self._reader = FrameReader(protocol.protocol_id, protocol.max_response_bytes + 1)
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @property
    def buffered_bytes(self) -> int:  # type: ignore[override]
        """Bytes of an incomplete answer."""
        return self._reader.buffered_bytes

    def refused(self, _stream: Stream) -> None:
        """The peer does not speak the protocol."""
        self._fail(PeerUnavailable, "the peer does not speak it")

    def data(self, _stream: Stream, data: bytes) -> None:
        """Collects the answer. Raises MalformedFrame on anything behind or beside it."""
        try:
            frames = self._reader.feed(data)
        except FrameTooLarge as error:
            self._fail(ResponseTooLarge, str(error))
            raise
        if not frames:
            return
        raw = frames[0]
        if len(frames) > 1 or raw[:1] not in (_ANSWERED, _REFUSED):
            self._fail(PeerUnavailable, "the answer is malformed")
            raise MalformedFrame(self._protocol.protocol_id, "no response")
        if raw[0] == 0:
            if not self.answer.done():
                self.answer.set_result(raw[1:])
        else:
            reason = raw[1 : 1 + REASON_MAX_BYTES].decode(errors="replace")
            self._fail(RequestRefused, reason)

    def ended(self, _stream: Stream) -> None:
        """No answer can come any more."""
        self._fail(PeerUnavailable, "ended without an answer")

    def aborted(self, _stream: Stream, reason: str) -> None:
        """The stream or its link is gone."""
        self._fail(PeerUnavailable, reason)

    def _fail(self, kind: type[RequestError], detail: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(kind(self._peer_id, self._protocol.protocol_id, detail))


async def ask(
    choose: Callable[[], Connection | None],
    window: RequestWindow,
    peer_id: str,
    payload: bytes,
    timeout_s: float,
) -> bytes:
    """One request over the link that `choose` gives when its turn comes. Raises RequestError."""
    protocol = window.protocol
    try:
        async with asyncio.timeout(timeout_s):
            await window.acquire(peer_id)
            try:
                connection = choose()
                if connection is None or connection.closed:
                    raise PeerUnavailable(peer_id, protocol.protocol_id, "not connected")
                call = RequestCall(peer_id, protocol)
                stream = connection.open_stream(protocol.protocol_id, protocol.lane, call)
                stream.write(encode_uvarint(len(payload)), payload)
                stream.finish()
                try:
                    return await call.answer
                finally:
                    stream.reset()
            finally:
                window.release()
    except TimeoutError as error:
        detail = f"no answer within {timeout_s:g} s"
        raise RequestTimeout(peer_id, protocol.protocol_id, detail) from error


class ServingOwner(Protocol):
    """What serving needs of the host."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Runs work in the host's task group."""

    def response_refused(self, peer_id: str, protocol_id: str, reason: str) -> None:
        """A request was answered with no."""

    def invalid_message(self, peer_id: str, protocol_id: str, error: InvalidData) -> None:
        """A handler refused a payload as invalid."""


class Serving:
    """Requests over one protocol that are being answered, or whose answer has not left yet."""

    __slots__ = ("_by_peer", "_protocol")

    def __init__(self, protocol: RequestProtocol) -> None:
        self._protocol = protocol
        self._by_peer: dict[str, list[RequestServer]] = {}

    @property
    def unsent_bytes(self) -> int:
        """Answers that wait to leave."""
        return sum(server.unsent_bytes for each in self._by_peer.values() for server in each)

    def try_enter(self, peer_id: str, server: RequestServer) -> bool:
        """Take a request of a peer, unless its places or the room for answers are taken."""
        for each, servers in list(self._by_peer.items()):
            servers[:] = [one for one in servers if one.is_busy]
            if not servers:
                del self._by_peer[each]
        own = self._by_peer.setdefault(peer_id, [])
        if len(own) >= self._protocol.max_serving_count:
            return False
        if self.unsent_bytes >= self._protocol.max_unsent_bytes:
            return False
        own.append(server)
        return True


class RequestServer(StreamHandler):
    """A peer's request to us."""

    def __init__(
        self, owner: ServingOwner, peer_id: str, protocol: RequestProtocol, serving: Serving
    ) -> None:
        self._owner = owner
        self._peer_id = peer_id
        self._protocol = protocol
        self._serving = serving
        self._reader = FrameReader(protocol.protocol_id, protocol.max_request_bytes)
        self._task: asyncio.Task[None] | None = None
        self._stream: Stream | None = None
        self._received = False

    @property
    def is_busy(self) -> bool:
        """Whether the handler works, or the answer has not left."""
        running = self._task is not None and not self._task.done()
        return running or self.unsent_bytes > 0

    @property
    def unsent_bytes(self) -> int:
        """Of the answer; none once the stream is gone."""
        return 0 if self._stream is None else sum(map(len, self._stream.out))

    @property
    def buffered_bytes(self) -> int:  # type: ignore[override]
        """Bytes of an incomplete request."""
        return self._reader.buffered_bytes

    def data(self, stream: Stream, data: bytes) -> None:
        """Collects the request and starts to answer it."""
        frames = self._reader.feed(data)
        if not frames:
            return
        if self._received or len(frames) > 1:
            raise MalformedFrame(self._protocol.protocol_id, "bytes behind the request")
        self._received = True
        if not self._serving.try_enter(self._peer_id, self):
            self._refuse(stream, "busy")
            return
        self._stream = stream
        name = f"serve {self._protocol.protocol_id}"
        self._task = self._owner.spawn(self._answer(stream, frames[0]), name)

    def ended(self, stream: Stream) -> None:
        """The peer has said all; without a complete request there is nothing to answer."""
        if not self._received:
            stream.reset()

    def aborted(self, _stream: Stream, _reason: str) -> None:
        """Nobody waits for the answer any more."""
        self._stream = None
        if self._task is not None:
            self._task.cancel()

    async def _answer(self, stream: Stream, payload: bytes) -> None:
        try:
            response = await self._protocol.handler(self._peer_id, payload)
        except RequestRefused as refusal:
            self._refuse(stream, refusal.reason)
        except InvalidData as error:
            self._refuse(stream, "invalid")
            self._owner.invalid_message(self._peer_id, self._protocol.protocol_id, error)
        else:
            if len(response) > self._protocol.max_response_bytes:
                # Asked for by the peer, so not worth our life, but worth a line in the log.
                self._refuse(stream, f"the answer has {len(response)} bytes")
            elif stream.open:
                stream.write(encode_uvarint(len(response) + 1) + _ANSWERED, response)
                stream.finish()

    def _refuse(self, stream: Stream, reason: str) -> None:
        self._owner.response_refused(self._peer_id, self._protocol.protocol_id, reason)
        if stream.open:
            body = _REFUSED + reason.encode()[:REASON_MAX_BYTES]
            stream.write(encode_uvarint(len(body)) + body)
            stream.finish()
