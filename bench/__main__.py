"""python -m bench [figure …] [--profile] [--record] [--check]: measure, compare with the goals.

Without names everything is measured. Each figure is one JSON line on standard output; the table and
the progress go to standard error. `--record` keeps the result under bench/results/, `--check` fails
where a goal is not reached.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from bench import latency, machine, sampler, throughput
from bench.calibrate import Calibration, calibrate
from bench.figures import GOALS, Figure, show
from bench.workload import VALIDATORS_COUNT, Load, definition
from node.demo import submit
from node.demo.network import TemporaryNetwork
from node.demo.plan import Chain
from rpc.client import RpcClient

RESULTS = Path(__file__).resolve().parent / "results"

_GROUPS = {
    "transfers": ("cpu_per_transfer", "throughput_over_bound"),
    "settles": ("cpu_per_settle",),
    "latency": ("latency_p50_ms", "latency_p99_ms"),
}

console = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 when a goal is not reached and --check asks for it."""
    options = _parse(arguments)
    began = time.monotonic()
    # Before anything that burns CPU: a process that did is made to wait for its turn, which an
    # fsync of a tenth of a millisecond would be blamed for.
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as folder:
        facts = machine.facts(Path(folder))
    calibration = calibrate()
    console.print(f"one signature check: {calibration.verify_us:.2f} µs of CPU")
    wanted = groups_of(options.figures)
    figures = [
        Figure(
            "verify_us",
            calibration.verify_us,
            {"least_us": calibration.least_us, "most_us": calibration.most_us},
        )
    ]
    if wanted:
        figures += asyncio.run(_measure(wanted, calibration, facts["fsync_ms"], options))
    show(figures)
    if options.record:
        path = _record(figures, facts, time.monotonic() - began)
        console.print(f"recorded in {path}")
    missed = [each.name for each in figures if each.goal and not each.goal.is_met(each.ratio)]
    return int(options.check and bool(missed))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").partition("\n")[0])
    names = [*_GROUPS, *GOALS, "calibrate"]
    parser.add_argument("figures", nargs="*", metavar="figure", help=", ".join(names))
    parser.add_argument("--profile", action="store_true", help="sample validator 1's stacks")
    parser.add_argument("--record", action="store_true", help="keep the result in bench/results/")
    parser.add_argument("--check", action="store_true", help="fail below a goal")
    parser.add_argument("--scale", type=float, default=1.0, help="transactions, times this")
    options = parser.parse_args(arguments)
    unknown = set(options.figures) - set(names)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return options


def groups_of(names: Sequence[str]) -> set[str]:
    """The runs that give these figures; all of them where none is named."""
    asked = set(names)
    return {
        group
        for group, figures in _GROUPS.items()
        if not asked or group in asked or asked & set(figures)
    }


async def _measure(
    wanted: set[str], calibration: Calibration, fsync_ms: float, options: argparse.Namespace
) -> list[Figure]:
    console.print(f"starting {VALIDATORS_COUNT} validators")
    network = TemporaryNetwork(definition(), "bench.sampler" if options.profile else None)
    async with network:
        figures = await _measure_on(network, wanted, calibration, fsync_ms, options)
        if options.profile:
            await network.end_processes()
            _show_profile(network)
    return figures


async def _measure_on(
    network: TemporaryNetwork,
    wanted: set[str],
    calibration: Calibration,
    fsync_ms: float,
    options: argparse.Namespace,
) -> list[Figure]:
    figures: list[Figure] = []
    load = Load(Chain(network.definition.identity, network.definition.params))
    lanes = len(network.urls)
    await _commit(network, load.transfers(throughput.WARM_UP_COUNT, lanes))
    if "settles" in wanted:
        await _commit(network, load.registrations(lanes))
    if options.profile:
        # What came before is start and warm-up.
        os.kill(network.pids[0], sampler.FORGET)
    if wanted & {"transfers", "latency"}:
        count = round(throughput.TRANSFERS_COUNT * options.scale)
        measured = await _saturated(network, load.transfers(count, lanes), "transfers")
        figures += [
            throughput.cpu_figure("cpu_per_transfer", measured, 1, calibration),
            throughput.throughput_figure(measured, calibration),
        ]
        if "latency" in wanted:
            console.print("single submissions at a tenth of that rate")
            figures += await latency.measure(network, load, measured.per_second, fsync_ms)
    if "settles" in wanted:
        count = round(throughput.SETTLES_COUNT * options.scale)
        measured = await _saturated(network, load.settles(count, lanes), "settles")
        figures.append(throughput.cpu_figure("cpu_per_settle", measured, 2, calibration))
    return figures


def _show_profile(network: TemporaryNetwork) -> None:
    """Keep the stacks, print where the time went."""
    home = network.homes[0]
    kept = Path(tempfile.gettempdir()) / "tally-bench-profile.txt"
    kept.write_text((home / sampler.STACKS_FILE).read_text("utf-8"), "utf-8")
    console.print((home / sampler.TOP_FILE).read_text("utf-8"), markup=False, highlight=False)
    console.print(f"all stacks of validator 1: {kept}")


async def _saturated(
    network: TemporaryNetwork, lanes: list[list[bytes]], what: str
) -> throughput.Measured:
    console.print(f"{sum(map(len, lanes)):,} {what}")
    measured = await throughput.saturate(network, lanes)
    console.print(
        f"  {measured.per_second:,.0f} a second, {measured.cpu_us_each():.0f} µs of CPU each"
    )
    return measured


async def _commit(network: TemporaryNetwork, lanes: list[list[bytes]]) -> None:
    """Set-up transactions, unmeasured."""
    clients = [RpcClient(url) for url in network.urls]
    tally = submit.Tally()
    try:
        await submit.send(clients, lanes, tally)
    finally:
        for client in clients:
            await client.close()
    if tally.refused or tally.failed:
        raise throughput.NotCommitted(f"set-up: {dict(tally.refused)} {dict(tally.failed)}")


def _record(figures: list[Figure], facts: dict[str, Any], seconds: float) -> Path:
    commit, now = machine.commit(), datetime.now(UTC)
    content = {
        "commit": commit,
        "time": now.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "machine": facts,
        "figures": [each.as_object() for each in figures],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}-{commit or 'unknown'}.json"
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
