"""The services of every link as stream handlers: status, identify, ping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from p2p.connection import Connection
from p2p.errors import MalformedFrame, PeerUnavailable
from p2p.identify import (
    IDENTIFY_MAX_BYTES,
    PING_BYTES,
    PING_PROTOCOL,
    Identification,
    decode_identification,
)
from p2p.status import Phase, StatusExchange
from p2p.stream import Stream, StreamHandler
from p2p.wire import FrameReader, frame

# A peer pings, reads the echo and pings again; this many unread echoes is no ping any more.
PINGS_UNREAD_MAX_COUNT = 64


class StatusOwner(Protocol):
    """Who is told how the status exchange of a link went."""

    def status_step(self, connection: Connection) -> None:
        """The exchange moved on; see its phase."""

    def status_missing(self, connection: Connection) -> None:
        """The peer does not speak the status protocol, or ended it."""


class StatusHandler(StreamHandler):
    """One side of `/tally/status/1` on one link. The stream stays open for heights."""

    def __init__(
        self, owner: StatusOwner, connection: Connection, exchange: StatusExchange
    ) -> None:
        self._owner = owner
        self._connection = connection
        self._stream: Stream | None = None
        self._told_height = -1
        self.exchange = exchange

    def attach(self, stream: Stream) -> None:
        """The stream stands; a dialer speaks first."""
        self._stream = stream

    def data(self, stream: Stream, data: bytes) -> None:
        """Steps the exchange."""
        output = self.exchange.receive(data)
        if output:
            stream.write(output)
        self._owner.status_step(self._connection)

    def refused(self, _stream: Stream) -> None:
        """A foreign program."""
        self._owner.status_missing(self._connection)

    def ended(self, stream: Stream) -> None:
        """A Tallystick peer keeps this stream while the link stands."""
        stream.reset()
        self._owner.status_missing(self._connection)

    def aborted(self, _stream: Stream, _reason: str) -> None:
        """As for `ended`, also when the link is lost; the host knows which."""
        self._owner.status_missing(self._connection)

    def tell_height(self, height: int) -> None:
        """Tells the peer our height when it is news."""
        stream = self._stream
        if stream is None or not stream.open or self.exchange.phase is not Phase.ACCEPTED:
            return
        if height != self._told_height and not stream.out:
            self._told_height = height
            stream.write(self.exchange.height_update(height))


class IdentifyClient(StreamHandler):
    """Asks a peer who it is."""

    def __init__(self, found: Callable[[Identification], None]) -> None:
        self._found = found
        self._reader = FrameReader("identify", IDENTIFY_MAX_BYTES)

    def data(self, stream: Stream, data: bytes) -> None:
        """The one message."""
        for message in self._reader.feed(data)[:1]:
            self._found(decode_identification(message))
            stream.finish()

    def ended(self, stream: Stream) -> None:
        """The peer has said all."""
        if stream.open:
            stream.finish()


class IdentifyServer(StreamHandler):
    """Answers who we are."""

    def __init__(self, stream: Stream, message: bytes) -> None:
        stream.write(frame(message))
        stream.finish()

    def data(self, _stream: Stream, _data: bytes) -> None:
        """Nothing is expected; what comes is dropped."""


class PingServer(StreamHandler):
    """Echoes pings of 32 bytes for as long as the peer sends them."""

    def __init__(self) -> None:
        self._held = b""

    @property
    def buffered_bytes(self) -> int:  # type: ignore[override]
        """Bytes of an incomplete ping."""
        return len(self._held)

    def data(self, stream: Stream, data: bytes) -> None:
        """Echoes what is whole. Raises MalformedFrame for a peer that does not read its echoes."""
        if len(stream.out) > PINGS_UNREAD_MAX_COUNT:
            raise MalformedFrame(PING_PROTOCOL, "pings without reading the answers")
        data = self._held + data
        whole = len(data) - len(data) % PING_BYTES
        self._held = data[whole:]
        stream.write(data[:whole])

    def ended(self, stream: Stream) -> None:
        """No more pings."""
        stream.finish()


class PingClient(StreamHandler):
    """One ping; `answer` resolves when the echo came, or gets PeerUnavailable."""

    def __init__(self, peer_id: str, payload: bytes) -> None:
        assert len(payload) == PING_BYTES
        self._peer_id = peer_id
        self._payload = payload
        self._held = b""
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data(self, stream: Stream, data: bytes) -> None:
        """Compares the echo. Raises MalformedFrame on another one."""
        self._held += data
        if not self._payload.startswith(self._held):
            raise MalformedFrame(PING_PROTOCOL, "the echo differs")
        if len(self._held) == PING_BYTES:
            stream.finish()
            if not self.answer.done():
                self.answer.set_result(None)

    def refused(self, _stream: Stream) -> None:
        """The peer does not ping."""
        self._fail("the peer does not speak it")

    def ended(self, _stream: Stream) -> None:
        """No echo can come any more."""
        self._fail("ended without an echo")

    def aborted(self, _stream: Stream, reason: str) -> None:
        """The stream or its link is gone."""
        self._fail(reason)

    def _fail(self, detail: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(PeerUnavailable(self._peer_id, PING_PROTOCOL, detail))
