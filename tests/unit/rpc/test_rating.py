"""The evidence behind scores: explanations, ratings and histories, over real settlements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.identity import peer_id
from ledger.params import MICRO
from ledger.reputation.edges import decode_pair
from ledger.reputation.epoch import ReputationParams
from ledger.reputation.score_tree import ScoreTable
from ledger.state import ScoredEpoch, pair_key, read_seeds
from tests.kit.chain import GENESIS_TIME_MS, address_of
from tests.kit.rpc_asking import Asking, Refused
from tests.kit.rpc_node import RpcNode

PEOPLE = ("alice", "bob", "carol", "val-0")
ALICE, BOB, CAROL, SEED, NOBODY = (peer_id(address_of(each)) for each in (*PEOPLE, "nobody"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RpcNode]:
    """A seed has paid alice and praises her; carol has paid alice and complains."""
    made = RpcNode(tmp_path, dict.fromkeys(PEOPLE, 10_000 * MICRO))
    made.make_block(*(made.register(name) for name in PEOPLE))
    paid = made.params.reputation_p_min * 255
    made.make_block(
        made.settle("val-0", "alice", 1, 1, paid),
        made.settle("carol", "alice", 1, 1, paid, nonce=made.nonce("alice") + 1),
        made.settle("val-0", "carol", 1, 1, paid),
        made.settle("val-0", "alice", 1, 1, paid, service=3, nonce=made.nonce("alice") + 2),
    )
    made.make_block(made.rate("val-0", "alice", 1, 10), made.rate("carol", "alice", 1, -10))
    yield made
    made.close()


@pytest.fixture
def ask(node: RpcNode) -> Asking:
    return Asking(node)


def close_epoch(node: RpcNode, epoch: int) -> ScoreTable:
    """The block with the epoch's scores, computed as a running node does."""
    params = ReputationParams(
        p_min=node.params.reputation_p_min,
        n0=node.params.reputation_n0,
        n_ref=node.params.reputation_n_ref,
    )
    scores = node.edge_table().compute(read_seeds(node.view).addresses, params, epoch, {})
    node.tables[epoch] = scores.table
    time_ms = GENESIS_TIME_MS + (epoch + 1) * node.params.epoch_ms + node.params.score_delay_ms
    node.make_block(time_ms=time_ms, scores=ScoredEpoch(scores.commitment, ()))
    return scores.table


async def test_an_explanation_adds_up_to_the_score(node: RpcNode, ask: Asking) -> None:
    with pytest.raises(Refused) as refused:
        await ask("reputation_explain", subject=ALICE)
    assert refused.value.reason == "NOT_EXPLAINED"
    score = close_epoch(node, 0).lookup(address_of("alice"))
    assert score is not None
    said = await ask("reputation_explain", subject=ALICE)
    assert (said["epoch"], said["height"]) == (0, 4)
    assert said["score"]["quality"] == str(score.quality)
    carol, seed = said["items"]
    assert (carol["rater"], seed["rater"]) == (CAROL, SEED)
    assert int(carol["effect"]) < 0 < int(seed["effect"])
    assert (carol["pos"], seed["neg"]) == (0, 0)
    assert await ask("reputation_explain", subject=ALICE, limit=1) == {**said, "items": [carol]}
    nobody = await ask("reputation_explain", subject=NOBODY)
    assert (nobody["score"]["newcomer"], nobody["items"]) == (True, [])


async def test_ratings_of_a_subject_and_by_a_rater(node: RpcNode, ask: Asking) -> None:
    of_alice = await ask("reputation_ratings", subject=ALICE)
    listed = [(each["rater"], each["service"], each["score"]) for each in of_alice["items"]]
    assert sorted(listed) == sorted([(SEED, 1, 10), (SEED, 3, 0), (CAROL, 1, -10)])
    assert all(each["subject"] == ALICE and each["edge"] is None for each in of_alice["items"])
    by_seed = await ask("reputation_ratings", rater=SEED)
    rated = [(each["subject"], each["service"]) for each in by_seed["items"]]
    assert sorted(rated) == sorted([(ALICE, 1), (ALICE, 3), (CAROL, 1)])
    both = await ask("reputation_ratings", rater=SEED, subject=ALICE)
    assert [each["service"] for each in both["items"]] == [1, 3]
    assert (await ask("reputation_ratings", subject=NOBODY))["items"] == []
    assert (await ask("reputation_ratings", rater=NOBODY))["items"] == []


