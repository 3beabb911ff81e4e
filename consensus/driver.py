"""The asyncio shell around a replica: wall clock, timers, the sync tick.

Everything that decides stands in `consensus.replica` and the engines; this file only lets time
in. It is one of the room's named exceptions from purity.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

# How often block sync looks at its deadlines and retries peers.
SYNC_TICK_S = 0.5


class SystemClock:
    """Wall time (consensus.ports.Clock)."""

    def now_ms(self) -> int:
        """ms since the Unix epoch."""
        return time.time_ns() // 1_000_000


class LoopTimers:
    """Timers on the running event loop (consensus.ports.Timers).

    Bounded by the engine, which keeps a fixed number of timers per height.
    """

    def __init__(self, on_timer: Callable[[int], None]) -> None:
        self._on_timer = on_timer
        self._loop = asyncio.get_running_loop()
        self._handles: dict[int, asyncio.TimerHandle] = {}

    def set_timer(self, timer_id: int, delay_ms: int) -> None:
        """Fire once after `delay_ms`."""
        self._handles[timer_id] = self._loop.call_later(delay_ms / 1_000, self._fire, timer_id)

    def cancel_timer(self, timer_id: int) -> None:
        """Forget the timer; one that has fired or never was is no error."""
        handle = self._handles.pop(timer_id, None)
        if handle is not None:
            handle.cancel()

    def cancel_all(self) -> None:
        """Forget every timer."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()

    def _fire(self, timer_id: int) -> None:
        del self._handles[timer_id]
        self._on_timer(timer_id)


async def sync_ticks(on_tick: Callable[[], None]) -> None:
    """Call `on_tick` every SYNC_TICK_S until cancelled."""
    while True:
        await asyncio.sleep(SYNC_TICK_S)
        on_tick()
