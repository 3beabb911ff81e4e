"""PBFT under arbitrary schedules: everything may go wrong, then a quorum heals and must go on.

A run is drawn from one seed and goes in one of two ways. In steps: messages are delivered late,
twice, in any order or never; timers fire at any time; validators crash between any two events,
keeping any prefix of the records under way, and come back; application and signer answer late, and
twice. Or in phases: of one type of message some validators get all and the others nothing, then
some leave the round; that finds the runs in which one validator alone sees a quorum. One validator
(less than a third of power) may lie in every way the kit knows.

Checked after every event: one block per height, one vote per place and validator across restarts,
no vote of a round that was left, and the bounds of memory. Then every honest validator runs and
hears the others, and blocks must come.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from consensus.engine import (
    Applied,
    Candidate,
    PersistDone,
    Signed,
    Synced,
    Timer,
    Validated,
)
from consensus.pbft.agreement import KEPT_BLOCKS
from consensus.pbft.engine import PbftEngine
from consensus.pbft.messages import (
    NO_HASH,
    NO_ROUND,
    UNSIGNED,
    BlockRequest,
    CommitVote,
    Decided,
    Prepare,
    PrePrepare,
    ViewChange,
)
from ledger.certificate import VOTE_VIEW_CHANGE, Vote
from tests.kit.engines import (
    CHAIN_ID,
    GENESIS_HASH,
    Cluster,
    Host,
    Letter,
    make_proposal,
    sign,
    validator_set,
)
from tests.kit.scenario import NAMES

POWERS = ((1,), (1, 1, 1, 1), (1, 1, 1, 1, 1, 1), (1,) * 7, (3, 1, 1, 1, 1), (5, 4, 4, 3))
CHAOS_STEPS = 600
PHASES = 100

# Two blocks after healing: rounds under way may have grown to the devnet cap of 4 s, and a faulty
# leader may take one of each height.
HEALED_WITHIN_MS = 16_000


class Watch:
    """Checks what leaves honest validators, over all their lives."""

    def __init__(self, cluster: Cluster, liars: set[int]) -> None:
        self._cluster = cluster
        self._liars = liars
        self._votes: dict[tuple[int, int, int, int], Vote] = {}
        self._left: dict[tuple[int, int], int] = {}
        cluster.on_posted = self.posted

    def posted(self, letter: Letter) -> None:
        message = letter.message
        if letter.sender in self._liars or not hasattr(message, "signature"):
            return
        vote: Vote = message.vote(CHAIN_ID)
        place = (letter.sender, vote.height, vote.round, vote.type)
        first = self._votes.get(place)
        if first is None:
            left = self._left.get((letter.sender, vote.height), -1)
            assert vote.round >= left, f"{place} is cast after a VIEW-CHANGE to {left}"
            self._votes[place] = vote
            if vote.type == VOTE_VIEW_CHANGE:
                self._left[(letter.sender, vote.height)] = vote.round
        else:
            assert first == vote, f"two votes at {place}"


def check_memory(cluster: Cluster) -> None:
    """Buffers stay below n times a constant, whatever arrived."""
    for host in cluster.up():
        core = host.engine._core
        n = len(core.validators)
        assert len(core.early) <= 4 * n
        assert len(core.answered) <= n
        assert len(core.served) <= n
        assert len(core.h.proposals) <= KEPT_BLOCKS
        assert len(core.h.verdicts) <= KEPT_BLOCKS + 1
        assert len(core.h.proofs) <= n
        assert len(core.h.own) <= 4
        assert len(host.timers) <= 3


class Chaos:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        powers = self.random.choice(POWERS)
        self.cluster = Cluster(powers, PbftEngine)
        self.cluster.write_at_once = False
        self.cluster.keep_timeline = True
        validators = validator_set(powers)
        self.liars: set[int] = set()
        if self.random.random() < 0.5:
            liar = self.random.randrange(len(powers))
            if not validators.has_one_honest(validators[liar].power):
                self.liars.add(liar)
        self.honest = [index for index in range(len(powers)) if index not in self.liars]
        self.watch = Watch(self.cluster, self.liars)
        self.seen: list[Letter] = []
        self.made: list[Any] = []
        self.cluster.start(*self.honest)

    def step(self) -> None:  # noqa: C901 - one branch per kind of mischance
        """Something happens."""
        draw = self.random
        cluster = self.cluster
        cluster.now_ms += draw.choice((0, 1, 5, 50))
        what = draw.random()
        up = cluster.up()
        if what < 0.55 and cluster.flying:
            letter = cluster.flying.pop(draw.randrange(len(cluster.flying)))
            self.seen.append(letter)
            if draw.random() < 0.9:
                cluster.deliver(letter)
        elif what < 0.75 and up:
            host = draw.choice(up)
            if host.unwritten:
                host.write()
            else:
                host.release(draw.choice(("build", "validate", "sign", "apply")))
        elif what < 0.80 and up:
            host = draw.choice(up)
            if host.timers and draw.random() < 0.5:
                host.fire(draw.choice(sorted(host.timers)))
        elif what < 0.84 and self.seen:
            cluster.deliver(draw.choice(self.seen[-200:]))
        elif what < 0.88:
            cluster.set_work([draw.choice(self.honest)], waiting=draw.random() < 0.8)
        elif what < 0.91 and up:
            host = draw.choice(up)
            cluster.crash(host.index, draw.randint(0, len(host.unwritten)))
        elif what < 0.95:
            down = [index for index in self.honest if cluster.hosts[index] is None]
            if down:
                cluster.start(draw.choice(down))
        elif what < 0.97:
            cluster.slow = set(draw.sample(("build", "validate", "sign", "apply"), 2))
        elif what < 0.975 and up:
            self.repeat_answer(draw.choice(up))
        elif what < 0.98:
            cluster.syncs = draw.random() < 0.5
        elif self.liars:
            self.lie()

    def phase(self) -> None:
        """Of one type of message, some receive all that flies, the others nothing."""
        draw = self.random
        cluster = self.cluster
        kinds = sorted({type(letter.message) for letter in cluster.flying}, key=NAMES.get)
        kind = draw.choice(kinds) if kinds else None
        share = 0.0 if kind is Decided else draw.choice((0.4, 0.8, 1.0, 1.0))
        lucky = {index for index in self.honest if draw.random() < share}
        leaving = draw.choice((0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0))
        flying, cluster.flying = cluster.flying, []
        for letter in flying:
            if type(letter.message) is not kind:
                cluster.flying.append(letter)
            elif letter.receiver in lucky:
                self.seen.append(letter)
                cluster.deliver(letter)
        for host in cluster.up():
            if draw.random() < 0.9:
                host.write()
            timer = host.engine._core.h.round_timer
            if timer in host.timers and draw.random() < leaving:
                host.fire(timer)
        if draw.random() < 0.3:
            cluster.set_work(self.honest, waiting=True)
        if draw.random() < 0.05 and cluster.up():
            host = draw.choice(cluster.up())
            cluster.crash(host.index, draw.randint(0, len(host.unwritten)))
            cluster.start(host.index)
        if self.liars and draw.random() < 0.3:
            self.lie()

    def repeat_answer(self, host: Host) -> None:
        """An answer that the engine has had comes again, late: to nobody's harm."""
        late = [
            event
            for event, _ in host.timeline[-200:]
            if isinstance(
                event, Signed | Validated | Candidate | PersistDone | Timer | Applied | Synced
            )
        ]
        if late:
            host.feed(self.random.choice(late))

    def lie(self) -> None:
        """A faulty validator sends whatever could hurt."""
        draw = self.random
        cluster = self.cluster
        liar = next(iter(self.liars))
        victim = draw.choice(self.honest)
        tip = cluster.disks[victim].tip
        height = tip.height + 1 + (draw.random() < 0.1)
        round_ = draw.choice((0, 0, 1, 2, 3, 5))
        hashes = [each.message.block_hash for each in self.seen[-60:] if _has_hash(each.message)]
        hashes.extend(proposal.block_hash for proposal in self.made[-3:])
        block_hash = draw.choice(hashes) if hashes else bytes(range(32))
        match draw.randrange(6):
            case 0:
                proposal = make_proposal(tip, cluster.keys[liar], cluster.now_ms, b"lie%d" % round_)
                self.made.append(proposal)
                message: Any = PrePrepare(
                    tip.height + 1, liar, round_, proposal.block_hash, UNSIGNED, (), None,
                    proposal.block,
                )  # fmt: skip
            case 1:
                message = Prepare(height, liar, round_, block_hash, UNSIGNED)
            case 2 | 3:
                message = CommitVote(height, liar, round_, block_hash, UNSIGNED)
            case 4:
                message = ViewChange(
                    height, liar, max(1, round_), NO_ROUND, NO_HASH, UNSIGNED, None, None
                )
            case _:
                message = BlockRequest(height, liar, block_hash)
        if hasattr(message, "signature"):
            signature = sign(cluster.keys[liar], message.vote(CHAIN_ID).digest(GENESIS_HASH))
            message = type(message)(
                *(
                    signature if name == "signature" else getattr(message, name)
                    for name in message.__struct_fields__
                )
            )
        for receiver in draw.sample(self.honest, draw.randint(1, len(self.honest))):
            cluster.post(Letter(liar, receiver, message))

    def heal(self) -> None:
        """All honest validators run, hear each other, and answer at once."""
        cluster = self.cluster
        cluster.slow = set()
        cluster.syncs = True
        cluster.write_at_once = True
        cluster.flying.clear()
        for index in self.honest:
            if cluster.hosts[index] is None:
                cluster.start(index)
        for host in cluster.up():
            host.write()
            for kind in ("sign", "build", "validate", "apply"):
                host.release(kind)


def _has_hash(message: Any) -> bool:
    return hasattr(message, "block_hash")


def run(seed: int) -> int:
    """Break everything, then demand progress. Returns how long that took, virtual ms."""
    chaos = Chaos(seed)
    cluster = chaos.cluster
    if seed % 2:
        # What is decided must not spread by sync, or no two decisions would ever be tried.
        cluster.syncs = chaos.random.random() < 0.2
    for _ in range(PHASES if seed % 2 else CHAOS_STEPS):
        if seed % 2:
            chaos.phase()
        else:
            chaos.step()
        check_memory(cluster)
    chaos.heal()
    before = max(disk.tip.height for disk in cluster.disks)
    target = before + 2
    waited_ms = 0
    while min(cluster.disks[index].tip.height for index in chaos.honest) < target:
        cluster.set_work(chaos.honest, waiting=True)
        cluster.advance(500)
        check_memory(cluster)
        waited_ms += 500
        assert waited_ms <= HEALED_WITHIN_MS, "no progress after healing"
    return waited_ms


@pytest.mark.parametrize("seed", range(60))
def test_safe_while_broken_and_live_when_healed(seed: int) -> None:
    run(seed)
