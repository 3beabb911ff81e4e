"""A libp2p program that is not ours: the sync cores over plain asyncio streams, no host."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable

from OpenSSL import SSL

from ledger.crypto import PrivateKey
from p2p.errors import TlsFailure
from p2p.link import SecureLink, Stage
from p2p.multistream import encode_line
from p2p.tls import TlsIdentity
from p2p.yamux import Event, StreamData, YamuxSession

GREETING = encode_line("/multistream/1.0.0")


class RawPeer:
    """Dials a host and does what a test wants, byte for byte; or is dialled (`serve`)."""

    def __init__(self, number: int = 99, *, context: SSL.Context | None = None) -> None:
        key = PrivateKey(number.to_bytes(32, "big"))
        self.context = context or TlsIdentity(key).context(time.time())
        self.yamux = YamuxSession(dialer=True, inbound_max_count=64)
        self.events: list[Event] = []
        self.data: dict[int, bytes] = defaultdict(bytes)
        self.ended = False
        # What `serve` answers to the first bytes of a stream.
        self.reply: Callable[[bytes], bytes] = lambda _first: b""

    async def dial(self, port: int, *, direct: bool = True) -> None:
        self.link = SecureLink(self.context, dialer=True, direct_tls=direct)
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.link.start()
        self.writer.write(self.link.take_output())
        while self.link.stage is not Stage.OPEN and not self.ended:
            await self.read()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes a link that a host dialled, for `asyncio.start_server`."""
        self.link = SecureLink(self.context, dialer=False)
        self.yamux = YamuxSession(dialer=False, inbound_max_count=64)
        self.reader, self.writer = reader, writer
        answered: set[int] = set()
        while not self.ended:
            await self.read()
            for stream in self.data.keys() - answered:
                answered.add(stream)
                body = self.reply(self.data[stream])
                if body:
                    self.flush(self.yamux.data_header(stream, len(body)) + body)
        writer.close()

    async def read(self) -> None:
        """Takes what comes next."""
        try:
            raw = await self.reader.read(65536)
        except ConnectionError:
            raw = b""
        if not raw:
            self.ended = True
            return
        try:
            pieces = self.link.receive(raw, time.time())
        except TlsFailure:
            self.ended = True
            return
        for piece in pieces:
            for event in self.yamux.receive(piece):
                self.events.append(event)
                if isinstance(event, StreamData):
                    self.data[event.stream_id] += event.data
                    self.yamux.consumed(event.stream_id, len(event.data))
        self.writer.write(self.link.take_output())
        self.flush()

    async def read_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition() and not self.ended:
                await self.read()

    def flush(self, more: bytes = b"") -> None:
        control = self.yamux.take_control() + more
        if control and self.link.stage is Stage.OPEN:
            self.writer.write(self.link.seal(control))

    def open(self, protocol: str, payload: bytes = b"") -> int:
        """Opens a stream, proposes the protocol and sends payload behind it."""
        stream = self.yamux.open_stream()
        control = self.yamux.take_control()
        body = GREETING + encode_line(protocol) + payload
        self.writer.write(
            self.link.seal(control + self.yamux.data_header(stream, len(body)) + body)
        )
        return stream

    async def answer_to(self, stream: int, size: int) -> bytes:
        """At least `size` bytes that came on a stream."""
        await self.read_until(lambda: len(self.data[stream]) >= size)
        return self.data[stream]

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
