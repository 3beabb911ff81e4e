"""Virtual time: a queue of events, and a clock that jumps from one to the next.

Nothing waits in a simulation. Time is an integer in µs since the run began. Events of one instant
are ordered by a number drawn from the seed, so that every order of simultaneous events is tried by
some seed and none depends on the order in which the code happened to ask for them.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

MS = 1_000
"""µs in one ms."""
SECOND = 1_000_000
"""µs in one s."""

# A run that needs more has a message storm: a healthy run of two virtual minutes needs about a
# tenth. Reaching it is reported as a violation, so that a storm cannot pass for slowness.
MAX_EVENTS = 600_000

Action = Callable[[], None]


class EventStorm(Exception):
    """More than MAX_EVENTS events in one run."""

    def __init__(self, now_us: int) -> None:
        super().__init__(f"more than {MAX_EVENTS} events by {now_us // MS} ms")
        self.now_us = now_us


class Handle:
    """A scheduled action; `cancel` makes it never happen."""

    __slots__ = ("action",)

    def __init__(self, action: Action) -> None:
        self.action: Action | None = action

    def cancel(self) -> None:
        """Forget the action."""
        self.action = None


class Schedule:
    """See the module."""

    def __init__(self, random_stream: random.Random) -> None:
        self.now_us = 0
        self.events = 0
        self._random = random_stream
        self._serial = 0
        self._heap: list[tuple[int, int, int, Handle]] = []

    def at(self, when_us: int, action: Action) -> Handle:
        """Do `action` at `when_us`, or now where that has passed."""
        handle = Handle(action)
        self._serial += 1
        entry = (max(when_us, self.now_us), self._random.getrandbits(24), self._serial, handle)
        heapq.heappush(self._heap, entry)
        return handle

    def after(self, delay_us: int, action: Action) -> Handle:
        """Do `action` in `delay_us`."""
        return self.at(self.now_us + delay_us, action)

    def run_until(self, limit_us: int, is_done: Callable[[], bool] | None = None) -> bool:
        """Run events up to `limit_us`; stop early once `is_done()`. Whether it was done.

        `is_done` is asked after every event. Raises EventStorm.
        """
        if is_done is not None and is_done():
            return True
        while self._heap and self._heap[0][0] <= limit_us:
            when_us, _, _, handle = heapq.heappop(self._heap)
            action = handle.action
            if action is None:
                continue
            handle.action = None
            self.now_us = when_us
            self.events += 1
            if self.events > MAX_EVENTS:
                raise EventStorm(self.now_us)
            action()
            if is_done is not None and is_done():
                return True
        self.now_us = max(self.now_us, limit_us)
        return False
