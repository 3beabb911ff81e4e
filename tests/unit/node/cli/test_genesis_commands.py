"""tally genesis: a ceremony of four operators on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genesis.definition import load_network
from genesis.wellknown import account_address
from ledger.crypto import PrivateKey, sha256
from ledger.identity import peer_id
from ledger.params import DEFAULT_PARAMS
from tests.kit.command_line import tally

HOLDER = peer_id(PrivateKey(sha256(b"holder")).public_key)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = str(tmp_path / "genesis.json")
    words = ["--chain-id", "market-1", "--account", f"{HOLDER}=100T", "--time", "2026-01-01"]
    assert tally("genesis", "new", path, *words).code == 0
    return path


def test_a_ceremony(tmp_path: Path, file: str, passphrase_file: str) -> None:
    secret = ["--passphrase-file", passphrase_file]
    assert tally("genesis", "validate", file).code == 1
    for name in ("north", "south"):
        home = ["--home", str(tmp_path / name)]
        assert tally("init", *home, *secret, "--json").code == 0
        words = ["genesis", "add-validator", file, "--name", name, *home, *secret, "--print"]
        printed = tally(*words)
        entry = tmp_path / f"{name}.json"
        entry.write_text(printed.out)
        words = ["genesis", "add-validator", file, "--entry", str(entry), "--balance", "1T"]
        assert tally(*words).code == 0
    network = load_network(Path(file))
    assert [name for _, name in sorted(network.validator_names, key=lambda each: each[1])] == [
        "north",
        "south",
    ]
    assert network.supply == 102_000_000
    assert network.params == DEFAULT_PARAMS
    assert network.genesis_time_ms == 1_767_225_600_000
    hashed = tally("genesis", "hash", file)
    assert hashed.out == f"0x{network.genesis_hash.hex()}\n"
    said = tally("genesis", "validate", file, "--json").json
    assert said["valid"] is True
    assert sorted(said["validators"]) == ["north", "south"]


def test_an_entry_goes_into_one_network_only(
    tmp_path: Path, home: Path, file: str, passphrase_file: str
) -> None:
    other = str(tmp_path / "other.json")
    assert tally("genesis", "new", other, "--chain-id", "market-2").code == 0
    entry = tmp_path / "entry.json"
    words = ["--name", "north", "--passphrase-file", passphrase_file, "--print"]
    entry.write_text(tally("genesis", "add-validator", other, *words).out)
    ran = tally("genesis", "add-validator", file, "--entry", str(entry), "--json")
    assert ran.code == 1
    assert {each["rule"] for each in ran.json["error"]["problems"]} == {"possession"}


def test_new_never_writes_over_a_file(file: str) -> None:
    before = Path(file).read_text()
    assert tally("genesis", "new", file, "--chain-id", "x").code == 1
    assert Path(file).read_text() == before


@pytest.mark.parametrize(
    "words",
    [
        ["--account", "nobody"],
        ["--account", f"{HOLDER}=5"],
        ["--parameter", "fee_bse=1"],
        ["--parameter", "fee_base=x"],
        ["--time", "soon"],
    ],
)
def test_wrong_words_are_usage_errors(tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "genesis.json"
    assert tally("genesis", "new", str(file), "--chain-id", "x", *words).code == 2
    assert not file.exists()


@pytest.mark.parametrize(
    "words",
    [["--account", "nobody=5T"], ["--parameter", "fee_base=9999999"]],
)
def test_impossible_definitions_are_refused(tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "genesis.json"
    assert tally("genesis", "new", str(file), "--chain-id", "x", *words).code == 1
    assert not file.exists()


def test_a_parameter_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "genesis.json"
    words = ["--chain-id", "x", "--parameter", "fee_base=7", "--devnet"]
    assert tally("genesis", "new", str(file), *words).code == 0
    written = json.loads(file.read_text())
    assert written["parameters"]["fee_base"] == 7
    assert written["devnet"] is True


def test_problems_are_all_listed_with_their_place(tmp_path: Path, file: str) -> None:
    written = json.loads(Path(file).read_text())
    written["accounts"][account_address("alice")] = "5"
    written["parametres"] = {}
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(written))
    ran = tally("genesis", "validate", str(broken))
    assert ran.code == 1
    assert 'parametres: unknown name — did you mean "parameters"?' in ran.err
    del written["parametres"]
    broken.write_text(json.dumps(written))
    problems = tally("genesis", "validate", str(broken), "--json").json["error"]["problems"]
    assert {each["rule"] for each in problems} == {"no-validators", "seeds", "public-key"}
