"""The load generator: a process of its own, so that its CPU time is nobody else's.

    python -m bench.load            reads one JSON plan from standard input, writes one JSON result

Bodies are whole JSON-RPC requests, signed and encoded beforehand, one file a lane: a body is
preceded by its length in four bytes. Two ways to send them:

    flood     every lane as fast as it is answered, IN_FLIGHT_COUNT bodies at a time, as long as
              fewer than `backlog` transactions wait at the lane's validator
    pace      body after body at a fixed rate whatever the answers do (an open loop: a slow network
              does not slow the arrivals down, which would hide its latency), each timed from
              the moment it was due to its answer
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop

# Enough that a validator never waits for us: while one batch is checked the next ones are read.
IN_FLIGHT_COUNT = 4

# Calls under way in pace mode. At 1,000 a second this is two seconds of latency.
PACE_OPEN_COUNT = 2_000

_POLL_S = 0.02
_RETRY_S = 0.05
_LENGTH_BYTES = 4
_ANSWER_TIMEOUT_S = 90.0

_STATUS_BODY = b'{"jsonrpc":"2.0","id":1,"method":"mempool_status"}'


def write_bodies(path: Path, bodies: Iterable[bytes]) -> None:
    """Write a lane's file."""
    with path.open("wb") as file:
        for body in bodies:
            file.write(len(body).to_bytes(_LENGTH_BYTES, "big"))
            file.write(body)


def read_bodies(path: Path) -> Iterator[bytes]:
    """The bodies of a lane's file."""
    with path.open("rb") as file:
        while length := file.read(_LENGTH_BYTES):
            yield file.read(int.from_bytes(length, "big"))


def body_of(raws: list[bytes], wait: str) -> bytes:
    """A tx_submit of these transactions."""
    params = {"tx": ["0x" + raw.hex() for raw in raws], "wait": wait, "timeoutMs": 30_000}
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "tx_submit", "params": params})


class Rejected(Exception):
    """A transaction that a benchmark sent was refused: the benchmark is wrong."""


async def flood(plan: dict[str, Any]) -> dict[str, Any]:
    """{"began_s": on the machine's monotonic clock, "seconds": sending time, "retries"}."""
    began = time.monotonic()
    retries = 0
    async with _session() as session, asyncio.TaskGroup() as group:
        lanes = [
            group.create_task(_flood_lane(session, url, Path(path), plan["backlog"]))
            for url, path in zip(plan["urls"], plan["files"], strict=True)
        ]
    retries = sum(lane.result() for lane in lanes)
    return {"began_s": began, "seconds": time.monotonic() - began, "retries": retries}


async def _flood_lane(session: aiohttp.ClientSession, url: str, path: Path, backlog: int) -> int:
    retries = 0
    bodies = read_bodies(path)

    async def work() -> None:
        nonlocal retries
        for body in bodies:
            while not await _taken(session, url, body):
                retries += 1
                await asyncio.sleep(_RETRY_S)
            await _until_room(session, url, backlog)

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT_COUNT):
            group.create_task(work())
    return retries


async def _taken(session: aiohttp.ClientSession, url: str, body: bytes) -> bool:
    """Submit; False where it has to be sent again. Raises Rejected."""
    async with session.post(url, data=body) as response:
        answer = await response.read()
    if b'"rejected"' not in answer and b'"error"' not in answer:
        return True
    if b'"retryable":true' in answer:
        return False
    raise Rejected(answer[:500].decode())


async def _until_room(session: aiohttp.ClientSession, url: str, backlog: int) -> None:
    while await _waiting(session, url) > backlog:  # noqa: ASYNC110 - another process's state
        await asyncio.sleep(_POLL_S)


async def _waiting(session: aiohttp.ClientSession, url: str) -> int:
    async with session.post(url, data=_STATUS_BODY) as response:
        return int(orjson.loads(await response.read())["result"]["count"])


async def pace(plan: dict[str, Any]) -> dict[str, Any]:
    """{"latencies_ms": one for each body, "late_ms": how far we fell behind our own plan}."""
    urls = plan["urls"]
    bodies = list(read_bodies(Path(plan["files"][0])))
    interval_s = 1 / plan["rate_per_s"]
    latencies: list[float] = []
    latest_s = 0.0
    places = asyncio.Semaphore(PACE_OPEN_COUNT)
    async with _session() as session, asyncio.TaskGroup() as group:
        began = time.perf_counter()

        async def one(number: int, due_s: float) -> None:
            try:
                async with session.post(urls[number % len(urls)], data=bodies[number]) as response:
                    answer = await response.read()
            finally:
                places.release()
            if b'"committed"' not in answer:
                raise Rejected(answer[:500].decode())
            latencies.append((time.perf_counter() - due_s) * 1_000)

        for number in range(len(bodies)):
            due_s = began + number * interval_s
            early_s = due_s - time.perf_counter()
            if early_s > 0:
                await asyncio.sleep(early_s)
            latest_s = max(latest_s, -early_s)
            await places.acquire()
            group.create_task(one(number, due_s))
    return {"latencies_ms": latencies, "late_ms": latest_s * 1_000}


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        headers={"Content-Type": "application/json"},
        timeout=aiohttp.ClientTimeout(total=_ANSWER_TIMEOUT_S),
    )


def main() -> None:
    """Run the plan on standard input."""
    plan = json.load(sys.stdin)
    work = {"flood": flood, "pace": pace}[plan["way"]]
    before = resource.getrusage(resource.RUSAGE_SELF)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(work(plan))
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    json.dump({**result, "cpu_s": spent}, sys.stdout)


if __name__ == "__main__":
    main()
