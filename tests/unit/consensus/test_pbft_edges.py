"""Corners of the engine that no script reaches: limits, late answers, observers, idle chains."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from consensus.engine import (
    Build,
    Candidate,
    Commit,
    Effect,
    Evidence,
    NeedSync,
    Overheard,
    PeerFault,
    Received,
    Recheck,
    Send,
    ServeHeight,
    SetTimer,
    Sign,
    Synced,
    Tip,
    TransactionsWaiting,
    Validate,
    Validated,
    Wanted,
)
from consensus.pbft.engine import PbftEngine
from consensus.pbft.messages import (
    UNSIGNED,
    BlockReply,
    BlockRequest,
    CommitVote,
    Decided,
    Prepare,
    PrePrepare,
    ViewChange,
)
from consensus.pbft.timers import REBROADCAST_MS
from tests.kit.engines import CHAIN_ID, START_MS, Cluster, Host, make_proposal


def of(effects: list[Effect], kind: type) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


def cluster_of(count: int = 4, *, start: bool = True) -> Cluster:
    cluster = Cluster([1] * count, PbftEngine)
    if start:
        cluster.start()
    return cluster


def decided_cluster(heights: int) -> Cluster:
    cluster = cluster_of()
    for _ in range(heights):
        cluster.set_work(range(4), waiting=True)
        cluster.deliver_all()
    assert {disk.tip.height for disk in cluster.disks} == {heights}
    return cluster


def prepare(height: int, validator: int, *, again: bool = False) -> Prepare:
    return Prepare(height, validator, 0, b"\1" * 32, UNSIGNED, again)


# ---- what is wanted -----------------------------------------------------------------------------


def test_strangers_and_impostors_cost_nothing() -> None:
    host = cluster_of().host(0)
    message = prepare(1, 2)
    assert host.engine.wants(2, message) is Wanted.NOW
    for peer in (None, -1, 4, 1, 0):
        assert host.engine.wants(peer, message) is Wanted.NO


def test_our_own_votes_are_not_wanted_back() -> None:
    assert cluster_of().host(0).engine.wants(0, prepare(1, 0)) is Wanted.NO


def test_what_is_known_is_not_wanted_again() -> None:
    cluster = cluster_of()
    cluster.set_work(range(4), waiting=True)
    letters = list(cluster.flying)
    cluster.deliver_all()
    # The height is decided: neither its votes nor its proposal are of use.
    for letter in letters:
        host = cluster.host(letter.receiver)
        assert host.engine.wants(letter.sender, letter.message) is Wanted.NO


@pytest.mark.parametrize("kind", [Prepare, CommitVote, ViewChange])
def test_of_the_next_height_one_message_of_each_type_is_kept(kind: type) -> None:
    host = cluster_of().host(0)

    def message(round_: int) -> Any:
        if kind is ViewChange:
            return ViewChange(2, 3, round_, -1, bytes(32), UNSIGNED, None, None)
        return kind(2, 3, round_, b"\1" * 32, UNSIGNED)

    assert host.engine.wants(3, message(1)) is Wanted.UNCHECKED
    host.feed(Overheard(3, message(1), START_MS))
    assert host.engine.wants(3, message(1)) is Wanted.NO
    assert host.engine.wants(3, message(2)) is Wanted.UNCHECKED
    later = msgspec.structs.replace(message(1), height=3)
    assert host.engine.wants(3, later) is Wanted.NO


def test_of_the_next_height_only_the_first_leaders_block_is_kept() -> None:
    host = cluster_of().host(0)

    def proposal(validator: int, round_: int) -> PrePrepare:
        return PrePrepare(2, validator, round_, b"\1" * 32, UNSIGNED, (), None, b"block")

    assert host.engine.wants(2, proposal(2, 0)) is Wanted.UNCHECKED
    assert host.engine.wants(3, proposal(3, 1)) is Wanted.NO
    assert host.engine.wants(1, proposal(1, 0)) is Wanted.NO


def test_an_unasked_block_is_not_wanted() -> None:
    host = cluster_of().host(0)
    assert host.engine.wants(1, BlockReply(1, 1, b"\1" * 32, b"block")) is Wanted.NO


# ---- peers that are behind ----------------------------------------------------------------------


def answers(host: Host, message: Any, now_ms: int) -> list[Effect]:
    if host.engine.wants(message.validator, message) is not Wanted.UNCHECKED:
        return []
    effects = host.engine.step(Overheard(message.validator, message, now_ms))
    return [effect for effect in effects if isinstance(effect, Send | ServeHeight)]


def test_a_late_vote_of_the_height_just_decided_is_not_answered() -> None:
    host = decided_cluster(2).host(0)
    assert answers(host, prepare(2, 3), START_MS) == []
    assert len(answers(host, prepare(2, 3, again=True), START_MS)) == 1


def test_a_peer_is_answered_whatever_its_index_was_at_its_height() -> None:
    host = decided_cluster(3).host(0)
    assert host.engine.wants(3, prepare(2, 1)) is Wanted.UNCHECKED
    (effect,) = host.engine.step(Overheard(3, prepare(2, 1), START_MS))
    assert isinstance(effect, Send)
    assert effect.to == 3


def test_a_peer_is_answered_once_a_second_then_served() -> None:
    host = decided_cluster(3).host(0)
    tip = host.disk.tip
    at_ms = START_MS
    first = answers(host, prepare(2, 3), at_ms)
    assert [effect.message for effect in first] == [Decided(3, 0, tip.certificate)]
    assert first[0].to == 3
    assert answers(host, prepare(2, 3), at_ms + 999) == []
    assert answers(host, prepare(1, 3), at_ms + 999) == []
    assert answers(host, prepare(2, 3), at_ms + 1_000) == [ServeHeight(3, 2)]
    # Another peer has its own limit, and a height that was reached is a new question.
    assert len(answers(host, prepare(2, 1), at_ms + 1_000)) == 1
    assert len(answers(host, prepare(3, 3, again=True), at_ms + 1_001)) == 1
    # A clock that was set back does not silence us.
    assert len(answers(host, prepare(2, 3), at_ms - 60_000)) == 1


def test_an_observer_keeps_quiet() -> None:
    cluster = decided_cluster(1)
    first = cluster.validators_at(1)
    # From height 2 on validator 3 is none: it follows and says nothing.
    cluster.sets[2] = type(first).make(first.validators[:3])
    cluster.start(3)
    host = cluster.host(3)
    assert host.own_index(host.validators) is None
    host.feed(TransactionsWaiting(waiting=True, now_ms=START_MS))
    assert host.engine._core.h.round_timer is None
    cluster.start(0, 1, 2)
    cluster.set_work(range(3), waiting=True)
    cluster.deliver_all()
    assert cluster.disks[0].tip.height == 2
    assert host.unwritten == []
    assert len(host.disk.records) == 2


# ---- blocks -------------------------------------------------------------------------------------


def test_a_block_is_served_to_a_validator_once_a_second() -> None:
    cluster = cluster_of()
    cluster.set_work(range(4), waiting=True)
    host = cluster.host(1)
    block_hash = host.engine._core.h.accepted
    request = BlockRequest(1, 3, block_hash)
    assert len(answers(host, request, START_MS)) == 1
    assert answers(host, request, START_MS + 500) == []
    assert len(answers(host, request, START_MS + 1_000)) == 1
    assert answers(host, BlockRequest(1, 2, b"\7" * 32), START_MS) == []


def test_a_reply_with_another_block_is_a_fault() -> None:
    cluster = cluster_of()
    cluster.set_work(range(4), waiting=True)
    flying, cluster.flying = cluster.flying, []
    block_hash = flying[0].message.block_hash
    host = cluster.host(2)
    for voter in (0, 1, 3):
        vote = Prepare(1, voter, 0, block_hash, UNSIGNED)
        host.feed(Received(voter, vote, START_MS))
    asked = [letter.message for letter in cluster.flying if letter.sender == 2]
    assert {type(message) for message in asked} == {BlockRequest}
    tip = host.disk.tip
    wrong = make_proposal(tip, host.key, START_MS, b"another")
    reply = BlockReply(1, 1, block_hash, wrong.block)
    assert host.engine.wants(1, reply) is Wanted.NOW
    effects = host.engine.step(Received(1, reply, START_MS, wrong))
    assert of(effects, PeerFault) == [PeerFault(1, "block")]
    assert not of(effects, Validate)


def test_a_new_block_names_the_leader_as_its_proposer() -> None:
    """Fees go to the proposer: a leader may not hand them to another, or take another's place."""
    cluster = cluster_of()
    host, leader, other = cluster.host(0), cluster.host(1), cluster.host(2)
    for named, faults in ((other, [PeerFault(1, "proposer")]), (leader, [])):
        proposal = make_proposal(host.disk.tip, named.key, START_MS)
        message = PrePrepare(1, 1, 0, proposal.block_hash, UNSIGNED, (), None, proposal.block)
        effects = host.engine.step(Received(1, message, START_MS, proposal))
        assert of(effects, PeerFault) == faults
        assert bool(of(effects, Validate)) is not bool(faults)


