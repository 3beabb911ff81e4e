"""One run: a safety phase in which everything breaks, then a liveness phase in which it must go on.

Liveness is only promised to a quorum that runs and reaches each other. So at the end of the safety
phase a part of the machines, as many as the fault tolerance of the validator sets allows, goes down
for good, everything else is healed, and then

1. every healed machine must commit PROGRESS_HEIGHTS new blocks within PROGRESS_BOUND_MS, and
2. a number of transactions submitted after that must be acknowledged within INCLUSION_BOUND_MS,

both longer by a factor on a network that is slower than the time-outs' cap.

The order of the phases, and that the first bars nothing, is that of TigerBeetle's simulator.
"""

from __future__ import annotations

import traceback
from contextlib import suppress

import msgspec

from node.simulation.faults import FAULT_KINDS, AnyFault, Outage, draw_plan
from node.simulation.injection import heal, schedule_plan
from node.simulation.invariants import Violation
from node.simulation.machine import Machine, Parts
from node.simulation.randomness import stream
from node.simulation.schedule import MS, EventStorm
from node.simulation.setup import Setup, draw_setup, faulty_is_tolerable
from node.simulation.world import World

PROGRESS_HEIGHTS = 2
INCLUSION_COUNT = 3

# The slowest of some thousand seeds needed two thirds of this, whatever came before, with time-outs
# of 250–400 ms that grow to four times as much, and one validator in three absent or lying.
PROGRESS_BOUND_MS = 10_000
INCLUSION_BOUND_MS = 10_000

# On a network slower than the cap of the time-outs, rounds must first grow past it, which takes the
# cap's doubling after sixteen of them.
SLOW_NETWORK_FACTOR = 12


class _NothingToDemand(Exception):
    """More validators lie or must be silent than can be tolerated: nothing is promised."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a run. `violation` is None, or (invariant, detail)."""

    setup: Setup
    plan: tuple[AnyFault, ...]
    violation: tuple[str, str] | None
    events: int
    height: int
    acknowledged: int
    healed_in_ms: int
    trace_hash: str
    trace: tuple[str, ...]


def draw_run(
    seed: int, *, validators: int | None = None, kinds: tuple[str, ...] = FAULT_KINDS
) -> tuple[Setup, tuple[AnyFault, ...]]:
    """Setup and plan of a seed."""
    setup = draw_setup(stream(seed, "setup"), seed=seed, validators=validators, kinds=kinds)
    plan = draw_plan(
        stream(seed, "plan"),
        machines=setup.validators,
        lasting_ms=setup.safety_ms,
        kinds=kinds,
    )
    return setup, plan


def run(setup: Setup, plan: tuple[AnyFault, ...], parts: Parts) -> Outcome:
    """Run it. Never raises for what production code does: that is the outcome's violation."""
    world = World(setup, parts)
    violation: tuple[str, str] | None = None
    healed_in_ms = 0
    try:
        world.begin()
        schedule_plan(world, plan)
        world.schedule.run_until(_safety_ms(setup, plan) * MS)
        with suppress(_NothingToDemand):
            healed_in_ms = _liveness_phase(world)
        for machine in world.honest:
            world.observer.check_chain(machine)
    except Violation as error:
        violation = (error.invariant, error.detail)
    except EventStorm as error:
        violation = ("no-storm", str(error))
    except Exception as error:  # noqa: BLE001 - whatever production code raises is the finding
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{each.name}:{each.lineno}" for each in reversed(frames))
        violation = ("no-crash", f"{type(error).__name__}: {error} ({where})")
    return Outcome(
        setup=setup,
        plan=plan,
        violation=violation,
        events=world.schedule.events,
        height=world.observer.height,
        acknowledged=len(world.observer.acknowledged),
        healed_in_ms=healed_in_ms,
        trace_hash=world.log.digest(),
        trace=tuple(world.log.lines()) if violation else (),
    )


def _safety_ms(setup: Setup, plan: tuple[AnyFault, ...]) -> int:
    """A long outage, in which next to nothing happens, makes the safety phase longer."""
    outages = [fault.at_ms + fault.for_ms for fault in plan if isinstance(fault, Outage)]
    return max(setup.safety_ms, *outages, 0)


def _choose_down(world: World) -> set[int]:
    """Machines that stay off: with the Byzantine ones, less than a third of the power."""
    draw = world.stream("down")
    setup = world.setup
    faulty = {validator for validator, _ in setup.byzantine} | _silent(world)
    if not faulty_is_tolerable(setup.powers, faulty):
        raise _NothingToDemand
    down: set[int] = set()
    if faulty and draw.random() < 0.5:
        down = {each.number for each in world.machines if not each.honest}
    if draw.random() < 0.6:
        order = list(world.honest)
        draw.shuffle(order)
        for machine in order:
            if faulty_is_tolerable(setup.powers, faulty | {machine.validator}):
                faulty.add(machine.validator)
                down.add(machine.number)
    return down


def _silent(world: World) -> set[int]:
    """Validators that must not vote yet, for they have forgotten or never begun to vote.

    They count among the faulty until the others have decided two heights without them.
    """
    height = world.observer.height + 1
    return {each.validator for each in world.honest if each.is_silent_at(height)}


def _liveness_phase(world: World) -> int:
    """How long the healed machines took to make progress, ms. Raises Violation."""
    down = _choose_down(world)
    heal(world, down)
    healed = [each for each in world.honest if each.number not in down]
    world.clients.settle_on(healed)
    schedule = world.schedule
    healed_us = schedule.now_us
    target = world.observer.height + PROGRESS_HEIGHTS
    patience_us = MS * (SLOW_NETWORK_FACTOR if world.setup.latency_ms else 1)

    def have_progressed() -> bool:
        return all(each.store.tip.height >= target for each in healed)

    if not schedule.run_until(healed_us + PROGRESS_BOUND_MS * patience_us, have_progressed):
        raise Violation("progress", _describe(healed, target))
    progressed_us = schedule.now_us
    wanted = world.clients.acknowledged + INCLUSION_COUNT

    def have_included() -> bool:
        return world.clients.acknowledged >= wanted

    if not schedule.run_until(progressed_us + INCLUSION_BOUND_MS * patience_us, have_included):
        raise Violation("inclusion", f"{world.clients.acknowledged} of {wanted} transactions")
    return (progressed_us - healed_us) // MS


def _describe(healed: list[Machine], target: int) -> str:
    states = []
    for machine in healed:
        status = machine.process.replica.status if machine.process else None
        place = f"round {status.round} {status.phase}" if status else "not running"
        states.append(f"m{machine.number} has height {machine.store.tip.height}, {place}")
    return f"not all reached height {target}: " + "; ".join(states)
