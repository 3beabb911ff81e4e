"""What is replayed, and what is refused before anything starts."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from node import otc
from node.demo import dataset
from node.demo.dataset import Dataset, InvalidDataset


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dataset.load(None, None)


def test_the_sample_tells_frauds_from_trusted(data: Dataset) -> None:
    assert len(data.ratings) == 565
    assert sorted(data.labels.values()) == [otc.FRAUDULENT] * 10 + [otc.TRUSTED] * 10
    params = replace(otc.PARAMS, n_ref=data.n_ref)
    figures = otc.judge(data.ratings, data.labels, otc.replay(data.ratings, data.seeds, params))
    assert figures.auc_quality == 1.0
    attacked = dataset.with_attack(data, 100)
    assert attacked.n_ref == data.n_ref, "an attacker does not choose how many raters count"
    figures = otc.judge(
        attacked.ratings, attacked.labels, otc.replay(attacked.ratings, data.seeds, params)
    )
    assert figures.auc_quality >= 0.98
    assert figures.auc_mean_rating < 0.1


def test_seeds_have_no_label_and_are_no_founders(data: Dataset) -> None:
    assert len(data.seeds) == 7
    assert not set(data.seeds) & {*data.labels, *otc.FOUNDERS}


def test_left_out_raters_keep_their_place_as_rated(data: Dataset) -> None:
    fewer = dataset.without_raters(data, {1, 35})
    assert {rating.rater for rating in fewer.ratings}.isdisjoint({1, 35})
    assert len(fewer.ratings) == sum(rating.rater not in (1, 35) for rating in data.ratings)
    assert fewer.seeds == data.seeds


def test_people_include_seeds_whom_nobody_rates_any_more(data: Dataset) -> None:
    raters = {rating.rater for rating in data.ratings}
    assert set(data.seeds) <= set(dataset.without_raters(data, raters).people)


@pytest.mark.parametrize("sybils", [1, 3, 50])
def test_small_attacks_are_possible_too(data: Dataset, sybils: int) -> None:
    attacked = dataset.with_attack(data, sybils)
    assert len(attacked.people) == len(data.people) + sybils
    assert dataset.with_attack(data, sybils) == attacked, "every run has the same attack"


def test_the_attack_on_the_whole_data_is_the_published_one() -> None:
    labels = dict.fromkeys(range(180), otc.FRAUDULENT) | dict.fromkeys(range(180, 316), otc.TRUSTED)
    assert dataset.attack_of(labels, 1_000) == otc.Attack()


def test_files_may_be_compressed(tmp_path: Path) -> None:
    ratings, labels = tmp_path / "r.csv.gz", tmp_path / "l.csv"
    with gzip.open(ratings, "wt") as file:
        file.write("5,1,10,1289241911.7\n\n3,4,-10,1289241912\n9,8,1,1\n")
    labels.write_text("2,1\n4,-1\n")
    found = dataset.load(ratings, labels)
    assert found.ratings == (otc.Rating(5, 1, 10), otc.Rating(3, 4, -10), otc.Rating(9, 8, 1))
    assert found.seeds == (8,), "1 is a founder"


@pytest.mark.parametrize(
    ("ratings", "labels", "word"),
    [
        ("1,2,10", "2,1\n4,-1\n", "expected 4"),
        ("1,1,10,0\n", "2,1\n4,-1\n", "somebody else"),
        ("1,2,0,0\n", "2,1\n4,-1\n", "somebody else"),
        ("1,2,11,0\n", "2,1\n4,-1\n", "somebody else"),
        ("1,3,5,0\n", "2,1\n4,1\n", "both kinds"),
        ("1,2,5,0\n", "2,1\n4,-1\n", "without a label"),
        ("x,2,5,0\n", "2,1\n4,-1\n", "r.csv"),
    ],
)
def test_what_cannot_be_replayed_is_refused(
    tmp_path: Path, ratings: str, labels: str, word: str
) -> None:
    (tmp_path / "r.csv").write_text(ratings)
    (tmp_path / "l.csv").write_text(labels)
    with pytest.raises(InvalidDataset, match=word):
        dataset.load(tmp_path / "r.csv", tmp_path / "l.csv")


def test_one_file_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="both files"):
        dataset.load(tmp_path / "r.csv", None)


def test_endless_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "ROWS_MAX_COUNT", 2)
    (tmp_path / "r.csv").write_text("1,2,5,0\n" * 3)
    (tmp_path / "l.csv").write_text("2,1\n4,-1\n")
    with pytest.raises(InvalidDataset, match="more than 2 rows"):
        dataset.load(tmp_path / "r.csv", tmp_path / "l.csv")
