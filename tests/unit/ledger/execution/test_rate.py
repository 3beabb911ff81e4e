"""Rate: only what the pair's payer may judge, in time, once."""

import msgspec
import pytest

from ledger.params import DEVNET_PARAMS, MICRO
from ledger.reasons import TransactionRefused
from ledger.reputation.edges import pair_codec
from ledger.reputation.score_tree import ScoreCommitment
from ledger.state import ScoredEpoch, pair_key
from ledger.transactions import Rate
from ledger.verification import check_stateless
from tests.kit.chain import CHAIN, GENESIS_TIME_MS, SmallChain, address_of

EPOCH_MS = DEVNET_PARAMS.epoch_ms


@pytest.fixture
def chain() -> SmallChain:
    made = SmallChain({"alice": 100 * MICRO, "bob": 100 * MICRO})
    made.commit(made.register("alice"), made.register("bob"))
    return made


def reason(chain: SmallChain, *arguments: object, epoch: int = 0, **options: object) -> str:
    signed = chain.rate(*arguments, **options)  # type: ignore[arg-type]
    time_ms = max(chain.time_ms + 1, GENESIS_TIME_MS + epoch * EPOCH_MS)
    (receipt,) = chain.commit(signed, time_ms=time_ms)
    return receipt.reason or "ok"


def test_a_rating_stands_in_the_pair(chain: SmallChain) -> None:
    chain.commit(chain.settle("alice", "bob", 1, 1, 5_000))
    assert reason(chain, "alice", "bob", 1, -7) == "ok"
    raw = chain.view.get(pair_key(address_of("alice"), address_of("bob"), 1))
    assert raw is not None
    assert pair_codec.decode(raw).score == -7


def test_settle_and_rating_may_stand_in_one_block(chain: SmallChain) -> None:
    receipts = chain.commit(
        chain.settle("alice", "bob", 1, 1, 5_000), chain.rate("alice", "bob", 1, 10)
    )
    assert all(each.ok for each in receipts)


def test_only_once_an_epoch(chain: SmallChain) -> None:
    chain.commit(chain.settle("alice", "bob", 1, 1, 5_000))
    assert reason(chain, "alice", "bob", 1, 5) == "ok"
    assert reason(chain, "alice", "bob", 1, -10) == "ALREADY_RATED"


def test_only_what_was_settled_and_by_its_payer(chain: SmallChain) -> None:
    assert reason(chain, "alice", "bob", 1, 5) == "NOTHING_TO_RATE"
    chain.commit(chain.settle("alice", "bob", 1, 1, 5_000))
    assert reason(chain, "alice", "bob", 2, 5) == "NOTHING_TO_RATE"
    assert reason(chain, "bob", "alice", 1, 5) == "NOTHING_TO_RATE"
    assert reason(chain, "alice", "bob", 1, 5, service=2) == "NOTHING_TO_RATE"


def test_not_what_the_payee_never_asked_for(chain: SmallChain) -> None:
    chain.commit(chain.settle("alice", "bob", 1, 1, 5_000, sender="alice", cosigned=False))
    assert reason(chain, "alice", "bob", 1, -10) == "NOTHING_TO_RATE"


@pytest.mark.parametrize(("epoch", "verdict"), [(1, "ok"), (2, "ok"), (3, "RATING_TOO_LATE")])
def test_within_two_epochs(chain: SmallChain, epoch: int, verdict: str) -> None:
    chain.commit(chain.settle("alice", "bob", 1, 1, 5_000))
    assert reason(chain, "alice", "bob", 1, -10, epoch=epoch) == verdict


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"score": 0}, "score"),
        ({"subject": address_of("alice")}, "subject"),
        ({"evidence_hash": b"x"}, "evidence_hash"),
    ],
)
def test_contradictions_never_enter_a_block(
    chain: SmallChain, fields: dict[str, object], field: str
) -> None:
    rate = chain.rate("alice", "bob", 1, 5).transaction
    assert isinstance(rate, Rate)
    signed = chain.sign(msgspec.structs.replace(rate, **fields), "alice")
    with pytest.raises(TransactionRefused) as caught:
        check_stateless(signed, CHAIN.chain_id, chain.params)
    assert (caught.value.reason, dict(caught.value.facts)["field"]) == ("INVALID_FIELDS", field)


def test_ratings_survive_the_scores_of_an_epoch(chain: SmallChain) -> None:
    chain.commit(chain.settle("alice", "bob", 1, 1, 5_000))
    due = GENESIS_TIME_MS + EPOCH_MS + DEVNET_PARAMS.score_delay_ms
    scores = ScoredEpoch(ScoreCommitment(0, bytes(32), 0), ())
    (receipt,) = chain.commit(chain.rate("alice", "bob", 1, 5), time_ms=due, scores=scores)
    assert receipt.ok
