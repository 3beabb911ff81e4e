"""Attacks by a proposer, who may put into a block whatever it likes: nobody votes for a lie."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consensus.engine import Proposal
from ledger.block import Block, decode_header, last_commit_hash, transactions_root
from ledger.certificate import (
    VOTE_PREPARE,
    CommitCertificate,
    Vote,
    make_certificate,
)
from ledger.crypto import sha256
from ledger.params import DEVNET_PARAMS, MICRO
from ledger.reputation.score_tree import ScoreCommitment
from ledger.state import ScoredEpoch
from ledger.transactions import SignedTransaction
from node.application import HOLD_LIMIT_MS, BlockRefused, StateDiverged
from tests.attacks.kit import Ledger, network, proposal_of
from tests.kit.chain import (
    CHAIN,
    GENESIS_HASH,
    GENESIS_TIME_MS,
    SmallChain,
    address_of,
    make_validators,
)
from tests.kit.rpc_node import certify, consensus_keys

PEOPLE = SmallChain(balances=dict.fromkeys(("alice", "bob"), 1_000 * MICRO))
VALIDATORS = make_validators()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    """Two blocks stand, so that there is a certificate to carry."""
    async with Ledger(tmp_path) as ledger:
        await ledger.block(transfer(0))
        await ledger.block(transfer(1))
        ledger.clock.time_ms = ledger.application.tip.time_ms + 1_000
        yield ledger


def transfer(nonce: int, **options: Any) -> SignedTransaction:
    return PEOPLE.transfer("alice", "bob", 1, nonce=nonce, **options)


def rules(ledger: Ledger) -> list[str]:
    """Which rules were named in refusals."""
    refused = [each for each in ledger.events if isinstance(each, BlockRefused)]
    return [each.detail.split(":")[0] for each in refused]


async def test_an_honest_block_is_voted_for(ledger: Ledger) -> None:
    assert await ledger.judge(await ledger.seal(transfer(2)))
    assert rules(ledger) == []


@pytest.mark.parametrize(
    ("field", "lie", "rule"),
    [
        ("version", 2, "version"),
        ("chain_id", "another-chain", "chain_id"),
        ("height", 2, "height"),
        ("height", 4, "height"),
        ("time_ms", GENESIS_TIME_MS + 2_000, "time"),
        ("time_ms", 0, "time"),
        ("parent_hash", bytes(32), "parent_hash"),
        ("last_commit_hash", bytes(32), "last_commit_hash"),
        ("tx_root", bytes(32), "tx_root"),
        ("receipts_root", bytes(32), "receipts_root"),
        ("state_root", bytes(32), "state_root"),
        ("validators_hash", bytes(32), "validators_hash"),
        ("next_validators_hash", bytes(32), "next_validators_hash"),
        ("params_hash", bytes(32), "params_hash"),
        ("next_mode", "raft", "next_mode"),
        ("proposer", address_of("alice"), "proposer"),
        ("proposer", VALIDATORS[1].operator, "state_root"),
    ],
)
async def test_a_lie_in_any_field_of_the_header(
    ledger: Ledger, field: str, lie: object, rule: str
) -> None:
    true = await ledger.seal(transfer(2))
    header = msgspec.structs.replace(true.header, **{field: lie})
    bent = proposal_of(header, ledger.application.tip.certificate, [transfer(2)])
    assert not await ledger.judge(bent)
    assert rules(ledger) == [rule]


@pytest.mark.parametrize("ahead_ms", [HOLD_LIMIT_MS + 5_000, 10**12, 2**52])
async def test_a_block_from_the_far_future_is_refused_at_once(
    ledger: Ledger, ahead_ms: int
) -> None:
    # The year 2100 would end every epoch and expire nothing; 2^52 would leave no room for the next.
    time_ms = ledger.clock.time_ms + ahead_ms
    due = (time_ms - GENESIS_TIME_MS) // DEVNET_PARAMS.epoch_ms - 1
    scores = ScoredEpoch(ScoreCommitment(due, bytes(32), 0), ())
    proposal = await ledger.seal(time_ms=time_ms, scores=scores)
    assert not await ledger.judge(proposal, fresh=True)
    assert rules(ledger) == ["time"]


async def test_scores_that_are_not_due_do_not_enter(ledger: Ledger) -> None:
    # The proposer executes as if the scores of the running epoch had been due.
    time_ms = ledger.application.tip.time_ms + 1_000
    due_ms = GENESIS_TIME_MS + DEVNET_PARAMS.epoch_ms + DEVNET_PARAMS.score_delay_ms
    honest = await ledger.seal(time_ms=time_ms)
    lying = await ledger.seal(
        time_ms=due_ms, scores=ScoredEpoch(ScoreCommitment(0, b"\x07" * 32, 1), ())
    )
    early = msgspec.structs.replace(honest.header, state_root=lying.header.state_root)
    certificate = ledger.application.tip.certificate
    assert not await ledger.judge(proposal_of(early, certificate, ()))
    assert rules(ledger) == ["state_root"]


async def test_forged_scores_are_not_voted_for(ledger: Ledger) -> None:
    # Due they are, but the proposer makes its friends' scores up.
    due_ms = GENESIS_TIME_MS + DEVNET_PARAMS.epoch_ms + DEVNET_PARAMS.score_delay_ms
    ledger.clock.time_ms = due_ms
    made_up = ScoredEpoch(ScoreCommitment(0, b"\x07" * 32, 1), ())
    assert not await ledger.judge(await ledger.seal(time_ms=due_ms, scores=made_up))
    assert rules(ledger) == ["state_root"]


@pytest.mark.parametrize(
    ("transactions", "said"),
    [
        ([transfer(2), transfer(2)], "NONCE_TOO_LOW"),
        ([transfer(3)], "NONCE_TOO_HIGH"),
        ([transfer(3), transfer(2)], "NONCE_TOO_HIGH"),
        ([transfer(1)], "NONCE_TOO_LOW"),
        ([transfer(2, fee=1)], "FEE_TOO_LOW"),
        ([transfer(2, expiry_height=2)], "EXPIRED"),
        ([transfer(2, chain_id="another-chain")], "WRONG_CHAIN"),
        ([transfer(2, fee=10**15)], "INSUFFICIENT_FEE_FUNDS"),
    ],
)
async def test_transactions_that_must_not_stand_in_a_block(
    ledger: Ledger, transactions: list[SignedTransaction], said: str
) -> None:
    true = await ledger.seal()
    header = msgspec.structs.replace(
        true.header, tx_root=transactions_root([each.full_hash for each in transactions])
    )
    certificate = ledger.application.tip.certificate
    assert not await ledger.judge(proposal_of(header, certificate, transactions))
    assert said in next(each for each in ledger.events if isinstance(each, BlockRefused)).detail


@pytest.mark.parametrize("where", ["signature", "payload", "half", "nothing", "long"])
async def test_bytes_that_are_no_transaction(ledger: Ledger, where: str) -> None:
    good = transfer(2).raw
    bad = {
        "signature": good[:-1] + bytes((good[-1] ^ 1,)),
        "payload": good[:-70] + bytes((good[-70] ^ 1,)) + good[-69:],
        "half": good[: len(good) // 2],
        "nothing": b"",
        "long": good + bytes(DEVNET_PARAMS.tx_max_bytes),
    }[where]
    true = await ledger.seal()
    header = msgspec.structs.replace(true.header, tx_root=transactions_root([sha256(bad)]))
    block = Block(header, ledger.application.tip.certificate, (bad,))
    assert not await ledger.judge(Proposal(header, header.hash(), block.encode()))
    assert len(rules(ledger)) == 1


async def test_a_block_of_more_than_the_parameters_allow(ledger: Ledger) -> None:
    true = await ledger.seal()
    for raws in ((b"x",) * (DEVNET_PARAMS.block_max_txs + 1), (bytes(5 << 20),)):
        block = Block(true.header, ledger.application.tip.certificate, raws)
        proposal = Proposal(true.header, true.block_hash, block.encode())
        ledger.application._executed.clear()
        assert not await ledger.judge(proposal)
    assert rules(ledger) == ["block_max_txs", "block_max_bytes"]


def forged_certificates() -> dict[str, Callable[[CommitCertificate], CommitCertificate | None]]:
    """Certificates of the parent that prove nothing, by name."""
    replace = msgspec.structs.replace

    def prepares(true: CommitCertificate) -> CommitCertificate:
        vote = Vote(CHAIN.chain_id, "pbft", VOTE_PREPARE, true.height, 0, true.block_hash)
        digest, keys = vote.digest(GENESIS_HASH), consensus_keys()
        return make_certificate(
            mode="pbft",
            chain_id=CHAIN.chain_id,
            height=true.height,
            round=0,
            block_hash=true.block_hash,
            validators=VALIDATORS,
            signatures={
                index: keys[VALIDATORS[index].consensus_key].sign(digest) for index in range(4)
            },
        )

    return {
        "none": lambda _: None,
        "one key three times": lambda true: replace(
            true, bitmap=b"\x07", signatures=(true.signatures[0],) * 3
        ),
        "bits beyond n": lambda true: replace(true, bitmap=b"\xf0", signatures=true.signatures),
        "a longer bitmap": lambda true: replace(true, bitmap=true.bitmap + b"\x00"),
        "no bit at all": lambda true: replace(true, bitmap=b"\x00", signatures=()),
        "half": lambda true: replace(true, bitmap=b"\x03", signatures=true.signatures[:2]),
        "another round": lambda true: replace(true, round=1),
        "another mode": lambda true: replace(true, mode="raft"),
        "another block": lambda true: replace(true, block_hash=bytes(32)),
        "another height": lambda true: replace(true, height=true.height - 1),
        "another set": lambda true: replace(true, validators_hash=bytes(32)),
        "signatures in another order": lambda true: replace(
            true, signatures=tuple(reversed(true.signatures))
        ),
        "prepares": prepares,
    }


@pytest.mark.parametrize("name", forged_certificates())
async def test_the_parents_certificate_is_checked_in_full(ledger: Ledger, name: str) -> None:
    true = ledger.application.tip.certificate
    assert true is not None
    forged = forged_certificates()[name](true)
    proposal = await ledger.seal(last_commit_hash=last_commit_hash(forged))
    bent = proposal_of(proposal.header, forged, ())
    assert not await ledger.judge(bent)


async def test_a_certificate_of_other_signers_is_as_good(ledger: Ledger) -> None:
    # Three signatures instead of four: another certificate of the same block, which a proposer may
    # well have. Were it refused, no two validators could follow each other.
    parent = ledger.application.tip
    header = ledger.store.header(parent.height)
    assert header is not None
    other = certify(decode_header(header), VALIDATORS, signers=(0, 1, 3))
    proposal = await ledger.seal(last_commit_hash=last_commit_hash(other))
    assert await ledger.judge(proposal_of(proposal.header, other, ()))


async def test_a_second_spelling_of_a_block_is_no_block(ledger: Ledger) -> None:
    proposal = await ledger.seal(transfer(2))
    long_form = b"\xdc\x00\x03" + proposal.block[1:]  # an array of 3 in 3 bytes instead of 1
    assert not await ledger.judge(Proposal(proposal.header, proposal.block_hash, long_form))
    trailing = Proposal(proposal.header, proposal.block_hash, proposal.block + b"\xc0")
    assert not await ledger.judge(trailing)


async def test_a_decided_block_that_computes_otherwise_stops_the_node_before_it_writes(
    ledger: Ledger,
) -> None:
    # More than two thirds signed a state root that this machine does not reach.
    before = ledger.store.tip()
    lie = await ledger.seal(transfer(2), state_root=bytes(32))
    ledger.application.apply(lie, certify(lie.header, VALIDATORS))
    await ledger.settle()
    (failure,) = ledger.failures
    assert isinstance(failure, StateDiverged)
    assert ledger.store.tip() == before
    assert ledger.application.tip.height == 2


async def test_unknown_validators_cannot_be_slipped_in(tmp_path: Path) -> None:
    # The proposer names a set of its own for the next height, and a parent certified by it.
    own = make_validators(("val-4", "val-5", "val-6", "val-7"))
    async with Ledger(tmp_path, network()) as ledger:
        assert not await ledger.judge(await ledger.seal(next_validators_hash=own.hash))
        assert not await ledger.judge(await ledger.seal(validators_hash=own.hash))
        assert rules(ledger) == ["next_validators_hash", "validators_hash"]
