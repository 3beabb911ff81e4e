"""Rules 5 and 6 and the standing, by hand."""

import pytest

from ledger.reputation import quality
from ledger.reputation.trust import TRUST_TOTAL


@pytest.mark.parametrize(
    ("trust", "n_ref", "weight"),
    [
        (0, 1_000, 0),
        (TRUST_TOTAL // 1_000, 1_000, 255),  # a fair share is a quarter of the full weight
        (TRUST_TOTAL * 4 // 1_000, 1_000, 1_024),
        (TRUST_TOTAL, 1_000, 1_024),
        (TRUST_TOTAL, 1, 256),
        (TRUST_TOTAL * 4 // 10**7, 10**7, 1_024),
        (100, 10**7, 0),
    ],
)
def test_rater_weight_saturates_at_four_fair_shares(trust: int, n_ref: int, weight: int) -> None:
    assert quality.rater_weight(trust, n_ref) == weight


def test_what_one_rater_adds() -> None:
    # n = 64 + 4 * 16 = 128 = n0 * 2: confidence 2/3; good share 1/2.
    assert quality.edge_voice(1_024, 64, 16, 64) == (1_024 * 682 * 512 >> 10, 1_024 * 682)
    assert quality.edge_voice(1_024, 0, 0, 64) == (0, 0)
    assert quality.edge_voice(0, 100, 0, 64) == (0, 0)


def test_an_unrated_peer_has_quality_one() -> None:
    assert quality.quality_of(0, 0) == quality.QUALITY_UNIT


def test_quality_by_hand() -> None:
    # Two raters of full weight about peer 2: one only good, one only bad; n = 128 and 512.
    edges = [[(2, 128, 0)], [(2, 0, 128)], []]
    qualities, raters = quality.qualities(edges, [1_024, 1_024, 1_024], 64)
    good = 1_024 * (128 * 1_024 // 192)
    bad = 1_024 * (512 * 1_024 // 576)
    assert qualities == [65_536, 65_536, ((good + 2**19) << 16) // (good + bad + 2**19)]
    assert raters == [0, 0, 2]


def test_raters_without_weight_do_not_count() -> None:
    assert quality.qualities([[(1, 5, 0)], []], [0, 0], 64) == ([65_536, 65_536], [0, 0])


@pytest.mark.parametrize(
    ("q", "gain"),
    [
        (65_536, 65_536),
        (39_321, 0),
        (39_322, 1_100),  # 0.6^8 = 0.0168
        (58_982, 28_209),  # 0.9^8 = 0.4305
        (0, 0),
    ],
)
def test_gain_is_the_eighth_power_and_zero_below_the_threshold(q: int, gain: int) -> None:
    assert quality.gain_of(q) == pytest.approx(gain, abs=4)
    assert (quality.gain_of(q) == 0) == (q < 39_322)


def test_standing_is_trust_times_gain() -> None:
    assert quality.standing_of(TRUST_TOTAL, 65_536) == TRUST_TOTAL
    assert quality.standing_of(1_001, 32_768) == 500


def test_equal_standings_rank_by_address() -> None:
    assert quality.ranks([5, 9, 5, 0, 9]) == [3, 1, 4, 5, 2]
