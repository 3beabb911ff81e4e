"""How transactions get in: who is answered what, who is told, who is charged.

What hostile clients and peers try is in tests/attacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from genesis.wellknown import validator_keys
from ledger.codec import encode
from ledger.crypto import PrivateKey, sha256
from ledger.domains import TRANSACTION
from ledger.identity import peer_id
from ledger.mempool import Mempool, MempoolLimits
from ledger.params import DEVNET_PARAMS
from ledger.reasons import TransactionRefused
from ledger.transactions import Settle, SignedTransaction, Transfer, sign_transaction
from node.admission import (
    BAD_TRANSACTION_POINTS,
    CHARGED_REASONS,
    Admission,
    Finality,
    TransactionRejected,
    TransactionsAdmitted,
    dropping_tracer,
)
from rpc.ports import Committed, Pending
from tests.unit.node.parts import FEE, NETWORK, Bench, key_of, sign, transfer, turns

STRANGER = peer_id(PrivateKey(sha256(b"stranger")).public_key)
VALIDATOR = peer_id(validator_keys(2).node.public_key)


class RecordingNetwork:
    """node.network.NodeNetwork as admission sees it."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[tuple[str, list[bytes]]] = asyncio.Queue()
        self.spread_raws: list[bytes] = []
        self.charges: list[tuple[str, str, int]] = []

    def spread(self, raws: Sequence[bytes]) -> None:
        self.spread_raws.extend(raws)

    async def next_batch(self) -> tuple[str, list[bytes]]:
        return await self.batches.get()

    def forget_batches(self, peer: str) -> None:
        kept = []
        while not self.batches.empty():
            batch = self.batches.get_nowait()
            if batch[0] != peer:
                kept.append(batch)
        for batch in kept:
            self.batches.put_nowait(batch)

    def charge_peer(self, peer: str, kind: str, points: int) -> None:
        self.charges.append((peer, kind, points))


class Desk:
    """A bench with admission in front of it."""

    def __init__(self, bench: Bench, limits: MempoolLimits | None = None) -> None:
        self.bench = bench
        self.network = RecordingNetwork()
        self.finality = Finality()
        bench.mempool = Mempool(limits, dropping_tracer(self.finality, bench.events.append))
        bench.application.mempool = bench.mempool
        self.admission = Admission(
            bench.application,
            bench.store,
            bench.mempool,
            bench.signatures,
            self.network,  # type: ignore[arg-type]
            self.finality,
            bench.events.append,
        )

    async def submit(self, *transactions: SignedTransaction | bytes) -> list[str]:
        """ "Pending", "Committed" or the reason of the refusal, for each."""
        raws = [each if isinstance(each, bytes) else each.raw for each in transactions]
        answers = await self.admission.submit(raws)
        return [
            answer.reason if isinstance(answer, TransactionRefused) else type(answer).__name__
            for answer in answers
        ]

    async def from_peer(self, peer: str, *raws: bytes) -> None:
        """Hand in a batch and let it be dealt with."""
        running = asyncio.create_task(self.admission.take_from_peers())
        self.network.batches.put_nowait((peer, list(raws)))
        await turns(60)
        assert self.network.batches.empty()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def commit_block(self) -> None:
        """Everything that waits is put into a block."""
        await self.bench.apply(await self.bench.built())


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    with Bench(tmp_path) as bench:
        yield Desk(bench)


def fields(**changes: object) -> SignedTransaction:
    """Alice's transfer with other fields, signed."""
    made = transfer(0).transaction
    return sign(msgspec.structs.replace(made, **changes), "alice", NETWORK)


def resigned(payload: bytes) -> bytes:
    """Any payload with a good signature of alice's."""
    return payload + key_of("alice").sign(sha256(TRANSACTION + NETWORK.genesis_hash + payload))


def bad_receipt() -> SignedTransaction:
    payer, payee = key_of("bob").public_key, key_of("alice").public_key
    settle = Settle(NETWORK.chain_id, payee, 0, FEE, 0, payer, payee, 1, b"", 1, 1, 1, bytes(64))
    return sign(settle, "alice", NETWORK)


def poor() -> SignedTransaction:
    key = PrivateKey(sha256(b"poor"))
    made = Transfer(NETWORK.chain_id, key.public_key, 0, FEE, 0, key_of("bob").public_key, 1)
    return sign_transaction(made, key, NETWORK.genesis_hash)


