"""Off-chain receipts: forms, signatures, and the way onto the ledger."""

import msgspec
import pytest

from ledger.crypto import sha256
from ledger.errors import MalformedData, NotCanonical, Oversized
from ledger.receipts import (
    RECEIPT_LIMIT_BYTES,
    InvalidReceipt,
    ServiceReceipt,
    decode_service_receipt,
    parse_service_receipt,
    sign_as_payee,
    sign_as_payer,
    to_settle,
    verify_receipt,
)
from ledger.transactions import ChainIdentity, ReceiptBody
from ledger.verification import SignatureCache
from tests.kit.chain import CHAIN, FEE, GENESIS_HASH, SmallChain, address_of, key_of

ALICE, BOB = address_of("alice"), address_of("bob")
BODY = ReceiptBody(CHAIN.chain_id, ALICE, BOB, 3, b"", 7, 40, 90_000)
PROPOSED = sign_as_payer(BODY, key_of("alice"), GENESIS_HASH)
COMPLETE = sign_as_payee(PROPOSED, key_of("bob"), GENESIS_HASH)


def broken_rule(receipt: ServiceReceipt, chain: ChainIdentity = CHAIN, **keys: bytes) -> str:
    with pytest.raises(InvalidReceipt) as caught:
        verify_receipt(receipt, chain, **keys)
    return caught.value.rule


@pytest.mark.parametrize("receipt", [PROPOSED, COMPLETE, ServiceReceipt(BODY)])
def test_both_forms_come_back(receipt: ServiceReceipt) -> None:
    assert decode_service_receipt(receipt.encode()) == receipt
    assert parse_service_receipt(receipt.to_text()) == receipt
    assert parse_service_receipt(f"  {receipt.to_text()}\n") == receipt


def test_the_text_can_be_selected_with_a_double_click() -> None:
    text = COMPLETE.to_text().removeprefix("tally-receipt-1.")
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_the_longest_receipt_fits() -> None:
    big = 2**53 - 1
    body = ReceiptBody("x" * 64, ALICE, BOB, 31, bytes(32), big, big, big)
    longest = ServiceReceipt(body, bytes(64), bytes(64))
    assert parse_service_receipt(longest.to_text()) == longest
    assert len(longest.encode()) <= RECEIPT_LIMIT_BYTES


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda text: text[:-1], MalformedData),
        (lambda text: text + "A", MalformedData),
        (lambda text: text.removeprefix("tally-"), MalformedData),
        (lambda text: text.replace("tally-receipt-1.", "tally-receipt-2."), MalformedData),
        (lambda text: text[:40] + "+" + text[41:], MalformedData),
        (lambda text: text[:40] + "\n" + text[40:], MalformedData),
        (lambda text: text + "=" * 2, MalformedData),
        (lambda text: text + "A" * 1_000, Oversized),
        (lambda text: text[:0], MalformedData),
    ],
)
def test_damaged_text(change: object, error: type[MalformedData]) -> None:
    with pytest.raises(error):
        parse_service_receipt(change(COMPLETE.to_text()))  # type: ignore[operator]


def test_unused_bits_of_the_last_character_do_not_vary() -> None:
    text = PROPOSED.to_text()
    spare_bits = {0: 0, 2: 4, 3: 2}[len(text.removeprefix("tally-receipt-1.")) % 4]
    assert spare_bits, "choose a receipt whose text has spare bits"
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
    with pytest.raises(NotCanonical):
        parse_service_receipt(other)


def test_signatures_are_checked_as_far_as_they_are_there() -> None:
    for good in (PROPOSED, COMPLETE, ServiceReceipt(BODY, b"", COMPLETE.payee_signature)):
        verify_receipt(good, CHAIN)
    assert [each.is_complete for each in (PROPOSED, COMPLETE)] == [False, True]
    assert broken_rule(ServiceReceipt(BODY)) == "payer-signature"
    swapped = ServiceReceipt(BODY, COMPLETE.payee_signature, COMPLETE.payer_signature)
    assert broken_rule(swapped) == "payer-signature"
    bad_payee = ServiceReceipt(BODY, COMPLETE.payer_signature, bytes(64))
    assert broken_rule(bad_payee) == "payee-signature"


def test_every_field_is_signed() -> None:
    for name, value in {"service": 4, "seq": 8, "cum_units": 41, "cum_paid": 90_001}.items():
        body = msgspec.structs.replace(BODY, **{name: value})
        changed = ServiceReceipt(body, COMPLETE.payer_signature, COMPLETE.payee_signature)
        assert broken_rule(changed) == "payer-signature"


def test_other_networks_and_impossible_parties() -> None:
    assert broken_rule(COMPLETE, ChainIdentity("other", GENESIS_HASH)) == "chain"
    assert broken_rule(COMPLETE, ChainIdentity(CHAIN.chain_id, sha256(b"x"))) == "payer-signature"
    own = msgspec.structs.replace(BODY, payee=ALICE)
    assert broken_rule(sign_as_payer(own, key_of("alice"), GENESIS_HASH)) == "parties"


def test_rotated_keys_are_the_ones_that_count() -> None:
    renewed = sign_as_payer(BODY, key_of("alice 2"), GENESIS_HASH)
    assert broken_rule(renewed) == "payer-signature"
    verify_receipt(renewed, CHAIN, payer_key=address_of("alice 2"))
    assert broken_rule(COMPLETE, payee_key=address_of("bob 2")) == "payee-signature"


@pytest.mark.parametrize(("sender", "cosigned"), [("bob", True), ("alice", True), ("alice", False)])
def test_a_receipt_settles_on_the_ledger(sender: str, cosigned: bool) -> None:
    chain = SmallChain({"alice": 10**9, "bob": 10**9})
    chain.commit(chain.register("alice"), chain.register("bob"))
    receipt = COMPLETE if cosigned else PROPOSED
    settle = to_settle(receipt, sender=address_of(sender), nonce=1, fee=FEE, expiry_height=99)
    signed = chain.sign(settle, sender)
    SignatureCache(GENESIS_HASH).check(signed, chain.params, lambda address: address)
    (outcome,) = chain.commit(signed)
    assert outcome.ok
    assert settle.expiry_height == 99


def test_who_cannot_settle() -> None:
    for receipt, sender, rule in (
        (COMPLETE, "carol", "not-a-party"),
        (ServiceReceipt(BODY, b"", COMPLETE.payee_signature), "bob", "payer-signature"),
    ):
        with pytest.raises(InvalidReceipt) as caught:
            to_settle(receipt, sender=address_of(sender), nonce=0, fee=FEE)
        assert caught.value.rule == rule
