"""Every way in which one round of four validators can go half right, then the next round.

In the first round each vote reaches a chosen set of validators: PREPAREs reach one set, COMMITs
another. Those who then decided fall silent, the rest change rounds and go on among themselves,
which only succeeds where they are a quorum. Whatever the sets, no second block may be decided, and
a quorum that is left must decide. In the second family validator 3 lies: it chooses whom it gives
its PREPARE and its COMMIT, claims to have prepared nothing, and afterwards votes for whatever is
proposed. Both also run with everybody restarting from the journal after the first round.

The sets are few enough to try (nearly) all; of two half-right rounds, a sample.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest

from consensus.pbft.engine import PbftEngine
from consensus.pbft.messages import (
    NO_HASH,
    NO_ROUND,
    UNSIGNED,
    BlockReply,
    BlockRequest,
    CommitVote,
    Prepare,
    PrePrepare,
    ViewChange,
)
from tests.kit.engines import CHAIN_ID, GENESIS_HASH, Cluster, Letter, sign

N = 4
LIAR = 3


class Model:
    """Four validators at height 1, driven round by round."""

    def __init__(self, *, liar: bool, restarts: bool = False) -> None:
        self.cluster = Cluster([1] * N, PbftEngine)
        self.cluster.syncs = False
        self.honest = [index for index in range(N) if not (liar and index == LIAR)]
        self.liar = liar
        self.restarts = restarts
        self.round = 0
        self.proposed: bytes | None = None
        self.cluster.on_posted = self.posted
        self.cluster.start(*self.honest)
        self.cluster.set_work(self.honest, waiting=True)

    def posted(self, letter: Letter) -> None:
        if isinstance(letter.message, PrePrepare):
            self.proposed = letter.message.block_hash

    def undecided(self) -> set[int]:
        return {index for index in self.honest if self.cluster.disks[index].tip.height == 0}

    def deliver(self, kind: type, to: Iterable[int]) -> None:
        """All messages of a type to these; to the others they are lost."""
        receivers = set(to)
        flying, self.cluster.flying = self.cluster.flying, []
        for letter in flying:
            if type(letter.message) is not kind:
                self.cluster.flying.append(letter)
            elif letter.receiver in receivers:
                self.cluster.deliver(letter)

    def lie(self, message: Any, to: Iterable[int]) -> None:
        key = self.cluster.keys[LIAR]
        signature = sign(key, message.vote(CHAIN_ID).digest(GENESIS_HASH))
        fields = {name: getattr(message, name) for name in message.__struct_fields__}
        message = type(message)(**{**fields, "signature": signature})
        for receiver in sorted(to):
            self.cluster.deliver(Letter(LIAR, receiver, message))

    def half_right(
        self, prepares: set[int], commits: set[int], lies: tuple[set[int], set[int]]
    ) -> None:
        """One round in which votes reach only some; `lies` are whom the liar's two votes reach."""
        self.proposed = None
        self.deliver(BlockRequest, self.undecided())
        self.deliver(BlockReply, self.undecided())
        self.deliver(PrePrepare, self.undecided())
        if self.proposed is None:
            self.proposed = next(iter(self.known_blocks()), None)
        if self.liar and self.proposed is not None:
            self.lie(Prepare(1, LIAR, self.round, self.proposed, UNSIGNED), lies[0])
        self.deliver(Prepare, prepares)
        if self.liar and self.proposed is not None:
            self.lie(CommitVote(1, LIAR, self.round, self.proposed, UNSIGNED), lies[1])
        self.deliver(CommitVote, commits)

    def known_blocks(self) -> list[bytes]:
        """What the validators hold in this round."""
        return [
            host.engine._core.h.accepted
            for host in self.cluster.up()
            if host.engine._core.h.accepted is not None
        ]

    def change_round(self) -> None:
        """Those who have not decided leave; those who have say nothing any more."""
        self.cluster.flying.clear()
        self.round += 1
        silent = set(self.honest) - self.undecided()
        for index in sorted(silent):
            if self.cluster.hosts[index] is not None:
                self.cluster.crash(index)
        for host in self.cluster.up():
            if self.restarts:
                self.cluster.crash(host.index)
                self.cluster.start(host.index)
        self.restarts = False
        self.cluster.flying.clear()
        for host in self.cluster.up():
            host.fire(host.engine._core.h.round_timer)
        if self.liar:
            claim = ViewChange(1, LIAR, self.round, NO_ROUND, NO_HASH, UNSIGNED, None, None)
            self.lie(claim, self.undecided())
        self.deliver(ViewChange, self.undecided())

    def whole_round(self) -> None:
        """All votes reach all who are left, the liar's included."""
        everybody = set(range(N))
        self.half_right(everybody, everybody, (self.undecided(), self.undecided()))

    def play(self, halves: list[tuple[set[int], set[int], tuple[set[int], set[int]]]]) -> None:
        for half in halves:
            self.half_right(*half)
            self.change_round()
        for _ in range(N):
            self.whole_round()
            if not self.undecided():
                return
            self.change_round()
        left = len(self.undecided()) + self.liar
        assert left < 3, "a quorum is left and does not decide"


def subsets(count: int) -> list[set[int]]:
    """All subsets of the first validators."""
    return [{index for index in range(count) if mask >> index & 1} for mask in range(1 << count)]


LIES: list[set[int]] = [set(), {1}, {0, 2}, {0, 1, 2}]
"""Whom the liar gives its PREPARE: nobody, the leader, the others, all."""
NOBODY: tuple[set[int], set[int]] = (set(), set())


@pytest.mark.parametrize("restarts", [False, True])
def test_one_half_right_round_of_honest_validators(restarts: bool) -> None:
    outcomes = set()
    for prepares, commits in product(subsets(N), subsets(N)):
        model = Model(liar=False, restarts=restarts)
        model.play([(prepares, commits, NOBODY)])
        outcomes.add(len(model.undecided()))
    # All decided; or some did and were too many to leave a quorum.
    assert outcomes == {0, 1, 2}


@pytest.mark.parametrize("prepares", subsets(3), ids=str)
def test_one_half_right_round_with_a_liar(prepares: set[int]) -> None:
    for commits, lie, second_lie in product(subsets(3), LIES, subsets(3)):
        Model(liar=True).play([(prepares, commits, (lie, second_lie))])


@pytest.mark.parametrize("restarts", [False, True])
def test_two_half_right_rounds_with_a_liar(restarts: bool) -> None:
    draw = random.Random(1)
    sets = subsets(3)
    for _ in range(200):
        halves = [
            (draw.choice(sets), draw.choice(sets), (draw.choice(sets), draw.choice(sets)))
            for _ in range(2)
        ]
        Model(liar=True, restarts=restarts).play(halves)
