"""Latency: how long one client waits from handing a transaction in until it is final.

Single submissions arrive at a tenth of the rate that the same network was saturated at, evenly, in
an open loop, at all validators in turn, each with `wait: "committed"`: the answer comes when the
transaction is in a block that this validator has written with an fsync. What an fsync takes on this
disk stands beside the figure.
"""

from __future__ import annotations

import time

from bench.cpu import Usage, machine_busy_s
from bench.figures import Figure
from bench.load import body_of, write_bodies
from bench.throughput import run_load
from bench.workload import Load
from node.demo.network import TemporaryNetwork

SHARE_OF_SATURATION = 0.1
SECONDS = 15
LEAST_RATE_PER_S = 20
"""Below this a run would be too short to have a 99th percentile."""


async def measure(
    network: TemporaryNetwork, load: Load, saturated_per_s: float, fsync_ms: float
) -> list[Figure]:
    """p50 and p99, ms."""
    rate = max(LEAST_RATE_PER_S, saturated_per_s * SHARE_OF_SATURATION)
    count = round(rate * SECONDS)
    lane = load.transfers(count, 1)[0]
    path = network.folder / "pace.load"
    # One transaction is a text, not a list of one, so that this is what a wallet sends.
    write_bodies(path, (single_body(raw) for raw in lane))
    before, busy_before_s = Usage(network.pids), machine_busy_s()
    began = time.monotonic()
    result = await run_load(
        {"way": "pace", "urls": network.urls, "files": [str(path)], "rate_per_s": rate}
    )
    seconds = time.monotonic() - began
    cpu_s = Usage(network.pids).total_s - before.total_s
    others_s = machine_busy_s() - busy_before_s - cpu_s - result["cpu_s"]
    path.unlink()
    latencies = sorted(result["latencies_ms"])
    facts = {
        "submissions": count,
        "rate_per_second": round(rate, 1),
        "fsync_ms": round(fsync_ms, 3),
        "mean_ms": round(sum(latencies) / len(latencies), 2),
        "worst_ms": round(latencies[-1], 2),
        "validators_cores_busy": round(cpu_s / seconds, 3),
        "others_cores_busy": round(max(0.0, others_s) / seconds, 3),
        "generator_late_ms": round(result["late_ms"], 2),
    }
    return [
        Figure("latency_p50_ms", percentile(latencies, 50), facts),
        Figure("latency_p99_ms", percentile(latencies, 99), facts),
    ]


def single_body(raw: bytes) -> bytes:
    """A tx_submit of one transaction that waits for its commit."""
    return body_of([raw], "committed").replace(b'"tx":["', b'"tx":"').replace(b'"],', b'",')


def percentile(ordered: list[float], percent: int) -> float:
    """Nearest-rank percentile of ascending values."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, rank - 1)]
