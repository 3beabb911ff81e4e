"""init, config, start, version: a node's own life on the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from genesis.devnet import devnet_document
from genesis.document import dump
from ledger.identity import public_key_of
from node.home import Home, HomeLock
from tests.kit.command_line import tally


def test_init_makes_a_home_that_can_be_used(tmp_path: Path, passphrase_file: str) -> None:
    path = tmp_path / "made"
    ran = tally(
        "init",
        "--home",
        str(path),
        "--name",
        "north",
        "--passphrase-file",
        passphrase_file,
        "--json",
    )
    assert ran.code == 0
    keys = {public_key_of(ran.json["operator"]), public_key_of(ran.json["nodeId"])}
    keys.add(bytes.fromhex(ran.json["consensusKey"][2:]))
    assert len(keys) == 3
    Home(path).require()
    assert tally("config", "check", "--home", str(path)).code == 0
    assert tally("config", "show", "--home", str(path), "--json").json["node.name"] == "north"


def test_init_tells_what_to_do_next(tmp_path: Path, passphrase_file: str) -> None:
    ran = tally("init", "--home", str(tmp_path / "a"), "--passphrase-file", passphrase_file)
    assert f"tally start --home {tmp_path / 'a'}" in ran.out
    assert "tally genesis add-validator" in ran.out


def test_init_never_writes_over_keys(home: Path, passphrase_file: str) -> None:
    before = (home / "config/keys/node.json").read_bytes()
    ran = tally("init", "--home", str(home), "--passphrase-file", passphrase_file)
    assert ran.code == 1
    assert "already has keys" in ran.err
    assert (home / "config/keys/node.json").read_bytes() == before


def test_init_with_a_generated_passphrase_needs_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "made"
    assert tally("init", "--home", str(path), "--generate-passphrase", "--json").code == 0
    assert (path / "config/passphrase").stat().st_mode & 0o777 == 0o600
    ran = tally("keys", "export", "node", "--home", str(path), "--reveal", "--yes", "--json")
    assert len(ran.json["secret"]) == 66


def test_init_without_any_passphrase_says_where_it_looked(tmp_path: Path) -> None:
    ran = tally("init", "--home", str(tmp_path / "a"), "--json")
    assert ran.code == 1
    assert ran.json["error"]["reason"] == "NO_PASSPHRASE"
    assert "no terminal" in ran.json["error"]["message"]


def test_init_copies_only_a_good_definition(tmp_path: Path, passphrase_file: str) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"format": 1}')
    place = ["--home", str(tmp_path / "a"), "--passphrase-file", passphrase_file]
    assert tally("init", *place, "--genesis", str(bad)).code == 1
    assert not (tmp_path / "a").exists()
    good = tmp_path / "good.json"
    good.write_text(dump(devnet_document()))
    ran = tally("init", *place, "--genesis", str(good), "--json")
    assert ran.json["genesisHash"].startswith("0x")
    assert Home(tmp_path / "a").genesis_file.read_text() == good.read_text()


def test_config_set_and_its_origins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tally("config", "set", "rpc.port", "8801").code == 0
    monkeypatch.setenv("TALLY__P2P__PORT", "9801")
    said = tally("config", "show", "--origin", "--json").json
    file = str(home / "config/config.toml")
    assert said["rpc.port"] == {"value": 8801, "origin": file}
    assert said["p2p.port"] == {"value": 9801, "origin": "TALLY__P2P__PORT"}
    assert said["log.level"]["origin"] == "default"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("rpc.prot", "1", 'did you mean "rpc.port"?'),
        ("rpc.port", "many", "must be an integer"),
        ("rpc.port", "70000", "65535"),
        ("p2p.persistent_peers", "nobody@host:1", "is not a PeerID"),
    ],
)
def test_config_set_changes_nothing_when_refused(
    home: Path, name: str, value: str, expected: str
) -> None:
    before = (home / "config/config.toml").read_text()
    ran = tally("config", "set", name, value)
    assert ran.code == 1
    assert expected in ran.err
    assert (home / "config/config.toml").read_text() == before


def test_config_check_finds_open_keys(home: Path) -> None:
    (home / "config/keys/node.json").chmod(0o644)
    ran = tally("config", "check", "--json")
    assert ran.code == 1
    assert "chmod 600" in ran.json["error"]["message"]


def test_no_home(tmp_path: Path) -> None:
    ran = tally("config", "show", "--home", str(tmp_path / "nowhere"), "--json")
    assert ran.code == 1
    assert ran.json["error"]["reason"] == "NO_HOME"
    assert "tally init --home" in ran.json["error"]["message"]


def test_start_without_a_definition(home: Path) -> None:
    ran = tally("start", "--home", str(home))
    assert ran.code == 1
    assert "genesis.json does not exist" in ran.err
    assert "hint" in ran.err


def test_start_on_a_home_in_use_names_the_process(home: Path) -> None:
    place = Home(home)
    place.genesis_file.write_text(dump(devnet_document()))
    with HomeLock(place):
        ran = tally("start", "--home", str(home))
    assert ran.code == 1
    assert "in use by process" in ran.err


def test_start_refuses_nonsense_before_it_does_anything(home: Path) -> None:
    assert tally("start", "--home", str(home), "--set", "rpc.port").code == 2
    assert 'did you mean "rpc.port"' in tally("start", "--set", "rpc.prt=1").err
    assert tally("start", "--rpc-port", "70000").code == 2


def test_version() -> None:
    said = tally("version", "--json").json
    assert said["genesisFormat"] == 1
    assert said["version"] in tally("--version").out


def test_optimised_python_is_refused() -> None:
    ran = subprocess.run(
        [sys.executable, "-O", "-m", "node.cli", "version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "python -O" in ran.stderr


def test_help_and_usage_errors_load_nothing_heavy() -> None:
    heavy = {"pydantic", "aiohttp", "numpy", "cryptography", "structlog", "msgspec", "coincurve"}
    code = f"import sys, node.cli.app; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_wrong_usage_is_code_2() -> None:
    assert tally("no-such-command").code == 2
    assert tally("tx", "send").code == 2
    assert tally("keys", "show").code == 2


def test_every_command_explains_itself() -> None:
    import typer

    from node.cli.app import app

    def walk(command: object, words: list[str]) -> list[list[str]]:
        inner = getattr(command, "commands", {})
        found = [words] if not inner else []
        for name, each in inner.items():
            found += walk(each, [*words, name])
        return found

    commands = walk(typer.main.get_command(app), [])
    assert len(commands) > 40
    for words in commands:
        ran = tally(*words, "--help")
        assert ran.code == 0
        assert "Usage:" in ran.out
        if words[0] != "start":
            assert "--json" in ran.out, words
