"""`tally demo otc` as a user runs it: its own four validators, the sample that comes with it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "node.cli", "demo", "otc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


def test_the_sample_under_attack_and_without_the_founders() -> None:
    done = demo("--sybils", "20", "--exclude-raters", "1,35", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    # 40 people and 20 Sybils; none of the transactions may be lost or without effect.
    assert report["people"] == 60
    assert report["committed"] == report["transactions"] > 2 * report["ratings"]
    assert report["failed"] == report["refused"] == {}
    assert report["auc_quality"] >= 0.98
    assert report["auc_mean_rating"] < 0.1, "the attack overturns the plain mean"
    assert report["frauds_at_zero"] >= 0.8
    assert report["trusted_at_zero"] == 0.0
    assert report["scores_proven"] == 20
    assert len(report["state_roots"]) == 4
    assert len(set(report["state_roots"])) == 1
    assert report["tx_per_second"] > 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--ratings", "absent.csv", "--labels", "absent.csv"), "absent.csv"),
        (("--labels", "absent.csv"), "both files"),
        (("--exclude-raters", "one"), "1,35"),
    ],
)
def test_wrong_use_is_told_before_anything_starts(arguments: tuple[str, ...], word: str) -> None:
    done = demo(*arguments)
    assert done.returncode == 2
    assert word in done.stderr


def test_a_node_that_is_not_there(tmp_path: Path) -> None:
    done = demo("--node", "http://127.0.0.1:1", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["reason"] == "UNREACHABLE"
