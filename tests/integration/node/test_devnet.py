"""A devnet of real processes, driven as its user would drive it: up, ask, send, break, go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genesis.definition import load_network
from genesis.wellknown import account_address
from node.devnet.network import prepare
from node.devnet.state import require_state
from tests.kit.command_line import Ran, tally

pytestmark = pytest.mark.processes

DEADLINE_S = 60.0


def spawned(*words: str) -> Ran:
    """A command in a process of its own: those that start validators and leave them running."""
    ran = subprocess.run(
        [sys.executable, "-m", "node.cli", *words],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The devnet's folder, which commands find by themselves; and an empty home for keys."""
    folder = tmp_path_factory.mktemp("devnet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLY_DEVNET_HOME", str(folder / "net"))
        patch.setenv("TALLY_HOME", str(folder / "home"))
        patch.delenv("TALLY_NODE", raising=False)
        # A setting of the shell that must not reach the validators.
        patch.setenv("TALLY__LOG__LEVEL", "error")
        yield folder / "net"


def serve_and_rate() -> None:
    """Early, so that the epoch is over when a later test asks for the score."""
    settled = tally(
        *("tx", "settle", "--payer", "validator-1", "--payee", "alice"),
        *("--amount", "5T", "--units", "10", "--json"),
    )
    assert settled.code == 0, settled.out
    rated = tally("tx", "rate", "alice", "--score", "8", "--from", "validator-1", "--json")
    assert rated.code == 0, rated.out


@pytest.fixture(scope="module")
def facts(root: Path) -> Iterator[dict[str, Any]]:
    """What `up` printed last, with the network running."""
    try:
        ran = spawned("devnet", "up", "-d", "--json", "--base-port", "21700")
        assert ran.code == 0, ran.out + ran.err
        serve_and_rate()
        yield json.loads(ran.out.splitlines()[-1])
    finally:
        spawned("devnet", "down")


def height() -> int:
    return int(tally("rpc", "system_status").json["height"])


def rows() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = tally("devnet", "status", "--json").json["validators"]
    return listed


def test_up_prints_what_programs_need(root: Path, facts: dict[str, Any]) -> None:
    assert facts["height"] >= 1
    assert [each["number"] for each in facts["validators"]] == [1, 2, 3, 4]
    network = load_network(Path(facts["genesisFile"]))
    assert facts["genesisHash"] == "0x" + network.genesis_hash.hex()
    # Dated when it was made: its epochs count from now.
    assert abs(network.genesis_time_ms / 1000 - time.time()) < DEADLINE_S * 2
    for each in facts["validators"]:
        with urllib.request.urlopen(each["url"] + "/readyz", timeout=5) as answer:
            assert answer.status == 200
        os.kill(each["pid"], 0)
    names = {each["name"]: each["peerId"] for each in facts["accounts"]}
    assert names["alice"] == account_address("alice")
    assert len(names) >= 11


def test_the_shells_settings_stay_out_of_the_validators(facts: dict[str, Any]) -> None:
    assert any("node started" in line for line in tally("devnet", "logs", "1").out.splitlines())


def test_sending_and_every_way_it_can_end(facts: dict[str, Any]) -> None:
    before = int(tally("account", "bob", "--json").json["balance"])
    sent = tally("tx", "send", "bob", "2T", "--from", "carol", "--json")
    assert sent.code == 0
    assert sent.json["status"] == "committed"
    assert int(tally("account", "bob", "--verify", "--json").json["balance"]) == before + 2_000_000
    found = tally("tx", "get", sent.json["hash"], "--json").json
    assert found["payload"]["to"] == account_address("bob")
    assert found["receipt"]["ok"] is True
    assert tally("tx", "wait", sent.json["hash"]).code == 0

    without_effect = tally("tx", "send", "bob", "9000000T", "--from", "carol", "--json")
    assert without_effect.code == 4
    error = without_effect.json["error"]
    assert (error["reason"], error["committed"]) == ("INSUFFICIENT_FUNDS", True)

    rejected = tally("tx", "send", "bob", "1T", "--from", "carol", "--nonce", "0", "--json")
    assert rejected.code == 4
    error = rejected.json["error"]
    assert (error["reason"], error["committed"]) == ("NONCE_TOO_LOW", False)

    pending = tally("tx", "send", "bob", "1T", "--from", "carol", "--timeout", "0", "--json")
    assert pending.code == 5
    assert tally("tx", "wait", pending.json["error"]["hash"]).code == 0

    unknown = tally("tx", "wait", "11" * 32, "--json")
    assert unknown.code == 1
    assert unknown.json["error"]["reason"] == "TRANSACTION_NOT_FOUND"


def test_offline_signing_and_submitting(facts: dict[str, Any]) -> None:
    nonce = str(tally("account", "dave", "--json").json["nonce"])
    words = ["--offline", "--nonce", nonce, "--genesis", facts["genesisFile"]]
    signed = tally("tx", "send", "bob", "1T", "--from", "dave", *words, "--json").json
    done = tally("tx", "submit", signed["raw"], "--json").json
    assert (done["hash"], done["ok"]) == (signed["hash"], True)
    assert tally("tx", "submit", signed["raw"], "--json").json["status"] == "committed"


