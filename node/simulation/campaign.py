"""Many seeds: run, shorten what fails, report."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

import msgspec

from consensus.pbft.engine import PbftEngine
from node.simulation.faults import FAULT_KINDS
from node.simulation.machine import Parts
from node.simulation.run import Outcome, draw_run, run
from node.simulation.shrink import shrink

PRODUCTION = Parts(engine=PbftEngine)
"""The classes that a node runs."""


class Failure(msgspec.Struct, frozen=True):
    """A seed that broke an invariant. `faults` is the shortest plan found that still does."""

    seed: int
    invariant: str
    detail: str
    setup: str
    faults: tuple[str, ...]
    trace: tuple[str, ...]


class Report(msgspec.Struct, frozen=True):
    """What a campaign found. `trace_hash` (hex) covers every event of every run."""

    seeds: int
    from_seed: int
    violations: tuple[Failure, ...]
    events: int
    heights: int
    acknowledged: int
    slowest_heal_ms: int
    seconds: float
    trace_hash: str


def simulate(
    seeds: int,
    from_seed: int = 0,
    *,
    validators: int | None = None,
    faults: Sequence[str] | None = None,
    parts: Parts = PRODUCTION,
    on_seed: Callable[[Outcome], None] | None = None,
) -> Report:
    """Run `seeds` seeds from `from_seed` on.

    `validators` fixes their number, else the seed draws it; `faults` are the kinds to draw from
    (node.simulation.faults.FAULT_KINDS), all by default; `on_seed` hears of each finished run.
    Raises ValueError for an unknown kind.
    """
    kinds = FAULT_KINDS if faults is None else tuple(faults)
    unknown = set(kinds) - set(FAULT_KINDS)
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))}: not among {', '.join(FAULT_KINDS)}")
    started = time.perf_counter()
    whole = hashlib.sha256()
    failures: list[Failure] = []
    events = heights = acknowledged = slowest = 0
    for seed in range(from_seed, from_seed + seeds):
        outcome = run(*draw_run(seed, validators=validators, kinds=kinds), parts)
        whole.update(bytes.fromhex(outcome.trace_hash))
        events += outcome.events
        heights += outcome.height
        acknowledged += outcome.acknowledged
        slowest = max(slowest, outcome.healed_in_ms)
        if outcome.violation is not None:
            shortest = shrink(outcome, lambda setup, plan: run(setup, plan, parts))
            failures.append(_failure(shortest))
        if on_seed is not None:
            on_seed(outcome)
    return Report(
        seeds=seeds,
        from_seed=from_seed,
        violations=tuple(failures),
        events=events,
        heights=heights,
        acknowledged=acknowledged,
        slowest_heal_ms=slowest,
        seconds=round(time.perf_counter() - started, 3),
        trace_hash=whole.hexdigest(),
    )


def _failure(outcome: Outcome) -> Failure:
    assert outcome.violation is not None
    invariant, detail = outcome.violation
    return Failure(
        seed=outcome.setup.seed,
        invariant=invariant,
        detail=detail,
        setup=str(outcome.setup),
        faults=tuple(map(str, outcome.plan)),
        trace=outcome.trace,
    )
