"""Build, judge, apply: what a validator votes for, and what it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consensus.engine import Proposal
from genesis.wellknown import validator_keys
from ledger.block import decode_block
from ledger.crypto import PrivateKey, sha256
from ledger.mempool import TransactionDropped
from ledger.params import DEVNET_PARAMS
from ledger.state import Account, read_account, read_epoch_state, scores_key
from ledger.transactions import Transfer, sign_transaction
from node.application import HOLD_LIMIT_MS, OUTCOMES_KEPT, BlockRefused, StateDiverged
from node.trace import BlockStored
from tests.unit.node.parts import (
    FEE,
    GENESIS_MS,
    NETWORK,
    Bench,
    altered,
    certify,
    key_of,
    make_network,
    transfer,
    turns,
)

DRIFT_MS = DEVNET_PARAMS.max_clock_drift_ms
EPOCH_MS = DEVNET_PARAMS.epoch_ms
DELAY_MS = DEVNET_PARAMS.score_delay_ms


@pytest.fixture
def proposer(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path, 0) as bench:
        yield bench


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path, 1) as bench:
        yield bench


def rule_of(bench: Bench) -> str:
    """Why it refused the last block."""
    return bench.seen(BlockRefused)[-1].detail.partition(":")[0]


# ---- the usual way -------------------------------------------------------------------------------


async def test_two_validators_reach_one_state(proposer: Bench, judge: Bench) -> None:
    proposer.add(
        transfer(0, amount=7), transfer(1, amount=8), transfer(0, sender="bob", to="carol")
    )

    proposal = await proposer.built()
    assert await judge.validate(proposal)
    for bench in (proposer, judge):
        tip = await bench.apply(proposal)
        assert tip == bench.application.tip
        assert (tip.height, tip.block_hash) == (1, proposal.block_hash)

    assert proposer.application.tree.root == judge.application.tree.root
    assert proposer.application.tree.root == proposal.header.state_root
    bob = read_account(judge.store, key_of("bob").public_key)
    assert bob.balance == 10**12 + 7 + 8 - 5 - FEE
    operator = read_account(judge.store, validator_keys(0).operator.public_key)
    assert operator.balance == 10**11 + 3 * FEE


async def test_a_built_block_follows_its_parent(proposer: Bench) -> None:
    first = await proposer.built()
    tip = await proposer.apply(first)
    proposer.add(transfer(0))
    second = await proposer.built()

    assert first.header.parent_hash == NETWORK.genesis_hash
    assert decode_block(first.block).last_commit is None
    assert second.header.height == 2
    assert second.header.parent_hash == tip.block_hash
    assert decode_block(second.block).last_commit == tip.certificate
    assert second.header.time_ms > first.header.time_ms


async def test_without_transactions_only_a_heartbeat_is_built(proposer: Bench) -> None:
    assert await proposer.build(allow_empty=False) is None
    assert await proposer.build(allow_empty=True) is not None


async def test_what_cannot_be_included_is_dropped_and_no_empty_block_made(proposer: Bench) -> None:
    poor = PrivateKey(sha256(b"poor"))
    unpaid = Transfer(NETWORK.chain_id, poor.public_key, 0, FEE, 0, key_of("bob").public_key, 5)
    signed = sign_transaction(unpaid, poor, NETWORK.genesis_hash)
    # The pool was told of funds that the state does not hold.
    proposer.mempool.add(signed, Account(10 * FEE), 1)

    assert await proposer.build(allow_empty=False) is None

    assert len(proposer.mempool) == 0
    (dropped,) = proposer.seen(TransactionDropped)
    assert (dropped.transaction_id, dropped.reason) == (
        signed.transaction_id,
        "INSUFFICIENT_FEE_FUNDS",
    )


async def test_the_pool_is_empty_before_the_block_is_reported_applied(proposer: Bench) -> None:
    proposer.add(transfer(0))
    proposer.application.mempool_changed()
    proposal = await proposer.built()
    told: list[tuple[int, int]] = []
    proposer.application.on_block(
        lambda tip, included, _outcome: told.append((tip.height, len(included)))
    )

    await proposer.apply(proposal)

    kinds = [(kind, value) for kind, value in proposer.replica.answers if kind != "built"]
    assert kinds[:2] == [("waiting", False), ("waiting", True)]
    assert kinds[2] == ("waiting", False)
    assert kinds[3][0] == "applied"
    assert told == [(1, 1)]
    assert len(proposer.mempool) == 0
    (stored,) = proposer.seen(BlockStored)
    assert (stored.height, stored.transactions, stored.failed) == (1, 1, 0)


async def test_a_restarted_application_stands_where_it_stood(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.add(transfer(0))
        for _ in range(2):
            await bench.apply(await bench.built())
        tip, root = bench.application.tip, bench.application.tree.root
        served = bench.application.certified_block(1)
    with Bench(tmp_path) as again:
        assert again.application.tip == tip
        assert again.application.tree.root == root
        assert again.application.certified_block(1) == served
        assert again.application.certified_block(3) is None
        third = await again.built()
        await again.apply(third)
        assert third.header.parent_hash == tip.block_hash


# ---- what gets no vote ---------------------------------------------------------------------------

WRONG_HEADERS: dict[str, dict[str, Any]] = {
    "version": {"version": 2},
    "chain_id": {"chain_id": "tally-other"},
    "height": {"height": 3},
    "parent_hash": {"parent_hash": bytes(32)},
    "time": {"time_ms": GENESIS_MS},
    "validators_hash": {"validators_hash": bytes(32)},
    "next_mode": {"next_mode": "raft"},
    "next_validators_hash": {"next_validators_hash": bytes(32)},
    "params_hash": {"params_hash": bytes(32)},
    "state_root": {"state_root": bytes(32)},
    "receipts_root": {"receipts_root": bytes(32)},
    "proposer": {"proposer": key_of("alice").public_key},
}


@pytest.mark.parametrize("rule", WRONG_HEADERS)
async def test_a_header_that_does_not_follow_gets_no_vote(
    proposer: Bench, judge: Bench, rule: str
) -> None:
    first = await proposer.built()
    for bench in (proposer, judge):
        await bench.apply(first)
    proposer.add(transfer(0))
    proposal = await proposer.built()

    assert not await judge.validate(altered(proposal, **WRONG_HEADERS[rule]))

    assert rule_of(judge) == rule
    assert await judge.validate(proposal), "a refusal leaves nothing behind"


async def test_the_fees_cannot_be_given_to_another_validator_by_changing_the_header(
    proposer: Bench, judge: Bench
) -> None:
    proposer.add(transfer(0))
    proposal = await proposer.built()
    other = validator_keys(2).operator.public_key

    assert not await judge.validate(altered(proposal, proposer=other))
    assert rule_of(judge) == "state_root"


async def test_a_body_the_header_does_not_name_gets_no_vote(proposer: Bench, judge: Bench) -> None:
    proposer.add(transfer(0), transfer(1))
    proposal = await proposer.built()
    first, second = decode_block(proposal.block).transactions

    for transactions in ((), (first,), (second, first), (first, second, second)):
        refused = altered(proposal, body=False, transactions=transactions)
        assert not await judge.validate(
            # Another hash, since a known one has been judged before.
            altered(refused, body=False, time_ms=proposal.header.time_ms + len(transactions) + 1)
        )


def broken_signature() -> bytes:
    raw = bytearray(transfer(0).raw)
    raw[-1] ^= 1
    return bytes(raw)


@pytest.mark.parametrize(
    ("transactions", "complaint"),
    [
        ((broken_signature(),), "INVALID_SIGNATURE"),
        ((transfer(1).raw,), "NONCE_TOO_HIGH"),
        ((transfer(0).raw, transfer(0).raw), "NONCE_TOO_LOW"),
        ((transfer(0, fee=1).raw,), "FEE_TOO_LOW"),
        ((transfer(0).raw[:-65],), "transaction"),
        ((b"",), "transaction"),
        ((bytes(DEVNET_PARAMS.tx_max_bytes + 1),), "16385 bytes"),
    ],
)
async def test_a_transaction_no_block_may_hold_gets_it_no_vote(
    proposer: Bench, judge: Bench, transactions: tuple[bytes, ...], complaint: str
) -> None:
    proposal = altered(await proposer.built(), transactions=transactions)

    assert not await judge.validate(proposal)
    assert complaint in judge.seen(BlockRefused)[-1].detail


async def test_the_parents_certificate_must_hold(proposer: Bench, judge: Bench) -> None:
    first = await proposer.built()
    rival = altered(first, time_ms=first.header.time_ms + 1)
    for bench in (proposer, judge):
        await bench.apply(first)
    second = await proposer.built()
    good = certify(first.header)
    broken = msgspec.structs.replace(good, signatures=(*good.signatures[:2], good.signatures[0]))

    for certificate, rule in (
        (None, "last_commit"),
        (certify(rival.header), "last_commit"),
        (certify(second.header), "last_commit"),
        (certify(first.header, signers=(0, 1)), "power"),
        (broken, "signature"),
    ):
        assert not await judge.validate(altered(second, last_commit=certificate)), rule
        assert rule_of(judge) == rule
    # Any quorum will do.
    for signers in ((1, 2, 3), (0, 1, 2, 3)):
        assert await judge.validate(altered(second, last_commit=certify(first.header, signers)))


async def test_the_first_block_has_no_certificate(proposer: Bench, judge: Bench) -> None:
    first = await proposer.built()

    assert not await judge.validate(altered(first, last_commit=certify(first.header)))


async def test_garbage_instead_of_a_block_gets_no_vote(proposer: Bench, judge: Bench) -> None:
    first = await proposer.built()

    assert not await judge.validate(Proposal(first.header, first.block_hash, first.block + b"\0"))
    assert not await judge.validate(Proposal(first.header, first.block_hash, b""))


# ---- time ----------------------------------------------------------------------------------------


async def at_time(proposer: Bench, time_ms: int) -> Proposal:
    proposer.clock.time_ms = time_ms
    return await proposer.built()


async def test_a_clock_ahead_within_the_drift_is_no_reason_to_wait(
    proposer: Bench, judge: Bench
) -> None:
    proposal = await at_time(proposer, judge.clock.now_ms() + DRIFT_MS)

    judge.application.validate(proposal, fresh=True)
    await turns()

    assert judge.replica.of("validated") == [(proposal.block_hash, True)]


async def test_a_proposal_beyond_the_drift_is_held_until_its_time(
    proposer: Bench, judge: Bench
) -> None:
    proposal = await at_time(proposer, judge.clock.now_ms() + DRIFT_MS + 50)
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    judge.application.validate(proposal, fresh=True)
    await turns()
    assert judge.replica.of("validated") == []

    assert await judge.replica.next("validated", 0) == (proposal.block_hash, True)
    assert loop.time() - began_s >= 0.045


async def test_a_proposal_far_ahead_is_refused_at_once(proposer: Bench, judge: Bench) -> None:
    proposal = await at_time(proposer, judge.clock.now_ms() + DRIFT_MS + HOLD_LIMIT_MS + 1)

    assert not await judge.validate(proposal)
    assert rule_of(judge) == "time"


async def test_a_block_proposed_again_is_not_held(proposer: Bench, judge: Bench) -> None:
    proposal = await at_time(proposer, judge.clock.now_ms() + DRIFT_MS + HOLD_LIMIT_MS + 1)

    assert await judge.validate(proposal, fresh=False)


async def test_a_proposers_clock_behind_its_parent_still_moves_on(proposer: Bench) -> None:
    first = await at_time(proposer, GENESIS_MS + 1_000)
    await proposer.apply(first)
    second = await at_time(proposer, GENESIS_MS + 10)

    assert second.header.time_ms == first.header.time_ms + 1


# ---- applying ------------------------------------------------------------------------------------


async def test_a_block_that_was_never_judged_is_executed_when_applied(
    proposer: Bench, judge: Bench
) -> None:
    proposer.add(transfer(0))
    proposal = await proposer.built()

    await judge.apply(proposal)

    assert judge.application.tree.root == proposal.header.state_root


async def test_a_certified_block_that_executes_otherwise_stops_the_node(
    proposer: Bench, judge: Bench
) -> None:
    proposer.add(transfer(0))
    diverged = altered(await proposer.built(), state_root=bytes(32))
    before = judge.application.tip, judge.application.tree.root, judge.store.tip()

    judge.application.apply(diverged, certify(diverged.header))
    error = await judge.failure()

    assert isinstance(error, StateDiverged)
    assert error.height == 1
    assert "state_root" in error.detail
    assert (judge.application.tip, judge.application.tree.root, judge.store.tip()) == before
    assert judge.replica.of("applied") == []


async def test_more_proposals_than_are_kept_are_executed_again(
    proposer: Bench, judge: Bench
) -> None:
    proposer.add(transfer(0))
    first = await proposer.built()
    proposals = [first] + [
        altered(first, time_ms=first.header.time_ms + ahead)
        for ahead in range(1, OUTCOMES_KEPT + 2)
    ]

    for proposal in proposals:
        assert await judge.validate(proposal)
    await judge.apply(first)

    assert judge.application.tip.block_hash == first.block_hash
    assert judge.application.tree.root == first.header.state_root


async def test_a_verdict_on_a_height_that_is_decided_is_not_given(
    proposer: Bench, judge: Bench
) -> None:
    late = await at_time(proposer, judge.clock.now_ms() + DRIFT_MS + 20)
    decided = await at_time(proposer, GENESIS_MS + 5)

    judge.application.validate(late, fresh=True)
    await judge.apply(decided)
    await asyncio.gather(*judge.tasks)

    assert judge.replica.of("validated") == []


# ---- scores --------------------------------------------------------------------------------------


async def until_epoch_one(*benches: Bench) -> None:
    """A block in epoch 1, before the scores of epoch 0 are due."""
    proposal = await at_time(benches[0], GENESIS_MS + EPOCH_MS)
    for bench in benches:
        bench.clock.time_ms = GENESIS_MS + EPOCH_MS
        await bench.apply(proposal)


async def test_scores_are_computed_as_soon_as_their_epoch_has_ended(proposer: Bench) -> None:
    await proposer.apply(await at_time(proposer, GENESIS_MS + EPOCH_MS - 1))
    assert proposer.scores.requests == []

    await proposer.apply(await at_time(proposer, GENESIS_MS + EPOCH_MS))

    assert proposer.scores.requests == [0]
    assert read_epoch_state(proposer.store).last_scored == -1


async def test_a_proposer_waits_for_the_scores_that_are_due(proposer: Bench) -> None:
    proposer.scores.answers_at_once = False
    await until_epoch_one(proposer)
    proposer.clock.time_ms += DELAY_MS

    proposer.application.build(9, proposer.application.tip, allow_empty=True)
    await turns()
    assert proposer.replica.of("built")[1:] == []

    proposer.scores.answer(0)
    _, proposal = await proposer.replica.next("built", 1)
    await proposer.apply(proposal)
    assert read_epoch_state(proposer.store).last_scored == 0
    assert proposer.store.get(scores_key(0)) is not None


async def test_a_validator_waits_with_its_vote_for_the_scores(
    proposer: Bench, judge: Bench
) -> None:
    judge.scores.answers_at_once = False
    await until_epoch_one(proposer, judge)
    proposal = await at_time(proposer, proposer.clock.now_ms() + DELAY_MS)

    judge.application.validate(proposal, fresh=True)
    await turns()
    assert judge.replica.of("validated") == []

    judge.scores.answer(0)
    assert await judge.replica.next("validated", 0) == (proposal.block_hash, True)


async def test_other_scores_than_ones_own_get_no_vote(proposer: Bench, judge: Bench) -> None:
    proposer.scores.answers_at_once = judge.scores.answers_at_once = False
    await until_epoch_one(proposer, judge)
    proposer.scores.answer(0, root=bytes(32))
    judge.scores.answer(0, root=bytes(31) + b"\1")
    proposal = await at_time(proposer, proposer.clock.now_ms() + DELAY_MS)

    assert not await judge.validate(proposal)
    assert rule_of(judge) == "state_root"


async def test_scores_that_are_committed_are_not_asked_for_again(proposer: Bench) -> None:
    # The first block of epoch 1 comes so late that it carries the scores itself. Asking once more,
    # with the seeds' new qualities, would put another table into the place of the committed one.
    await proposer.apply(await at_time(proposer, GENESIS_MS + 10))
    proposal = await at_time(proposer, GENESIS_MS + EPOCH_MS + DELAY_MS)
    asked = list(proposer.scores.requests)

    await proposer.apply(proposal)

    assert asked == [0]
    assert read_epoch_state(proposer.store).last_scored == 0
    assert proposer.scores.requests == [0]


async def test_the_worker_is_fed_with_the_epoch_of_the_block(proposer: Bench) -> None:
    proposal = await at_time(proposer, GENESIS_MS + 3 * EPOCH_MS)
    await proposer.apply(proposal)

    assert [epoch for _, epoch in proposer.scores.fed] == [3]


# ---- scores on an idle chain ---------------------------------------------------------------------


async def test_a_block_that_is_due_for_scores_is_built_without_a_heartbeat(proposer: Bench) -> None:
    await proposer.apply(await proposer.built())
    proposer.clock.time_ms = GENESIS_MS + EPOCH_MS + DELAY_MS - 1
    assert await proposer.build(allow_empty=False) is None, "not due yet"

    proposer.clock.time_ms += 1
    proposal = await proposer.build(allow_empty=False)
    assert proposal is not None
    await proposer.apply(proposal)
    assert read_epoch_state(proposer.store).last_scored == 0
    assert proposer.replica.of("waiting")[-1] is False
    assert await proposer.build(allow_empty=False) is None, "once an epoch"


async def test_the_replica_is_told_when_scores_become_due(tmp_path: Path) -> None:
    params = msgspec.structs.replace(DEVNET_PARAMS, epoch_ms=1_000, score_delay_ms=100)
    with Bench(tmp_path, 0, make_network(params)) as bench:
        bench.clock.time_ms = GENESIS_MS + 1_000 + 80
        watch = asyncio.get_running_loop().create_task(bench.application.watch_scores())
        await turns()
        assert bench.replica.of("waiting") == [False]
        # The watch sleeps for 20 ms, while the wall clock moves on.
        bench.clock.time_ms += 20
        assert await bench.replica.next("waiting", 1) is True
        watch.cancel()