def test_asking(facts: dict[str, Any]) -> None:
    status = tally("status", "--json").json
    assert status["genesisHash"] == facts["genesisHash"]
    assert status["peers"] == 3
    names = {each["name"] for each in tally("validators", "--json").json["items"]}
    assert names == {"validator-1", "validator-2", "validator-3", "validator-4"}
    peers = tally("peers", "ls", "--json").json["items"]
    others = {each["nodeId"] for each in facts["validators"][1:]}
    assert {each["peerId"] for each in peers} == others
    wrong = tally("rpc", "system_statu", "--json")
    assert wrong.code == 1
    assert wrong.json["error"]["reason"] == "METHOD_NOT_FOUND"


def test_proofs_need_a_start_of_ones_own(facts: dict[str, Any]) -> None:
    given = ["--genesis-hash", facts["genesisHash"]]
    assert tally("account", "alice", "--verify", *given).code == 0
    ran = tally("account", "alice", "--verify", "--genesis-hash", "0x" + "11" * 32, "--json")
    assert ran.code == 1
    assert ran.json["error"]["reason"] == "NOT_PROVEN"


def test_a_killed_validator_does_not_stop_the_others(facts: dict[str, Any]) -> None:
    assert tally("devnet", "kill", "2").code == 0
    assert tally("devnet", "kill", "2").code == 1
    assert [each["running"] for each in rows()] == [True, False, True, True]
    sent = tally("tx", "send", "bob", "1T", "--from", "erin", "--json")
    assert sent.code == 0
    assert spawned("devnet", "restart", "2").code == 0
    get = ["tx", "get", sent.json["hash"], "--node", facts["validators"][1]["url"]]
    until(lambda: tally(*get).code == 0, "the block that it missed")
    until(lambda: len({each.get("stateRoot") for each in rows()}) == 1, "one state everywhere")


def test_service_shows_in_the_score_with_a_proof(facts: dict[str, Any]) -> None:
    def is_rated() -> bool:
        said = tally("reputation", "get", "alice", "--verify", "--json")
        assert said.code == 0, said.out
        assert said.json["proven"] is True
        return bool(said.json["raters"] == 1 and int(said.json["trust"]) > 0)

    until(is_rated, "the score of a closed epoch")
    top = tally("reputation", "top", "--verify", "--json").json
    assert account_address("alice") in {each["subject"] for each in top["items"]}


def test_up_again_leaves_what_runs(root: Path, facts: dict[str, Any]) -> None:
    pids = [each.pid for each in require_state(root).validators]
    ran = spawned("devnet", "up", "-d", "--json")
    assert ran.code == 0, ran.out
    assert [each["pid"] for each in json.loads(ran.out)["validators"]] == pids
    other = tally("devnet", "up", "-d", "--validators", "5", "--json")
    assert other.code == 1
    assert "has 4 validators" in other.out


def test_down_and_up_go_on_where_it_was(root: Path, facts: dict[str, Any]) -> None:
    reached = height()
    balance = tally("account", "bob", "--json").json["balance"]
    assert tally("devnet", "down", "--json").json == {"stopped": [1, 2, 3, 4], "killed": []}
    assert tally("status", "--node", facts["validators"][0]["url"]).code == 3
    assert tally("devnet", "down", "--json").json["stopped"] == []
    ran = spawned("devnet", "up", "-d", "--json")
    assert ran.code == 0, ran.out + ran.err
    again = json.loads(ran.out)
    assert again["genesisHash"] == facts["genesisHash"]
    assert again["height"] > reached
    assert tally("account", "bob", "--json").json["balance"] == balance


def test_in_the_foreground_a_stop_signal_ends_it_all(tmp_path: Path, facts: dict[str, Any]) -> None:
    # The ports of the other network are taken, so this one must find its own.
    command = ["devnet", "up", "--validators", "1", "--home", str(tmp_path / "one"), "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "node.cli", *command, "--base-port", "21700"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        (validator,) = said["validators"]
        assert validator["url"] != facts["validators"][0]["url"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    assert require_state(tmp_path / "one").validators[0].pid is None
    assert tally("devnet", "reset", "--home", str(tmp_path / "one"), "--json").code == 2
    assert tally("devnet", "reset", "--home", str(tmp_path / "one"), "--yes").code == 0
    assert list((tmp_path / "one").iterdir()) == []


def test_a_validator_that_cannot_start_says_why(tmp_path: Path) -> None:
    root = tmp_path / "bad"
    made = prepare(root, validators=1, base_port=21_800, now_ms=time.time_ns() // 1_000_000)
    made.state.validators[0].place.key_file("node").chmod(0o644)
    ran = spawned("devnet", "up", "-d", "--home", str(root), "--json")
    assert ran.code == 1
    assert "open to others" in ran.out
    assert made.state.validators[0].pid is None
