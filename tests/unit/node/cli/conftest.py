"""Homes for commands: quick to make, and never the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.home import write_secret
from node.keystore import DEVNET_SCRYPT_N
from tests.kit.command_line import tally

PASSPHRASE = "correct horse"


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Making a key at its real cost takes a second.
    monkeypatch.setattr("node.cli.keyring.SCRYPT_N", DEVNET_SCRYPT_N)
    monkeypatch.setenv("TALLY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TALLY_DEVNET_HOME", str(tmp_path / "devnet"))
    monkeypatch.delenv("TALLY_NODE", raising=False)


@pytest.fixture
def passphrase_file(tmp_path: Path) -> str:
    path = tmp_path / "passphrase"
    write_secret(path, PASSPHRASE.encode() + b"\n")
    return str(path)


@pytest.fixture
def home(tmp_path: Path, passphrase_file: str) -> Path:
    """A home with keys that open with `passphrase_file`."""
    path = tmp_path / "home"
    ran = tally("init", "--home", str(path), "--passphrase-file", passphrase_file, "--json")
    assert ran.code == 0
    return path
