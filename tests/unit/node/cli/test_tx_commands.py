"""tally tx and receipt without a node: signed offline, decoded, and refused where they make no
sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genesis.definition import load_network
from genesis.devnet import devnet_document
from genesis.document import dump
from genesis.wellknown import account_address, account_key
from ledger.params import DEVNET_PARAMS
from ledger.transactions import Settle, Transfer, decode_transaction
from tests.kit.command_line import Ran, tally


@pytest.fixture
def genesis(tmp_path: Path) -> str:
    path = tmp_path / "genesis.json"
    path.write_text(dump(devnet_document()))
    return str(path)


@pytest.fixture
def real_network(tmp_path: Path) -> str:
    """A definition that is not a devnet; a draft is enough to be asked about."""
    path = tmp_path / "real.json"
    written = devnet_document().model_dump()
    path.write_text(json.dumps({**written, "devnet": False}))
    return str(path)


def offline(genesis: str, *words: str) -> Ran:
    return tally("tx", *words, "--offline", "--genesis", genesis, "--nonce", "3", "--json")


def test_a_transfer_signed_offline(genesis: str) -> None:
    ran = offline(genesis, "send", "bob", "0.25T", "--from", "alice")
    assert ran.code == 0
    network = load_network(Path(genesis))
    signed = decode_transaction(bytes.fromhex(ran.json["raw"][2:]), network.genesis_hash)
    alice, bob = account_key("alice"), account_key("bob")
    assert alice is not None
    assert bob is not None
    transfer = signed.transaction
    assert isinstance(transfer, Transfer)
    assert (transfer.sender, transfer.to) == (alice.public_key, bob.public_key)
    assert (transfer.amount, transfer.nonce) == (250_000, 3)
    assert transfer.fee == DEVNET_PARAMS.fee_base + DEVNET_PARAMS.fee_per_byte * len(signed.raw)
    assert ran.json["hash"] == "0x" + signed.transaction_id.hex()


def test_decode_shows_what_was_signed(genesis: str) -> None:
    raw = offline(genesis, "send", "bob", "5T", "--from", "alice").json["raw"]
    said = tally("tx", "decode", raw, "--genesis", genesis, "--json").json
    assert said["payload"]["type"] == "Transfer"
    assert said["payload"]["to"] == account_address("bob")
    assert said["payload"]["amount"] == "5000000"
    assert said["signatureValid"] is True
    text = tally("tx", "decode", "-", stdin=raw).out
    assert "5 T" in text
    assert account_address("bob") in text


def test_what_was_decoded_can_be_signed_again(genesis: str, tmp_path: Path) -> None:
    words = [
        ["send", "bob", "5T", "--from", "alice"],
        ["register", "--from", "alice"],
        ["register", "--from", "alice", "--peer", "bob", "--services", "0,3", "--endpoint", "x"],
        ["rate", "bob", "--score", "-8", "--seq", "4", "--from", "alice", "--evidence", "x"],
        ["settle", "--payer", "alice", "--payee", "bob", "--amount", "5T"],
    ]
    for each in words:
        made = offline(genesis, *each).json
        decoded = tmp_path / "decoded.json"
        decoded.write_text(tally("tx", "decode", made["raw"], "--json").out)
        signer = "bob" if each[0] == "settle" else "alice"
        again = tally("tx", "sign", str(decoded), "--from", signer, "--genesis", genesis, "--json")
        assert again.json == made


def test_a_sponsored_registration_carries_the_registrants_signature(genesis: str) -> None:
    from ledger.execution.claims import SignatureClaim
    from ledger.verification import claims_of

    network = load_network(Path(genesis))
    raw = offline(genesis, "register", "--from", "alice", "--peer", "bob").json["raw"]
    signed = decode_transaction(bytes.fromhex(raw[2:]), network.genesis_hash)
    claims = claims_of(signed, network.genesis_hash, network.params, lambda address: address)
    assert sum(isinstance(each, SignatureClaim) for each in claims) == 2
    for claim in claims:
        claim.check()


@pytest.mark.parametrize(
    "words",
    [
        ["send", "bob", "5", "--from", "alice"],
        ["send", "bob", "0T", "--from", "alice"],
        ["send", "bob", "1.5uT", "--from", "alice"],
        ["send", "bob", "0.0000001T", "--from", "alice"],
        ["send", "bob", "9007199255T", "--from", "alice"],
        ["send", "bobb", "5T", "--from", "alice"],
        ["send", "bob", "5T", "--from", "nobody"],
        ["rate", "bob", "--score", "0", "--seq", "1", "--from", "alice"],
        ["rate", "bob", "--score", "11", "--seq", "1", "--from", "alice"],
        ["rate", "bob", "--score", "5", "--from", "alice"],
        ["register", "--from", "alice", "--services", "32"],
        ["settle", "--payer", "alice", "--payee", "bob"],
        ["settle", "--payer", "alice", "--payee", "alice", "--amount", "1T"],
        ["settle", "RECEIPT", "--payer", "alice"],
        ["get", "0x12"],
        ["decode", "0xzz"],
    ],
)
def test_nonsense_is_a_usage_error(genesis: str, words: list[str]) -> None:
    extra = [] if words[0] in ("get", "decode") else ["--offline", "--genesis", genesis]
    if words[0] in ("send", "rate", "register", "settle"):
        extra += ["--nonce", "0"]
    ran = tally("tx", *words, *extra)
    assert ran.code == 2
    assert ran.out == ""


def test_offline_needs_network_and_nonce(genesis: str) -> None:
    words = ["tx", "send", "bob", "5T", "--from", "alice", "--offline"]
    assert tally(*words, "--genesis", genesis).code == 2
    ran = tally("tx", "sign", "-", "--from", "alice", "--offline", stdin="{}")
    assert ran.code == 2


def test_published_keys_are_refused_in_a_real_network(real_network: str, home: Path) -> None:
    # The definition names published keys, so it is not even read as a real one.
    words = ["tx", "send", "bob", "5T", "--from", "operator", "--offline", "--nonce", "0"]
    ran = tally(*words, "--genesis", real_network, "--json")
    assert ran.code == 1
    assert ran.json["error"]["reason"] == "INVALID_DEFINITION"


def test_trailing_bytes_are_named() -> None:
    ran = tally("tx", "decode", "0x" + "00" * 80, "--json")
    assert ran.code == 1
    assert ran.json["error"]["reason"] == "INVALID_DATA"


def test_a_payload_for_another_network_or_sender_is_not_signed(
    genesis: str, tmp_path: Path
) -> None:
    raw = offline(genesis, "send", "bob", "5T", "--from", "alice").json["raw"]
    decoded = tally("tx", "decode", raw, "--json").json["payload"]
    file = tmp_path / "payload.json"
    sign = ["tx", "sign", str(file), "--genesis", genesis, "--json", "--from"]
    file.write_text(json.dumps({**decoded, "chainId": "other"}))
    assert tally(*sign, "alice").json["error"]["reason"] == "WRONG_CHAIN"
    file.write_text(json.dumps(decoded))
    assert tally(*sign, "bob").json["error"]["reason"] == "WRONG_SENDER"
    for broken in ({**decoded, "type": "Transfr"}, {**decoded, "amout": "1"}, {"type": "Transfer"}):
        file.write_text(json.dumps(broken))
        assert tally(*sign, "alice").code == 2


def test_a_receipt_between_two_homes(genesis: str, tmp_path: Path) -> None:
    payer, payee = ["--home", str(tmp_path / "payer")], ["--home", str(tmp_path / "payee")]
    network = ["--genesis", genesis]
    words = [
        "--payer",
        "alice",
        "--payee",
        account_address("bob"),
        "--amount",
        "2T",
        "--units",
        "7",
    ]
    proposed = tally("receipt", "new", *words, *payer, *network)
    text = proposed.out.strip()
    assert "7" in proposed.err
    seen = tally("receipt", "verify", text, *network, "--json").json
    assert (seen["payerSigned"], seen["payeeSigned"]) == (True, False)
    signed = tally("receipt", "countersign", text, "--from", "bob", *payee, *network).out.strip()
    complete = tally("receipt", "verify", signed, *network, "--json").json
    assert (complete["seq"], complete["cumUnits"], complete["cumPaid"]) == (1, 7, "2000000")
    assert complete["payeeSigned"]
    assert tally("receipt", "adopt", signed, "--from", "alice", *payer, *network).code == 0
    following = tally("receipt", "new", *words, *payer, *network, "--json").json
    assert (following["seq"], following["cumUnits"], following["cumPaid"]) == (2, 14, "4000000")
    settled = tally(
        "receipt",
        "settle",
        signed,
        "--from",
        "bob",
        "--offline",
        "--nonce",
        "0",
        *network,
        "--json",
    )
    raw = bytes.fromhex(settled.json["raw"][2:])
    settle = decode_transaction(raw, load_network(Path(genesis)).genesis_hash).transaction
    assert isinstance(settle, Settle)
    assert (settle.seq, settle.cum_paid) == (1, 2_000_000)


def test_receipts_of_strangers_are_refused(genesis: str, tmp_path: Path) -> None:
    words = ["--payer", "alice", "--payee", "bob", "--amount", "2T", "--genesis", genesis]
    text = tally("receipt", "new", *words).out.strip()
    last = "A" if text[-1] != "A" else "B"
    ran = tally("receipt", "verify", text[:-9] + last * 9, "--genesis", genesis, "--json")
    assert ran.code == 1
    by_payer = ["receipt", "countersign", text, "--from", "carol", "--genesis", genesis, "--json"]
    assert tally(*by_payer).json["error"]["reason"] == "INVALID_RECEIPT"
    assert tally("receipt", "verify", "tally-receipt-1.x", "--genesis", genesis).code == 1
    stranger = [
        "settle",
        text,
        "--from",
        "carol",
        "--offline",
        "--nonce",
        "0",
        "--genesis",
        genesis,
    ]
    assert tally("receipt", *stranger).code == 1


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["validators"],
        ["peers", "ls"],
        ["account", account_address("bob")],
        ["rpc", "system_status"],
        ["reputation", "get", account_address("bob")],
        ["reputation", "top"],
        ["tx", "get", "00" * 32],
        ["tx", "wait", "00" * 32],
        ["tx", "submit", "0x00"],
        ["tx", "send", account_address("bob"), "5T", "--from", "alice"],
    ],
)
def test_an_unreachable_node_is_code_3(words: list[str]) -> None:
    ran = tally(*words, "--node", "127.0.0.1:1", "--json")
    assert ran.code == 3
    error = ran.json["error"]
    assert error["reason"] == "UNREACHABLE"
    assert "http://127.0.0.1:1 (from --node)" in error["message"]
    assert "tally devnet up" in error["hint"]


def test_where_the_node_is_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tally("config", "set", "rpc.port", "2").code == 0
    assert "http://127.0.0.1:2 (from " in tally("status").err
    monkeypatch.setenv("TALLY_NODE", "http://127.0.0.1:3/")
    assert "http://127.0.0.1:3 (from TALLY_NODE)" in tally("status").err
