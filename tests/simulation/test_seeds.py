"""Seeds of the simulator: no invariant breaks, whatever the seed breaks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from node.simulation.campaign import simulate
from node.simulation.run import draw_run

SEEDS_PER_CASE = 25


@pytest.mark.parametrize("from_seed", range(0, 200, SEEDS_PER_CASE))
def test_no_invariant_breaks(from_seed: int) -> None:
    report = simulate(SEEDS_PER_CASE, from_seed)
    assert not report.violations, "\n".join(
        f"seed {each.seed}: {each.invariant}: {each.detail}\n{each.setup}\n"
        + "\n".join((*each.faults, *each.trace[-60:]))
        for each in report.violations
    )
    # A run in which nothing is decided checks nothing.
    assert report.heights >= 5 * SEEDS_PER_CASE
    assert report.acknowledged >= 5 * SEEDS_PER_CASE


def test_the_seeds_cover_sizes_weights_changes_and_liars() -> None:
    setups = [draw_run(seed)[0] for seed in range(200)]
    assert {setup.validators for setup in setups} == {4, 5, 6, 7}
    assert any(len(set(setup.powers[0])) > 1 for setup in setups)
    assert any(len(setup.powers) > 1 for setup in setups)
    assert any(setup.latency_ms for setup in setups)
    behaviours = {behaviour for setup in setups for _, behaviour in setup.byzantine}
    assert behaviours == {"twins", "selective", "forger", "sync_liar", "flooder"}
    kinds = {type(fault).__name__ for seed in range(200) for fault in draw_run(seed)[1]}
    assert len(kinds) == 15


_PROGRAM = """
from node.simulation.campaign import simulate
print(simulate(6, 40).trace_hash)
"""


def test_a_seed_is_the_same_run_whatever_the_hash_seed() -> None:
    hashes = set()
    for hash_seed in ("0", "1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        hashes.add(done.stdout)
    assert len(hashes) == 1
    assert hashes == {f"{simulate(6, 40).trace_hash}\n"}
    assert simulate(6, 41).trace_hash + "\n" not in hashes


def test_the_report_says_what_was_run() -> None:
    report = simulate(2, 7, validators=5, faults=["crash"])
    assert (report.seeds, report.from_seed, report.violations) == (2, 7, ())
    assert report.events > 100
    assert report.seconds > 0
    with pytest.raises(ValueError, match="rain"):
        simulate(1, faults=["rain"])
