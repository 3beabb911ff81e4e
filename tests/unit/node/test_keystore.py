"""Key stores: the standard's own cases, and files made to hurt whoever opens them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger.crypto import PrivateKey, sha256
from node.home import InsecureFile, write_secret
from node.keystore import (
    DEVNET_SCRYPT_N,
    KEYSTORE_LIMIT_BYTES,
    KeystoreError,
    MalformedKeystore,
    NoPassphrase,
    TooCheap,
    WrongPassphrase,
    encode_passphrase,
    find_passphrase,
    parse_keystore,
    read_keystore,
    seal,
)

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "keystore" / "eip2335.json").read_text()
)
KEY = PrivateKey(sha256(b"key store"))


@pytest.fixture
def cheap() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(seal(KEY, "open sesame", n=DEVNET_SCRYPT_N).dump())
    return loaded


@pytest.mark.parametrize("function", ["scrypt", "pbkdf2"])
def test_the_standards_cases(function: str) -> None:
    store = parse_keystore(json.dumps(VECTORS[function]))
    store.require_cost("the case")
    assert store.open(VECTORS["password"]).hex() == VECTORS["secret"]


def test_the_standards_passphrase() -> None:
    assert encode_passphrase(VECTORS["password"]).hex() == VECTORS["encoded_password"]
    assert encode_passphrase("a\x00b\x1fc\x7fd\x80e\x9ff") == b"abcdef"
    # U+0041 U+030A and U+00C5 are one letter to whoever types it.
    assert encode_passphrase("\u00c5") == encode_passphrase("A\u030a")


def test_sealed_keys_open_again(cheap: dict[str, Any]) -> None:
    store = parse_keystore(json.dumps(cheap))
    assert store.open_key("open sesame").secret == KEY.secret
    assert store.public_key == KEY.public_key
    with pytest.raises(WrongPassphrase, match="does not open"):
        store.open_key("open simsim")


def test_stores_of_one_key_share_nothing() -> None:
    first, second = (json.loads(seal(KEY, "x", n=2).dump()) for _ in range(2))
    assert first["uuid"] != second["uuid"]
    assert first["crypto"]["cipher"] != second["crypto"]["cipher"]


def test_the_secret_is_not_in_the_file(cheap: dict[str, Any]) -> None:
    assert KEY.secret.hex() not in json.dumps(cheap)


def test_cheap_stores_are_only_for_public_keys(cheap: dict[str, Any]) -> None:
    with pytest.raises(TooCheap, match="cost 1,024"):
        parse_keystore(json.dumps(cheap)).require_cost("node.json")
    weak = json.loads(json.dumps(VECTORS["pbkdf2"]))
    weak["crypto"]["kdf"]["params"]["c"] = 1
    with pytest.raises(TooCheap, match="PBKDF2"):
        parse_keystore(json.dumps(weak)).require_cost("node.json")


def kdf(**values: object) -> Callable[[dict[str, Any]], None]:
    return lambda written: written["crypto"]["kdf"]["params"].update(values)


def cipher(**values: object) -> Callable[[dict[str, Any]], None]:
    return lambda written: written["crypto"]["cipher"].update(values)


@pytest.mark.parametrize(
    "change",
    [
        lambda written: written.update(version=3),
        lambda written: written.pop("crypto"),
        lambda written: written.update(extra=1),
        lambda written: written["crypto"]["kdf"].update(function="argon2"),
        kdf(n=1_000),
        kdf(n=2**25),
        kdf(r=0),
        kdf(r=10_000),
        kdf(dklen=16),
        kdf(salt="xyz"),
        kdf(salt=""),
        cipher(function="aes-128-cbc"),
        cipher(message="00"),
        cipher(params={"iv": "00"}),
    ],
)
def test_stores_that_are_none(cheap: dict[str, Any], change: Callable[[Any], object]) -> None:
    change(cheap)
    with pytest.raises(MalformedKeystore, match="no EIP-2335 key store"):
        parse_keystore(json.dumps(cheap))


@pytest.mark.parametrize(
    "text", ["", "[]", "null", b"\xff", "[" * 10_000, " " * (KEYSTORE_LIMIT_BYTES + 1)]
)
def test_text_that_is_none(text: str | bytes) -> None:
    with pytest.raises(MalformedKeystore):
        parse_keystore(text)


def test_a_store_cannot_make_us_run_out_of_memory(cheap: dict[str, Any]) -> None:
    kdf(n=2**24, r=64)(cheap)
    with pytest.raises(MalformedKeystore, match="1 GiB"):
        parse_keystore(json.dumps(cheap)).open("open sesame")


def test_damage_is_found(cheap: dict[str, Any]) -> None:
    cipher(message="00" * 32)(cheap)
    with pytest.raises(WrongPassphrase):
        parse_keystore(json.dumps(cheap)).open("open sesame")


def test_a_foreign_pubkey_is_found(cheap: dict[str, Any]) -> None:
    cheap["pubkey"] = PrivateKey(sha256(b"other")).public_key.hex()
    with pytest.raises(MalformedKeystore, match="pubkey"):
        parse_keystore(json.dumps(cheap)).open_key("open sesame")
    cheap["pubkey"] = "not hex"
    assert parse_keystore(json.dumps(cheap)).public_key == b""


def test_files_that_others_can_read_are_not_opened(tmp_path: Path, cheap: dict[str, Any]) -> None:
    path = tmp_path / "node.json"
    write_secret(path, json.dumps(cheap).encode())
    assert read_keystore(path).open_key("open sesame").secret == KEY.secret
    path.chmod(0o644)
    with pytest.raises(InsecureFile):
        read_keystore(path)


def test_passphrase_sources_in_order(tmp_path: Path) -> None:
    file, folder = tmp_path / "passphrase", tmp_path / "credentials"
    folder.mkdir()
    environment = {"CREDENTIALS_DIRECTORY": str(folder)}
    write_secret(file, b"from file\n")
    write_secret(folder / "tally-passphrase", b" from systemd ")
    assert find_passphrase(file, environment, lambda _: "asked") == "from file"
    assert find_passphrase(None, environment, lambda _: "asked") == " from systemd "
    assert find_passphrase(None, {}, lambda _: "asked") == "asked"
    (folder / "tally-passphrase").unlink()
    with pytest.raises(NoPassphrase) as caught:
        find_passphrase(None, environment, None)
    assert "tally-passphrase does not exist" in str(caught.value)
    assert "no terminal" in str(caught.value)


def test_bad_passphrase_files(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    write_secret(file, b"\xff")
    with pytest.raises(KeystoreError, match="UTF-8"):
        find_passphrase(file, {}, None)
    write_secret(file, b"x" * 5_000, replace=True)
    with pytest.raises(KeystoreError, match="4096 bytes"):
        find_passphrase(file, {}, None)
    file.chmod(0o644)
    with pytest.raises(InsecureFile):
        find_passphrase(file, {}, None)
