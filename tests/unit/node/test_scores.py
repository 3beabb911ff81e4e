"""The score keeper with a real worker process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger.codec import encode
from ledger.params import DEVNET_PARAMS
from ledger.reputation import edges
from ledger.reputation.epoch import PairEdge, ReputationParams, compute_epoch
from ledger.state import (
    EPOCH_KEY,
    PARAMS_KEY,
    SEEDS_KEY,
    EpochState,
    ScoredEpoch,
    Seeds,
    pair_key,
    split_pair_key,
)
from ledger.trace import TraceEvent
from ledger.view import EmptyView, OverlayView, ReadView
from node.scores import (
    FILL_SLICE_COUNT,
    RESULTS_KEPT,
    TABLES_KEPT,
    ScoreKeeper,
    ScoreWorkerFailed,
)
from node.trace import ScoresReady

DEADLINE_S = 30.0
PARAMS = ReputationParams(
    p_min=DEVNET_PARAMS.reputation_p_min,
    n0=DEVNET_PARAMS.reputation_n0,
    n_ref=DEVNET_PARAMS.reputation_n_ref,
)
PAID = 255_000

Pair = tuple[bytes, bytes]


def address(number: int) -> bytes:
    return b"\x02" + number.to_bytes(4, "big") + bytes(28)


SEED, SERVER, OTHER = (address(number) for number in (1, 2, 3))


def pair(rater: bytes, ratee: bytes, *, epoch: int = 0, paid: int = PAID) -> Pair:
    """One co-signed settlement, as it stands in the state."""
    settled = edges.settle_edge(
        None,
        epoch=epoch,
        seq=1,
        cum_units=1,
        cum_paid=paid,
        cosigned=True,
        ratable=True,
        p_min=PARAMS.p_min,
    )
    return pair_key(rater, ratee, 0), encode(settled)


def state(*, seed_qualities: tuple[tuple[bytes, int], ...] = (), last_scored: int = -1) -> ReadView:
    """What a request reads."""
    return OverlayView(
        EmptyView(),
        {
            PARAMS_KEY: DEVNET_PARAMS.encode(),
            SEEDS_KEY: encode(Seeds((SEED,))),
            EPOCH_KEY: encode(EpochState(last_scored, seed_qualities)),
        },
    )


def expected(epoch: int, *pairs: Pair, previous: dict[bytes, int] | None = None) -> ScoredEpoch:
    """By the reference, which shares no code with the worker's arrays."""
    at_end: list[PairEdge] = []
    for key, raw in pairs:
        rater, ratee, service = split_pair_key(key)
        pos, neg = edges.edge_at_end_of(edges.decode_pair(raw), epoch)
        at_end.append((rater, ratee, service, pos, neg))
    scores = compute_epoch(at_end, (SEED,), PARAMS, epoch, previous or {})
    seed = scores.table.lookup(SEED)
    assert seed is not None
    return ScoredEpoch(scores.commitment, ((SEED, seed.quality),))


class Keeper(ScoreKeeper):
    """A keeper whose `run` is running; `failed` is what it ends with."""

    def __init__(self, folder: Path) -> None:
        self.events: list[TraceEvent] = []
        super().__init__(folder, self.events.append)

    async def begin(self, *pairs: Pair) -> None:
        await self.start(pairs)
        self.running = asyncio.create_task(self.run())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def compute(self, epoch: int, view: ReadView | None = None) -> ScoredEpoch:
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.shield(self.request(view or state(), epoch))


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    made = Keeper(tmp_path / "scores")
    yield made
    if made._process is not None:
        made.running.cancel()
        with contextlib.suppress(asyncio.CancelledError, ScoreWorkerFailed):
            await made.running
        async with asyncio.timeout(DEADLINE_S):
            await made.close()


async def test_what_is_in_the_state_at_the_start_and_what_blocks_add(keeper: Keeper) -> None:
    first, second = pair(SEED, SERVER), pair(SERVER, OTHER)
    await keeper.begin(first)
    keeper.feed({second[0]: second[1], b"another key": b"of no concern"}, epoch=0)

    scored = await keeper.compute(0)

    assert scored == expected(0, first, second)
    assert scored.commitment.count == 3
    (ready,) = [event for event in keeper.events if isinstance(event, ScoresReady)]
    assert (ready.epoch, ready.peers) == (0, 3)


async def test_a_large_state_goes_in_by_slices(keeper: Keeper) -> None:
    pairs = [pair(address(10 + number), SERVER) for number in range(2 * FILL_SLICE_COUNT + 1)]
    pairs.append(pair(SEED, address(10)))
    await keeper.begin(*pairs)

    scored = await keeper.compute(0)

    assert scored == expected(0, *pairs)
    assert scored.commitment.count == len(pairs) + 1


async def test_a_removed_pair_counts_no_more(keeper: Keeper) -> None:
    kept, removed = pair(SEED, SERVER), pair(SEED, OTHER)
    await keeper.begin(kept, removed)
    keeper.feed({removed[0]: None}, epoch=0)

    assert await keeper.compute(0) == expected(0, kept)