def test_a_certificate_for_a_block_we_hold_commits_it_at_once() -> None:
    cluster = decided_cluster(1)
    certificate = cluster.disks[0].tip.certificate
    proposal = cluster.disks[0].chain[0][0]
    other = cluster_of()
    host = other.host(3)
    effects = host.engine.step(Received(1, Decided(1, 1, certificate), START_MS))
    assert of(effects, NeedSync) == [NeedSync(1, 1)]
    assert host.engine.wants(0, Decided(1, 0, certificate)) is Wanted.NO
    reply = BlockReply(1, 1, proposal.block_hash, proposal.block)
    assert host.engine.wants(1, reply) is Wanted.NOW
    effects = host.engine.step(Received(1, reply, START_MS, proposal))
    assert of(effects, Commit) == [Commit(proposal, certificate)]


# ---- late and repeated answers ------------------------------------------------------------------


def test_a_refusal_is_not_final_once_a_quorum_has_prepared_the_block() -> None:
    """A clock that is behind finds a fresh block too early; its time no longer matters then."""
    cluster = cluster_of()
    cluster.slow.add("validate")
    cluster.set_work(range(4), waiting=True)
    letters = [each for each in cluster.flying if each.receiver == 2]
    host = cluster.host(2)
    host.receive(letters[0])
    block_hash = letters[0].message.block_hash
    host.feed(Validated(block_hash, ok=False, now_ms=START_MS))
    effects: list[Effect] = []
    for voter in (0, 1, 3):
        vote = Prepare(1, voter, 0, block_hash, UNSIGNED)
        effects += host.engine.step(Received(voter, vote, START_MS))
    asked = of(effects, Validate)
    assert [(each.proposal.block_hash, each.fresh) for each in asked] == [(block_hash, False)]
    effects = host.engine.step(Validated(block_hash, ok=True, now_ms=START_MS))
    assert {sign.request.vote.type for sign in of(effects, Sign)} == {2, 3}


