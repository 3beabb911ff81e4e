"""The engine as a function of its events: the same ones give the same effects, byte for byte, and
asking it changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from consensus.engine import Effect, Event, Persist, Send
from consensus.pbft.engine import PbftEngine
from consensus.pbft.messages import decode_message, encode_message
from tests.kit.engines import Cluster
from tests.properties.test_pbft_schedules import CHAOS_STEPS, Chaos

ROOT = Path(__file__).parents[2]


def recorded(seed: int) -> list[list[tuple[Event, list[Effect]]]]:
    """What each life of each validator was told and did in a chaotic run."""
    chaos = Chaos(seed)
    lives: list[list[tuple[Event, list[Effect]]]] = []
    known: set[int] = set()
    for _ in range(CHAOS_STEPS):
        chaos.step()
        for host in chaos.cluster.up():
            if id(host.timeline) not in known:
                known.add(id(host.timeline))
                lives.append(host.timeline)
    return lives


@pytest.mark.parametrize("seed", range(4))
def test_the_same_events_give_the_same_effects(seed: int) -> None:
    compared = 0
    for life in recorded(seed):
        engine = PbftEngine()
        for event, effects in life:
            assert engine.step(event) == effects
            compared += len(effects)
    assert compared > 50


@pytest.mark.parametrize("seed", range(4))
def test_asking_changes_nothing(seed: int) -> None:
    """An engine that is asked about every message, all the time, does what one does that is not."""
    lives = recorded(seed)
    messages = [
        effect.message
        for life in lives
        for _, effects in life
        for effect in effects
        if isinstance(effect, Send)
    ][::7]
    for life in lives:
        engine = PbftEngine()
        for event, effects in life:
            assert engine.step(event) == effects
            for message in messages[:40]:
                for peer in (None, 0, message.validator, 99):
                    engine.wants(peer, message)
                engine.block_of(message)


def test_everything_sent_has_one_spelling() -> None:
    kinds = set()
    for life in recorded(5):
        for _, effects in life:
            for effect in effects:
                if isinstance(effect, Send):
                    raw = encode_message(effect.message)
                    assert decode_message(raw) == effect.message
                    kinds.add(type(effect.message).__name__)
    assert len(kinds) >= 4


def test_a_journal_holds_the_votes_that_were_persisted() -> None:
    cluster = Cluster([1, 1, 1, 1], PbftEngine)
    persisted: list[list[object]] = [[] for _ in range(4)]

    def log(index: int, effect: Effect) -> None:
        if isinstance(effect, Persist):
            persisted[index].extend(effect.votes)

    cluster.log = log
    cluster.start()
    cluster.set_work(range(4), waiting=True)
    cluster.deliver_all()
    engine = PbftEngine()
    for index, disk in enumerate(cluster.disks):
        found = [signed for record in disk.records for signed in engine.votes_of(record)]
        assert found == persisted[index]
        # One height costs two records, and a leader no more.
        assert len(disk.records) == 2


def test_hash_seeds_change_nothing() -> None:
    """Set and dict order never reaches an effect: two PYTHONHASHSEEDs, one hash."""
    program = (
        "import hashlib\n"
        "from tests.properties.test_pbft_engine import recorded\n"
        "digest = hashlib.sha256()\n"
        "for seed in (1, 2, 3):\n"
        "    for life in recorded(seed):\n"
        "        for _, effects in life:\n"
        "            digest.update(repr(effects).encode())\n"
        "print(digest.hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1
