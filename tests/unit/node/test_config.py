"""Settings: who wins, where a value came from, and what a misspelt name is answered with."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from ledger.crypto import PrivateKey, sha256
from ledger.identity import peer_id
from node.config import (
    Config,
    ConfigError,
    PeerAddress,
    describe_setting,
    get_setting,
    load_config,
    parse_peer_address,
    parse_text,
    setting_names,
    variable_of,
)
from node.config_file import CannotEdit, change, render, to_toml

PEER = peer_id(PrivateKey(sha256(b"peer")).public_key)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def messages(file: Path | None, environment: dict[str, str], line: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(file, environment, line)
    return [str(each) for each in caught.value.problems]


def test_nothing_set_gives_the_defaults(file: Path) -> None:
    loaded = load_config(file, {})
    assert loaded.config == Config()
    assert set(loaded.origins.values()) == {"default"}
    assert tuple(loaded.origins) == setting_names()
    assert loaded.config.rpc.host == "127.0.0.1"


def test_each_layer_wins_over_the_one_below(file: Path) -> None:
    file.write_text("[rpc]\nport = 1\n[p2p]\nport = 2\n[mempool]\nmax_txs = 300\n")
    environment = {"TALLY__RPC__PORT": "11", "TALLY__P2P__PORT": "12", "TALLY_HOME": "/x", "A": "b"}
    loaded = load_config(file, environment, {"rpc.port": "21"})
    assert loaded.config.rpc.port == 21
    assert loaded.config.p2p.port == 12
    assert loaded.config.mempool.max_txs == 300
    assert loaded.origins["rpc.port"] == "command line"
    assert loaded.origins["p2p.port"] == "TALLY__P2P__PORT"
    assert loaded.origins["mempool.max_txs"] == str(file)
    assert loaded.origins["log.level"] == "default"


def test_lists_and_booleans_in_every_layer(file: Path) -> None:
    address = f"{PEER}@127.0.0.1:9701"
    file.write_text(f'[p2p]\npersistent_peers = ["{address}"]\n[consensus]\nvote = false\n')
    from_file = load_config(file, {}).config
    assert from_file.p2p.persistent_peers == (address,)
    assert from_file.consensus.vote is False
    environment = {
        "TALLY__P2P__PERSISTENT_PEERS": f"{address}, {address}",
        "TALLY__METRICS__ENABLED": "false",
    }
    from_environment = load_config(None, environment).config
    assert from_environment.p2p.persistent_peers == (address, address)
    assert not from_environment.metrics.enabled
    from_line = load_config(file, {}, {"p2p.persistent_peers": f'["{address}"]'}).config
    assert from_line.p2p.persistent_peers == (address,)
    assert load_config(file, {}, {"p2p.persistent_peers": ""}).config.p2p.persistent_peers == ()


@pytest.mark.parametrize(
    ("text", "environment", "line", "expected"),
    [
        ("[rpc]\nprot = 1", {}, {}, 'did you mean "port"?'),
        ("[rcp]\nport = 1", {}, {}, 'did you mean "rpc"?'),
        ("port = 1", {}, {}, "no such section"),
        ("rpc = 1", {}, {}, "must be a section"),
        ("[rpc", {}, {}, "not TOML"),
        ('[rpc]\nport = "8700"', {}, {}, "must be a valid integer, not '8700'"),
        ("[rpc]\nport = 70000", {}, {}, "rpc.port"),
        ("[rpc]\nport = true", {}, {}, "must be a valid integer"),
        ('[log]\nlevel = "loud"', {}, {}, "'debug', 'info', 'warning' or 'error'"),
        ('[node]\nname = "a\\nb"', {}, {}, "node.name"),
        ("", {"TALLY__RPC__PRT": "1"}, {}, 'did you mean "TALLY__RPC__PORT"?'),
        ("", {"TALLY__RPC": "1"}, {}, "names no setting"),
        ("", {"TALLY__RPC__PORT": "many"}, {}, "TALLY__RPC__PORT"),
        ("", {"TALLY__CONSENSUS__VOTE": "yes"}, {}, "must be true or false, not 'yes'"),
        ("", {}, {"rpc.porto": "1"}, 'did you mean "rpc.port"?'),
        ("", {}, {"rpc.port": "1.5"}, "must be an integer, not '1.5'"),
        ("", {}, {"rpc.port": "-1"}, "command line"),
        ("", {}, {"p2p.persistent_peers": "nobody@localhost:1"}, "is not a PeerID"),
        ("", {}, {"rpc.allowed_origins": "example.org"}, "rpc.allowed_origins"),
    ],
)
def test_refusals_say_what_was_meant(
    file: Path, text: str, environment: dict[str, str], line: dict[str, str], expected: str
) -> None:
    file.write_text(text)
    found = messages(file, environment, line)
    assert len(found) == 1
    assert expected in found[0]


def test_every_problem_is_reported_at_once(file: Path) -> None:
    file.write_text("[rpc]\nprot = 1\n[lgo]\nlevel = 2\n")
    assert len(messages(file, {"TALLY__X": "1"}, {"y": "2"})) == 4


def test_a_problem_names_its_origin(file: Path) -> None:
    file.write_text("[rpc]\nport = 70000\n[p2p]\nport = 1\n")
    found = messages(file, {"TALLY__P2P__PORT": "70000"}, {})
    assert any(str(file) in each and "rpc.port" in each for each in found)
    assert any("TALLY__P2P__PORT" in each for each in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{PEER}@127.0.0.1:9700", PeerAddress(PEER, "127.0.0.1", 9700)),
        (f"{PEER}@node.example.org:1", PeerAddress(PEER, "node.example.org", 1)),
        (f"{PEER}@[::1]:65535", PeerAddress(PEER, "::1", 65535)),
    ],
)
def test_peer_addresses(text: str, expected: PeerAddress) -> None:
    assert parse_peer_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        PEER,
        f"{PEER}@host",
        f"{PEER}@:1",
        f"{PEER}@host:",
        f"{PEER}@host:0",
        f"{PEER}@host:65536",
        f"{PEER}@host:²",
        f"{PEER}@::1:9700",
        f"{PEER}@[::1:9700",
        "bob@host:1",
    ],
)
def test_bad_peer_addresses(text: str) -> None:
    with pytest.raises(ValueError):
        parse_peer_address(text)


def test_the_written_file_is_complete_and_changes_nothing(file: Path) -> None:
    file.write_text(render({}))
    loaded = load_config(file, {})
    assert loaded.config == Config()
    text = file.read_text()
    for name in setting_names():
        assert f"\n# {name.partition('.')[2]} = " in text
        assert describe_setting(name)


def test_written_values_are_read_back(file: Path) -> None:
    values = {"rpc.port": 1, "p2p.persistent_peers": (f"{PEER}@h:1",), "consensus.vote": False}
    file.write_text(render(values))
    config = load_config(file, {}).config
    assert {name: get_setting(config, name) for name in values} == values


def test_changing_a_setting_keeps_the_rest(file: Path) -> None:
    text = "# mine\n[rpc] # here\nport = 1 # old\nhost = '::1'\n\n[log]\nlevel = \"info\"\n"
    changed = change(text, "rpc.port", 2)
    assert tomllib.loads(changed) == {"rpc": {"port": 2, "host": "::1"}, "log": {"level": "info"}}
    assert changed.startswith("# mine\n[rpc] # here\n")
    added = change(changed, "log.format", "json")
    assert tomllib.loads(added)["log"] == {"level": "info", "format": "json"}
    fresh = change("", "node.name", "north")
    assert tomllib.loads(fresh) == {"node": {"name": "north"}}


def test_changing_a_commented_default_uncomments_it() -> None:
    changed = change(render({}), "mempool.max_txs", 7_000)
    assert "\nmax_txs = 7000\n" in changed
    assert "# max_txs" not in changed


@pytest.mark.parametrize(
    "text",
    [
        "rpc.port = 1\n",
        "rpc = {port = 1}\n",
        "[p2p]\npersistent_peers = [\n]\n",
        '[node]\nname = """\nport = 1\n"""\n',
    ],
)
def test_a_file_that_is_not_ours_to_edit_is_left_alone(text: str) -> None:
    name = "p2p.persistent_peers" if "p2p" in text else "rpc.port"
    value: object = () if "p2p" in text else 2
    try:
        changed = change(text, name, value)
    except CannotEdit:
        return
    wanted = tomllib.loads(text)
    section, _, key = name.partition(".")
    wanted.setdefault(section, {})[key] = list(value) if isinstance(value, tuple) else value
    assert tomllib.loads(changed) == wanted


@pytest.mark.parametrize(
    "value", ["plain", 'q"\\', "tab\t", "\x7f", "\U0001d531", ("a", "b"), 5, True]
)
def test_values_survive_toml(value: object) -> None:
    read = tomllib.loads(f"x = {to_toml(value)}")["x"]
    assert read == (list(value) if isinstance(value, tuple) else value)


def test_names_and_variables() -> None:
    assert variable_of("rpc.allowed_hosts") == "TALLY__RPC__ALLOWED_HOSTS"
    assert parse_text("rpc.port", "5") == 5
    with pytest.raises(ValueError):
        parse_text("rpc.allowed_hosts", "[")
