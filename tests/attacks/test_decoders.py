"""Attacks by bytes: on every decoder that somebody else's bytes can reach.

Whatever comes, a decoder answers with the value or with InvalidData; in a node, anything else ends
a task, and with it the validator. Nothing announced is believed before its bytes are there.
"""

from __future__ import annotations

import contextlib
import random
import struct
import tracemalloc
from collections.abc import Callable

import pytest

from consensus.pbft.messages import (
    Claim,
    CommitVote,
    Decided,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    ViewChange,
    decode_message,
    encode_message,
)
from ledger.block import decode_block, decode_header
from ledger.certificate import CommitCertificate, decode_certificate
from ledger.errors import InvalidData
from ledger.receipt import Receipt, decode_receipt
from ledger.receipts import decode_service_receipt, parse_service_receipt, sign_as_payer
from ledger.reputation.score_tree import score_proof_codec
from ledger.transactions import ReceiptBody, decode_transaction
from ledger.validators import decode_validator_set
from node.network import _batch, _request, _response
from p2p import status
from rpc.proofs import state_proof_codec
from tests.kit.chain import CHAIN, GENESIS_HASH, SmallChain, address_of, key_of, make_validators

DECODERS: dict[str, Callable[[bytes], object]] = {
    "transaction": lambda raw: decode_transaction(raw, GENESIS_HASH),
    "block": decode_block,
    "header": decode_header,
    "certificate": decode_certificate,
    "message": decode_message,
    "receipt": decode_receipt,
    "service receipt": decode_service_receipt,
    "score proof": score_proof_codec.decode,
    "state proof": state_proof_codec.decode,
    "validators": decode_validator_set,
    "batch": _batch.decode,
    "blocks request": _request.decode,
    "blocks": _response.decode,
    "status": status._CODEC.decode,
}


def honest() -> list[bytes]:
    """One of everything, as honest nodes send it."""
    chain = SmallChain(balances={"alice": 10**9, "bob": 10**9})
    certificate = CommitCertificate(
        "pbft", CHAIN.chain_id, 3, 0, bytes(32), bytes(32), b"\x07", (bytes(64),) * 3
    )
    prepared = PreparedCertificate(0, bytes(32), b"\x07", (bytes(64),) * 3)
    body = ReceiptBody(CHAIN.chain_id, address_of("alice"), address_of("bob"), 1, b"", 1, 1, 1)
    return [
        chain.transfer("alice", "bob", 5).raw,
        chain.register("alice").raw,
        chain.register("alice", "bob").raw,
        chain.settle("alice", "bob", 1, 1, 1).raw,
        chain.rate("alice", "bob", 1, 3).raw,
        make_validators().encode(),
        certificate.encode(),
        Receipt(bytes(32), ok=False, fee=1, reason="X", facts=(("needed", 3),)).encode(),
        sign_as_payer(body, key_of("alice"), GENESIS_HASH).encode(),
        encode_message(Prepare(1, 2, 0, bytes(32), bytes(64))),
        encode_message(CommitVote(1, 2, 0, bytes(32), bytes(64))),
        encode_message(ViewChange(1, 2, 1, 0, bytes(32), bytes(64), prepared, certificate)),
        encode_message(
            PrePrepare(
                1, 2, 1, bytes(32), bytes(64), (Claim(0, -1, bytes(32), bytes(64)),), prepared, b"x"
            )
        ),
        encode_message(Decided(1, 2, certificate)),
    ]


# Spellings that no canonical encoder writes, types that no struct has, lengths that are not there.
STRANGE = [
    b"\xca\x7f\xc0\x00\x00",  # a float: not a number
    b"\xcb\x7f\xf0" + bytes(6),  # infinity
    b"\xc0",
    b"\xc1",  # never used
    b"\xc2",
    b"\xd6\xff" + bytes(4),  # a timestamp
    b"\xc7\x05\x01abcde",  # an extension
    b"\xa2\xff\xfe",  # text that is no UTF-8
    b"\xda\x00\x03\xed\xa0\x80",  # half of a surrogate pair
    b"\xdf\xff\xff\xff\xff",  # 2^32 - 1 entries
    b"\xdd\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x91" * 3_000,  # nested deeper than any stack
    b"\x81" * 3_000,
    b"\xcf" + b"\xff" * 8,  # 2^64 - 1
    b"\xd3\x80" + bytes(7),  # -2^63
    b"\xd9\x00",  # a short thing in a long form
    b"\xc4\x00",
    b"\xdc\x00\x00",
    b"",
]


