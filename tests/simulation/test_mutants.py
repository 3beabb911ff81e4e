"""The simulator finds bugs: every planted one, by an invariant that says what is wrong."""

from __future__ import annotations

import pytest

from node.simulation.campaign import PRODUCTION, simulate
from node.simulation.faults import Outage
from node.simulation.invariants import INVARIANTS, Violation
from node.simulation.run import draw_run, run
from node.simulation.schedule import SECOND
from node.simulation.shrink import shrink
from node.simulation.world import World
from tests.simulation.mutants import MUTANTS, Mutant, hunt

# The slowest mutant needs a quarter of this.
SEEDS = 80


@pytest.mark.parametrize("hunted", MUTANTS, ids=lambda each: each.name)
def test_every_mutant_is_found(hunted: Mutant) -> None:
    kill = hunt(hunted, SEEDS)
    assert kill is not None, f"{hunted.name} survived {SEEDS} seeds"
    # The table of which invariant found what: `pytest -rP -k every_mutant`.
    print(f"{hunted.name}: seed {kill.seed}, {kill.invariant}: {kill.detail}")
    assert kill.invariant in hunted.expected, f"{kill.invariant}: {kill.detail}"


def test_invariants_named_by_mutants_exist() -> None:
    assert {name for each in MUTANTS for name in each.expected} <= set(INVARIANTS)


def _named(name: str) -> Mutant:
    return next(each for each in MUTANTS if each.name == name)


def test_a_failing_run_is_shortened_to_the_faults_that_matter() -> None:
    hunted = _named("lets_rounds_run_away_in_an_outage")
    with hunted.plant():
        for seed in range(SEEDS):
            failing = run(*draw_run(seed, kinds=hunted.kinds), PRODUCTION)
            if failing.violation is not None and len(failing.plan) > 3:
                break
        shortest = shrink(failing, lambda setup, plan: run(setup, plan, PRODUCTION))
        again = run(shortest.setup, shortest.plan, PRODUCTION)
    assert shortest.violation is not None
    assert failing.violation is not None
    assert shortest.violation[0] == failing.violation[0]
    assert len(shortest.plan) < len(failing.plan)
    # What is reported is a run that can be run again.
    assert again.trace_hash == shortest.trace_hash
    assert any("ViewChange" in line or "packet" in line for line in again.trace)


def test_a_failure_is_reported_with_seed_faults_and_trace() -> None:
    with _named("says_everything_once").plant():
        report = simulate(2, 0)
    assert report.violations
    failure = report.violations[0]
    assert failure.invariant in ("progress", "inclusion")
    assert failure.detail
    assert failure.trace
    assert str(failure.seed) in failure.setup


def _quiet_world(seed: int) -> World:
    """A world after ten undisturbed seconds."""
    setup, _ = draw_run(seed, validators=4, kinds=())
    world = World(setup, PRODUCTION)
    world.begin()
    world.schedule.run_until(10 * SECOND)
    assert world.observer.acknowledged
    return world


def test_an_acknowledged_transaction_that_is_gone_is_noticed() -> None:
    world = _quiet_world(1)
    machine = world.honest[0]
    world.observer.check_chain(machine)
    lost = max(world.observer.acknowledged.values())
    stored = machine.store.blocks[lost - 1]
    object.__setattr__(stored, "transaction_ids", ())
    with pytest.raises(Violation, match="nothing-lost"):
        world.observer.check_chain(machine)


def test_a_store_with_another_block_is_noticed() -> None:
    world = _quiet_world(2)
    machine = world.honest[1]
    blocks = machine.store.blocks
    blocks[3], blocks[4] = blocks[4], blocks[3]
    with pytest.raises(Violation, match="applied-once"):
        world.observer.check_chain(machine)


def test_an_outage_lengthens_the_safety_phase() -> None:
    setup, _ = draw_run(3, validators=4, kinds=())
    quiet = run(setup, (), PRODUCTION)
    cut_off = run(setup, (Outage(0, 90_000),), PRODUCTION)
    assert quiet.violation is None
    assert cut_off.violation is None
    assert cut_off.height < quiet.height
