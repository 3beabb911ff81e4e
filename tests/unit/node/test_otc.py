"""The judge of the Bitcoin-OTC replay, on examples whose answer is known."""

import random

import pytest

from node import otc


def test_area_under_curve_counts_ties_half() -> None:
    assert otc.area_under_curve([3, 4], [1, 2]) == 1.0
    assert otc.area_under_curve([1, 2], [3, 4]) == 0.0
    assert otc.area_under_curve([1, 1], [1, 1]) == 0.5
    assert otc.area_under_curve([2, 5], [2, 9]) == (0.5 + 1) / 4


def test_rows_are_read_and_anything_else_is_refused() -> None:
    assert otc.read_ratings(["6,2,4,1289241911.7\n"]) == [otc.Rating(6, 2, 4)]
    assert otc.read_labels(["2097,+1\n", "5,-1\n"]) == {2097: 1, 5: -1}
    for wrong in ("1,2,3", "1,2,x,0"):
        with pytest.raises(ValueError):
            otc.read_ratings([wrong])
    with pytest.raises(ValueError):
        otc.read_labels(["1"])


def test_seeds_are_neither_labelled_nor_founders() -> None:
    ratings = [otc.Rating(100 + n, ratee, 1) for ratee in range(1, 12) for n in range(ratee)]
    ratings += [otc.Rating(200 + n, 2, -1) for n in range(50)]
    assert otc.choose_seeds(ratings, {11: 1, 10: -1}) == [9, 8, 7, 6, 5, 4, 3]


def test_a_verdict_figure_by_hand() -> None:
    ratings = [otc.Rating(1, 2, 5), otc.Rating(1, 3, -5), otc.Rating(1, 4, 5)]
    labels = {2: otc.TRUSTED, 3: otc.FRAUDULENT, 4: otc.FRAUDULENT, 5: otc.TRUSTED}
    verdicts = {2: otc.Verdict(9, 60_000, 9), 3: otc.Verdict(0, 10, 0), 4: otc.Verdict(5, 50, 5)}
    figures = otc.judge(ratings, labels, verdicts)
    assert figures.auc_quality == 1.0  # 5 is unknown: quality 1, no standing
    assert figures.auc_standing == (2 + 0.5) / 4
    assert figures.auc_mean_rating == (1.5 + 1) / 4
    assert figures.frauds_without_standing == 0.5
    assert figures.trusted_without_standing == 0.5


def test_an_attack_is_the_same_for_the_same_randomness() -> None:
    labels = {n: otc.TRUSTED if n % 2 else otc.FRAUDULENT for n in range(100)}
    ratings = [otc.Rating(n, n + 1, 5) for n in range(200)]
    attack = otc.Attack(sybils=30)
    first, second, other = (
        otc.sybil_ratings(ratings, labels, random.Random(seed), attack) for seed in (1, 1, 2)
    )
    assert first == second != other
    assert len(first) == 30 * 45 + 400
    sybils = {rating.rater for rating in first} - set(labels)
    assert sybils == set(range(201, 231))
    for rater, ratee, score in first:
        assert rater != ratee
        if rater in sybils and ratee not in sybils:
            assert score == (10 if labels[ratee] == otc.FRAUDULENT else -10)


def test_a_replay_scores_everybody() -> None:
    verdicts = otc.replay([otc.Rating(1, 2, 10), otc.Rating(2, 3, -10)], [1])
    assert sorted(verdicts) == [1, 2, 3]
    assert verdicts[2].standing > 0
    assert verdicts[3].standing == 0
