"""Faults as data: what goes wrong, where and when, drawn from the seed before the run begins.

A plan is a tuple of faults. Because they are data, a failing run can be shortened by removing
faults, and a report can name them. Each fault acts once at `at_ms` and, where it lasts, ends after
`for_ms`; everything that lasts ends by force when the liveness phase begins.
"""

from __future__ import annotations

import random
from typing import Literal

import msgspec

CrashPoint = Literal[
    "persist", "persisted", "durable", "settled", "send", "sent", "apply", "applied", "sign"
]
"""Where the power can go: before and after a record is appended, when an fsync completed before and
after the replica heard of it, before and after a message leaves, before and after a block is
durable, and between signing and persisting."""

CRASH_POINTS: tuple[CrashPoint, ...] = (
    "persist",
    "persisted",
    "durable",
    "settled",
    "send",
    "sent",
    "apply",
    "applied",
    "sign",
)


class Fault(msgspec.Struct, frozen=True, tag=True):
    """`at_ms` is virtual time since the run began."""

    at_ms: int


class Crash(Fault, frozen=True):
    """From `at_ms` on, `machine` loses power the `nth` time it passes `point`, for a while."""

    machine: int
    point: CrashPoint
    nth: int
    down_ms: int


class Blackout(Fault, frozen=True):
    """Every machine loses power within a moment; each is back after its own time."""

    down_ms: tuple[int, ...]


class Pause(Fault, frozen=True):
    """The process of `machine` stands still (SIGSTOP) and then handles what has come meanwhile."""

    machine: int
    for_ms: int


class Partition(Fault, frozen=True):
    """Machines reach only those of their own group."""

    group: tuple[int, ...]
    for_ms: int


class Outage(Fault, frozen=True):
    """No machine reaches any other, for minutes."""

    for_ms: int


class OneWay(Fault, frozen=True):
    """Nothing goes from a sender to a receiver in `pairs`; the other direction works."""

    pairs: tuple[tuple[int, int], ...]
    for_ms: int


class IsolatedLeader(Fault, frozen=True):
    """Whoever leads the round at `at_ms` is cut off; `deaf` and `mute` say in which direction."""

    deaf: bool
    mute: bool
    for_ms: int


class Bridge(Fault, frozen=True):
    """Two halves that reach each other only through one machine, which does not forward."""

    machine: int
    left: tuple[int, ...]
    for_ms: int


class BadLinks(Fault, frozen=True):
    """Loss, duplication and delay on every link from a machine in `senders`."""

    senders: tuple[int, ...]
    loss_ppm: int
    duplicate_ppm: int
    delay_ms: int
    for_ms: int


class Replay(Fault, frozen=True):
    """Old packets arrive once more."""

    count: int


class SlowDisk(Fault, frozen=True):
    """Every fsync of `machine` takes up to `slowdown_ms` longer."""

    machine: int
    slowdown_ms: int
    for_ms: int


class LostDisk(Fault, frozen=True):
    """`machine` loses power and its journal, and the whole chain too where `is_wiped`.

    Ignored where more validators would have forgotten or lie than the sets tolerate.
    """

    machine: int
    is_wiped: bool
    is_damaged: bool


class ClockJump(Fault, frozen=True):
    """The wall clock of `machine` is off by `offset_ms` from now on."""

    machine: int
    offset_ms: int


class RefusingSigner(Fault, frozen=True):
    """The key store of `machine` answers nothing (the guard before it still does)."""

    machine: int
    for_ms: int


class WrongExecution(Fault, frozen=True):
    """`machine` computes another state root: it must abstain, and recover when that ends."""

    machine: int
    for_ms: int


AnyFault = (
    Crash
    | Blackout
    | Pause
    | Partition
    | Outage
    | OneWay
    | IsolatedLeader
    | Bridge
    | BadLinks
    | Replay
    | SlowDisk
    | LostDisk
    | ClockJump
    | RefusingSigner
    | WrongExecution
)

FAULT_KINDS: tuple[str, ...] = (
    "crash",
    "blackout",
    "pause",
    "partition",
    "outage",
    "one_way",
    "isolated_leader",
    "bridge",
    "bad_links",
    "replay",
    "slow_disk",
    "lost_disk",
    "clock",
    "signer",
    "execution",
    "byzantine",
)
"""Names for `simulate(faults=…)`. "byzantine" is no entry of a plan: it lasts the whole run."""