def test_a_block_still_held_for_its_time_is_judged_when_a_quorum_has_prepared_it() -> None:
    cluster = cluster_of()
    cluster.slow.add("validate")
    cluster.set_work(range(4), waiting=True)
    host = cluster.host(2)
    host.receive(next(each for each in cluster.flying if each.receiver == 2))
    block_hash = host.engine._core.h.accepted
    effects: list[Effect] = []
    for voter in (0, 1, 3):
        vote = Prepare(1, voter, 0, block_hash, UNSIGNED)
        effects += host.engine.step(Received(voter, vote, START_MS))
    assert [each.fresh for each in of(effects, Validate)] == [False]


def test_a_candidate_for_an_earlier_round_is_not_proposed() -> None:
    cluster = cluster_of()
    cluster.slow.add("build")
    cluster.set_work([1], waiting=True)
    host = cluster.host(1)
    (late,) = host.pending["build"]
    host.fire(host.engine._core.h.round_timer)
    effects = host.engine.step(late)
    assert not of(effects, Sign)


def test_nothing_to_build_is_tried_again_later() -> None:
    cluster = cluster_of()
    cluster.slow.add("build")
    cluster.set_work([1], waiting=True)
    host = cluster.host(1)
    (asked,) = host.pending["build"]
    assert isinstance(asked, Candidate)
    effects = host.engine.step(Candidate(asked.request, None, START_MS))
    assert not of(effects, Build)
    assert REBROADCAST_MS in [timer.delay_ms for timer in of(effects, SetTimer)]
    effects = host.engine.step(TransactionsWaiting(waiting=True, now_ms=START_MS))
    assert len(of(effects, Build)) == 1