async def test_ratings_show_the_edge_that_scores_were_made_of(node: RpcNode, ask: Asking) -> None:
    close_epoch(node, 0)
    (item,) = [
        each
        for each in (await ask("reputation_ratings", rater=CAROL))["items"]
        if each["subject"] == ALICE
    ]
    voices = (await ask("reputation_explain", subject=ALICE))["items"]
    (carol,) = [each for each in voices if each["rater"] == CAROL]
    assert item["edge"] == {"epoch": 0, "pos": carol["pos"], "neg": carol["neg"]}
    pair = decode_pair(node.view.get(pair_key(address_of("carol"), address_of("alice"), 1)) or b"")
    assert item["cumPaid"] == str(pair.cum_paid)
    # The next epoch's settle closes the window of the first; its rating stays readable.
    node.make_block(node.settle("carol", "alice", 2, 2, 2 * pair.cum_paid))
    (item,) = (await ask("reputation_ratings", rater=CAROL, subject=ALICE))["items"]
    assert item["edge"]["epoch"] == 0
    assert item["score"] == 0
    (window,) = item["windows"]
    assert (window["epoch"], window["lastSeq"], window["score"], window["ratedIn"]) == (
        0,
        1,
        -10,
        0,
    )


async def test_ratings_page_without_gaps(node: RpcNode, ask: Asking) -> None:
    for facts in ({"subject": ALICE}, {"rater": SEED}, {"rater": SEED, "subject": ALICE}):
        whole = (await ask("reputation_ratings", **facts))["items"]
        page = await ask("reputation_ratings", limit=1, **facts)
        paged = page["items"]
        while page["nextCursor"] is not None:
            page = await ask("reputation_ratings", limit=1, cursor=page["nextCursor"], **facts)
            paged += page["items"]
        assert paged == whole


async def test_ratings_refuse_nonsense_and_a_busy_worker_says_so(
    node: RpcNode, ask: Asking
) -> None:
    with pytest.raises(Refused) as refused:
        await ask("reputation_ratings")
    assert refused.value.code == -32602
    with pytest.raises(Refused) as refused:
        await ask("reputation_ratings", rater=SEED, cursor="cmF0ZXJzOjB4")
    assert refused.value.reason == "INVALID_CURSOR"
    node.is_busy = True
    for method in ("reputation_ratings", "reputation_explain"):
        with pytest.raises(Refused) as refused:
            await ask(method, subject=ALICE)
        assert (refused.value.code, refused.value.reason) == (-32005, "BUSY")


async def test_a_history_goes_back_over_the_held_epochs(node: RpcNode, ask: Asking) -> None:
    assert (await ask("reputation_history", subject=ALICE))["items"] == []
    tables = {epoch: close_epoch(node, epoch) for epoch in (0, 1, 3)}
    del node.tables[1]
    said = await ask("reputation_history", subject=ALICE)
    assert [(each["epoch"], each["held"]) for each in said["items"]] == [
        (3, True),
        (1, False),
        (0, True),
    ]
    assert [each["height"] for each in said["items"]] == [6, 5, 4]
    newest = tables[3].lookup(address_of("alice"))
    assert newest is not None
    assert said["items"][0]["trust"] == str(newest.trust)
    assert "trust" not in said["items"][1]
    first = await ask("reputation_history", subject=ALICE, limit=2)
    rest = await ask("reputation_history", subject=ALICE, cursor=first["nextCursor"])
    assert first["items"] + rest["items"] == said["items"]
    assert rest["nextCursor"] is None


async def test_a_table_of_another_root_is_not_shown(node: RpcNode, ask: Asking) -> None:
    close_epoch(node, 0)
    node.make_block(node.settle("bob", "alice", 1, 1, 10 * MICRO))
    node.tables[0] = close_epoch(node, 1)
    items = (await ask("reputation_history", subject=ALICE))["items"]
    assert [each["held"] for each in items] == [True, False]
