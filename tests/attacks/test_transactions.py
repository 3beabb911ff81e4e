"""Attacks on transactions: signatures that serve twice, and rules that pay."""

from __future__ import annotations

import msgspec
import pytest

from ledger import domains
from ledger.certificate import VOTE_COMMIT, Vote
from ledger.codec import encode
from ledger.crypto import PrivateKey, sha256, verify
from ledger.execution.block import TransactionNotAllowed
from ledger.params import DEVNET_PARAMS, MICRO
from ledger.reasons import TransactionRefused
from ledger.state import Account
from ledger.transactions import (
    ReceiptBody,
    Register,
    SignedTransaction,
    Transfer,
    decode_transaction,
    receipt_digest,
    registration_digest,
    sign_transaction,
)
from ledger.verification import SignatureCache, check_stateless
from tests.kit.chain import CHAIN, FEE, GENESIS_HASH, SmallChain, address_of, key_of

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
LARGEST = 2**53 - 1
OTHER_NETWORK = sha256(b"another network of the same name")


@pytest.fixture
def chain() -> SmallChain:
    return SmallChain(balances=dict.fromkeys(("alice", "bob", "mallory"), 1_000 * MICRO))


def checked(signed: SignedTransaction) -> str:
    """ "ok" or the reason of refusal, as admission and block validation find it."""
    try:
        check_stateless(signed, CHAIN.chain_id, DEVNET_PARAMS)
        SignatureCache(GENESIS_HASH).check(signed, DEVNET_PARAMS, bytes)
    except TransactionRefused as refused:
        return refused.reason
    return "ok"


def bent(signed: SignedTransaction, signature: bytes) -> SignedTransaction:
    return decode_transaction(signed.raw[:-64] + signature, GENESIS_HASH)


# ---- signatures ----------------------------------------------------------------------------------


def test_the_mirror_image_of_a_signature_is_refused(chain: SmallChain) -> None:
    # (r, n − s) satisfies the equation too. With it, anybody could make a second full hash of a
    # transaction that is not his, and fill caches and relays with copies.
    signed = chain.transfer("alice", "bob", 1)
    s = int.from_bytes(signed.signature[32:])
    assert s <= ORDER // 2
    mirrored = signed.signature[:32] + (ORDER - s).to_bytes(32)
    assert checked(signed) == "ok"
    assert checked(bent(signed, mirrored)) == "INVALID_SIGNATURE"


@pytest.mark.parametrize(
    "signature",
    [
        bytes(64),
        b"\xff" * 64,
        ORDER.to_bytes(32) + (1).to_bytes(32),
        (1).to_bytes(32) + ORDER.to_bytes(32),
        (1).to_bytes(32) + bytes(32),
        (ORDER + 1).to_bytes(32) + (1).to_bytes(32),
    ],
)
def test_degenerate_signatures_are_refused(chain: SmallChain, signature: bytes) -> None:
    assert checked(bent(chain.transfer("alice", "bob", 1), signature)) == "INVALID_SIGNATURE"


@pytest.mark.parametrize("sender", [bytes(33), b"\x02" + b"\xff" * 32, b"\x04" + bytes(32)])
def test_a_sender_that_is_no_key_signs_nothing(chain: SmallChain, sender: bytes) -> None:
    transaction = msgspec.structs.replace(
        chain.transfer("alice", "bob", 1).transaction, sender=sender
    )
    assert checked(sign_transaction(transaction, key_of("alice"), GENESIS_HASH)) == (
        "INVALID_SIGNATURE"
    )


def test_a_transaction_of_a_network_of_the_same_name_is_not_ours(chain: SmallChain) -> None:
    # A test network that copied the name, where alice has signed away everything.
    foreign = sign_transaction(
        chain.transfer("alice", "mallory", 900 * MICRO).transaction, key_of("alice"), OTHER_NETWORK
    )
    assert checked(decode_transaction(foreign.raw, GENESIS_HASH)) == "INVALID_SIGNATURE"


