"""tally keys: made, listed, moved between homes, and used to sign."""

from __future__ import annotations

import json
from pathlib import Path

from genesis.wellknown import account_address
from ledger.crypto import PrivateKey, sha256
from ledger.identity import peer_id
from tests.kit.command_line import tally


def test_new_list_show(tmp_path: Path, passphrase_file: str) -> None:
    made = tally("keys", "new", "spare", "--passphrase-file", passphrase_file, "--json")
    assert made.code == 0
    listed = tally("keys", "list", "--json").json["keys"]
    assert listed == [{"name": "spare", "peerId": made.json["peerId"]}]
    shown = tally("keys", "show", "spare", "--json").json
    assert shown["publicKey"] == made.json["publicKey"]
    assert tally("keys", "new", "spare", "--passphrase-file", passphrase_file).code == 1
    assert tally("keys", "new", "../spare", "--passphrase-file", passphrase_file).code == 2


def test_export_and_import_keep_the_key(tmp_path: Path, home: Path, passphrase_file: str) -> None:
    exported = tally("keys", "export", "node", "--json").json
    assert exported["version"] == 4
    file = tmp_path / "moved.json"
    file.write_text(json.dumps(exported))
    other = ["--home", str(tmp_path / "other")]
    secrets = ["--passphrase-file", passphrase_file, "--source-passphrase-file", passphrase_file]
    moved = tally("keys", "import", "node", str(file), *other, *secrets, "--json")
    assert moved.code == 0
    assert moved.json["peerId"] == tally("keys", "show", "node", "--json").json["peerId"]


def test_import_of_bare_hex_from_standard_input(tmp_path: Path, passphrase_file: str) -> None:
    key = PrivateKey(sha256(b"mine"))
    words = ["keys", "import", "mine", "-", "--passphrase-file", passphrase_file, "--json"]
    ran = tally(*words, stdin="0x" + key.secret.hex() + "\n")
    assert ran.json["peerId"] == peer_id(key.public_key)
    revealed = tally(
        "keys", "export", "mine", "--reveal", "--yes", "--passphrase-file", passphrase_file
    )
    assert revealed.out == key.secret.hex() + "\n"


def test_a_secret_is_not_printed_without_consent(home: Path, passphrase_file: str) -> None:
    ran = tally("keys", "export", "node", "--reveal", "--passphrase-file", passphrase_file)
    assert ran.code == 2
    assert ran.out == ""


def test_a_wrong_passphrase(home: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("not this one")
    words = [
        "keys",
        "export",
        "node",
        "--reveal",
        "--yes",
        "--passphrase-file",
        str(wrong),
        "--json",
    ]
    ran = tally(*words)
    assert ran.code == 1
    assert ran.json["error"]["reason"] == "WRONG_PASSPHRASE"


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.touch(mode=0o600)
    short.write_text("1234567")
    assert tally("keys", "new", "a", "--passphrase-file", str(short)).code == 2


def test_sign_and_verify() -> None:
    signed = tally("keys", "sign", "alice", "hello", "--json").json
    assert signed["peerId"] == account_address("alice")
    words = ["keys", "verify", signed["peerId"], "hello", signed["signature"]]
    assert tally(*words).code == 0
    words[3] = "goodbye"
    assert tally(*words).code == 1
    assert tally("keys", "verify", signed["peerId"], "hello", "zz").code == 2


def test_devnet_keys_are_listed_without_a_home() -> None:
    listed = tally("keys", "list", "--devnet", "--json").json["keys"]
    assert {"name": "alice", "peerId": account_address("alice")} in listed
    assert {"treasury", "validator-1"} < {each["name"] for each in listed}
