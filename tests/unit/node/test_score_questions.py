"""What the score worker is asked besides scores: explanations and raters, in a real process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger.codec import encode
from ledger.params import DEVNET_PARAMS
from ledger.reputation import edges
from ledger.state import EPOCH_KEY, PARAMS_KEY, SEEDS_KEY, EpochState, Seeds, pair_key
from ledger.view import EmptyView, OverlayView, ReadView
from node import scores as scores_module
from node.scores import ScoreKeeper, ScoreWorkerBusy, ScoreWorkerFailed

DEADLINE_S = 30.0


def address(number: int) -> bytes:
    return b"\x02" + number.to_bytes(4, "big") + bytes(28)


SEED, SERVER, OTHER = (address(number) for number in (1, 2, 3))


def pair(rater: bytes, ratee: bytes, *, epoch: int = 0, service: int = 0) -> tuple[bytes, bytes]:
    settled = edges.settle_edge(
        None,
        epoch=epoch,
        seq=1,
        cum_units=1,
        cum_paid=255_000,
        cosigned=True,
        ratable=True,
        p_min=DEVNET_PARAMS.reputation_p_min,
    )
    return pair_key(rater, ratee, service), encode(settled)


def state(last_scored: int) -> ReadView:
    return OverlayView(
        EmptyView(),
        {
            PARAMS_KEY: DEVNET_PARAMS.encode(),
            SEEDS_KEY: encode(Seeds((SEED,))),
            EPOCH_KEY: encode(EpochState(last_scored)),
        },
    )


@contextlib.asynccontextmanager
async def keeping(folder: Path, *pairs: tuple[bytes, bytes]) -> AsyncIterator[ScoreKeeper]:
    made = ScoreKeeper(folder)
    await made.start(pairs)
    running = asyncio.create_task(made.run())
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield made
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError, ScoreWorkerFailed):
            await running
        await made.close()


async def test_an_explanation_speaks_of_the_last_computed_epoch(tmp_path: Path) -> None:
    async with keeping(tmp_path, pair(SEED, SERVER), pair(OTHER, SERVER)) as keeper:
        assert (await keeper.explain(state(-1), SERVER, 10)).epoch is None
        await keeper.request(state(-1), 0)
        explained = await keeper.explain(state(0), SERVER, 10)
        assert explained.epoch == 0
        assert [voice.rater for voice in explained.voices] == [SEED, OTHER]
        assert explained.voices[1].weight == 0
        assert len((await keeper.explain(state(0), SERVER, 1)).voices) == 1
        # Computed, but its block does not stand yet: the newer one is explained.
        keeper.feed(dict([pair(OTHER, SEED, epoch=2)]), epoch=2)
        await keeper.request(state(0), 1)
        assert (await keeper.explain(state(0), SERVER, 10)).epoch == 1


async def test_after_a_restart_the_epoch_is_computed_again_to_explain_it(tmp_path: Path) -> None:
    pairs = pair(SEED, SERVER), pair(OTHER, SERVER)
    async with keeping(tmp_path, *pairs) as keeper:
        await keeper.request(state(-1), 0)
        before = await keeper.explain(state(0), SERVER, 10)
    async with keeping(tmp_path, *pairs) as keeper:
        assert await keeper.explain(state(0), SERVER, 10) == before
    # The edges have gone on, so that epoch cannot be computed any more.
    async with keeping(tmp_path, *pairs, pair(OTHER, SEED, epoch=2)) as keeper:
        assert (await keeper.explain(state(0), SERVER, 10)).epoch is None
    # Another table than these edges give: it must not be explained by them.
    async with keeping(tmp_path, pairs[0]) as keeper:
        for _ in range(2):
            assert (await keeper.explain(state(0), SERVER, 10)).epoch is None


async def test_raters_in_order_and_in_pages(tmp_path: Path) -> None:
    pairs = [pair(address(number), SERVER) for number in (9, 5, 7)]
    twice = pair(address(5), SERVER, service=4)
    async with keeping(tmp_path, *pairs, twice, pair(SERVER, OTHER)) as keeper:
        assert await keeper.raters_of(SERVER, b"", 10) == [address(5), address(7), address(9)]
        assert await keeper.raters_of(SERVER, address(5), 1) == [address(7)]
        assert await keeper.raters_of(address(99), b"", 10) == []
        keeper.feed(dict([pair(OTHER, SERVER)]), epoch=0)
        assert await keeper.raters_of(SERVER, b"", 1) == [OTHER]


async def test_questions_are_bounded_and_one_that_is_given_up_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores_module, "QUESTIONS_COUNT", 2)
    async with keeping(tmp_path, pair(SEED, SERVER)) as keeper:
        given_up = asyncio.create_task(keeper.raters_of(SERVER, b"", 10))
        waiting = asyncio.create_task(keeper.raters_of(SERVER, b"", 10))
        await asyncio.sleep(0)
        with pytest.raises(ScoreWorkerBusy):
            await keeper.raters_of(SERVER, b"", 10)
        given_up.cancel()
        assert await waiting == [SEED]
        assert await keeper.raters_of(SERVER, b"", 10) == [SEED]
