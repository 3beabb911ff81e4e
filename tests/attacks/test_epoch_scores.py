"""Attacks on the scores of an epoch: when they are computed, and what they are computed from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ledger.codec import encode
from ledger.params import DEVNET_PARAMS, MICRO
from ledger.state import read_epoch_state, scores_key
from tests.attacks.kit import Ledger, keeper, network
from tests.kit.chain import GENESIS_TIME_MS, SmallChain

EPOCH_MS = DEVNET_PARAMS.epoch_ms
DUE_MS = GENESIS_TIME_MS + EPOCH_MS + DEVNET_PARAMS.score_delay_ms


@asynccontextmanager
async def scoring_ledger(home: Path) -> AsyncIterator[Ledger]:
    """A node with a real score worker, whose only seed is alice."""
    home.mkdir()  # noqa: ASYNC240 - a test folder
    scores, running = await keeper(home / "scores")
    async with Ledger(home, network(seeds=("alice",)), scores=scores) as ledger:
        try:
            yield ledger
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await scores.close()


async def test_scores_computed_for_a_block_that_lost_are_not_used_for_the_one_that_won(
    tmp_path: Path,
) -> None:
    # A proposer is the first to date a block into epoch 1, past the moment at which the scores of
    # epoch 0 are due. Some validators compute them, from the receipts so far. The block is not
    # decided; another one, dated before the boundary, is, with one more rating of epoch 0. Were
    # the first result used for the block after that, those validators would see another state than
    # the rest: they would refuse the honest block, or stop when it is decided without them.
    chain = SmallChain(balances=dict.fromkeys(("alice", "bob"), 1_000 * MICRO))
    async with (
        scoring_ledger(tmp_path / "saw it") as saw,
        scoring_ledger(tmp_path / "did not") as rest,
    ):
        entrance = [chain.register("alice"), chain.register("bob", nonce=0)]
        first = chain.settle("alice", "bob", 1, 1, 5_000, nonce=1)
        second = chain.rate("alice", "bob", 1, -10, nonce=1)
        for ledger in (saw, rest):
            await ledger.block(*entrance, first)
        lost = await rest.seal(time_ms=DUE_MS, proposer=rest.network.validators[1].operator)
        rest.application._scores._results.clear()
        assert await saw.judge(lost, fresh=False)

        won = await rest.seal(second, time_ms=GENESIS_TIME_MS + EPOCH_MS - 1)
        for ledger in (saw, rest):
            await ledger.commit(won)
        due = await rest.seal(time_ms=DUE_MS)
        assert await saw.judge(due, fresh=False)
        await saw.commit(due)
        assert read_epoch_state(saw.store).last_scored == 0
        table = saw.scores.table(0)
        raw = saw.store.get(scores_key(0))
        assert raw is not None
        assert encode(table.commitment) == raw, "the table on disk is the committed one"
