"""The follower of the epoch process: what it takes in, and what it explains."""

import pytest

from ledger.codec import encode
from ledger.reputation import edges
from ledger.reputation.edge_table import EdgeTable
from ledger.reputation.epoch import ReputationParams
from ledger.state import pair_key

PARAMS = ReputationParams(p_min=1_000, n0=64, n_ref=2)
ORDINARY = 255_000


def address(number: int) -> bytes:
    return b"\x02" + number.to_bytes(4, "big") + bytes(28)


def rated(score: int, epoch: int = 1) -> bytes:
    pair = edges.settle_edge(
        None,
        epoch=epoch,
        seq=1,
        cum_units=1,
        cum_paid=ORDINARY,
        cosigned=True,
        ratable=True,
        p_min=1_000,
    )
    return encode(edges.rate_edge(pair, epoch=epoch, receipt_seq=1, score=score, p_min=1_000))


def followed() -> EdgeTable:
    table = EdgeTable()
    table.apply(
        [
            (pair_key(address(1), address(2), 0), rated(10)),
            (pair_key(address(1), address(3), 0), rated(10)),
            (pair_key(address(2), address(3), 0), rated(-10)),
            (pair_key(address(9), address(3), 0), rated(-10)),  # nobody trusts 9
        ]
    )
    return table


def test_explain_names_the_raters_that_move_a_score() -> None:
    table = followed()
    assert table.explain(address(3), 10) == [], "nothing is computed yet"
    score = table.compute([address(1)], PARAMS, 1, {}).table.lookup(address(3))
    assert score is not None
    voices = table.explain(address(3), 10)
    assert [voice.rater for voice in voices] == [address(2), address(1), address(9)]
    assert voices[0].effect < 0 < voices[1].effect
    assert (voices[2].weight, voices[2].neg, voices[2].effect) == (0, 128, 0)
    assert voices[1][1:4] == (voices[1].weight, 128, 0)
    # Without its complainer the peer would have had the quality of a praised one.
    assert score.quality - voices[0].effect == 65_536
    assert table.explain(address(3), 1) == voices[:1]
    assert table.explain(address(4), 10) == []
    assert table.explain(address(99), 10) == []


def test_a_removed_pair_says_nothing() -> None:
    table = followed()
    table.apply([(pair_key(address(2), address(3), 0), None)])
    score = table.compute([address(1)], PARAMS, 1, {}).table.lookup(address(3))
    assert score is not None
    assert score.quality == 65_536
    assert len(table) == 4


def test_an_epoch_that_the_state_has_left_behind_cannot_be_computed() -> None:
    table = followed()
    table.apply([(pair_key(address(5), address(6), 0), rated(1, epoch=4))])
    table.compute([address(1)], PARAMS, 3, {})
    with pytest.raises(AssertionError):
        table.compute([address(1)], PARAMS, 2, {})
