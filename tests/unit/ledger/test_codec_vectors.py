"""The committed bytes of everything that is hashed, signed or stored: no change by accident."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledger.block import decode_block, decode_header
from ledger.certificate import decode_certificate, verify_certificate
from ledger.codec import encode
from ledger.crypto import verify
from ledger.identity import peer_id
from ledger.params import PARAMS_CODEC
from ledger.receipt import decode_receipt
from ledger.receipts import decode_service_receipt, parse_service_receipt, verify_receipt
from ledger.transactions import ChainIdentity, decode_transaction
from ledger.validators import decode_validator_set

REPOSITORY = Path(__file__).parents[3]
FOLDER = REPOSITORY / "tests/vectors/codec"
VECTORS: dict[str, Any] = json.loads((FOLDER / "vectors.json").read_text())
GENESIS_HASH = bytes.fromhex(VECTORS["genesis_hash"])
VALIDATORS = decode_validator_set(bytes.fromhex(VECTORS["validators"]["bytes"]))


def digest(tag: str, data: str, *, genesis: bool = True) -> str:
    """By hand: tag of 16 bytes, the genesis hash where signed, the bytes."""
    prefix = VECTORS["tags"][tag].encode().ljust(16, b"\0") + (GENESIS_HASH if genesis else b"")
    return hashlib.sha256(prefix + bytes.fromhex(data)).hexdigest()


def test_the_generator_writes_what_is_committed() -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "generate.py")],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == VECTORS


@pytest.mark.parametrize("name", VECTORS["transactions"])
def test_transactions(name: str) -> None:
    vector = VECTORS["transactions"][name]
    signed = decode_transaction(bytes.fromhex(vector["wire"]), GENESIS_HASH)
    assert type(signed.transaction).__name__ == vector["family"]
    assert vector["wire"] == vector["bytes"] + vector["signature"]
    assert signed.transaction_id.hex() == vector["transaction_id"]
    assert vector["transaction_id"] == digest("TRANSACTION", vector["bytes"])
    assert vector["full_hash"] == hashlib.sha256(bytes.fromhex(vector["wire"])).hexdigest()
    sender = bytes.fromhex(vector["fields"]["sender"])
    assert verify(sender, signed.transaction_id, signed.signature)


@pytest.mark.parametrize("name", VECTORS["votes"])
def test_votes(name: str) -> None:
    vector = VECTORS["votes"][name]
    assert vector["digest"] == digest("VOTE", vector["bytes"])


@pytest.mark.parametrize("name", VECTORS["certificates"])
def test_certificates(name: str) -> None:
    vector = VECTORS["certificates"][name]
    certificate = decode_certificate(bytes.fromhex(vector["bytes"]))
    verify_certificate(
        certificate,
        genesis_hash=GENESIS_HASH,
        chain_id=VECTORS["chain_id"],
        validators=VALIDATORS,
        accept_crash_fault=name == "raft",
    )
    assert vector["hash"] == digest("CERTIFICATE", vector["bytes"], genesis=False)


@pytest.mark.parametrize("name", VECTORS["headers"])
def test_blocks(name: str) -> None:
    header = VECTORS["headers"][name]
    block = decode_block(bytes.fromhex(VECTORS["blocks"][name]["bytes"]))
    assert block.header == decode_header(bytes.fromhex(header["bytes"]))
    assert header["hash"] == digest("BLOCK", header["bytes"], genesis=False)
    assert block.header.hash().hex() == header["hash"]


def test_what_else_is_decoded() -> None:
    for vector in VECTORS["receipts"].values():
        assert encode(decode_receipt(bytes.fromhex(vector["bytes"]))).hex() == vector["bytes"]
    for vector in VECTORS["parameters"].values():
        params = PARAMS_CODEC.decode(bytes.fromhex(vector["bytes"]))
        assert dict(params.items()) == vector["fields"]
        assert vector["hash"] == digest("PARAMETERS", vector["bytes"], genesis=False)
    validators = VECTORS["validators"]
    assert validators["hash"] == digest("VALIDATORS", validators["bytes"], genesis=False)
    for name, vector in VECTORS["keys"].items():
        assert peer_id(bytes.fromhex(vector["public_key"])) == vector["peer_id"], name


def test_service_receipts() -> None:
    chain = ChainIdentity(VECTORS["chain_id"], GENESIS_HASH)
    for vector in VECTORS["service_receipts"].values():
        receipt = decode_service_receipt(bytes.fromhex(vector["bytes"]))
        assert parse_service_receipt(vector["text"]) == receipt
        verify_receipt(receipt, chain)


def test_no_two_digests_or_bytes_are_equal() -> None:
    def collect(node: Any, names: tuple[str, ...]) -> list[str]:
        if isinstance(node, dict):
            own = [node[name] for name in names if name in node]
            return own + [text for value in node.values() for text in collect(value, names)]
        return []

    kinds = ("transactions", "votes", "certificates", "headers")
    names = ("digest", "transaction_id", "full_hash", "hash", "receipt_digest")
    digests = [text for kind in kinds for text in collect(VECTORS[kind], names)]
    assert len(set(digests)) == len(digests) > 20
