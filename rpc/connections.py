"""Open connections of one listener, bounded in number and in patience.

aiohttp bounds neither: a stranger could hold any number of sockets open and never send a request.
Here a connection beyond the limit is closed at once, and one that has not sent a whole request head
within FIRST_REQUEST_MS is closed too. Afterwards aiohttp's keep-alive timer takes over.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

# Open connections of a listener; each costs about 20 KiB when idle.
CONNECTIONS_COUNT = 2_048

# From the accepted connection to the end of its first request's headers.
FIRST_REQUEST_MS = 10_000


class Connections:
    """The protocol factory handed to the event loop."""

    __slots__ = ("_first_request_s", "_limit", "_loop", "_server", "_silent")

    def __init__(
        self,
        server: web.Server,
        *,
        limit: int = CONNECTIONS_COUNT,
        first_request_ms: int = FIRST_REQUEST_MS,
    ) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._first_request_s = first_request_ms / 1000
        # Connections that have not asked anything yet, with the timer that closes them. Closed ones
        # stay until their timer fires or until the limit is met, whichever is first.
        self._silent: dict[RequestHandler, asyncio.TimerHandle] = {}

    def __call__(self) -> asyncio.BaseProtocol:
        """The protocol of a connection that was just accepted."""
        if len(self._silent) >= self._limit:
            self._forget_closed()
        if len(self._silent) >= self._limit or len(self._server.connections) >= self._limit:
            return _Refuse()
        protocol = self._server()
        self._silent[protocol] = self._loop.call_later(
            self._first_request_s, self._close_silent, protocol
        )
        return protocol

    def spoke(self, protocol: RequestHandler) -> None:
        """A whole request head has arrived on the connection."""
        timer = self._silent.pop(protocol, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Drops every timer; the connections themselves belong to the server."""
        for timer in self._silent.values():
            timer.cancel()
        self._silent.clear()

    def _close_silent(self, protocol: RequestHandler) -> None:
        self._silent.pop(protocol, None)
        protocol.force_close()

    def _forget_closed(self) -> None:
        open_ = set(self._server.connections)
        for protocol in [each for each in self._silent if each not in open_]:
            self._silent.pop(protocol).cancel()


class _Refuse(asyncio.Protocol):
    """A connection over the limit: closed before anything is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