REFUSALS: dict[str, bytes] = {
    "MALFORMED": b"x" * 100,
    "TRAILING_BYTES": resigned(encode(transfer(0).transaction) + b"\0"),
    "NOT_CANONICAL": resigned(encode(transfer(0, amount=7).transaction)[:-1] + b"\xcc\x07"),
    "OVERSIZED": bytes(DEVNET_PARAMS.tx_max_bytes + 1),
    "WRONG_CHAIN": fields(chain_id="tally-main").raw,
    "INVALID_SIGNATURE": transfer(0).raw[:-64] + bytes(64),
    "INVALID_COUNTERPARTY_SIGNATURE": bad_receipt().raw,
    "INVALID_FIELDS": sign(
        msgspec.structs.replace(bad_receipt().transaction, channel=b"1"), "alice", NETWORK
    ).raw,
    "FEE_TOO_LOW": fields(fee=1).raw,
    "NONCE_TOO_HIGH": fields(nonce=10_000).raw,
    "INSUFFICIENT_FEE_FUNDS": poor().raw,
}


# ---- from clients --------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", REFUSALS)
async def test_every_refusal_has_its_reason_and_leaves_nothing(desk: Desk, reason: str) -> None:
    assert await desk.submit(REFUSALS[reason]) == [reason]

    assert len(desk.bench.mempool) == 0
    assert desk.network.spread_raws == []
    assert desk.bench.seen(TransactionRejected) == [TransactionRejected("client", reason)]
    assert await desk.submit(transfer(0)) == ["Pending"], "the sender is none the worse"


async def test_answers_come_in_the_order_of_the_questions(desk: Desk) -> None:
    bad = REFUSALS["INVALID_SIGNATURE"]
    good = [transfer(0), transfer(1), transfer(0, sender="bob")]

    answers = await desk.submit(good[0], bad, good[1], good[0], good[2])

    # The forged copy of a waiting payload is answered with the payload's standing.
    assert answers == ["Pending", "Pending", "Pending", "Pending", "Pending"]
    assert desk.network.spread_raws == [each.raw for each in good]
    assert len(desk.bench.mempool) == 3


async def test_a_known_transaction_costs_and_changes_nothing(desk: Desk) -> None:
    await desk.submit(transfer(0))
    waiting = len(desk.bench.replica.of("waiting"))

    assert await desk.submit(transfer(0)) == ["Pending"]

    assert desk.network.spread_raws == [transfer(0).raw]
    assert len(desk.bench.replica.of("waiting")) == waiting
    assert desk.bench.seen(TransactionsAdmitted) == [TransactionsAdmitted("client", 1)]


async def test_what_is_in_a_block_answers_with_its_place(desk: Desk) -> None:
    await desk.submit(transfer(0), transfer(1))
    await desk.commit_block()

    answers = await desk.admission.submit([transfer(1).raw, transfer(0, amount=6).raw])

    assert answers[0] == Committed(transfer(1).transaction_id, 1, 1)
    assert isinstance(answers[1], TransactionRefused), "another one with a used nonce"
    assert answers[1].reason == "NONCE_TOO_LOW"


async def test_standing_follows_a_transaction(desk: Desk) -> None:
    signed = transfer(0)
    assert desk.admission.standing(signed.transaction_id) is None
    await desk.submit(signed)
    assert desk.admission.standing(signed.transaction_id) == Pending(
        signed.transaction_id, signed.raw
    )
    await desk.commit_block()
    assert desk.admission.standing(signed.transaction_id) == Committed(signed.transaction_id, 1, 0)


async def test_the_replica_hears_that_something_waits(desk: Desk) -> None:
    assert desk.bench.replica.of("waiting") == [False]
    await desk.submit(transfer(0))
    assert desk.bench.replica.of("waiting") == [False, True]


async def test_checked_signatures_are_not_checked_again_in_a_block(desk: Desk) -> None:
    signed = transfer(0)
    await desk.submit(signed)
    application = desk.bench.application
    assert desk.bench.signatures.is_known(signed, application.params(), application.active_key)
    await desk.commit_block()
    assert len(desk.bench.signatures) == 0, "final ones are let go"


