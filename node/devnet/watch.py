"""The live table: what every validator says, once a second."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from node.cli.output import clean
from node.devnet.state import DevnetState, ValidatorFacts
from rpc.client import ClientError, RpcClient

INTERVAL_S = 1.0
_ANSWER_MS = 900

# Blocks looked at for transactions a second, and over which time.
_BLOCKS_COUNT = 50
_RATE_WINDOW_MS = 10_000

_CALLS = (
    ("system_status", None),
    ("consensus_status", None),
    ("mempool_status", None),
    ("chain_listBlocks", {"limit": _BLOCKS_COUNT}),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One validator's answers; `error` where it gave none."""

    validator: ValidatorFacts
    pid: int | None
    error: str = ""
    height: int = 0
    round: int = 0
    phase: str = ""
    peers: int = 0
    mempool: int = 0
    rate: float = 0.0
    state_root: str = ""
    age_s: float = 0.0

    def as_object(self) -> dict[str, Any]:
        """For programs."""
        facts: dict[str, Any] = {
            "number": self.validator.number,
            "name": self.validator.name,
            "url": self.validator.url,
            "pid": self.pid,
            "running": self.pid is not None,
        }
        if self.error:
            return {**facts, "error": self.error}
        return {
            **facts,
            "height": self.height,
            "round": self.round,
            "phase": self.phase,
            "peers": self.peers,
            "mempool": self.mempool,
            "txPerSecond": round(self.rate, 1),
            "stateRoot": self.state_root,
            "tipAgeMs": round(self.age_s * 1000),
        }


async def look(state: DevnetState) -> list[Row]:
    """What every validator says now."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_look_at(each)) for each in state.validators]
    return [task.result() for task in tasks]


async def _look_at(validator: ValidatorFacts) -> Row:
    pid = validator.pid
    if pid is None:
        return Row(validator, None, "stopped")
    try:
        async with RpcClient(validator.url, timeout_ms=_ANSWER_MS) as client:
            answers = await client.batch(list(_CALLS))
    except ClientError as error:
        return Row(validator, pid, clean(error.detail))
    for answer in answers:
        if isinstance(answer, ClientError):
            return Row(validator, pid, clean(answer.detail))
    status, consensus, mempool, blocks = answers
    newest = blocks["items"][0] if blocks["items"] else None
    now_ms = status["timeMs"]
    return Row(
        validator,
        pid,
        height=status["height"],
        round=consensus["round"],
        phase=clean(consensus["phase"]),
        peers=status["peers"],
        mempool=mempool["count"],
        rate=_rate(blocks["items"], now_ms),
        state_root=clean(newest["stateRoot"]) if newest else "",
        age_s=max(0, now_ms - status["blockTimeMs"]) / 1000,
    )


def _rate(blocks: list[dict[str, Any]], now_ms: int) -> float:
    """Transactions a second over the last ten; over less where fifty blocks cover less."""
    recent = [each for each in blocks if now_ms - each["timeMs"] <= _RATE_WINDOW_MS]
    if not recent:
        return 0.0
    covers_all = len(recent) < len(blocks) or len(blocks) < _BLOCKS_COUNT
    span_ms = _RATE_WINDOW_MS if covers_all else max(1, now_ms - recent[-1]["timeMs"])
    return float(sum(each["transactionCount"] for each in recent) * 1000 / span_ms)


def rows_text(rows: list[Row]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Headings and cells, for a plain table."""
    headings = (
        "N",
        "STATE",
        "HEIGHT",
        "ROUND",
        "PEERS",
        "MEMPOOL",
        "TX/S",
        "AGE",
        "STATE ROOT",
        "PID",
        "URL",
    )
    cells: list[tuple[object, ...]] = []
    for row in rows:
        number, url, pid = row.validator.number, row.validator.url, row.pid or "-"
        if row.error:
            word = "stopped" if row.pid is None else f"silent: {row.error[:40]}"
            cells.append((number, word, "-", "-", "-", "-", "-", "-", "-", pid, url))
            continue
        cells.append(
            (
                number,
                row.phase or "running",
                f"{row.height:,}",
                row.round,
                row.peers,
                f"{row.mempool:,}",
                f"{row.rate:,.1f}",
                f"{row.age_s:.0f} s",
                row.state_root[:14],
                pid,
                url,
            )
        )
    return headings, cells


async def watch(state: DevnetState) -> None:
    """Show the table until cancelled."""
    began = time.monotonic()
    with Live(_rendered(state, [], 0), refresh_per_second=4, transient=False) as live:
        while True:
            rows = await look(state)
            live.update(_rendered(state, rows, time.monotonic() - began))
            await asyncio.sleep(INTERVAL_S)


def _rendered(state: DevnetState, rows: list[Row], seconds: float) -> Group:
    headings, cells = rows_text(rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        is_number = heading in ("N", "HEIGHT", "ROUND", "PEERS", "MEMPOOL", "TX/S", "AGE", "PID")
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=True)
    for row, line in zip(rows, cells, strict=True):
        table.add_row(*map(str, line), style="red" if row.error else "")
    foot = Text(f"{state.chain_id} · {seconds:,.0f} s · Ctrl-C stops the network", style="dim")
    return Group(table, foot)
