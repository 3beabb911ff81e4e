"""Attacks on the way in: by whoever hands in transactions, or waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from coincurve._libsecp256k1 import ffi, lib

from ledger.crypto import PrivateKey, _context, verify
from ledger.identity import peer_id
from ledger.mempool import MempoolLimits
from ledger.params import MICRO
from ledger.reasons import TransactionRefused
from ledger.transactions import SignedTransaction, decode_transaction
from node.admission import BAD_TRANSACTION_POINTS
from node.network import INBOX_MAX_BYTES, INBOX_PEER_MAX_BYTES, TRANSACTIONS, NodeNetwork
from rpc.ports import Committed, Pending
from tests.attacks.kit import Ledger
from tests.kit.chain import GENESIS_HASH, SmallChain, key_of

STRANGER = peer_id(key_of("an observer").public_key)
CHAIN = SmallChain(balances={"alice": 1_000 * MICRO, "mallory": 1_000 * MICRO})


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with Ledger(tmp_path) as ledger:
        taking = asyncio.get_running_loop().create_task(ledger.admission.take_from_peers())
        yield ledger
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)


def transfer(nonce: int, *, sender: str = "alice", fee: int = 1_000) -> SignedTransaction:
    return CHAIN.transfer(sender, "bob", 1, nonce=nonce, fee=fee)


def signed_again(signed: SignedTransaction, turn: int) -> SignedTransaction:
    """The same payload under another good signature: the signing nonce is the signer's choice."""
    key: PrivateKey = key_of("alice")
    signature, compact = ffi.new("secp256k1_ecdsa_signature *"), ffi.new("unsigned char[64]")
    extra = ffi.new("unsigned char[32]", turn.to_bytes(32, "big"))
    made = lib.secp256k1_ecdsa_sign(
        _context, signature, signed.transaction_id, key.secret, ffi.NULL, extra
    )
    assert made == 1
    lib.secp256k1_ecdsa_signature_serialize_compact(_context, compact, signature)
    return decode_transaction(signed.raw[:-64] + bytes(ffi.buffer(compact)), GENESIS_HASH)


async def from_peer(ledger: Ledger, *raws: bytes) -> None:
    """A batch from an observer, taken in."""
    ledger.quiet.hand_in(STRANGER, *raws)
    async with asyncio.timeout(10):
        await ledger.quiet.idle.wait()


async def test_many_good_signatures_of_one_payload_are_carried_once(ledger: Ledger) -> None:
    # One fee pays for one transaction. Its sender makes a hundred good signatures for it; were each
    # a new transaction to check and to pass on, the network would work for nothing.
    signed = transfer(0)
    variants = [signed_again(signed, turn) for turn in range(1, 100)]
    assert all(
        verify(signed.transaction.sender, each.transaction_id, each.signature) for each in variants
    )
    assert len({each.full_hash for each in variants}) == 99
    await ledger.admission.submit([signed.raw])
    answers = await ledger.admission.submit([each.raw for each in variants])
    await from_peer(ledger, *(each.raw for each in variants))
    assert answers == [Pending(signed.transaction_id, signed.raw)] * 99
    assert ledger.quiet.spread_raws == [signed.raw]
    assert len(ledger.signatures) == 1
    # A block may hold another variant than the pool. It is judged on its own, and settles both.
    await ledger.block(variants[0])
    assert len(ledger.mempool) == 0
    assert await ledger.admission.submit([variants[7].raw]) == [
        Committed(signed.transaction_id, 1, 0)
    ]


async def test_a_forged_copy_neither_replaces_nor_charges_the_good_one(ledger: Ledger) -> None:
    good = transfer(0)
    forged = good.raw[:-64] + bytes(63) + b"\x01"
    await from_peer(ledger, forged)
    assert ledger.quiet.charges == [(STRANGER, "INVALID_SIGNATURE")]
    assert len(ledger.mempool) == 0
    assert await ledger.admission.submit([good.raw]) == [Pending(good.transaction_id, good.raw)]
    assert await ledger.admission.submit([forged]) == [Pending(good.transaction_id, good.raw)]


async def test_one_fault_ends_a_batch(ledger: Ledger) -> None:
    # A batch of thousands of transactions that cannot be right would be checked to its end for one
    # fault's points, since a peer is disconnected only after several.
    nonsense = [b"\xc4" * 100] * 5_000
    good = transfer(0)
    await from_peer(ledger, *nonsense, good.raw)
    assert ledger.quiet.charges == [(STRANGER, "MALFORMED")]
    assert len(ledger.mempool) == 0
    assert BAD_TRANSACTION_POINTS * 5 >= 100, "five batches, and it is gone"


