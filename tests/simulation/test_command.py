"""tally simulate, as a user types it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from node.cli.app import app
from tests.simulation.mutants import MUTANTS

runner = CliRunner()


def test_json_carries_the_facts_of_the_campaign() -> None:
    done = runner.invoke(app, ["simulate", "--seeds", "2", "--from-seed", "3", "--json"])
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert (report["seeds"], report["from_seed"], report["violations"]) == (2, 3, [])
    assert report["events"] > 100
    assert report["seconds"] > 0
    assert len(report["trace_hash"]) == 64


def test_the_same_seeds_give_the_same_hash_and_others_do_not() -> None:
    def trace_hash(from_seed: str) -> str:
        done = runner.invoke(app, ["simulate", "--seeds", "1", "--from-seed", from_seed, "--json"])
        return str(json.loads(done.stdout)["trace_hash"])

    assert trace_hash("5") == trace_hash("5") != trace_hash("6")


def test_a_violation_fails_the_command_and_names_seed_invariant_and_faults() -> None:
    mutant = next(each for each in MUTANTS if each.name == "sends_without_waiting_for_the_journal")
    with mutant.plant():
        done = runner.invoke(app, ["simulate", "--seeds", "1"])
    assert done.exit_code == 1
    assert "seed 0 breaks durable-before-sent" in done.stdout
    assert "Setup(" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--faults", "rain"], "rain"), (["--engine", "paxos"], "paxos")],
)
def test_wrong_usage_is_explained(arguments: list[str], word: str) -> None:
    done = runner.invoke(app, ["simulate", "--seeds", "1", "--json", *arguments])
    assert done.exit_code == 2
    assert word in json.loads(done.stdout)["error"]["message"]
