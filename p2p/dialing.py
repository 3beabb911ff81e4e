"""Persistent peers are dialled for ever, with capped exponential back-off and jitter."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from ledger.trace import Tracer
from p2p.clock import Clock
from p2p.errors import P2PError
from p2p.limits import Limits
from p2p.links import Links
from p2p.settlement import SlotKey
from p2p.status import ConnectionClass
from p2p.trace import DialFailed

# The delay doubles up to the cap; counting failures further would only make big numbers.
_DOUBLINGS_MAX_COUNT = 16


@dataclass(frozen=True, slots=True)
class PersistentPeer:
    """A peer that is dialled for ever. `direct_tls` is off only for foreign listeners."""

    peer_id: str
    host: str
    port: int
    direct_tls: bool = True


@dataclass(slots=True)
class DialState:
    """How the dialling of one link goes; for operators."""

    peer: PersistentPeer
    connection_class: ConnectionClass
    failures_count: int = 0
    last_failure: str = ""


class PersistentDialer:
    """Keeps one link of one persistent peer standing. `run` never returns."""

    def __init__(
        self,
        links: Links,
        peer: PersistentPeer,
        connection_class: ConnectionClass,
        *,
        limits: Limits,
        trace: Tracer,
        rng: random.Random,
        clock: Clock,
        banned_for_s: Callable[[str], float],
    ) -> None:
        self.state = DialState(peer, connection_class)
        self.key: SlotKey = (peer.peer_id, connection_class)
        self._links = links
        self._limits = limits
        self._trace = trace
        self._rng = rng
        self._clock = clock
        self._banned_for_s = banned_for_s
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """A link of this slot is gone."""
        self._changed.set()

    async def run(self) -> None:
        """Dials whenever no link stands."""
        while True:
            self._changed.clear()
            if self._links.settlement.standing(self.key) is not None:
                await self._changed.wait()
                continue
            banned_s = self._banned_for_s(self.state.peer.peer_id)
            if banned_s > 0:
                await self._clock.sleep(banned_s)
                continue
            await self._try_dial()

    async def _try_dial(self) -> None:
        peer = self.state.peer
        started_s = self._clock.monotonic_s()
        try:
            await self._links.dial(
                peer.peer_id,
                peer.host,
                peer.port,
                self.state.connection_class,
                direct_tls=peer.direct_tls,
            )
            # Stands. One that dies young counts as a failure, lest we dial in a tight loop.
            while self._links.settlement.standing(self.key) is not None:
                self._changed.clear()
                await self._changed.wait()
            if self._clock.monotonic_s() - started_s >= self._limits.silence_s:
                self.state.failures_count = 0
                self.state.last_failure = ""
                return
            reason = "the link died young"
        except (P2PError, OSError) as error:
            reason = str(error)
        await self._back_off(reason)

    async def _back_off(self, reason: str) -> None:
        state, limits = self.state, self._limits
        doublings = min(state.failures_count, _DOUBLINGS_MAX_COUNT)
        ceiling_s = min(limits.backoff_cap_s, limits.backoff_first_s * 2**doublings)
        delay_s = ceiling_s * self._rng.uniform(0.5, 1.0)
        state.failures_count += 1
        state.last_failure = reason
        if self._links.settlement.standing(self.key) is None:
            self._trace(
                DialFailed(
                    state.peer.peer_id,
                    state.connection_class.value,
                    state.failures_count,
                    delay_s,
                    reason,
                )
            )
        await self._clock.sleep(delay_s)
