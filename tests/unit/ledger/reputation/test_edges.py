"""Rules 1 and 2 by hand: points, ratings in time and late, decay, and what is refused."""

import pytest

from ledger.codec import encode
from ledger.errors import NotCanonical
from ledger.reasons import FAILED
from ledger.reputation import edges
from ledger.reputation.edges import PairState, edge_at_end_of, rate_edge, settle_edge

P_MIN = 1_000
ORDINARY = 255 * P_MIN  # log2(256) = 8 doublings = 128 points


def settle(
    pair: PairState | None,
    epoch: int,
    paid: int,
    *,
    cosigned: bool = True,
    ratable: bool = True,
    p_min: int = P_MIN,
) -> PairState:
    seq, units, total = (pair.seq, pair.cum_units, pair.cum_paid) if pair else (0, 0, 0)
    return settle_edge(
        pair,
        epoch=epoch,
        seq=seq + 10,
        cum_units=units + 1,
        cum_paid=total + paid,
        cosigned=cosigned,
        ratable=ratable,
        p_min=p_min,
    )


def rate(pair: PairState | None, epoch: int, receipt_seq: int, score: int) -> PairState:
    return rate_edge(pair, epoch=epoch, receipt_seq=receipt_seq, score=score, p_min=P_MIN)


@pytest.mark.parametrize(
    ("paid", "points"),
    [
        (0, 0),
        (999, 0),
        (1_000, 16),
        (2_999, 16),
        (3_000, 32),
        (254_999, 112),
        (255_000, 128),
        (65_534_999, 240),
        (65_535_000, 256),
        (2**53 - 1, 256),
    ],
)
def test_points_double_with_every_sixteen(paid: int, points: int) -> None:
    assert edges.points_of(paid, P_MIN) == points


@pytest.mark.parametrize(
    ("score", "edge"),
    [(0, (64, 0)), (1, (70, 0)), (10, (128, 0)), (-1, (0, 12)), (-10, (0, 128))],
)
def test_a_score_weighs_the_points(score: int, edge: tuple[int, int]) -> None:
    assert edges.credit(128, 128, score) == edge
    pair = settle(None, 7, ORDINARY)
    if score:
        pair = rate(pair, 7, 10, score)
    assert edge_at_end_of(pair, 7) == edge


def test_half_lives_are_14_and_28_epochs() -> None:
    # Large enough for the floored steps not to matter.
    assert edges.decay(2**40, edges.POSITIVE_DECAY, 14) == pytest.approx(2**39, rel=1e-3)
    assert edges.decay(2**40, edges.NEGATIVE_DECAY, 28) == pytest.approx(2**39, rel=1e-3)
    assert edges.decay(100, edges.POSITIVE_DECAY, 1) == 100 * 62_370 // 65_536 == 95
    assert edges.decay(100, edges.NEGATIVE_DECAY, 1) == 100 * 63_934 // 65_536 == 97
    assert edges.decay(2**100, edges.POSITIVE_DECAY, 1_024) > 0
    assert edges.decay(2**100, edges.POSITIVE_DECAY, 1_025) == 0


def test_decay_comes_first_then_the_epochs_own_points() -> None:
    pair = settle(settle(None, 3, ORDINARY), 5, ORDINARY)
    assert edge_at_end_of(settle(None, 3, ORDINARY), 3) == (64, 0)
    assert edge_at_end_of(pair, 4) == (64 * 62_370 >> 16, 0) == (60, 0)
    assert edge_at_end_of(pair, 5) == ((60 * 62_370 >> 16) + 64, 0)


def test_two_settles_of_one_epoch_are_worth_their_sum() -> None:
    pair = settle(settle(None, 1, 100_000), 1, 155_000)
    assert edge_at_end_of(pair, 1) == (64, 0)


def test_a_payers_own_signature_pays_but_gives_no_points() -> None:
    pair = settle(None, 1, ORDINARY, cosigned=False, ratable=False)
    assert edge_at_end_of(pair, 1) == (0, 0)
    assert (pair.seq, pair.cum_units, pair.cum_paid) == (0, 0, ORDINARY)
    with pytest.raises(edges.NothingToRate) as refused:
        rate(pair, 1, 10, -10)
    assert refused.value.facts == {"receipt_seq": 10, "last_seq": 0}
    with pytest.raises(edges.NothingToRate):
        rate(pair, 2, 10, -10)


def test_what_earned_no_point_cannot_be_rated() -> None:
    pair = settle(None, 1, P_MIN - 1)
    with pytest.raises(edges.NotRatable) as refused:
        rate(pair, 1, 10, -10)
    assert refused.value.facts == {"receipt_seq": 10, "settled_in": 1}
    with pytest.raises(edges.NotRatable):
        rate(pair, 2, 10, -10)


def test_a_channel_receipt_without_countersignature_can_blame_but_not_praise() -> None:
    pair = settle(None, 1, ORDINARY, cosigned=False, ratable=True)
    assert edge_at_end_of(rate(pair, 1, 10, 10), 1) == (0, 0)
    assert edge_at_end_of(rate(pair, 1, 10, -10), 1) == (0, 128)


def test_forced_payments_do_not_add_to_blame() -> None:
    pair = settle(None, 1, P_MIN)
    pair = settle(pair, 1, 1_000 * ORDINARY, cosigned=False, ratable=False)
    assert edge_at_end_of(rate(pair, 1, 10, -10), 1) == (0, 16)


def test_a_settle_after_the_rating_takes_the_same_score() -> None:
    pair = rate(settle(None, 1, 100_000), 1, 10, -10)
    assert edge_at_end_of(settle(pair, 1, 155_000), 1) == (0, 128)


