"""Real people: the Bitcoin-OTC network through the edges and the epoch computation.

The targets are those of the published prototype of the rules: AUC of quality 0.997 and of standing
0.985, no standing for 94 % of the frauds and 1.5 % of the trusted; under 1,000 Sybils 0.990 and
0.978; without the founders' ratings 0.992 and 0.981.
"""

import gzip
import random
from pathlib import Path

import pytest

from node import otc

DATA = Path(__file__).parent.parent / "vectors" / "bitcoin_otc"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ratings() -> list[otc.Rating]:
    with gzip.open(DATA / "ratings.csv.gz", "rt", encoding="ascii") as lines:
        return otc.read_ratings(lines)


@pytest.fixture(scope="module")
def labels() -> dict[int, int]:
    with (DATA / "labels.csv").open(encoding="ascii") as lines:
        return otc.read_labels(lines)


@pytest.fixture(scope="module")
def seeds(ratings: list[otc.Rating], labels: dict[int, int]) -> list[int]:
    return otc.choose_seeds(ratings, labels)


def test_the_data_is_the_published_network(
    ratings: list[otc.Rating], labels: dict[int, int], seeds: list[int]
) -> None:
    assert len(ratings) == 35_592
    assert len(otc.people_of(ratings)) == 5_881
    assert sorted(labels.values()).count(otc.FRAUDULENT) == 180
    assert sorted(labels.values()).count(otc.TRUSTED) == 136
    assert len({rating[:2] for rating in ratings}) == len(ratings)
    assert not set(seeds) & {*labels, *otc.FOUNDERS}
    assert len(seeds) == 7


def test_frauds_are_told_from_the_trusted(
    ratings: list[otc.Rating], labels: dict[int, int], seeds: list[int]
) -> None:
    figures = otc.judge(ratings, labels, otc.replay(ratings, seeds))
    print(figures)
    assert figures.auc_quality >= 0.995
    assert figures.auc_standing >= 0.98
    assert figures.frauds_without_standing >= 0.94
    assert figures.trusted_without_standing <= 0.025


def test_without_the_ratings_that_made_the_labels(
    ratings: list[otc.Rating], labels: dict[int, int], seeds: list[int]
) -> None:
    fewer = otc.without_founders(ratings)
    assert len(fewer) < len(ratings)
    figures = otc.judge(fewer, labels, otc.replay(fewer, seeds))
    print(figures)
    assert figures.auc_quality >= 0.99
    assert figures.auc_standing >= 0.975
    assert figures.frauds_without_standing >= 0.90
    assert figures.trusted_without_standing <= 0.05


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_thousand_sybils_change_little(
    ratings: list[otc.Rating], labels: dict[int, int], seeds: list[int], number: int
) -> None:
    attacked = [*ratings, *otc.sybil_ratings(ratings, labels, random.Random(number))]
    assert len(attacked) == 35_592 + 1_000 * (20 + 20 + 5) + 40 * 10
    figures = otc.judge(attacked, labels, otc.replay(attacked, seeds))
    print(figures)
    assert figures.auc_mean_rating <= 0.01, "the attack overturns the plain mean"
    assert figures.auc_quality >= 0.985
    assert figures.auc_standing >= 0.965
    assert figures.frauds_without_standing >= 0.90
    assert figures.trusted_without_standing <= 0.05
