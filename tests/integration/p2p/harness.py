"""Hosts on 127.0.0.1 for tests, with what they saw and conditions to wait for."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

from ledger.crypto import PrivateKey
from ledger.errors import MalformedData
from ledger.trace import TraceEvent
from p2p.dialing import PersistentPeer
from p2p.host import Host, HostConfig
from p2p.lanes import Lane
from p2p.limits import Limits
from p2p.status import StatusFacts

GENESIS = bytes(range(32))

# Deadlines and timers short enough for a test, long enough for a busy machine.
QUICK = Limits(
    handshake_s=5.0,
    status_s=5.0,
    ping_interval_s=0.2,
    silence_s=5.0,
    suspicion_s=0.5,
    linger_s=2.0,
    tick_s=0.05,
    backoff_first_s=0.02,
    backoff_cap_s=0.2,
)


def quick(**changes: Any) -> Limits:
    """Those limits with some changed."""
    return dataclasses.replace(QUICK, **changes)


E = TypeVar("E", bound=TraceEvent)


async def until(condition: Callable[[], Any], what: str, deadline_s: float = 10.0) -> None:
    """Waits until the condition holds; fails the test by name after the deadline."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + deadline_s
    while not condition():
        assert loop.time() < end_s, f"gave up waiting until {what}"
        await asyncio.sleep(0.002)


async def reverse(payload: bytes) -> bytes:
    """What a node answers unless a test sets another answer."""
    return payload[::-1]


class Node(AbstractAsyncContextManager["Node"]):
    """A host with one message protocol (/t/msg/1) and one request protocol (/t/req/1)."""

    MESSAGE = "/t/msg/1"
    VOTE = "/t/vote/1"
    REQUEST = "/t/req/1"

    def __init__(
        self,
        number: int,
        *,
        limits: Limits = QUICK,
        port: int = 0,
        network: str = "testnet",
        genesis: bytes = GENESIS,
        seed: int = 0,
        message_limit: int = 8 * 1024 * 1024,
        clock: Any = None,
        reserved: frozenset[str] = frozenset(),
    ) -> None:
        self.key = PrivateKey(number.to_bytes(32, "big"))
        self.height = 7
        self.reject = False
        self.answer: Callable[[bytes], Awaitable[bytes]] = reverse
        self.events: list[TraceEvent] = []
        self.received: list[tuple[str, bytes]] = []
        self.votes: list[tuple[str, bytes]] = []
        self.ups: list[str] = []
        self.downs: list[tuple[str, str]] = []
        self.host = Host(
            HostConfig(listen_port=port, limits=limits, agent=f"node {number}"),
            self.key,
            lambda: StatusFacts(network, genesis, self.height),
            rng=random.Random(number * 1000 + seed),
            trace=self.events.append,
            clock=clock,
            has_reserved_place=reserved.__contains__,
        )
        self.host.add_message_protocol(self.MESSAGE, Lane.L2, message_limit, self._on_message)
        self.host.add_message_protocol(self.VOTE, Lane.L0, 4096, self._on_vote)
        self.host.add_request_protocol(self.REQUEST, Lane.L4, 65536, 4 << 20, self._on_request)
        self.host.on_peer_up(self.ups.append)
        self.host.on_peer_down(lambda peer_id, reason: self.downs.append((peer_id, reason)))

    @property
    def peer_id(self) -> str:
        return self.host.peer_id

    def address(self) -> PersistentPeer:
        return PersistentPeer(self.peer_id, "127.0.0.1", self.host.listen_port)

    def seen(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def connect(self, other: Node) -> None:
        await self.host.connect(other.peer_id, "127.0.0.1", other.host.listen_port)
        await until(lambda: self.peer_id in other.ups, "the listener sees the dialer up")

    def classes(self, other: Node) -> tuple[str, ...]:
        return next((i.classes for i in self.host.peers() if i.peer_id == other.peer_id), ())

    def _on_message(self, peer_id: str, payload: bytes) -> None:
        if self.reject:
            self.received.append((peer_id, payload))
            raise MalformedData("test", "rejected")
        self.received.append((peer_id, payload))

    def _on_vote(self, peer_id: str, payload: bytes) -> None:
        self.votes.append((peer_id, payload))

    async def _on_request(self, peer_id: str, payload: bytes) -> bytes:
        return await self.answer(payload)

    async def __aenter__(self) -> Self:
        await self.host.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.host.close()