def test_no_signature_serves_another_purpose(chain: SmallChain) -> None:
    # One key signs transactions, receipts, registrations and, where an operator is careless, votes.
    # Whatever was signed for one must not verify for another, though the bytes were the same.
    key = key_of("alice")
    transfer = chain.transfer("alice", "bob", 1)
    receipt = ReceiptBody(CHAIN.chain_id, address_of("alice"), address_of("bob"), 1, b"", 1, 1, 1)
    register = chain.register("mallory", "alice").transaction
    assert isinstance(register, Register)
    vote = Vote(CHAIN.chain_id, "pbft", VOTE_COMMIT, 1, 0, bytes(32))
    digests = {
        "transaction": transfer.transaction_id,
        "receipt": receipt_digest(receipt, GENESIS_HASH),
        "registration": registration_digest(register, GENESIS_HASH),
        "vote": vote.digest(GENESIS_HASH),
    }
    for payload in (encode(transfer.transaction), encode(receipt), encode(vote)):
        for tag in (domains.TRANSACTION, domains.RECEIPT, domains.REGISTRATION, domains.VOTE):
            digests[f"{tag!r} {len(payload)}"] = domains.signing_digest(tag, GENESIS_HASH, payload)
    names = list(digests)
    signatures = {name: key.sign(digests[name]) for name in names}
    for name in names:
        for other in names:
            same = digests[name] == digests[other]
            assert verify(key.public_key, digests[other], signatures[name]) == same


# ---- registration --------------------------------------------------------------------------------


def test_another_sponsor_cannot_use_a_registrants_signature(chain: SmallChain) -> None:
    # Mallory sees alice's sponsored registration of bob in the mempool, and sends it as her own.
    seen = chain.register("alice", "bob").transaction
    assert isinstance(seen, Register)
    stolen = chain.sign(
        msgspec.structs.replace(seen, sender=address_of("mallory"), nonce=0), "mallory"
    )
    assert checked(stolen) == "INVALID_REGISTRANT_SIGNATURE"


@pytest.mark.parametrize("field", ["service_mask", "endpoint_hash", "registrant", "chain_id"])
def test_a_sponsor_cannot_change_what_the_registrant_signed(chain: SmallChain, field: str) -> None:
    seen = chain.register("alice", "bob").transaction
    changed = {
        "service_mask": 0xFFFF,
        "endpoint_hash": bytes(32),
        "registrant": address_of("carol"),
        "chain_id": "another",
    }
    signed = chain.sign(msgspec.structs.replace(seen, **{field: changed[field]}), "alice")
    assert checked(signed) in ("INVALID_REGISTRANT_SIGNATURE", "WRONG_CHAIN")


def test_a_second_registration_takes_nothing_but_its_fee(chain: SmallChain) -> None:
    # Sponsor and registrant race, or mallory registers alice again to overwrite her entry.
    chain.commit(chain.register("alice"))
    entry, burned = chain.account("alice"), chain.totals.burned
    (receipt,) = chain.commit(chain.register("mallory", "alice"))
    assert receipt.reason == "ALREADY_REGISTERED"
    assert chain.account("alice") == entry
    assert chain.totals.burned == burned
    assert chain.balance("mallory") == 1_000 * MICRO - FEE


def test_a_deposit_is_not_money_to_spend(chain: SmallChain) -> None:
    chain.commit(chain.register("alice", deposit=900 * MICRO))
    left = chain.balance("alice")
    (receipt,) = chain.commit(chain.transfer("alice", "mallory", left))
    assert receipt.reason == "INSUFFICIENT_FUNDS"


# ---- nonces, fees, money -------------------------------------------------------------------------


def test_a_transaction_stands_in_one_block_once(chain: SmallChain) -> None:
    signed = chain.transfer("alice", "bob", 1)
    chain.commit(signed)
    for again in ((signed,), (chain.transfer("alice", "bob", 2), signed)):
        with pytest.raises(TransactionNotAllowed) as refused:
            chain.execute(*again)
        assert refused.value.refusal.reason == "NONCE_TOO_LOW"


@pytest.mark.parametrize("nonce", [1, 1_023, LARGEST])
def test_nonces_cannot_be_jumped(chain: SmallChain, nonce: int) -> None:
    # A jump to the last nonce would close the account for ever.
    with pytest.raises(TransactionNotAllowed) as refused:
        chain.execute(chain.transfer("alice", "bob", 1, nonce=nonce))
    assert refused.value.refusal.reason == "NONCE_TOO_HIGH"


