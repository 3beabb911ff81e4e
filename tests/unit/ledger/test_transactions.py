"""Transactions on the wire: identifiers, spelling, what each signature covers."""

import msgspec
import pytest

from ledger.codec import LIMIT_53, encode
from ledger.crypto import sha256
from ledger.errors import MalformedData, NotCanonical, Oversized, TrailingBytes
from ledger.transactions import (
    Rate,
    Register,
    Settle,
    SignedTransaction,
    Transfer,
    decode_transaction,
    receipt_body,
    receipt_digest,
    registration_digest,
    sign_transaction,
)
from tests.kit.chain import CHAIN, GENESIS_HASH, SmallChain, address_of, key_of

ALICE, BOB = address_of("alice"), address_of("bob")
TRANSFER = Transfer(CHAIN.chain_id, ALICE, 0, 1_000, 0, BOB, 5)


def samples() -> list[SignedTransaction]:
    chain = SmallChain()
    return [
        chain.transfer("alice", "bob", 5),
        chain.register("alice", "bob"),
        chain.settle("alice", "bob", 3, 40, 5_000),
        chain.rate("alice", "bob", 3, -7),
    ]


def resigned(payload: bytes) -> bytes:
    digest = sha256(b"tally/tx/1".ljust(16, b"\0") + GENESIS_HASH + payload)
    return payload + key_of("alice").sign(digest)


@pytest.mark.parametrize("signed", samples(), ids=lambda each: type(each.transaction).__name__)
def test_wire_bytes_come_back_with_the_same_identifiers(signed: SignedTransaction) -> None:
    decoded = decode_transaction(signed.raw, GENESIS_HASH)
    assert decoded.transaction == signed.transaction
    assert decoded.transaction_id == signed.transaction_id
    assert decoded.full_hash == signed.full_hash == sha256(signed.raw)
    assert decoded.signature == signed.raw[-64:]


def test_the_id_leaves_the_signature_out_and_the_full_hash_does_not() -> None:
    good = sign_transaction(TRANSFER, key_of("alice"), GENESIS_HASH)
    bad = decode_transaction(good.raw[:-64] + bytes(64), GENESIS_HASH)
    assert bad.transaction_id == good.transaction_id
    assert bad.full_hash != good.full_hash


def test_the_id_belongs_to_one_network() -> None:
    signed = sign_transaction(TRANSFER, key_of("alice"), GENESIS_HASH)
    elsewhere = decode_transaction(signed.raw, sha256(b"another network"))
    assert elsewhere.transaction_id != signed.transaction_id


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda raw: raw[:64], MalformedData),
        (lambda raw: raw[-64:], MalformedData),
        (lambda raw: resigned(raw[:-64] + b"\xc0"), TrailingBytes),
        (lambda raw: resigned(raw[:-65]), MalformedData),
        # the amount 5 as a 16-bit integer
        (lambda raw: resigned(raw[:-65] + b"\xcd\x00\x05"), NotCanonical),
        (lambda raw: resigned(raw[:-65] + b"\x00"), MalformedData),  # nothing to transfer
        (lambda raw: resigned(b"\x98\x02" + raw[2:-64]), MalformedData),  # an unknown family
        (lambda raw: resigned(b"\x98\x01" + raw[2:-64]), MalformedData),  # another family
    ],
)
def test_bytes_that_are_no_transaction(change: object, error: type[MalformedData]) -> None:
    raw = sign_transaction(TRANSFER, key_of("alice"), GENESIS_HASH).raw
    with pytest.raises(MalformedData) as caught:
        decode_transaction(change(raw), GENESIS_HASH)  # type: ignore[operator]
    assert type(caught.value) is error


def test_a_limit_holds_for_the_whole_wire_form() -> None:
    raw = sign_transaction(TRANSFER, key_of("alice"), GENESIS_HASH).raw
    decode_transaction(raw, GENESIS_HASH, limit_bytes=len(raw))
    with pytest.raises(Oversized):
        decode_transaction(raw, GENESIS_HASH, limit_bytes=len(raw) - 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"nonce": LIMIT_53},
        {"amount": LIMIT_53},
        {"amount": 0},
        {"fee": -1},
        {"sender": ALICE[:-1]},
        {"to": BOB + b"\0"},
        {"chain_id": ""},
        {"chain_id": "UPPER"},
        {"chain_id": "a" * 65},
    ],
)
def test_fields_out_of_range_do_not_decode(fields: dict[str, object]) -> None:
    transaction = msgspec.structs.replace(TRANSFER, **fields)
    with pytest.raises(MalformedData):
        decode_transaction(resigned(encode(transaction)), GENESIS_HASH)


def test_a_receipt_digest_covers_every_field_and_the_network() -> None:
    settle = SmallChain().settle("alice", "bob", 3, 40, 5_000).transaction
    assert isinstance(settle, Settle)
    body = receipt_body(settle)
    variants = [
        {"chain_id": "other"},
        {"payer": BOB},
        {"payee": ALICE},
        {"service": 2},
        {"channel": bytes(32)},
        {"seq": 4},
        {"cum_units": 41},
        {"cum_paid": 5_001},
    ]
    assert [next(iter(each)) for each in variants] == list(body.__struct_fields__)
    digests = {
        receipt_digest(msgspec.structs.replace(body, **each), GENESIS_HASH) for each in variants
    }
    digests |= {receipt_digest(body, GENESIS_HASH), receipt_digest(body, bytes(32))}
    assert len(digests) == len(variants) + 2


def test_a_registrants_digest_covers_what_it_agrees_to() -> None:
    register = SmallChain().register("alice", "bob").transaction
    assert isinstance(register, Register)
    agreed = [
        {"sender": BOB},
        {"registrant": ALICE},
        {"service_mask": 1},
        {"endpoint_hash": bytes(32)},
        {"chain_id": "other"},
    ]
    digests = {
        registration_digest(msgspec.structs.replace(register, **each), GENESIS_HASH)
        for each in agreed
    }
    digests.add(registration_digest(register, GENESIS_HASH))
    assert len(digests) == len(agreed) + 1
    # What the sponsor alone decides is not the registrant's to sign.
    again = msgspec.structs.replace(register, nonce=9, fee=9, deposit=9)
    assert registration_digest(again, GENESIS_HASH) in digests


def test_signatures_of_one_kind_do_not_pass_for_another() -> None:
    settle = SmallChain().settle("alice", "bob", 1, 1, 1).transaction
    assert isinstance(settle, Settle)
    payload = encode(receipt_body(settle))
    tags = (b"tally/tx/1", b"tally/receipt/1", b"tally/regist/1", b"tally/vote/1")
    digests = {sha256(tag.ljust(16, b"\0") + GENESIS_HASH + payload) for tag in tags}
    assert len(digests) == len(tags)
    assert receipt_digest(receipt_body(settle), GENESIS_HASH) in digests


def test_scores_and_services_are_bounded_on_the_wire() -> None:
    rate = Rate(CHAIN.chain_id, ALICE, 0, 1_000, 0, BOB, 31, 1, 10, 255, b"")
    decode_transaction(resigned(encode(rate)), GENESIS_HASH)
    for fields in (
        {"score": 11},
        {"score": -11},
        {"service": 32},
        {"code": 256},
        {"receipt_seq": 0},
    ):
        bad = msgspec.structs.replace(rate, **fields)
        with pytest.raises(MalformedData):
            decode_transaction(resigned(encode(bad)), GENESIS_HASH)