def test_work_that_goes_away_stops_the_round() -> None:
    host = cluster_of().host(0)
    host.feed(TransactionsWaiting(waiting=True, now_ms=START_MS))
    timer = host.engine._core.h.round_timer
    assert timer in host.timers
    host.feed(TransactionsWaiting(waiting=False, now_ms=START_MS))
    assert timer not in host.timers
    assert host.engine._core.h.round_timer is None


def test_the_heartbeat_is_counted_from_the_tips_time_and_never_longer_than_its_interval() -> None:
    cluster = cluster_of(start=False)
    interval_ms = cluster.params.heartbeat_block_ms
    for clock_ms, expected in ((3_000, interval_ms - 3_000), (-60_000, interval_ms), (10**9, 0)):
        cluster.now_ms = START_MS + clock_ms
        cluster.start(0)
        assert cluster.host(0).timers == {1: cluster.now_ms + expected}


def test_sync_in_the_middle_of_a_round_begins_the_next_height_afresh() -> None:
    ahead = decided_cluster(2)
    cluster = cluster_of()
    cluster.set_work(range(4), waiting=True)
    host = cluster.host(0)
    for letter in cluster.flying[:2]:
        if letter.receiver == 0:
            host.receive(letter)
    tip = ahead.disks[0].tip
    validators = cluster.validators_at(1)
    host.disk.tip = tip
    host.feed(Synced(tip, validators, cluster.params, 0, START_MS))
    core = host.engine._core
    assert (core.height, core.h.round, core.h.own, core.h.accepted) == (3, 0, {}, None)
    # An older Applied changes nothing any more.
    old = Tip(1, ahead.disks[0].chain[0][0].block_hash, START_MS, None)
    assert host.engine.step(Synced(old, validators, cluster.params, 0, START_MS)) == []
    assert core.height == 3


def test_kept_messages_follow_their_sender_into_another_set() -> None:
    """Indexes may shift with the set; what was kept belongs to the node that sent it."""
    cluster = decided_cluster(1)
    first = cluster.validators_at(1)
    without_0 = type(first).make(first.validators[1:])
    cluster.sets[3] = without_0
    host = cluster.host(1)
    kept = {0: prepare(3, 0), 3: prepare(3, 2)}
    for peer, message in kept.items():
        assert host.engine.wants(peer, message) is Wanted.UNCHECKED
        host.feed(Overheard(peer, message, START_MS))
    tip = Tip(2, b"\2" * 32, START_MS, None)
    effects = host.engine.step(Synced(tip, without_0, cluster.params, 0, START_MS))
    # Node 0 is gone; node 3 is validator 2 now, and its message is asked for again under that name.
    assert of(effects, Recheck) == [Recheck(2, kept[3])]
    assert host.engine.wants(2, kept[3]) is Wanted.NOW
    assert host.engine.wants(2, prepare(3, 3)) is Wanted.NO


def test_a_message_whose_height_came_meanwhile_is_rechecked_not_believed() -> None:
    host = decided_cluster(1).host(0)
    vote = prepare(2, 3)
    effects = host.engine.step(Overheard(3, vote, START_MS))
    assert of(effects, Recheck) == [Recheck(3, vote)]
    assert host.engine._core.h.prepares.entries(3) == ()


def test_each_kind_of_evidence_is_given_once_a_height() -> None:
    host = cluster_of().host(0)
    effects: list[Effect] = []
    for number in range(5):
        vote = Prepare(1, 3, 0, bytes([number]) * 32, UNSIGNED)
        if host.engine.wants(3, vote) is Wanted.NOW:
            effects += host.engine.step(Received(3, vote, START_MS))
    (evidence,) = of(effects, Evidence)
    assert (evidence.validator, evidence.kind) == (3, "prepare")
    first, second = evidence.first[0], evidence.second[0]
    assert (first.height, first.round, first.type) == (second.height, second.round, second.type)
    assert first.block_hash != second.block_hash
    assert first.chain_id == CHAIN_ID
