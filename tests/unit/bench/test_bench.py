"""The bench's own arithmetic, so that a figure says what it claims."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import orjson
import pytest

from bench import latency, load
from bench.__main__ import groups_of
from bench.__main__ import main as bench_main
from bench.calibrate import Calibration, calibrate
from bench.cpu import Usage, machine_busy_s, parse_busy, parse_stat
from bench.figures import GOALS, Figure, Goal
from bench.sampler import folded, top
from bench.throughput import Measured, cpu_figure, throughput_figure
from bench.workload import PAYERS_COUNT, Load, batches, definition
from genesis.definition import to_core
from ledger.transactions import Settle, Transfer, decode_transaction
from node.demo.plan import Chain

_BURN = """
import sys, time
while time.process_time() < 0.15:
    pass
print("burnt", flush=True)
sys.stdin.readline()
"""
_PARENT = """
import subprocess, sys
command = [sys.executable, "-c", BURN]
subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(child.stdout.readline().decode(), end="", flush=True)
sys.stdin.readline()
"""

CALIBRATION = Calibration(verify_us=40.0, least_us=39.0, most_us=41.0)


def measured(count: int = 1_000, seconds: float = 2.0, cpu_s: float = 0.48) -> Measured:
    return Measured(count, seconds, cpu_s, load_cpu_s=0.1, machine_cpu_s=0.7, blocks=7, retries=0)


def test_cpu_is_of_one_validator_and_one_transaction() -> None:
    # 0.48 s ÷ 1,000 transactions ÷ 4 validators = 120 µs, three checks of 40 µs.
    assert cpu_figure("cpu_per_transfer", measured(), 1, CALIBRATION).ratio == pytest.approx(3.0)
    assert cpu_figure("cpu_per_settle", measured(), 2, CALIBRATION).ratio == pytest.approx(1.5)


def test_what_others_did_meanwhile_is_told() -> None:
    # 0.7 s of CPU on the whole machine, less 0.48 s and 0.1 s, in two seconds.
    assert measured().facts()["others_cores_busy"] == pytest.approx(0.06)


def test_throughput_stands_against_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.throughput.cores", lambda: 2)
    # Two cores ÷ (4 validators · 40 µs) = 12,500 a second; 500 a second is a 25th of it.
    figure = throughput_figure(measured(), CALIBRATION)
    assert figure.ratio == pytest.approx(0.04)
    assert figure.facts["bound_tx_per_second"] == 12_500


def test_goals_are_reached_from_the_right_side() -> None:
    assert Goal(3.0).is_met(2.9)
    assert not Goal(3.0).is_met(3.1)
    assert Goal(0.25, least=True).is_met(0.3)
    assert not Goal(0.25, least=True).is_met(0.2)


def test_a_figure_is_one_json_line() -> None:
    assert set(GOALS) == {
        "cpu_per_transfer",
        "cpu_per_settle",
        "throughput_over_bound",
        "latency_p50_ms",
        "latency_p99_ms",
    }
    said = orjson.loads(Figure("cpu_per_transfer", 2.5, {"blocks": 3}).as_line())
    assert said == {
        "figure": "cpu_per_transfer", "ratio": 2.5, "goal": 3.0, "met": True, "blocks": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        ([], {"transfers", "settles", "latency"}),
        (["calibrate"], set()),
        (["settles"], {"settles"}),
        (["throughput_over_bound", "latency_p99_ms"], {"transfers", "latency"}),
    ],
)
def test_figures_name_the_runs_that_give_them(names: list[str], groups: set[str]) -> None:
    assert groups_of(names) == groups


def test_a_missed_goal_fails_only_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(GOALS, "verify_us", Goal(0.001))
    assert bench_main(["calibrate"]) == 0
    assert bench_main(["calibrate", "--check"]) == 1
    said = orjson.loads(capsys.readouterr().out.splitlines()[0])
    assert (said["figure"], said["met"]) == ("verify_us", False)
    with pytest.raises(SystemExit):
        bench_main(["nonsense"])


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 50, 5.0),
        ([1.0, 2.0, 3.0, 4.0], 50, 2.0),
        ([float(n) for n in range(1, 101)], 99, 99),
    ],
)
def test_percentiles_are_values_that_occurred(
    values: list[float], percent: int, expected: float
) -> None:
    assert latency.percentile(values, percent) == expected


def test_stat_lines_with_hostile_names() -> None:
    fields = ["S", "17", *["0"] * 9, "100", "20", "3", "4", *["0"] * 6, "55", "0"]
    line = "42 (evil) R 1 (x) " + " ".join(fields)
    assert parse_stat(line) == (17, 127, 55)


def test_cpu_of_a_process_includes_what_it_started() -> None:
    """A child and a grandchild burn a tenth of a second each; one has ended, one lives."""
    parent = _PARENT.replace("BURN", repr(_BURN))
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"burnt\n"
        usage = Usage([process.pid])
        process.stdin.close()
    assert usage.total_s >= 0.25
    assert usage.resident_bytes[process.pid] > 1 << 20
    assert Usage([os.getpid()]).total_s > 0


def test_the_machines_busy_time_leaves_out_idling() -> None:
    text = "cpu  100 20 30 9999 8888 4 5 6 77 0\ncpu0 1 2 3\n"
    assert parse_busy(text) * os.sysconf("SC_CLK_TCK") == 165
    assert machine_busy_s() > 0


def test_stacks_are_written_as_flame_graph_tools_read_them() -> None:
    stacks = Counter({("a (x:1)", "b (y:2)"): 3, ("a (x:1)", "b (y:9)"): 1, ("a (x:5)",): 4})
    assert folded(stacks) == "a (x:1);b (y:2) 3\na (x:1);b (y:9) 1\na (x:5) 4\n"
    lines = top(stacks).splitlines()
    assert lines[0] == "8 samples"
    assert "  50.0%  100.0%  a (x)" in lines
    assert "  50.0%   50.0%  b (y)" in lines


def test_calibration_measures_something_plausible() -> None:
    found = calibrate(rounds=3, checks=50)
    assert 5 < found.least_us <= found.verify_us <= found.most_us < 5_000


def test_bodies_survive_the_file(tmp_path: Path) -> None:
    bodies = [load.body_of([b"\x01\x02", b"\xff"], "accepted"), b"", b"x" * 100_000]
    load.write_bodies(tmp_path / "lane", bodies)
    assert list(load.read_bodies(tmp_path / "lane")) == bodies
    params = orjson.loads(bodies[0])["params"]
    assert (params["tx"], params["wait"]) == (["0x0102", "0xff"], "accepted")


def test_a_single_submission_is_a_text_and_waits() -> None:
    params = orjson.loads(latency.single_body(b"\x01\x02"))["params"]
    assert params == {"tx": "0x0102", "wait": "committed", "timeoutMs": 30_000}


def test_the_workload_is_valid_on_its_network() -> None:
    network = to_core(definition())
    chain = Chain(network.identity, network.params)
    made = Load(chain)
    nonces: dict[bytes, int] = {}
    lane_of: dict[bytes, int] = {}
    settled: dict[bytes, int] = {}
    workloads = [made.registrations(4), made.settles(2 * PAYERS_COUNT, 4), made.transfers(1_000, 4)]
    for lanes in workloads:
        for number, lane in enumerate(lanes):
            for raw in lane:
                transaction = decode_transaction(raw, network.genesis_hash).transaction
                assert transaction.nonce == nonces.get(transaction.sender, 0)
                assert lane_of.setdefault(transaction.sender, number) == number
                nonces[transaction.sender] = transaction.nonce + 1
                if isinstance(transaction, Settle):
                    assert transaction.seq == settled.get(transaction.sender, 0) + 1
                    settled[transaction.sender] = transaction.seq
    assert set(settled.values()) == {2}
    assert isinstance(transaction, Transfer)
    funded = {address for address, amount in network.balances}
    assert set(nonces) <= funded
    assert [len(batch) for batch in batches([b""] * 250)] == [100, 100, 50]