async def test_old_transactions_sent_again_leave_the_loop_its_turns(ledger: Ledger) -> None:
    # A replay of committed transactions is no fault, since it may be a race. Each costs a look-up
    # in the store, and a batch of them must not hold up votes.
    raws = [transfer(nonce).raw for nonce in range(300)]
    await ledger.admission.submit(raws)
    await ledger.block(*ledger.mempool.select(1_000, 1 << 20))
    ledger.quiet.hand_in(STRANGER, *raws * 4)
    turns = 0
    while not ledger.quiet.idle.is_set():
        await asyncio.sleep(0)
        turns += 1
    assert not ledger.quiet.charges
    assert turns > 3  # 1,200 look-ups take several slices on any machine


async def test_clients_and_peers_hand_in_the_same_at_once(ledger: Ledger) -> None:
    raws = [transfer(nonce).raw for nonce in range(200)]
    ledger.quiet.hand_in(STRANGER, *raws)
    answers = await asyncio.gather(*(ledger.admission.submit(raws) for _ in range(5)))
    assert all(isinstance(each, Pending) for answer in answers for each in answer)
    assert len(ledger.mempool) == 200
    assert sorted(ledger.quiet.spread_raws) == sorted(raws), "each is passed on exactly once"


async def test_submissions_while_a_block_is_written(ledger: Ledger) -> None:
    # Between the batch's write and the move of the tip, admission sees the old state throughout:
    # a transaction of the block is pending or committed, never refused or lost.
    raws = [transfer(nonce).raw for nonce in range(50)]
    await ledger.admission.submit(raws)
    proposal = await ledger.seal(*ledger.mempool.select(25, 1 << 20))
    committing = asyncio.get_running_loop().create_task(ledger.commit(proposal))
    seen = set()
    while not committing.done():
        for answer in await ledger.admission.submit([raws[0], raws[30]]):
            assert not isinstance(answer, TransactionRefused)
            seen.add(type(answer))
        await asyncio.sleep(0)
    await committing
    assert isinstance((await ledger.admission.submit([raws[0]]))[0], Committed)
    assert len(ledger.mempool) == 25


async def test_whoever_waits_for_an_evicted_transaction_is_told(tmp_path: Path) -> None:
    # Mallory fills a small pool with dearer transactions; alice's client must not wait for ever.
    limits = MempoolLimits(max_txs=20, max_bytes=1 << 20, max_per_sender=20)
    async with Ledger(tmp_path, limits=limits) as ledger:
        cheap = [transfer(nonce) for nonce in range(20)]
        await ledger.admission.submit([each.raw for each in cheap])
        waits = [
            asyncio.get_running_loop().create_task(ledger.finality.wait([each.transaction_id]))
            for each in cheap
        ]
        await asyncio.sleep(0)
        dear = [transfer(nonce, sender="mallory", fee=50_000).raw for nonce in range(20)]
        await ledger.admission.submit(dear)
        async with asyncio.timeout(5):
            await asyncio.gather(*waits)
        assert ledger.admission.standing(cheap[0].transaction_id) is None
        assert not ledger.finality._waiters


async def test_a_wait_that_is_given_up_is_forgotten(ledger: Ledger) -> None:
    signed = transfer(5)  # behind a gap: it waits for ever
    await ledger.admission.submit([signed.raw])
    waits = [
        asyncio.get_running_loop().create_task(ledger.finality.wait([signed.transaction_id]))
        for _ in range(100)
    ]
    await asyncio.sleep(0)
    for each in waits:
        each.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    assert not ledger.finality._waiters


async def test_a_replaced_transaction_ends_the_wait_for_it(ledger: Ledger) -> None:
    old, new = transfer(0), transfer(0, fee=2_000)
    await ledger.admission.submit([old.raw])
    waiting = asyncio.get_running_loop().create_task(ledger.finality.wait([old.transaction_id]))
    await asyncio.sleep(0)
    await ledger.admission.submit([new.raw])
    async with asyncio.timeout(5):
        await waiting


async def test_a_payee_cannot_be_named_by_what_is_no_key(ledger: Ledger) -> None:
    transaction = msgspec.structs.replace(transfer(0).transaction, to=b"\x05" + bytes(32))
    signed = CHAIN.sign(transaction, "alice")
    (refused,) = await ledger.admission.submit([signed.raw])
    assert isinstance(refused, TransactionRefused)
    assert refused.reason == "INVALID_ADDRESS"