def _some(draw: random.Random, machines: int, least: int, most: int) -> tuple[int, ...]:
    count = draw.randint(least, max(least, most))
    return tuple(sorted(draw.sample(range(machines), min(count, machines))))


def _duration_ms(draw: random.Random) -> int:
    """Mostly short, sometimes long enough for many rounds to pass."""
    return draw.choice((200, 500, 1_000, 2_000, 5_000, 15_000)) * draw.randint(50, 150) // 100


def _draw_crash(draw: random.Random, at_ms: int, machines: int) -> Crash:
    return Crash(
        at_ms,
        machine=draw.randrange(machines),
        point=draw.choice(CRASH_POINTS),
        nth=draw.randint(1, 12),
        down_ms=draw.choice((1, 50, 500, 3_000, 10_000)),
    )


def draw_fault(draw: random.Random, kind: str, at_ms: int, machines: int) -> AnyFault:  # noqa: C901
    """One fault of a kind, its particulars drawn."""
    match kind:
        case "crash":
            return _draw_crash(draw, at_ms, machines)
        case "blackout":
            return Blackout(
                at_ms, tuple(draw.choice((1, 100, 1_000, 6_000)) for _ in range(machines))
            )
        case "pause":
            return Pause(at_ms, draw.randrange(machines), _duration_ms(draw))
        case "partition":
            return Partition(at_ms, _some(draw, machines, 1, machines // 2), _duration_ms(draw))
        case "outage":
            return Outage(at_ms, draw.choice((20_000, 90_000)))
        case "one_way":
            senders = _some(draw, machines, 1, machines - 1)
            receivers = _some(draw, machines, 1, machines - 1)
            pairs = tuple((a, b) for a in senders for b in receivers if a != b)
            return OneWay(at_ms, pairs, _duration_ms(draw))
        case "isolated_leader":
            deaf, mute = draw.choice(((True, True), (True, False), (False, True)))
            return IsolatedLeader(at_ms, deaf=deaf, mute=mute, for_ms=_duration_ms(draw))
        case "bridge":
            machine = draw.randrange(machines)
            rest = [each for each in range(machines) if each != machine]
            left = tuple(sorted(draw.sample(rest, len(rest) // 2)))
            return Bridge(at_ms, machine, left, _duration_ms(draw))
        case "bad_links":
            return BadLinks(
                at_ms,
                senders=_some(draw, machines, 1, machines),
                loss_ppm=draw.choice((0, 50_000, 200_000, 500_000)),
                duplicate_ppm=draw.choice((0, 0, 100_000, 500_000)),
                delay_ms=draw.choice((0, 30, 200, 1_000, 4_000)),
                for_ms=_duration_ms(draw),
            )
        case "replay":
            return Replay(at_ms, draw.choice((10, 50, 200)))
        case "slow_disk":
            return SlowDisk(
                at_ms, draw.randrange(machines), draw.choice((20, 200, 1_500)), _duration_ms(draw)
            )
        case "lost_disk":
            wiped, damaged = draw.choice(((False, True), (False, False), (True, False)))
            return LostDisk(at_ms, draw.randrange(machines), is_wiped=wiped, is_damaged=damaged)
        case "clock":
            return ClockJump(
                at_ms, draw.randrange(machines), draw.choice((-5_000, -300, -40, 0, 40, 300, 5_000))
            )
        case "signer":
            return RefusingSigner(at_ms, draw.randrange(machines), _duration_ms(draw))
        case "execution":
            return WrongExecution(at_ms, draw.randrange(machines), _duration_ms(draw))
        case _:
            raise ValueError(f"{kind!r} is none of {', '.join(FAULT_KINDS)}")


def draw_plan(
    draw: random.Random, *, machines: int, lasting_ms: int, kinds: tuple[str, ...]
) -> tuple[AnyFault, ...]:
    """The faults of one run.

    A run does not use every kind: with some kinds left out, the others get further (swarm testing,
    Groce et al., ISSTA 2012). Crashes weigh more than the rest, since there are so many places
    for them.
    """
    usable = [kind for kind in kinds if kind != "byzantine"]
    if not usable:
        return ()
    chosen = [kind for kind in usable if draw.random() < 0.5] or [draw.choice(usable)]
    weights = [4 if kind == "crash" else 1 for kind in chosen]
    count = draw.randint(1, 14)
    faults = [
        draw_fault(
            draw, draw.choices(chosen, weights)[0], draw.randint(0, lasting_ms * 9 // 10), machines
        )
        for _ in range(count)
    ]
    return tuple(sorted(faults, key=lambda fault: fault.at_ms))