def test_a_late_rating_replaces_the_unrated_credit() -> None:
    pair = settle(None, 1, ORDINARY)
    assert edge_at_end_of(pair, 2) == (60, 0)  # 64 decayed once
    praised = rate(pair, 2, 10, 10)
    assert edge_at_end_of(praised, 1) == (64, 0), "the past does not change"
    assert edge_at_end_of(praised, 2) == (128 * 62_370 >> 16, 0) == (121, 0)
    blamed = rate(pair, 3, 10, -10)
    assert edge_at_end_of(blamed, 2) == (60, 0)
    assert edge_at_end_of(blamed, 3) == (0, edges.decay(128, edges.NEGATIVE_DECAY, 2))


def test_a_late_rating_leaves_the_present_window_alone() -> None:
    pair = settle(settle(None, 1, ORDINARY), 2, ORDINARY)  # receipts 10 and 20
    pair = rate(pair, 2, 10, -10)
    assert edge_at_end_of(pair, 2) == (64, 128 * 63_934 >> 16)
    pair = rate(pair, 3, 20, 10)  # rates epoch 2 in epoch 3
    assert edge_at_end_of(pair, 3)[0] == 128 * 62_370 >> 16


def test_a_sequence_number_covered_by_a_cumulative_receipt_can_be_rated() -> None:
    pair = settle(settle(None, 1, ORDINARY), 2, ORDINARY)
    assert rate(pair, 2, 11, 5).score == 5
    assert rate(pair, 2, 1, 5).windows[0].score == 5


def test_what_cannot_be_rated() -> None:
    with pytest.raises(edges.NothingToRate) as nothing:
        rate(None, 1, 1, 5)
    assert nothing.value.facts["last_seq"] == 0
    pair = settle(None, 1, ORDINARY)
    with pytest.raises(edges.NothingToRate):
        rate(pair, 1, 11, 5)
    with pytest.raises(edges.NothingToRate):
        rate(pair, 1, 0, 5)
    with pytest.raises(edges.RatingTooLate) as old:
        rate(pair, 4, 10, 5)
    assert old.value.facts["oldest_seq"] == 11
    assert rate(pair, 3, 10, 5).windows[0].score == 5
    pair = settle(pair, 3, ORDINARY)
    with pytest.raises(edges.RatingTooLate) as old:
        rate(settle(pair, 4, ORDINARY), 4, 9, 5)
    assert old.value.facts["oldest_seq"] == 11


def test_one_rating_an_epoch_and_one_a_window() -> None:
    pair = settle(settle(None, 1, ORDINARY), 2, ORDINARY)
    late = rate(pair, 2, 10, 5)
    for seq in (10, 20):
        with pytest.raises(edges.AlreadyRated) as twice:
            rate(late, 2, seq, 5)
        assert twice.value.facts["rated_in"] == 2
    with pytest.raises(edges.AlreadyRated):
        rate(late, 3, 10, 5)
    at_once = rate(pair, 2, 20, 5)
    with pytest.raises(edges.AlreadyRated):
        rate(at_once, 2, 10, 5)
    with pytest.raises(edges.AlreadyRated):
        rate(at_once, 3, 20, -5)
    assert rate(at_once, 3, 10, 5).windows[0].score == 5


@pytest.mark.parametrize(
    ("field", "seq", "units", "paid"),
    [("seq", 10, 2, 2), ("cum_units", 11, 1, 2), ("cum_paid", 11, 2, 1)],
)
def test_a_receipt_must_grow_in_every_field(field: str, seq: int, units: int, paid: int) -> None:
    pair = settle(None, 1, 1)
    with pytest.raises(edges.ReceiptNotNewer) as refused:
        settle_edge(
            pair,
            epoch=1,
            seq=seq,
            cum_units=units,
            cum_paid=paid,
            cosigned=True,
            ratable=True,
            p_min=P_MIN,
        )
    assert refused.value.facts["field"] == field


def test_a_governed_change_of_p_min_does_not_rewrite_a_finished_epoch() -> None:
    pair = settle(None, 1, ORDINARY)
    before = edge_at_end_of(pair, 1)
    later = settle(pair, 2, ORDINARY, p_min=1)
    assert edge_at_end_of(later, 1) == before
    assert edge_at_end_of(later, 2) == ((64 * 62_370 >> 16) + 256 * 10 // 20, 0) == (188, 0)


def test_history_is_capped() -> None:
    pair = None
    for epoch in range(200):
        pair = rate(settle(pair, epoch, 2**30), epoch, 10 * (epoch + 1), 10)
    assert pair is not None
    assert edge_at_end_of(pair, 199) == (edges.HISTORY_CAP, 0)
    for epoch in range(200, 400):
        pair = rate(settle(pair, epoch, 2**30), epoch, 10 * (epoch + 1), -10)
    assert edge_at_end_of(pair, 399)[1] == edges.HISTORY_CAP


def test_a_pair_asked_about_an_epoch_it_has_left_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        edge_at_end_of(settle(None, 5, 1), 3)


def test_the_encoding_comes_back() -> None:
    pair = settle(rate(settle(None, 1, ORDINARY), 2, 10, -3), 3, 5)
    assert edges.pair_codec.decode(encode(pair)) == pair
    window = edges.Window(2**53 - 1, 2**53 - 1, 2**53 - 1, 2**31, 2**31, -10, 2**53 - 1)
    longest = PairState(*[2**53 - 1] * 4, 2**31, 2**31, *[2**53 - 1] * 4, -10, (window,) * 2)
    assert edges.pair_codec.decode(encode(longest)) == longest
    with pytest.raises(NotCanonical):
        edges.pair_codec.decode(encode(pair).replace(b"\x14", b"\xcc\x14", 1))


def test_every_refusal_has_a_published_reason() -> None:
    for refusal in edges.EdgeRefused.__subclasses__():
        assert refusal.reason in FAILED
