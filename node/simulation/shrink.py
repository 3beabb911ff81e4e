"""Shortening a failing run: fewer faults, fewer liars, the same violation.

Faults are data, so a shorter plan is tried by running it. First halves are left out, then quarters,
down to single faults (Zeller's ddmin, without its complements), then Byzantine validators, as long
as the same invariant is violated and the effort lasts. Since every consumer of chance has its own
stream, what is left of the run stays close to what it was.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from node.simulation.faults import AnyFault
from node.simulation.run import Outcome
from node.simulation.setup import Setup

# Runs spent on shortening one failure: some ten seconds.
SHRINK_RUNS = 40

Rerun = Callable[[Setup, tuple[AnyFault, ...]], Outcome]


class _Effort:
    """Counts the runs, and keeps the shortest that still fails."""

    def __init__(self, failing: Outcome, rerun: Rerun, runs: int) -> None:
        assert failing.violation is not None
        self.best = failing
        self._invariant = failing.violation[0]
        self._rerun = rerun
        self._left = runs

    def fails(self, setup: Setup, plan: tuple[AnyFault, ...]) -> bool:
        """Whether the same invariant breaks; if so, this is the best so far."""
        if self._left == 0:
            return False
        self._left -= 1
        outcome = self._rerun(setup, plan)
        if outcome.violation is None or outcome.violation[0] != self._invariant:
            return False
        self.best = outcome
        return True


def shrink(failing: Outcome, rerun: Rerun, runs: int = SHRINK_RUNS) -> Outcome:
    """The shortest failing run that was found within the effort."""
    effort = _Effort(failing, rerun, runs)
    size = max(1, len(failing.plan) // 2)
    while True:
        place = 0
        while place < len(effort.best.plan):
            plan = effort.best.plan
            if not effort.fails(effort.best.setup, plan[:place] + plan[place + size :]):
                place += size
        if size == 1:
            break
        size //= 2
    for liar in failing.setup.byzantine:
        setup = effort.best.setup
        honest = tuple(each for each in setup.byzantine if each != liar)
        effort.fails(msgspec.structs.replace(setup, byzantine=honest), effort.best.plan)
    return effort.best
