"""Names to keys and addresses: the home's key stores, key store files, and the devnet's known keys.

Where a name is asked for, these are tried in order:

    a PeerID (addresses only)  ·  FILE.json or a path  ·  a key of the home  ·  alice, bob, …

The last are published keys (genesis.wellknown). They are used only when the network says that it is
a devnet, so that nobody pays to an address that everybody can empty.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from genesis.problems import suggestion
from genesis.wellknown import account_key, account_names
from ledger.crypto import PrivateKey
from ledger.identity import peer_id, public_key_of
from node.cli.output import CliError, usage
from node.config import load_config
from node.home import Home, resolve_home, write_secret
from node.keys import passphrase_path
from node.keystore import (
    MINIMUM_PASSPHRASE_CHARACTERS,
    SCRYPT_N,
    Keystore,
    find_passphrase,
    read_keystore,
    seal,
    terminal_prompt,
)

_PEER_ID_PREFIX = "16Uiu2HA"


class Keyring:
    """Keys by name, each opened once. `is_devnet` is asked only when a well-known name is used."""

    def __init__(
        self, home: str | None, passphrase_file: str | None, is_devnet: Callable[[], bool]
    ) -> None:
        self.home = resolve_home(home)
        self._passphrase_file = None if passphrase_file is None else Path(passphrase_file)
        self._is_devnet = is_devnet
        self._opened: dict[str, PrivateKey] = {}

    def key(self, name: str) -> PrivateKey:
        """The private key of a name. Raises CliError, KeystoreError."""
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def address(self, name: str) -> bytes:
        """The address of a name or PeerID; no secret is opened. Raises CliError, InvalidPeerId."""
        if name.startswith(_PEER_ID_PREFIX):
            return public_key_of(name)
        path = self._store_path(name)
        if path is not None:
            public_key = read_keystore(path).public_key
            return public_key or self.key(name).public_key
        return self._well_known(name).public_key

    def name_of(self, name: str) -> str | None:
        """The name under which the key of a name or PeerID is at hand, None where it is not."""
        if not name.startswith(_PEER_ID_PREFIX):
            known = account_key(name) is not None
            return name if known or self._store_path(name) is not None else None
        address = public_key_of(name)
        for path in sorted(self.home.keys.glob("*.json")) if self.home.keys.is_dir() else ():
            if read_keystore(path).public_key == address:
                return path.stem
        for known_name in account_names():
            key = account_key(known_name)
            if key is not None and key.public_key == address:
                return known_name
        return None

    def _open(self, name: str) -> PrivateKey:
        if name.startswith(_PEER_ID_PREFIX):
            found = self.name_of(name)
            if found is None:
                raise CliError(
                    f"the private key of {name} is neither in {self.home.keys} nor a devnet key",
                    reason="NO_KEY",
                    hint="`tally keys list` shows the keys at hand",
                )
            name = found
        path = self._store_path(name)
        if path is None:
            return self._well_known(name)
        return open_store(path, self.home, self._passphrase_file)

    def _store_path(self, name: str) -> Path | None:
        if name.endswith(".json") or "/" in name:
            path = Path(name).expanduser()
            if not path.exists():
                raise usage(f"{path} does not exist")
            return path
        path = self.home.key_file(name)
        return path if path.exists() else None

    def _well_known(self, name: str) -> PrivateKey:
        key = account_key(name)
        if key is None:
            names = sorted(path.stem for path in self.home.keys.glob("*.json"))
            raise usage(
                f"{name!r} is no key in {self.home.keys}, no PeerID and no devnet account",
                suggestion(name, [*names, *account_names()]) or "`tally keys list` shows them",
            )
        if not self._is_devnet():
            raise CliError(
                f"{name} is a devnet account whose private key is published, and this network is "
                "not a devnet",
                reason="PUBLIC_KEY",
            )
        return key


def open_store(path: Path, home: Home, passphrase_file: Path | None) -> PrivateKey:
    """The key in a store, asking for its passphrase where no file has it."""
    store = read_keystore(path)
    file = passphrase_file
    if file is None and home.exists():
        config = load_config(home.config_file, os.environ).config
        file = passphrase_path(home, config)
    passphrase = find_passphrase(
        file, os.environ, terminal_prompt(), question=f"Passphrase of {path}"
    )
    return store.open_key(passphrase, str(path))


def new_passphrase(file: Path | None, *, generate: bool = False) -> str:
    """A passphrase for new stores: from a file, random, or typed twice. Raises CliError."""
    if generate:
        if file is not None:
            raise usage("--generate-passphrase and --passphrase-file exclude each other")
        return secrets.token_urlsafe(24)
    passphrase = find_passphrase(
        file, os.environ, terminal_prompt(), question="New passphrase for the keys"
    )
    if len(passphrase) < MINIMUM_PASSPHRASE_CHARACTERS:
        raise usage(f"a passphrase has at least {MINIMUM_PASSPHRASE_CHARACTERS} characters")
    prompt = terminal_prompt()
    asked = file is None and "CREDENTIALS_DIRECTORY" not in os.environ and prompt is not None
    if asked and prompt is not None and prompt("The same again") != passphrase:
        raise usage("the two passphrases differ; nothing was made")
    return passphrase


def store_key(
    home: Home,
    name: str,
    passphrase: str,
    *,
    key: PrivateKey | None = None,
) -> PrivateKey:
    """Keep a key (a new one by default) in the home under a free name. Raises FileExistsError."""
    made = PrivateKey(_random_secret()) if key is None else key
    description = f"{name} {peer_id(made.public_key)}"
    store: Keystore = seal(made, passphrase, n=SCRYPT_N, description=description)
    write_secret(home.key_file(name), store.dump())
    return made


def _random_secret() -> bytes:
    # All but 2^-128 of 32-byte strings are keys; PrivateKey refuses the others.
    return secrets.token_bytes(32)
