"""Every value has one spelling, and nothing a stranger sends does more than be refused."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.block import decode_block, decode_header
from ledger.certificate import decode_certificate
from ledger.codec import LIMIT_53, encode
from ledger.crypto import sha256
from ledger.errors import InvalidData, MalformedData
from ledger.params import DEVNET_PARAMS, PARAMS_CODEC
from ledger.reasons import TransactionRefused
from ledger.receipt import decode_receipt
from ledger.receipts import decode_service_receipt, parse_service_receipt
from ledger.transactions import (
    Rate,
    ReceiptBody,
    Register,
    Settle,
    SignedTransaction,
    Transaction,
    Transfer,
    decode_transaction,
    receipt_body,
    receipt_digest,
    registration_digest,
    sign_transaction,
)
from ledger.validators import decode_validator_set
from ledger.verification import SignatureCache
from tests.kit.chain import CHAIN, GENESIS_HASH, address_of, key_of

NAMES = ("alice", "bob", "carol")
KEY_OF = {address_of(name): key_of(name) for name in NAMES}

u53 = st.one_of(
    st.sampled_from([0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, LIMIT_53 - 1]),
    st.integers(0, LIMIT_53 - 1),
)
positive = u53.map(lambda number: max(number, 1))
addresses = st.sampled_from(sorted(KEY_OF))
hashes = st.binary(min_size=32, max_size=32)
services = st.integers(0, 31)
header = (st.just(CHAIN.chain_id), addresses, u53, u53, u53)

transfers = st.builds(Transfer, *header, addresses, positive)
rates = st.builds(
    Rate,
    *header,
    addresses,
    services,
    positive,
    st.integers(-10, 10),
    st.integers(0, 255),
    st.one_of(st.just(b""), hashes),
)


@st.composite
def registers(draw: st.DrawFn) -> Register:
    register = Register(
        *(draw(each) for each in header),
        draw(addresses),
        b"",
        draw(st.integers(0, 2**32 - 1)),
        draw(hashes),
        draw(u53),
        draw(u53),
    )
    if register.registrant == register.sender:
        return register
    signature = KEY_OF[register.registrant].sign(registration_digest(register, GENESIS_HASH))
    return msgspec.structs.replace(register, registrant_signature=signature)


@st.composite
def settles(draw: st.DrawFn) -> Settle:
    payer, payee = draw(st.permutations(sorted(KEY_OF)))[:2]
    sender, other = draw(st.permutations([payer, payee]))
    chain_id, _, *numbers = (draw(each) for each in header)
    settle = Settle(
        chain_id,
        sender,
        *numbers,
        payer,
        payee,
        draw(services),
        draw(st.one_of(st.just(b""), hashes)),
        draw(positive),
        draw(u53),
        draw(u53),
        b"",
    )
    signature = KEY_OF[other].sign(receipt_digest(receipt_body(settle), GENESIS_HASH))
    return msgspec.structs.replace(settle, counterparty_signature=signature)


transactions = st.one_of(transfers, rates, registers(), settles())


def signed(transaction: Transaction) -> SignedTransaction:
    return sign_transaction(transaction, KEY_OF[transaction.sender], GENESIS_HASH)


def is_valid(candidate: SignedTransaction) -> bool:
    try:
        SignatureCache(GENESIS_HASH).check(candidate, DEVNET_PARAMS, lambda address: address)
    except TransactionRefused:
        return False
    return True


@given(transactions)
def test_round_trip(transaction: Transaction) -> None:
    made = signed(transaction)
    back = decode_transaction(made.raw, GENESIS_HASH)
    assert back.transaction == transaction
    assert back.raw == encode(back.transaction) + back.signature
    assert (back.transaction_id, back.full_hash) == (made.transaction_id, made.full_hash)
    assert is_valid(back)


@settings(max_examples=300)
@given(transactions, st.data())
def test_no_changed_byte_gives_another_valid_transaction(
    transaction: Transaction, data: st.DataObject
) -> None:
    made = signed(transaction)
    at = data.draw(st.integers(0, len(made.raw) - 1))
    raw = bytearray(made.raw)
    raw[at] ^= data.draw(st.integers(1, 255))
    refused_or_invalid(made, bytes(raw), in_signature=at >= len(raw) - 64)


def refused_or_invalid(made: SignedTransaction, raw: bytes, *, in_signature: bool) -> None:
    try:
        changed = decode_transaction(raw, GENESIS_HASH)
    except MalformedData:
        assert not in_signature
        return
    assert changed.full_hash != made.full_hash
    assert (changed.transaction_id == made.transaction_id) == in_signature
    assert not is_valid(changed)


@pytest.mark.parametrize("position", range(64))
def test_every_byte_of_the_signature_counts(position: int) -> None:
    made = signed(Transfer(CHAIN.chain_id, address_of("alice"), 0, 1, 0, address_of("bob"), 1))
    raw = bytearray(made.raw)
    raw[len(raw) - 64 + position] ^= 1
    refused_or_invalid(made, bytes(raw), in_signature=True)


@given(transactions, st.data())
def test_inserted_and_missing_bytes_are_noticed(
    transaction: Transaction, data: st.DataObject
) -> None:
    made = signed(transaction)
    at = data.draw(st.integers(0, len(made.raw)))
    extra = data.draw(st.binary(max_size=3))
    raw = made.raw[:at] + extra + made.raw[at + (not extra) :]
    if raw == made.raw:
        return
    try:
        changed = decode_transaction(raw, GENESIS_HASH)
    except MalformedData:
        return
    assert not is_valid(changed)


@given(transactions, transactions)
def test_different_transactions_have_different_ids(one: Transaction, other: Transaction) -> None:
    first, second = signed(one), signed(other)
    assert (first.transaction_id == second.transaction_id) == (one == other)
    assert (first.full_hash == second.full_hash) == (one == other)


DECODERS = {
    "transaction": lambda raw: decode_transaction(raw, GENESIS_HASH),
    "block": decode_block,
    "header": decode_header,
    "certificate": decode_certificate,
    "validators": decode_validator_set,
    "params": PARAMS_CODEC.decode,
    "receipt": decode_receipt,
    "service receipt": decode_service_receipt,
}

# Shapes near what decoders expect get further than noise.
shapes = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from([bytes(32), bytes(33), bytes(64), address_of("alice"), b""]),
        st.just(CHAIN.chain_id),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=14), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=30,
)


@pytest.mark.parametrize("kind", DECODERS)
@given(st.one_of(st.binary(max_size=300), shapes.map(msgspec.msgpack.encode)))
def test_decoders_refuse_or_give_back_the_same_bytes(kind: str, raw: bytes) -> None:
    try:
        value: Any = DECODERS[kind](raw)
    except InvalidData:
        return
    assert (value.raw if kind == "transaction" else encode(value)) == raw


@given(st.text(max_size=100))
def test_any_text_is_a_receipt_or_malformed(text: str) -> None:
    for candidate in (text, "tally-receipt-1." + text):
        with pytest.raises(MalformedData):
            parse_service_receipt(candidate)


@given(
    st.builds(
        ReceiptBody,
        st.just(CHAIN.chain_id),
        addresses,
        addresses,
        services,
        st.one_of(st.just(b""), hashes),
        positive,
        u53,
        u53,
    )
)
def test_receipt_bodies_are_signed_as_they_are_spelled(body: ReceiptBody) -> None:
    tag = b"tally/receipt/1".ljust(16, b"\0")
    assert receipt_digest(body, GENESIS_HASH) == sha256(tag + GENESIS_HASH + encode(body))