@pytest.mark.parametrize("name", DECODERS)
def test_nothing_but_the_value_or_invalid_data(name: str) -> None:
    decode = DECODERS[name]
    rng = random.Random(name)
    for raw in [*STRANGE, *honest()]:
        for tail in (b"", b"\x00", raw):
            with contextlib.suppress(InvalidData):
                decode(raw + tail)
    for _ in range(1_500):
        bent = bytearray(rng.choice(honest_bytes))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(bent) + 1)
            match rng.randrange(4):
                case 0 if at < len(bent):
                    bent[at] = rng.randrange(256)
                case 1:
                    bent[at:at] = rng.choice(STRANGE)
                case 2:
                    del bent[at : at + rng.randint(1, 8)]
                case _:
                    bent[at : at + rng.randint(0, 10)] = rng.choice(STRANGE)
        with contextlib.suppress(InvalidData):
            decode(bytes(bent))


honest_bytes = honest()


@pytest.mark.parametrize("head", [b"\xdd", b"\xdf", b"\xc6", b"\xdb"])
@pytest.mark.parametrize("name", DECODERS)
def test_announced_lengths_take_no_memory(name: str, head: bytes) -> None:
    # Five bytes that announce four thousand million elements.
    tracemalloc.start()
    try:
        with pytest.raises(InvalidData):
            DECODERS[name](head + struct.pack(">I", 2**32 - 1))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("index", range(len(honest_bytes)))
def test_one_value_has_one_spelling(index: int) -> None:
    # Every integer, length and string in every longer form that MessagePack has for it.
    raw = honest_bytes[index]
    for at, byte in enumerate(raw):
        for longer in _longer_forms(byte):
            bent = raw[:at] + longer + raw[at + 1 :]
            for name, decode in DECODERS.items():
                if name in ("batch", "blocks"):
                    continue  # lists of opaque bytes, whose content is judged by itself
                try:
                    again = decode(bent)
                except InvalidData:
                    continue
                # Where the byte stood inside a string, this is another value, spelled correctly.
                assert again != _try(decode, raw), name


def _try(decode: Callable[[bytes], object], raw: bytes) -> object:
    try:
        return decode(raw)
    except InvalidData:
        return None


def _longer_forms(byte: int) -> list[bytes]:
    if byte < 0x80:
        return [b"\xcc" + bytes((byte,)), b"\xcd\x00" + bytes((byte,))]
    if 0x90 <= byte < 0xA0:
        return [b"\xdc\x00" + bytes((byte & 15,))]
    if 0xA0 <= byte < 0xC0:
        return [b"\xd9" + bytes((byte & 31,))]
    if byte == 0xC4:
        return [b"\xc5\x00"]
    return []


@pytest.mark.parametrize("bitmap", [b"", b"\x00", b"\x0f\x00", b"\x1f", b"\xff" * 200])
def test_signers_of_any_bitmap_are_listed_without_harm(bitmap: bytes) -> None:
    certificate = CommitCertificate(
        "pbft", CHAIN.chain_id, 3, 0, bytes(32), bytes(32), bitmap, (bytes(64),) * 3
    )
    signers = decode_certificate(certificate.encode()).signers()
    assert signers == sorted(set(signers))


def test_no_validators_are_no_set() -> None:
    with pytest.raises(InvalidData):
        decode_validator_set(b"\x91\x90")


def test_texts_of_receipts_have_one_spelling() -> None:
    body = ReceiptBody(CHAIN.chain_id, address_of("alice"), address_of("bob"), 1, b"", 1, 1, 1)
    receipt = sign_as_payer(body, key_of("alice"), GENESIS_HASH)
    text = receipt.to_text()
    assert parse_service_receipt(text) == receipt
    for bent in (text + "=", text + "A", text[:-1], text.upper(), text.replace("-", "+"), "", "…"):
        if bent != text:
            with pytest.raises(InvalidData):
                parse_service_receipt(bent)