async def test_many_leave_votes_their_turns(desk: Desk) -> None:
    # Proofs of work and signatures take their time; the loop must turn meanwhile.
    several = [transfer(nonce) for nonce in range(200)]
    turned = 0

    async def count() -> None:
        nonlocal turned
        while True:
            turned += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    answers = await desk.submit(*several)
    counting.cancel()

    assert answers == ["Pending"] * 200
    assert turned >= 5
    assert desk.network.spread_raws == [each.raw for each in several]


# ---- from peers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", REFUSALS)
async def test_a_peer_pays_only_for_what_it_should_have_refused(desk: Desk, reason: str) -> None:
    await desk.from_peer(VALIDATOR, REFUSALS[reason])

    expected = [(VALIDATOR, reason, BAD_TRANSACTION_POINTS)] if reason in CHARGED_REASONS else []
    assert desk.network.charges == expected
    assert desk.bench.seen(TransactionRejected) == [TransactionRejected("peer", reason)]
    assert len(desk.bench.mempool) == 0


async def test_a_race_with_a_block_is_no_fault(desk: Desk) -> None:
    await desk.submit(transfer(0))
    await desk.commit_block()

    await desk.from_peer(VALIDATOR, transfer(0).raw, transfer(0, amount=6).raw, transfer(1).raw)

    assert desk.network.charges == []
    assert desk.bench.mempool.get(transfer(1).transaction_id) is not None


async def test_what_a_validator_sends_goes_no_further(desk: Desk) -> None:
    await desk.from_peer(VALIDATOR, transfer(0).raw)
    assert len(desk.bench.mempool) == 1
    assert desk.network.spread_raws == []
    assert desk.bench.replica.of("waiting")[-1] is True


async def test_what_a_stranger_sends_goes_to_the_validators(desk: Desk) -> None:
    await desk.from_peer(STRANGER, transfer(0).raw)
    assert desk.network.spread_raws == [transfer(0).raw]


# ---- waiting for the end -------------------------------------------------------------------------


async def test_whoever_waits_is_told_once_all_are_final(desk: Desk) -> None:
    await desk.submit(transfer(0), transfer(0, sender="bob"))
    ids = [transfer(0).transaction_id, transfer(0, sender="bob").transaction_id]
    both = asyncio.create_task(desk.finality.wait(ids))
    one = asyncio.create_task(desk.finality.wait(ids[:1]))
    await turns()
    assert not both.done() and not one.done()

    desk.finality.settle(ids[0])
    await turns()
    assert one.done() and not both.done()

    await desk.commit_block()
    async with asyncio.timeout(5.0):
        await both
    assert desk.finality._waiters == {}


async def test_nothing_to_wait_for_is_no_wait(desk: Desk) -> None:
    await asyncio.wait_for(desk.finality.wait([]), 1.0)


async def test_a_transaction_that_is_dropped_ends_the_wait(desk: Desk) -> None:
    loser = transfer(0, amount=6)
    await desk.submit(loser)
    waiting = asyncio.create_task(desk.finality.wait([loser.transaction_id]))
    await turns()

    # Another transaction with its nonce comes in a block of somebody else's.
    with Bench(desk.bench.folder, 1) as other:
        other.add(transfer(0))
        await desk.bench.apply(await other.built())

    async with asyncio.timeout(5.0):
        await waiting
    assert desk.admission.standing(loser.transaction_id) is None


async def test_a_wait_that_is_given_up_leaves_nothing(desk: Desk) -> None:
    await desk.submit(transfer(0), transfer(1))
    ids = [transfer(0).transaction_id, transfer(1).transaction_id]
    given_up = asyncio.create_task(desk.finality.wait(ids))
    kept = asyncio.create_task(desk.finality.wait(ids))
    await turns()
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)

    await desk.commit_block()

    async with asyncio.timeout(5.0):
        await kept
    assert desk.finality._waiters == {}


async def test_a_full_pool_says_so(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        desk = Desk(bench, MempoolLimits(max_txs=2, max_bytes=1 << 20, max_per_sender=2))
        answers = await desk.submit(
            transfer(0), transfer(1), transfer(2), transfer(0, sender="bob")
        )
        assert answers == ["Pending", "Pending", "SENDER_LIMIT", "MEMPOOL_FULL"]