def test_what_a_block_brings_in_cannot_pay_for_what_stands_before_it(chain: SmallChain) -> None:
    # Newcomer spends what reaches it only later in the same block.
    spend = chain.transfer("newcomer", "mallory", 1, nonce=0)
    fund = chain.transfer("alice", "newcomer", 10 * MICRO)
    with pytest.raises(TransactionNotAllowed) as refused:
        chain.execute(spend, fund)
    assert refused.value.refusal.reason == "INSUFFICIENT_FEE_FUNDS"
    assert [receipt.ok for receipt in chain.commit(fund, spend)] == [True, True]


def test_a_proposer_cannot_spend_the_fees_of_its_own_block(chain: SmallChain) -> None:
    poor = SmallChain(balances={"alice": 1_000 * MICRO, "val-0": FEE})
    rich_fee = poor.transfer("alice", "bob", 1, fee=100 * MICRO)
    spend = poor.transfer("val-0", "mallory", 50 * MICRO)
    assert [receipt.ok for receipt in poor.commit(rich_fee, spend)] == [True, False]


def test_the_whole_supply_as_a_fee_overflows_nothing() -> None:
    chain = SmallChain(balances={"alice": LARGEST - 1, "val-0": 1})
    chain.commit(chain.transfer("alice", "alice", 1, fee=LARGEST - 2))
    assert chain.balance("val-0") == LARGEST - 1
    assert chain.balance("alice") == 1


@pytest.mark.parametrize("amount", [LARGEST, 1_000 * MICRO])
def test_paying_oneself_makes_no_money(chain: SmallChain, amount: int) -> None:
    (receipt,) = chain.commit(chain.transfer("alice", "alice", amount))
    assert receipt.reason == "INSUFFICIENT_FUNDS"
    chain.commit(chain.transfer("alice", "alice", 900 * MICRO))
    assert chain.balance("alice") == 1_000 * MICRO - 2 * FEE


def test_failing_on_purpose_leaves_no_trace_but_the_fee(chain: SmallChain) -> None:
    # Effects that come before the failing check (an account made, a pair advanced, a sum moved)
    # must all be undone: settle whose payer cannot pay, and a registration that is too poor.
    poor = SmallChain(balances={"alice": 1_000 * MICRO, "bob": 12 * MICRO, "thin": 5 * FEE})
    poor.commit(poor.register("alice"), poor.register("bob"))
    held = poor.balance("bob")
    before = {name: poor.account(name) for name in ("alice", "bob", "thin")}
    receipts = poor.commit(
        poor.settle("bob", "alice", 1, 1, held + 1),
        poor.register("thin"),
        poor.transfer("thin", "nobody yet", 10 * MICRO, nonce=1),
    )
    assert [receipt.reason for receipt in receipts] == ["INSUFFICIENT_FUNDS"] * 3
    fees = {"alice": 1, "bob": 0, "thin": 2}
    for name, account in before.items():
        assert poor.account(name) == msgspec.structs.replace(
            account, balance=account.balance - fees[name] * FEE, nonce=account.nonce + fees[name]
        )
    assert poor.account("nobody yet") == Account(0)
    (again,) = poor.commit(poor.settle("bob", "alice", 1, 1, held))
    assert again.ok, "the number was not used up"


def test_expiry_cannot_be_undone_by_a_copy(chain: SmallChain) -> None:
    transaction = chain.transfer("alice", "bob", 1, expiry_height=1).transaction
    chain.commit()
    with pytest.raises(TransactionNotAllowed) as refused:
        chain.execute(chain.sign(transaction, "alice"))
    assert refused.value.refusal.reason == "EXPIRED"


def test_names_of_keys_are_not_confused() -> None:
    # The same x with the other y is another key, and another account.
    key = PrivateKey(sha256(b"some key"))
    mirrored = PrivateKey((ORDER - int.from_bytes(key.secret)).to_bytes(32))
    assert key.public_key[1:] == mirrored.public_key[1:]
    assert key.public_key != mirrored.public_key
    unsigned = Transfer(CHAIN.chain_id, key.public_key, 0, FEE, 0, address_of("bob"), 1)
    assert checked(sign_transaction(unsigned, mirrored, GENESIS_HASH)) == "INVALID_SIGNATURE"
