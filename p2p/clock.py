"""Time as the p2p room sees it, handed in so that tests and simulations own it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic time for intervals, wall time for certificate dates, and waiting."""

    def monotonic_s(self) -> float:
        """Seconds that never go back."""

    def wall_s(self) -> float:
        """Unix time in seconds."""

    async def sleep(self, seconds: float) -> None:
        """Waits at least `seconds`."""


class SystemClock:
    """The machine's clocks."""

    monotonic_s = staticmethod(time.monotonic)
    wall_s = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        """Waits at least `seconds`."""
        await asyncio.sleep(seconds)
