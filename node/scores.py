"""Scores at the node: feeds the score worker, asks it for epochs, opens the score tables.

`request` gives one future per distinct inputs (epoch, seeds, parameters, previous qualities), so a
prefetch made when the epoch ended and the request made when the block is due are the same
computation if nothing changed in between, and another one if something did.

The pairs are inputs too. Scores of an epoch may be asked for before it is over: by a proposed block
that is dated past its end, which need not be decided. So a block that changes pairs makes every
result of its own epoch and later ones worthless (`feed`); those of earlier epochs are final, since
block time never runs backwards.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import sys
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ledger.reputation.score_tree import FLAG_SUSPENDED, InvalidScoreTable, ScoreTable
from ledger.state import (
    PAIR_PREFIX,
    ScoredEpoch,
    read_epoch_state,
    read_params,
    read_seeds,
)
from ledger.trace import Tracer, no_trace
from ledger.view import ReadView
from node.score_worker import (
    Compute,
    Computed,
    Explain,
    Explained,
    Feed,
    Raters,
    RatersOf,
    Request,
    decode_answer,
    frame,
)
from node.trace import ScoresReady, ScoreTableDamaged

# Pairs per frame while the worker is filled at start: about 100 KB, a millisecond of our time.
FILL_SLICE_COUNT = 1_000

# Bytes waiting for a busy worker. It stops reading while it computes, seconds at most; past this
# the worker is taken for dead.
FEED_LIMIT_BYTES = 512 << 20

# Answers kept: the epoch that is due and one before.
RESULTS_KEPT = 4

# Open score tables; one is mapped, not read, so this bounds file handles.
TABLES_KEPT = 8

_Inputs = tuple[int, *tuple[object, ...]]
"""The epoch, and what else is asked."""

# Questions of clients that wait for the worker; past this they are told to come again.
QUESTIONS_COUNT = 32


class ScoreWorkerBusy(Exception):
    """Too many questions wait for the worker already."""


class ScoreWorkerFailed(Exception):
    """The worker process ended or fell behind; the node stops with this reason."""


class ScoreKeeper:
    """One worker and the folder of its score tables."""

    def __init__(self, folder: Path, tracer: Tracer = no_trace) -> None:
        self._folder = folder
        self._trace = tracer
        self._process: asyncio.subprocess.Process | None = None
        self._results: OrderedDict[_Inputs, asyncio.Future[ScoredEpoch]] = OrderedDict()
        self._asked: deque[tuple[int, asyncio.Future[ScoredEpoch], float]] = deque()
        self._questions: deque[asyncio.Future[Any]] = deque()
        self._tables: OrderedDict[int, ScoreTable] = OrderedDict()

    async def start(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Start the worker and fill it with every pair of the state, in slices."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left_over in self._folder.glob("*.tmp"):
            left_over.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "node.score_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        portion: list[tuple[bytes, bytes | None]] = []
        for pair in pairs:
            portion.append(pair)
            if len(portion) == FILL_SLICE_COUNT:
                await self._fill(portion)
                portion = []
        await self._fill(portion)

    async def _fill(self, portion: list[tuple[bytes, bytes | None]]) -> None:
        self._write(Feed(portion))
        assert self._process is not None and self._process.stdin is not None
        await self._process.stdin.drain()

    async def run(self) -> None:
        """Take the worker's answers until `close`. Raises ScoreWorkerFailed."""
        assert self._process is not None and self._process.stdout is not None
        stdout = self._process.stdout
        while True:
            try:
                size_bytes = int.from_bytes(await stdout.readexactly(4), "big")
                answer = decode_answer(await stdout.readexactly(size_bytes))
            except asyncio.IncompleteReadError as error:
                code = await self._process.wait()
                raise ScoreWorkerFailed(f"the score worker ended with code {code}") from error
            if isinstance(answer, Computed):
                self._on_computed(answer)
                continue
            question = self._questions.popleft()
            if not question.done():
                question.set_result(answer)

    def _on_computed(self, answer: Computed) -> None:
        self._tables.pop(answer.epoch, None)
        epoch, future, asked_s = self._asked.popleft()
        assert epoch == answer.epoch, "the worker answers in the order of the questions"
        if not future.done():
            future.set_result(ScoredEpoch(answer.commitment, answer.seed_qualities))
        duration_s = asyncio.get_running_loop().time() - asked_s
        self._trace(ScoresReady(answer.epoch, answer.commitment.count, round(duration_s * 1_000)))

    async def close(self) -> None:
        """End the worker by closing its input, and wait for it."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    def feed(self, writes: dict[bytes, bytes | None], epoch: int) -> None:
        """The state writes of a block of `epoch` that was just applied."""
        pairs = [item for item in writes.items() if item[0].startswith(PAIR_PREFIX)]
        if pairs:
            for key in [key for key in self._results if key[0] >= epoch]:
                del self._results[key]
            self._write(Feed(pairs))

    def request(self, view: ReadView, epoch: int) -> asyncio.Future[ScoredEpoch]:
        """The scores of `epoch` under the seeds and parameters of `view`."""
        qualities = read_epoch_state(view).seed_qualities
        request = _compute(view, epoch, qualities, str(self._path(epoch)))
        key: _Inputs = (epoch, *msgspec.structs.astuple(request)[1:])
        known = self._results.get(key)
        if known is not None:
            return known
        future: asyncio.Future[ScoredEpoch] = asyncio.get_running_loop().create_future()
        self._results[key] = future
        while len(self._results) > RESULTS_KEPT and next(iter(self._results.values())).done():
            self._results.popitem(last=False)
        self._asked.append((epoch, future, asyncio.get_running_loop().time()))
        self._write(request)
        return future

    async def explain(self, view: ReadView, address: bytes, limit: int) -> Explained:
        """Which raters move a score of the last scored epoch, or of a newer one that is computed
        but does not stand yet. Raises ScoreWorkerBusy.
        """
        epoch = read_epoch_state(view).last_scored
        table = None if epoch < 0 else self.table(epoch)
        if table is None:
            return Explained(None, [])
        of = _compute(view, epoch, _resting(table, read_seeds(view).addresses), "")
        explained = await self._ask(Explain(of, table.commitment.root, address, limit))
        assert isinstance(explained, Explained)
        return explained

    async def raters_of(self, address: bytes, after: bytes, limit: int) -> list[bytes]:
        """Who rates an address, ascending, behind `after`. Raises ScoreWorkerBusy."""
        raters = await self._ask(RatersOf(address, after, limit))
        assert isinstance(raters, Raters)
        return raters.addresses

    async def _ask(self, question: Explain | RatersOf) -> Explained | Raters:
        if len(self._questions) >= QUESTIONS_COUNT:
            raise ScoreWorkerBusy
        answer: asyncio.Future[Explained | Raters] = asyncio.get_running_loop().create_future()
        self._questions.append(answer)
        self._write(question)
        return await answer

    def table(self, epoch: int) -> ScoreTable | None:
        """The score table of an epoch, mapped from its file; None where it is not held.

        A file that is no whole table of that epoch is put aside and then not held; the next epoch
        has a new one. Whether it is the committed table is for the caller to compare.
        """
        table = self._tables.get(epoch)
        if table is not None:
            return table
        path = self._path(epoch)
        try:
            table = _open_table(path, epoch)
        except FileNotFoundError:
            return None
        except InvalidScoreTable as error:
            path.replace(path.with_suffix(".damaged"))
            self._trace(ScoreTableDamaged(epoch, error.detail))
            return None
        self._tables[epoch] = table
        if len(self._tables) > TABLES_KEPT:
            self._tables.popitem(last=False)
        return table

    def forget_before(self, epoch: int) -> None:
        """Remove score tables of epochs below `epoch`."""
        for path in self._folder.glob("epoch-*.*"):
            number = path.stem.removeprefix("epoch-")
            if number.isdecimal() and int(number) < epoch:
                path.unlink(missing_ok=True)

    def _path(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch}.scores"

    def _write(self, value: Request) -> None:
        assert self._process is not None and self._process.stdin is not None
        transport = self._process.stdin.transport
        if transport.get_write_buffer_size() > FEED_LIMIT_BYTES:
            raise ScoreWorkerFailed("the score worker does not keep up with the chain")
        self._process.stdin.write(frame(value))


def _compute(
    view: ReadView, epoch: int, seed_qualities: tuple[tuple[bytes, int], ...], path: str
) -> Compute:
    params = read_params(view)
    return Compute(
        epoch,
        read_seeds(view).addresses,
        params.reputation_p_min,
        params.reputation_n0,
        params.reputation_n_ref,
        seed_qualities,
        path,
    )


def _resting(table: ScoreTable, seeds: Sequence[bytes]) -> tuple[tuple[bytes, int], ...]:
    """Qualities that let the same seeds rest as in the epoch of `table`, which is all they do."""
    return tuple(
        (seed, 0)
        for seed in seeds
        if (score := table.lookup(seed)) is not None and score.flags & FLAG_SUSPENDED
    )


def _open_table(path: Path, epoch: int) -> ScoreTable:
    """Raises FileNotFoundError or InvalidScoreTable."""
    with path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        # An empty file cannot be mapped.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size_bytes else b""
    table = ScoreTable(memoryview(data))
    if table.commitment.epoch != epoch:
        raise InvalidScoreTable(f"of epoch {table.commitment.epoch}")
    return table
