"""How much of the node's time subscriptions may take, however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """Work rests `rest` times as long as it took, so it gets at most 1 / (1 + rest) of a core.

    Work is done in slices between two turns of the event loop and is measured by the loop's clock.
    """

    __slots__ = ("_free_s", "_lock", "_rest")

    def __init__(self, rest: int) -> None:
        self._rest = rest
        self._free_s = float("-inf")
        self._lock = asyncio.Lock()

    def wait_s(self, now_s: float) -> float:
        """How long the next slice has to wait."""
        return max(0.0, self._free_s - now_s)

    def spend(self, now_s: float, worked_s: float) -> None:
        """Work of this length was done, until now."""
        self._free_s = max(now_s, self._free_s) + worked_s * self._rest

    @asynccontextmanager
    async def slice(self) -> AsyncIterator[None]:
        """One slice of work, without awaiting inside, when its turn has come."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            while (wait_s := self.wait_s(loop.time())) > 0:  # noqa: ASYNC110 - until a known time
                await asyncio.sleep(wait_s)
            began_s = loop.time()
            yield
            now_s = loop.time()
            self.spend(now_s, now_s - began_s)
