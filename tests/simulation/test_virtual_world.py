"""The pieces of the simulated world keep the promises that the runs rest on."""

from __future__ import annotations

import random
from functools import partial

import pytest

from consensus.journal import JournalTag
from node.simulation.disk import JournalDisk
from node.simulation.faults import FAULT_KINDS, Crash, draw_plan
from node.simulation.memory import held_elements
from node.simulation.network import Network, Packet, Weather
from node.simulation.randomness import stream
from node.simulation.schedule import MS, SECOND, EventStorm, Schedule

TAG = JournalTag("pbft", bytes(32))


def test_simultaneous_events_are_ordered_by_the_seed_alone() -> None:
    def order(seed: int, names: list[str]) -> list[str]:
        schedule, seen = Schedule(stream(seed, "ties")), list[str]()
        for name in names:
            schedule.at(5, partial(seen.append, name))
        schedule.run_until(5)
        return seen

    names = list("abcdefgh")
    assert order(1, names) == order(1, names)
    assert len({tuple(order(seed, names)) for seed in range(20)}) > 10


def test_a_cancelled_event_never_happens() -> None:
    schedule = Schedule(stream(0, "ties"))
    handle = schedule.after(10, lambda: pytest.fail("cancelled"))
    handle.cancel()
    schedule.run_until(20)
    assert schedule.now_us == 20


def test_an_event_storm_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.simulation.schedule.MAX_EVENTS", 100)
    schedule = Schedule(stream(0, "ties"))

    def again() -> None:
        schedule.after(0, again)

    again()
    with pytest.raises(EventStorm):
        schedule.run_until(SECOND)


@pytest.mark.parametrize("seed", range(200))
def test_a_power_loss_keeps_what_was_durable_and_tears_only_the_rest(seed: int) -> None:
    schedule = Schedule(stream(seed, "ties"))
    disk = JournalDisk(schedule, stream(seed, "disk"), TAG)
    draw = random.Random(seed)
    assert disk.open() == ()
    reported = 0

    def heard(sequence: int) -> None:
        nonlocal reported
        reported = sequence

    written: list[bytes] = []
    for _ in range(3):
        disk.on_durable = heard
        reported = len(written)
        kept = len(written)
        for sequence in range(kept + 1, kept + draw.randint(2, 9)):
            record = draw.randbytes(draw.randint(1, 60)) + b"\0" * draw.randint(0, 3)
            written.append(record)
            disk.append(sequence, record)
            schedule.run_until(schedule.now_us + draw.randint(0, 8) * MS)
        disk.lose_power()
        found = disk.open()
        assert found == tuple(written[: len(found)])
        assert len(found) >= reported
        written = list(found)


def test_an_fsync_covers_only_what_was_written_before_it_began() -> None:
    schedule = Schedule(stream(0, "ties"))
    disk = JournalDisk(schedule, stream(0, "disk"), TAG)
    heard: list[int] = []
    disk.on_durable = heard.append
    disk.append(1, b"one")
    disk.append(2, b"two")
    schedule.run_until(SECOND)
    assert heard == [1, 2]


def _network(seed: int) -> tuple[Schedule, Network, list[Packet]]:
    schedule, arrived = Schedule(stream(seed, "ties")), list[Packet]()
    return schedule, Network(schedule, stream(seed, "network"), arrived.append), arrived


def test_a_blocked_link_cuts_off_what_is_on_its_way() -> None:
    schedule, network, arrived = _network(0)
    network.send(Packet(0, 1, "x", b""))
    network.weather.append(Weather(lambda a, b: (a, b) == (0, 1), blocks=True))
    network.send(Packet(0, 1, "x", b""))
    network.send(Packet(1, 0, "x", b""))
    schedule.run_until(SECOND)
    assert [(each.sender, each.receiver) for each in arrived] == [(1, 0)]


def test_packets_are_lost_doubled_and_replayed() -> None:
    schedule, network, arrived = _network(1)
    network.weather.append(Weather(lambda a, _: a == 0, loss_ppm=500_000))
    network.weather.append(Weather(lambda a, _: a == 1, duplicate_ppm=1_000_000))
    for number in range(200):
        network.send(Packet(0, 2, "x", number))
        network.send(Packet(1, 2, "x", number))
    schedule.run_until(SECOND)
    assert 60 < sum(each.sender == 0 for each in arrived) < 140
    assert sum(each.sender == 1 for each in arrived) == 400
    arrived.clear()
    network.replay(30, stream(1, "replay"))
    schedule.run_until(3 * SECOND)
    assert len(arrived) == 30


def test_plans_follow_from_the_seed_and_keep_to_their_kinds() -> None:
    def plan(seed: int, kinds: tuple[str, ...]) -> tuple[object, ...]:
        return draw_plan(stream(seed, "plan"), machines=4, lasting_ms=10_000, kinds=kinds)

    assert plan(3, FAULT_KINDS) == plan(3, FAULT_KINDS) != plan(4, FAULT_KINDS)
    assert all(isinstance(each, Crash) for seed in range(20) for each in plan(seed, ("crash",)))
    assert plan(3, ()) == ()


def test_memory_is_counted_through_objects_and_each_thing_once() -> None:
    shared = [1, 2, 3]
    assert held_elements({"a": shared, "b": shared, "c": {4: (5, 6)}}) == 3 + 3 + 1 + 2
