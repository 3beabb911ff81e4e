"""The score rule: when a block must carry an epoch's scores, and which stay."""

import msgspec
import pytest

from ledger.execution.scores import ScoresNotReady, due_epoch
from ledger.params import DEVNET_PARAMS, MICRO
from ledger.reputation.score_tree import ScoreCommitment
from ledger.state import ScoredEpoch, read_epoch_state, scores_key
from tests.kit.chain import GENESIS_TIME_MS, SmallChain, address_of

EPOCH_MS, DELAY_MS = DEVNET_PARAMS.epoch_ms, DEVNET_PARAMS.score_delay_ms


@pytest.fixture
def chain() -> SmallChain:
    return SmallChain({"alice": MICRO})


def scores(epoch: int) -> ScoredEpoch:
    seeds = ((address_of("val-0"), 60_000),)
    return ScoredEpoch(ScoreCommitment(epoch, bytes([epoch % 256]) * 32, epoch), seeds)


def due_time(epoch: int) -> int:
    """The first moment at which scores of `epoch` are due."""
    return GENESIS_TIME_MS + (epoch + 1) * EPOCH_MS + DELAY_MS


def kept(chain: SmallChain, upto: int) -> list[int]:
    return [epoch for epoch in range(upto + 1) if chain.view.get(scores_key(epoch)) is not None]


@pytest.mark.parametrize(
    ("offset_ms", "last_scored", "due"),
    [
        (0, -1, None),
        (EPOCH_MS - 1, -1, None),
        (EPOCH_MS, -1, None),
        (EPOCH_MS + DELAY_MS - 1, -1, None),
        (EPOCH_MS + DELAY_MS, -1, 0),
        (EPOCH_MS + DELAY_MS, 0, None),
        (2 * EPOCH_MS - 1, -1, 0),
        (2 * EPOCH_MS, -1, None),  # too late for epoch 0, too early for epoch 1
        (2 * EPOCH_MS + DELAY_MS, 0, 1),
        (2 * EPOCH_MS + DELAY_MS, -1, 1),
        (9 * EPOCH_MS + DELAY_MS, 0, 8),
    ],
)
def test_when_scores_are_due(offset_ms: int, last_scored: int, due: int | None) -> None:
    assert (
        due_epoch(GENESIS_TIME_MS + offset_ms, GENESIS_TIME_MS, DEVNET_PARAMS, last_scored) == due
    )


def test_a_due_block_writes_them_once(chain: SmallChain) -> None:
    chain.commit(time_ms=due_time(0), scores=scores(0))
    assert chain.view.get(scores_key(0)) is not None
    state = read_epoch_state(chain.view)
    assert state.last_scored == 0
    assert state.seed_qualities == scores(0).seed_qualities
    assert chain.execute(time_ms=due_time(0) + 1).writes == {}


@pytest.mark.parametrize("mode", ["validate", "build"])
@pytest.mark.parametrize("handed_in", [None, scores(1)])
def test_a_node_without_them_waits(
    chain: SmallChain, mode: str, handed_in: ScoredEpoch | None
) -> None:
    with pytest.raises(ScoresNotReady) as caught:
        chain.execute(time_ms=due_time(0), mode=mode, scores=handed_in)  # type: ignore[arg-type]
    assert caught.value.epoch == 0


def test_scores_that_are_not_due_are_left_alone(chain: SmallChain) -> None:
    early = due_time(0) - 1
    assert chain.execute(time_ms=early, scores=scores(0)).writes == {}


def test_history_is_bounded(chain: SmallChain) -> None:
    history = DEVNET_PARAMS.score_history_epochs
    for epoch in range(history + 3):
        chain.commit(time_ms=due_time(epoch), scores=scores(epoch))
    assert kept(chain, history + 3) == list(range(3, history + 3))


def test_a_long_stop_leaves_nothing_of_before(chain: SmallChain) -> None:
    for epoch in range(5):
        chain.commit(time_ms=due_time(epoch), scores=scores(epoch))
    # So far ahead that a loop over every epoch in between would never end.
    far = 10**9
    chain.commit(time_ms=due_time(far), scores=scores(far))
    assert kept(chain, 10) == []
    assert chain.view.get(scores_key(far)) is not None


def test_a_short_stop_keeps_what_is_within_the_history(chain: SmallChain) -> None:
    for epoch in (0, 1, 30):
        chain.commit(time_ms=due_time(epoch), scores=scores(epoch))
    chain.commit(time_ms=due_time(65), scores=scores(65))
    assert kept(chain, 65) == [30, 65]


def test_a_longer_history_by_parameter() -> None:
    params = msgspec.structs.replace(DEVNET_PARAMS, score_history_epochs=100)
    chain = SmallChain({"alice": MICRO}, params)
    for epoch in range(110):
        chain.commit(time_ms=due_time(epoch), scores=scores(epoch))
    assert kept(chain, 110) == list(range(10, 110))