class _Host:
    """What NodeNetwork asks of a host."""

    def __init__(self) -> None:
        self.handlers: dict[str, object] = {}
        self.sent: list[str] = []
        self.broadcast_count = 0

    def on_peer_up(self, callback: Callable[[str], None]) -> None:
        self.up = callback

    def on_peer_down(self, callback: Callable[[str, str], None]) -> None:
        self.down = callback

    def peers(self) -> list[object]:
        return []

    def send(self, peer: str, _name: str, _payload: bytes) -> bool:
        self.sent.append(peer)
        return True

    def broadcast(self, _name: str, _payload: bytes) -> None:
        self.broadcast_count += 1

    def add_message_protocol(
        self, name: str, _lane: object, _size: int, handler: object, **_: object
    ) -> None:
        self.handlers[name] = handler

    def add_request_protocol(self, *_: object) -> None:
        """Not used here."""


def make_inbox() -> tuple[NodeNetwork, object]:
    host = _Host()
    carrier = NodeNetwork(host, None, None)  # type: ignore[arg-type]
    return carrier, host.handlers[TRANSACTIONS]


class _Chain:
    """Two validators."""

    keys = (key_of("val-0 node").public_key, key_of("val-1 node").public_key)

    def is_validator(self, node_key: bytes) -> bool:
        return node_key in self.keys

    def validator_node_keys(self) -> tuple[bytes, ...]:
        return self.keys


class _Deaf:
    """A replica that is told much and does nothing."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_: None


async def test_strangers_who_only_listen_cost_nothing() -> None:
    # Two hundred links to a validator, from one laptop. Were every admitted transaction sent to
    # each, or the pool offered to each that comes, listening would cost the validator more than
    # its work.
    host = _Host()
    carrier = NodeNetwork(host, _Chain(), None)  # type: ignore[arg-type]
    carrier.attach(_Deaf(), lambda: [b"waiting"])  # type: ignore[arg-type]
    validators = [peer_id(key) for key in _Chain.keys]
    strangers = [peer_id(key_of(f"stranger {number}").public_key) for number in range(200)]
    host.up(validators[0])
    assert host.sent == [validators[0]], "a validator is offered what waits"
    for each in strangers:
        host.up(each)
    host.sent.clear()

    carrier.spread([b"a transaction"])
    carrier._flush()
    assert (host.sent, host.broadcast_count) == ([validators[0]], 0)

    host.down(validators[0], "gone")
    carrier.spread([b"another"])
    carrier._flush()
    assert host.broadcast_count == 1, "without a validator at hand, whoever may know one"


def batch_of(count: int, item: bytes) -> bytes:
    return msgspec.msgpack.encode([item] * count)


async def test_batches_of_nothing_do_not_fill_memory() -> None:
    # 260,000 empty transactions in half a megabyte weigh nothing by their own bytes, and take two
    # megabytes of memory. A queue that counts bytes alone would take any number of such batches.
    carrier, handler = make_inbox()
    empties = batch_of(260_000, b"")
    for _ in range(200):
        handler(STRANGER, empties)  # type: ignore[operator]
    assert len(carrier._inbox) <= 2
    assert carrier.batches_dropped >= 198


async def test_one_peer_cannot_fill_the_queue_of_all() -> None:
    carrier, handler = make_inbox()
    batch = batch_of(100, bytes(2_500))
    for _ in range(INBOX_MAX_BYTES // len(batch) + 1):
        handler(STRANGER, batch)  # type: ignore[operator]
    assert carrier._inbox_bytes <= INBOX_PEER_MAX_BYTES + 2 * len(batch)
    other = peer_id(key_of("another").public_key)
    handler(other, batch)  # type: ignore[operator]
    assert carrier._inbox[-1][0] == other
    while carrier._inbox:
        await carrier.next_batch()
    assert (carrier._inbox_bytes, carrier._inbox_bytes_of) == (0, {})


async def test_what_waits_of_a_liar_is_dropped() -> None:
    carrier, handler = make_inbox()
    other = peer_id(key_of("another").public_key)
    for peer in (STRANGER, other, STRANGER):
        handler(peer, batch_of(3, bytes(100)))  # type: ignore[operator]
    carrier.forget_batches(STRANGER)
    assert [peer for peer, _ in carrier._inbox] == [other]
    await carrier.next_batch()
    assert (carrier._inbox_bytes, carrier._inbox_bytes_of) == (0, {})
