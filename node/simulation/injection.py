"""Carrying out a plan: each fault at its time, in the world."""

from __future__ import annotations

from collections.abc import Callable

from node.simulation.faults import (
    AnyFault,
    BadLinks,
    Blackout,
    Bridge,
    ClockJump,
    Crash,
    IsolatedLeader,
    LostDisk,
    OneWay,
    Outage,
    Partition,
    Pause,
    RefusingSigner,
    Replay,
    SlowDisk,
    WrongExecution,
)
from node.simulation.machine import Machine
from node.simulation.network import Weather
from node.simulation.schedule import MS
from node.simulation.setup import faulty_is_tolerable
from node.simulation.world import WORLD, World


def schedule_plan(world: World, plan: tuple[AnyFault, ...]) -> None:
    """Let every fault of the plan happen at its time."""
    for place, fault in enumerate(plan):
        world.schedule.at(
            fault.at_ms * MS,
            lambda fault=fault, place=place: _strike(world, fault, place),  # type: ignore[misc]
        )


def _strike(world: World, fault: AnyFault, place: int) -> None:  # noqa: C901 - one case a kind
    world.note(WORLD, "fault", str(fault))
    machines = world.machines
    match fault:
        case Crash():
            machines[fault.machine].armed.append(fault)
        case Blackout():
            for machine, down_ms in zip(machines, fault.down_ms, strict=False):
                machine.lose_power(down_ms)
        case Pause():
            machines[fault.machine].pause(fault.for_ms)
        case Partition():
            group = set(fault.group)
            _block(world, fault.for_ms, lambda a, b: (a in group) != (b in group))
        case Outage():
            _block(world, fault.for_ms, lambda *_: True)
        case OneWay():
            pairs = set(fault.pairs)
            _block(world, fault.for_ms, lambda a, b: (a, b) in pairs)
        case IsolatedLeader():
            leader = _current_leader(world)
            deaf, mute = fault.deaf, fault.mute
            _block(
                world, fault.for_ms, lambda a, b: (mute and a == leader) or (deaf and b == leader)
            )
        case Bridge():
            left, bridge = set(fault.left), fault.machine
            _block(
                world,
                fault.for_ms,
                lambda a, b: bridge not in (a, b) and (a in left) != (b in left),
            )
        case BadLinks():
            senders = set(fault.senders)
            weather = Weather(
                lambda a, _: a in senders,
                loss_ppm=fault.loss_ppm,
                duplicate_ppm=fault.duplicate_ppm,
                delay_ms=fault.delay_ms,
            )
            world.disturb(weather, fault.for_ms * MS)
        case Replay():
            world.network.replay(fault.count, world.stream(f"replay {place}"))
        case SlowDisk():
            _for_a_while(
                world,
                machines[fault.machine],
                fault.for_ms,
                lambda machine, on: setattr(
                    machine.disk, "slowdown_ms", fault.slowdown_ms if on else 0
                ),
            )
        case LostDisk():
            _lose_disk(world, fault)
        case ClockJump():
            machines[fault.machine].clock_offset_ms = fault.offset_ms
        case RefusingSigner():
            _for_a_while(
                world,
                machines[fault.machine],
                fault.for_ms,
                lambda machine, on: setattr(machine, "signer_refuses", on),
            )
        case WrongExecution():
            _for_a_while(
                world,
                machines[fault.machine],
                fault.for_ms,
                lambda machine, on: setattr(machine, "wrong_execution", on),
            )


def _lose_disk(world: World, fault: LostDisk) -> None:
    machine, setup = world.machines[fault.machine], world.setup
    faulty = {validator for validator, _ in setup.byzantine} | world.forgetful
    if not faulty_is_tolerable(setup.powers, faulty | {machine.validator}):
        return
    if not machine.honest or any(each.store.tip.height == 0 for each in world.honest):
        # While somebody is at height 0, a forgotten vote cannot be told from none
        # (consensus.first_vote).
        return
    world.forgetful.add(machine.validator)
    machine.lose_disk(is_wiped=fault.is_wiped, is_damaged=fault.is_damaged)


def _block(world: World, for_ms: int, concerns: Callable[[int, int], bool]) -> None:
    world.disturb(Weather(concerns, blocks=True), for_ms * MS)


def _for_a_while(
    world: World, machine: Machine, for_ms: int, switch: Callable[[Machine, bool], None]
) -> None:
    begin, end = True, False
    switch(machine, begin)
    world.schedule.after(for_ms * MS, lambda: switch(machine, end))


def _current_leader(world: World) -> int:
    """The machine that leads the highest round any honest machine is in."""
    best: tuple[int, int, int] | None = None
    for machine in world.honest:
        if machine.process is None:
            continue
        status = machine.process.replica.status
        place = (status.height, status.round, status.leader)
        if best is None or place > best:
            best = place
    if best is None:
        return 0
    height, _, leader = best
    validators = world.genesis.validators_at(height)
    operator = validators[leader].operator if leader < len(validators) else None
    return next((each.number for each in world.machines if each.operator == operator), 0)


def heal(world: World, down: set[int]) -> None:
    """End every fault; the machines in `down` stay off, all others run."""
    world.note(WORLD, "heal", sorted(down))
    world.network.weather.clear()
    draw = world.stream("heal")
    for machine in world.machines:
        machine.armed.clear()
        machine.disk.slowdown_ms = 0
        machine.signer_refuses = False
        machine.wrong_execution = False
        machine.clock_offset_ms = draw.randint(-40, 40)
        machine.resume()
        if machine.number in down:
            machine.lose_power(None)
            machine.stay_down()
        else:
            machine.start()
