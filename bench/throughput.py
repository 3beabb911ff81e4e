"""Throughput and CPU: how many transactions four validators commit, and what each costs them.

    cpu_per_transfer       CPU of one validator (with its score worker and threads) for one
                           committed transfer ÷ one signature check
    cpu_per_settle         the same for a settle ÷ two checks
    throughput_over_bound  committed transfers a second ÷ (cores ÷ (validators · one check)),
                           the bound that the signature checks alone set

A measurement begins with the first submission and ends when every transaction is in a block on
every validator; what the load generator, a process of its own, spends is reported and not counted,
though it takes its share of the same cores.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.calibrate import Calibration
from bench.cpu import Usage, machine_busy_s
from bench.figures import Figure
from bench.load import body_of, write_bodies
from bench.machine import cores
from bench.workload import VALIDATORS_COUNT, batches
from node.demo.network import TemporaryNetwork
from rpc.client import RpcClient

TRANSFERS_COUNT = 40_000
SETTLES_COUNT = 25_000
"""Some ten seconds each on two cores."""

WARM_UP_COUNT = 2_000

# Transactions waiting at a validator above which the generator holds back: more than one block
# takes at these rates, so that proposers always find enough; more would only lie there.
BACKLOG_COUNT = 6_000

_POLL_S = 0.02
_SOURCE = Path(__file__).resolve().parents[1]
COMMIT_TIMEOUT_S = 300.0


class NotCommitted(Exception):
    """The network did not commit the load in time."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One saturated run. `cpu_s` is of all validators together, `machine_cpu_s` of everything that
    ran on the machine meanwhile: what is left after validators and load is somebody else's, and
    a run in which that is much says little about throughput and latency."""

    count: int
    seconds: float
    cpu_s: float
    load_cpu_s: float
    machine_cpu_s: float
    blocks: int
    retries: int

    @property
    def per_second(self) -> float:
        """Committed transactions a second."""
        return self.count / self.seconds

    def cpu_us_each(self, validators: int = VALIDATORS_COUNT) -> float:
        """CPU of one validator for one transaction, µs."""
        return self.cpu_s / self.count / validators * 1e6

    @property
    def others_cpu_s(self) -> float:
        """CPU of programs that are no part of the measurement."""
        return max(0.0, self.machine_cpu_s - self.cpu_s - self.load_cpu_s)

    def facts(self) -> dict[str, Any]:
        """For the record."""
        return {
            "transactions": self.count,
            "seconds": round(self.seconds, 3),
            "tx_per_second": round(self.per_second, 1),
            "cpu_us_per_tx_and_validator": round(self.cpu_us_each(), 1),
            "validators_cores_busy": round(self.cpu_s / self.seconds, 3),
            "load_cores_busy": round(self.load_cpu_s / self.seconds, 3),
            "others_cores_busy": round(self.others_cpu_s / self.seconds, 3),
            "blocks": self.blocks,
            "retries": self.retries,
        }


async def saturate(network: TemporaryNetwork, lanes: Sequence[Sequence[bytes]]) -> Measured:
    """Send everything as fast as it is taken and wait until it is committed everywhere."""
    files = [network.folder / f"lane-{number}.load" for number in range(len(lanes))]
    for path, lane in zip(files, lanes, strict=True):
        write_bodies(path, (body_of(batch, "accepted") for batch in batches(lane)))
    count = sum(map(len, lanes))
    plan = {
        "way": "flood",
        "urls": network.urls,
        "files": [str(path) for path in files],
        "backlog": BACKLOG_COUNT,
    }
    async with RpcClient(network.urls[0]) as client:
        first = (await client.status()).height
        before, busy_before_s = Usage(network.pids), machine_busy_s()
        result = await run_load(plan)
        height = await _until_committed(network.urls, client, first, count)
        seconds = time.monotonic() - result["began_s"]
        after, busy_after_s = Usage(network.pids), machine_busy_s()
    for path in files:
        path.unlink()
    return Measured(
        count=count,
        seconds=seconds,
        cpu_s=after.total_s - before.total_s,
        load_cpu_s=result["cpu_s"],
        machine_cpu_s=busy_after_s - busy_before_s,
        blocks=height - first,
        retries=result["retries"],
    )


async def run_load(plan: dict[str, Any]) -> dict[str, Any]:
    """The load generator's result."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_SOURCE,
    )
    said, _ = await process.communicate(json.dumps(plan).encode())
    if process.returncode != 0:
        raise NotCommitted(f"the load generator ended with code {process.returncode}")
    result: dict[str, Any] = json.loads(said)
    return result


async def _until_committed(urls: Sequence[str], client: RpcClient, first: int, count: int) -> int:
    """The height at which everything is in blocks, on every validator."""
    deadline = time.monotonic() + COMMIT_TIMEOUT_S
    counted, height = 0, first
    while time.monotonic() < deadline:
        height, more = await _blocks_since(client, height)
        counted += more
        if counted >= count:
            for url in urls:
                await _until_height(url, height)
            return height
        await asyncio.sleep(_POLL_S)
    raise NotCommitted(f"{counted} of {count} transactions after {COMMIT_TIMEOUT_S:g} s")


async def _blocks_since(client: RpcClient, height: int) -> tuple[int, int]:
    """(the height now, transactions in the blocks above `height`)."""
    tip = (await client.status()).height
    latest, counted, cursor = height, 0, None
    while latest < tip or cursor is not None:
        page = await client.call(
            "chain_listBlocks", {"limit": min(tip - height + 1, 200), "cursor": cursor}
        )
        new = [each for each in page["items"] if each["height"] > height]
        counted += sum(each["transactionCount"] for each in new)
        latest = max([latest, *(each["height"] for each in new)])
        cursor = page["nextCursor"] if len(new) == len(page["items"]) else None
    return latest, counted


async def _until_height(url: str, height: int) -> None:
    async with RpcClient(url) as client:
        while (await client.status()).height < height:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(_POLL_S)


def cpu_figure(name: str, measured: Measured, checks: int, calibration: Calibration) -> Figure:
    """CPU for one transaction ÷ its signature checks."""
    ratio = measured.cpu_us_each() / (checks * calibration.verify_us)
    return Figure(name, ratio, measured.facts())


def throughput_figure(measured: Measured, calibration: Calibration) -> Figure:
    """Committed a second ÷ the bound."""
    bound = cores() / (VALIDATORS_COUNT * calibration.verify_us / 1e6)
    facts = {**measured.facts(), "bound_tx_per_second": round(bound, 1)}
    return Figure("throughput_over_bound", measured.per_second / bound, facts)
