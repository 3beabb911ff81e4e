"""The node's news: what is told, when it can be read, and what blocks leave to be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consensus.trace import RoundStatus
from ledger.mempool import TransactionDropped
from ledger.params import DEVNET_PARAMS
from ledger.trace import TraceEvent
from node.chain_store import scored_epochs, scored_height
from node.feed import NodeFeed
from p2p.trace import PeerDown, PeerUp
from rpc.feed import (
    BlockStands,
    FeedEvent,
    PeersChanged,
    RoundMoved,
    TransactionLeft,
    TransactionsWait,
)
from tests.unit.node.parts import GENESIS_MS, Bench, key_of, transfer


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path) as made:
        yield made


async def commit(bench: Bench, time_ms: int) -> None:
    bench.clock.time_ms = time_ms
    await bench.apply(await bench.built())


async def test_a_block_is_told_once_it_can_be_read(bench: Bench) -> None:
    feed = NodeFeed()
    told: list[FeedEvent] = []
    heights: list[int] = []

    def listen(event: FeedEvent) -> None:
        told.append(event)
        heights.append(bench.application.tip.height)

    bench.application.on_block(feed.on_block)
    bench.add(transfer(0))
    await commit(bench, GENESIS_MS + 1)
    feed.listen(listen)
    bench.add(transfer(1, to="carol"))
    await commit(bench, GENESIS_MS + 2)

    (block,) = told
    assert isinstance(block, BlockStands)
    assert (block.height, heights) == (2, [2])
    assert {key_of("alice").public_key, key_of("carol").public_key} <= set(block.changed)
    assert (block.scored_epoch, block.set_changed) == (None, False)


async def test_a_block_with_scores_names_their_epoch_and_is_found_again(bench: Bench) -> None:
    feed = NodeFeed()
    told: list[FeedEvent] = []
    feed.listen(told.append)
    bench.application.on_block(feed.on_block)
    epoch_ms, delay_ms = DEVNET_PARAMS.epoch_ms, DEVNET_PARAMS.score_delay_ms
    for time_ms in (1, epoch_ms + delay_ms, epoch_ms + delay_ms + 1, 3 * epoch_ms + delay_ms):
        await commit(bench, GENESIS_MS + time_ms)

    scored = [each.scored_epoch for each in told if isinstance(each, BlockStands)]
    assert scored == [None, 0, None, 2]
    store = bench.store
    assert scored_epochs(store, 1, 10) == [(0, 2), (2, 4)]
    assert scored_epochs(store, 2, 1) == [(0, 2)]
    assert scored_epochs(store, 3, 10) == [(2, 4)]
    assert scored_epochs(store, 5, 10) == []
    assert [scored_height(store, epoch) for epoch in range(4)] == [2, None, 4, None]


def test_traces_become_news_and_go_on() -> None:
    feed = NodeFeed()
    told: list[FeedEvent] = []
    traced: list[TraceEvent] = []
    feed.listen(told.append)
    trace = feed.watching(traced.append)
    events: list[TraceEvent] = [
        RoundStatus(1, 0, 0, "waiting"),
        TransactionDropped(b"id", "EVICTED"),
        PeerUp("a"),
        PeerDown("a", "gone"),
        TraceEvent(),
    ]
    for event in events:
        trace(event)
    feed.on_admitted([b"raw"])
    assert traced == events
    assert told == [
        RoundMoved(),
        TransactionLeft(b"id", "EVICTED"),
        PeersChanged(),
        PeersChanged(),
        TransactionsWait([b"raw"]),
    ]
