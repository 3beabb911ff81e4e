"""tally keys: private keys in a home."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from node.cli.common import (
    HomeOption,
    JsonOption,
    PassphraseOption,
    YesOption,
    existing_home,
    group,
    guarded,
)
from node.cli.output import CliError, bold, confirm, note, pairs, show, table, usage

app = group("keys", "Make, list, import, export and use private keys.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The key's name in the home.")]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")

MESSAGE_TAG = b"tally/message/1".ljust(16, b"\0")
"""What `keys sign` signs is SHA-256(tag ‖ 32 zero bytes ‖ message): never a transaction or vote."""


@app.command()
@guarded
def new(
    name: NameArgument,
    *,
    home: HomeOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key."""
    from ledger.identity import peer_id
    from node.cli.keyring import new_passphrase, store_key
    from node.home import resolve_home

    place = resolve_home(home)
    _check_free(name, place.key_file(name))
    passphrase = new_passphrase(_path(passphrase_file))
    place.create()
    key = store_key(place, name, passphrase)
    facts = {
        "name": name,
        "peerId": peer_id(key.public_key),
        "publicKey": "0x" + key.public_key.hex(),
        "file": str(place.key_file(name)),
    }
    show(facts, _facts_text(facts), as_json=as_json)


@app.command("list")
@guarded
def list_(
    *,
    home: HomeOption = None,
    devnet: Annotated[
        bool,
        typer.Option("--devnet", help="List the devnet's published keys.", show_default=False),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the keys of the home."""
    from genesis.wellknown import account_address, account_names
    from ledger.identity import peer_id
    from node.keystore import read_keystore

    if devnet:
        found = [{"name": each, "peerId": account_address(each)} for each in account_names()]
        place = "published devnet keys, worth nothing"
    else:
        here = existing_home(home)
        place = str(here.keys)
        found = []
        for path in sorted(here.keys.glob("*.json")):
            public_key = read_keystore(path).public_key
            found.append({"name": path.stem, "peerId": peer_id(public_key) if public_key else "?"})
    lines = table(("NAME", "PEERID"), [(each["name"], each["peerId"]) for each in found])
    empty = f"no keys in {place}; `tally keys new NAME` makes one"
    show({"place": place, "keys": found}, lines if found else empty, as_json=as_json)


@app.command("show")
@guarded
def show_(name: NameArgument, *, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show a key's public side; no passphrase is needed."""
    from ledger.identity import peer_id
    from node.cli.keyring import Keyring

    ring = Keyring(home, None, is_devnet=lambda: True)
    address = ring.address(name)
    facts = {"name": name, "peerId": peer_id(address), "publicKey": "0x" + address.hex()}
    show(facts, _facts_text(facts), as_json=as_json)


@app.command("import")
@guarded
def import_(
    name: NameArgument,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="An EIP-2335 key store, or 64 hex digits; - is stdin."),
    ],
    *,
    home: HomeOption = None,
    passphrase_file: PassphraseOption = None,
    source_passphrase_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Passphrase of FILE, else asked for.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take a key from a file into the home, newly encrypted."""
    import os
    import sys

    from ledger.crypto import PrivateKey
    from ledger.identity import peer_id
    from node.cli.keyring import new_passphrase, store_key
    from node.home import resolve_home
    from node.keystore import find_passphrase, parse_keystore, terminal_prompt

    place = resolve_home(home)
    _check_free(name, place.key_file(name))
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    digits = text.strip().removeprefix("0x")
    if re.fullmatch("[0-9a-fA-F]{64}", digits):
        key = PrivateKey(bytes.fromhex(digits))
    else:
        store = parse_keystore(text, str(file))
        question = f"Passphrase of {file}"
        opened = find_passphrase(
            _path(source_passphrase_file), os.environ, terminal_prompt(), question=question
        )
        key = store.open_key(opened, str(file))
    passphrase = new_passphrase(_path(passphrase_file))
    place.create()
    store_key(place, name, passphrase, key=key)
    facts = {
        "name": name,
        "peerId": peer_id(key.public_key),
        "publicKey": "0x" + key.public_key.hex(),
        "file": str(place.key_file(name)),
    }
    show(facts, _facts_text(facts), as_json=as_json)


@app.command("export")
@guarded
def export(
    name: NameArgument,
    *,
    home: HomeOption = None,
    reveal: Annotated[
        bool,
        typer.Option(
            "--reveal", help="Print the bare secret instead of the key store.", show_default=False
        ),
    ] = False,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print a key's encrypted store, or with --reveal its secret."""
    import json

    from node.cli.keyring import open_store
    from node.keystore import read_keystore

    place = existing_home(home)
    path = place.key_file(name)
    if not path.exists():
        raise CliError(f"{path} does not exist", reason="NO_KEY", hint="`tally keys list`")
    if not reveal:
        store = read_keystore(path)
        show(json.loads(store.dump()), store.dump().decode().rstrip(), as_json=as_json)
        return
    confirm(f"Whoever sees the secret owns {name}. Print it?", yes=yes)
    secret = open_store(path, place, _path(passphrase_file)).secret.hex()
    show({"name": name, "secret": "0x" + secret}, secret, as_json=as_json)


@app.command()
@guarded
def sign(
    name: NameArgument,
    message: Annotated[str, typer.Argument(metavar="TEXT", help="The message; - reads stdin.")],
    *,
    home: HomeOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a message, to show that you hold a key. It can never pass for a transaction."""
    from ledger.identity import peer_id
    from node.cli.keyring import Keyring

    key = Keyring(home, passphrase_file, is_devnet=lambda: True).key(name)
    content = _message(message)
    signature = "0x" + key.sign(message_digest(content)).hex()
    facts = {"peerId": peer_id(key.public_key), "message": content, "signature": signature}
    show(facts, signature, as_json=as_json)
    if not as_json:
        note(f"check it with: tally keys verify {facts['peerId']} TEXT {signature[:10]}…")


@app.command()
@guarded
def verify(
    peer: Annotated[str, typer.Argument(metavar="PEERID", help="Who is said to have signed.")],
    message: Annotated[str, typer.Argument(metavar="TEXT", help="The message; - reads stdin.")],
    signature: Annotated[str, typer.Argument(metavar="SIGNATURE", help="0x and 128 digits.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Check a signature that `keys sign` made."""
    from ledger.crypto import verify as verify_signature
    from ledger.identity import public_key_of

    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
    except ValueError:
        raise usage("the signature is not hexadecimal") from None
    if not verify_signature(public_key_of(peer), message_digest(_message(message)), raw):
        raise CliError(f"{peer} did not sign this message", reason="INVALID_SIGNATURE")
    show({"valid": True, "peerId": peer}, f"{bold('valid')}: signed by {peer}", as_json=as_json)


def message_digest(message: str) -> bytes:
    """The 32 bytes that `keys sign` signs."""
    from ledger.domains import signing_digest

    return signing_digest(MESSAGE_TAG, bytes(32), message.encode())


def _message(text: str) -> str:
    import sys

    return sys.stdin.read() if text == "-" else text


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _check_free(name: str, path: Path) -> None:
    if not _NAME.fullmatch(name):
        raise usage(f"{name!r}: names have 1 to 32 of a-z, 0-9, - and _")
    if path.exists():
        raise CliError(f"{path} exists; nothing was changed", reason="EXISTS")


def _facts_text(facts: dict[str, str]) -> list[str]:
    words = {"peerId": "PeerID", "publicKey": "public key"}
    return pairs((words.get(name, name), value) for name, value in facts.items())
