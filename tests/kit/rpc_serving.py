"""An RpcNode behind the real server with its event routes, on a free port of 127.0.0.1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rpc.context import Desk
from rpc.dispatcher import Dispatcher
from rpc.limits import RateLimiter
from rpc.methods import all_methods
from rpc.server import Pages, RpcServer, ServerSettings
from rpc.subscriptions.hub import Hub
from rpc.subscriptions.routes import EventRoutes
from tests.kit.rpc_node import RpcNode


class Serving:
    """`server.url` is where; `failures` holds what no rule foresaw; `sever` breaks connections."""

    def __init__(self, node: RpcNode, settings: ServerSettings) -> None:
        self.failures: list[tuple[str, Exception]] = []
        self.hub = Hub(node, node)
        self.desk = Desk(node, limiter=RateLimiter(), monotonic_ms=lambda: 0)
        dispatcher = Dispatcher(all_methods(), on_failure=self._failed)
        self.events = EventRoutes(self.hub, dispatcher, self.desk.context, on_failure=self._failed)
        self.server = RpcServer(
            settings,
            dispatcher,
            self.desk.context,
            Pages(not_ready=lambda: None, metrics=bytes),
            routes=self.events.routes(),
            closing=(self.events.close,),
        )

    def _failed(self, name: str, error: Exception) -> None:
        self.failures.append((name, error))

    def transports(self) -> list[asyncio.Transport]:
        """The open connections."""
        doors = self.server._connections
        return [
            each.transport
            for door in doors
            for each in door._server.connections
            if each.transport is not None
        ]

    def sever(self) -> None:
        """Break every connection, as a cut cable does."""
        for transport in self.transports():
            transport.abort()


@asynccontextmanager
async def serving(node: RpcNode, settings: ServerSettings | None = None) -> AsyncIterator[Serving]:
    """Running, until the block ends. What failed inside is raised at the end."""
    made = Serving(node, settings or ServerSettings())
    await made.server.start()
    try:
        yield made
    finally:
        await made.server.stop()
    for _, error in made.failures:
        raise error