async def test_pairs_of_the_next_epoch_do_not_change_the_last(keeper: Keeper) -> None:
    first = pair(SEED, SERVER)
    await keeper.begin(first)
    before = await keeper.compute(0)
    later = pair(SERVER, OTHER, epoch=1)
    keeper.feed(dict([later]), epoch=1)

    # Asked under other inputs, so that it is computed again.
    again = await keeper.compute(0, state(seed_qualities=((SEED, 65_536),)))

    assert again.commitment == before.commitment
    assert await keeper.compute(1) == expected(1, first, later)


async def test_the_same_question_is_computed_once(keeper: Keeper) -> None:
    await keeper.begin(pair(SEED, SERVER))
    one, two = keeper.request(state(), 0), keeper.request(state(), 0)

    assert one is two
    await keeper.compute(0)
    assert keeper.request(state(), 0) is one
    assert len([event for event in keeper.events if isinstance(event, ScoresReady)]) == 1


async def test_other_qualities_of_seeds_are_another_question(keeper: Keeper) -> None:
    first = pair(SEED, SERVER)
    await keeper.begin(first)
    suspended = {SEED: 1}

    plain, other = await asyncio.gather(
        keeper.compute(0), keeper.compute(0, state(seed_qualities=tuple(suspended.items())))
    )

    assert plain == expected(0, first)
    assert other == expected(0, first, previous=suspended)


async def test_a_block_of_the_epoch_makes_its_scores_worthless_and_earlier_ones_not(
    keeper: Keeper,
) -> None:
    first, late = pair(SEED, SERVER), pair(SERVER, OTHER, epoch=1)
    await keeper.begin(first)
    kept, early = keeper.request(state(), 0), keeper.request(state(), 1)
    keeper.feed({b"no pair": b""}, epoch=1)
    assert keeper.request(state(), 1) is early

    keeper.feed(dict([late]), epoch=1)

    assert keeper.request(state(), 0) is kept
    assert await keeper.compute(1) == expected(1, first, late)
    # Whoever still waits for the early answer gets it: it was right when it was asked for.
    assert await early == expected(1, first)


async def test_few_answers_are_kept(keeper: Keeper) -> None:
    await keeper.begin(pair(SEED, SERVER))
    for epoch in range(3 * RESULTS_KEPT):
        await keeper.compute(epoch)

    assert len(keeper._results) <= RESULTS_KEPT
    assert not keeper._asked


# ---- tables --------------------------------------------------------------------------------------


async def test_a_table_is_the_committed_one_and_outlives_the_keeper(
    keeper: Keeper, tmp_path: Path
) -> None:
    await keeper.begin(pair(SEED, SERVER))
    assert keeper.table(0) is None
    scored = await keeper.compute(0)

    again = ScoreKeeper(tmp_path / "scores")
    for table in (keeper.table(0), again.table(0)):
        assert table is not None
        assert table.commitment == scored.commitment
        server = table.lookup(SERVER)
        assert server is not None and server.trust > 0
        assert table.lookup(OTHER) is None


async def test_an_open_table_is_replaced_when_its_epoch_is_computed_again(keeper: Keeper) -> None:
    await keeper.begin(pair(SEED, SERVER))
    await keeper.compute(0)
    old = keeper.table(0)
    keeper.feed(dict([pair(SERVER, OTHER)]), epoch=0)

    scored = await keeper.compute(0)

    new = keeper.table(0)
    assert old is not None and new is not None
    assert new.commitment == scored.commitment != old.commitment
    assert old.lookup(SEED) is not None, "a reader of the old one goes on"


async def test_few_tables_are_open_and_old_ones_go(keeper: Keeper, tmp_path: Path) -> None:
    await keeper.begin(pair(SEED, SERVER))
    for epoch in range(TABLES_KEPT + 3):
        await keeper.compute(epoch)
        assert keeper.table(epoch) is not None
    assert len(keeper._tables) == TABLES_KEPT

    keeper.forget_before(5)

    files = sorted(path.name for path in (tmp_path / "scores").iterdir())
    assert files == sorted(f"epoch-{epoch}.scores" for epoch in range(5, TABLES_KEPT + 3))
    keeper.forget_before(5)


# ---- the process ---------------------------------------------------------------------------------


async def test_a_worker_that_is_killed_is_an_error_with_its_reason(keeper: Keeper) -> None:
    await keeper.begin(pair(SEED, SERVER))
    await keeper.compute(0)

    os.kill(keeper.pid, signal.SIGKILL)

    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(ScoreWorkerFailed, match=r"ended with code -9"):
            await keeper.running


async def test_a_worker_that_meets_nonsense_ends_and_says_so(
    keeper: Keeper, capfd: pytest.CaptureFixture[str]
) -> None:
    key, _ = pair(SEED, SERVER)
    await keeper.begin((key, b"\xc1"))

    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(ScoreWorkerFailed, match="ended with code 1"):
            await keeper.running
    assert "Traceback" in capfd.readouterr().err


async def test_closing_ends_the_worker_though_it_has_work(keeper: Keeper) -> None:
    await keeper.begin(*[pair(SEED, address(10 + number)) for number in range(2_000)])
    pid = keeper.pid
    for epoch in range(5):
        keeper.request(state(), epoch)
    keeper.running.cancel()

    async with asyncio.timeout(DEADLINE_S):
        await keeper.close()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_keeper_that_never_started_closes() -> None:
    await ScoreKeeper(Path("nowhere")).close()
