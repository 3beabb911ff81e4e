"""What is replayed: ratings, labels, seeds of trust, and the attack if one is asked for.

Without files the part of the Bitcoin-OTC network that comes with the package is used
(sample/README.md names the source). Seeds are chosen from the whole data, before raters are left
out and before an attack is added: the network is defined before anybody acts in it.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from node import otc

# The published file has 35,592 rows; a row more than this is not a trust network but a mistake.
ROWS_MAX_COUNT = 2_000_000

ATTACK_SEED = 1
"""Of the random choices of the attack, so that every run has the same one."""

# The attack of the reputation design: 40 of the 180 labelled frauds help the Sybils.
_HELPING_SHARE = 40 / 180

T = TypeVar("T")


class InvalidDataset(Exception):
    """Ratings or labels that cannot be replayed. The message names the file and says why."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A trust network with ground truth.

    `ratings` are in the order of replay, the attack's last. `n_ref` is the number of raters the
    network is laid out for: at most 5,000 (the data set has 5,881 people), and never counting
    Sybils, since no governance would count them.
    """

    ratings: tuple[otc.Rating, ...]
    labels: dict[int, int]
    seeds: tuple[int, ...]
    n_ref: int
    source: str

    @property
    def people(self) -> list[int]:
        """Everybody with an account, ascending: raters, ratees and seeds."""
        return sorted({*otc.people_of(self.ratings), *self.seeds})


def load(ratings_file: Path | None, labels_file: Path | None) -> Dataset:
    """The data of two files (plain or .gz), or the part that comes with the package.

    Raises InvalidDataset, OSError.
    """
    if (ratings_file is None) != (labels_file is None):
        raise InvalidDataset("ratings and labels belong together: give both files or none")
    if ratings_file is None or labels_file is None:
        folder = files("node.demo").joinpath("sample")
        ratings = otc.read_ratings(folder.joinpath("ratings.csv").read_text("ascii").splitlines())
        labels = otc.read_labels(folder.joinpath("labels.csv").read_text("ascii").splitlines())
        return make("the part of Bitcoin-OTC that comes with the package", ratings, labels)
    return make(
        str(ratings_file),
        _read(ratings_file, otc.read_ratings),
        _read(labels_file, otc.read_labels),
    )


def make(source: str, ratings: list[otc.Rating], labels: dict[int, int]) -> Dataset:
    """The whole network, without an attack. Raises InvalidDataset."""
    for rating in ratings:
        if rating.rater == rating.ratee or not 1 <= abs(rating.score) <= 10:
            raise InvalidDataset(f"{source}: {rating} is not a rating −10…+10 of somebody else")
    kinds = set(labels.values())
    if kinds != {otc.TRUSTED, otc.FRAUDULENT}:
        raise InvalidDataset(f"{source}: the labels must have both kinds, +1 and −1, not {kinds}")
    seeds = otc.choose_seeds(ratings, labels)
    if not seeds:
        raise InvalidDataset(f"{source}: nobody without a label has a positive rating")
    n_ref = min(otc.PARAMS.n_ref, len(otc.people_of(ratings)))
    return Dataset(tuple(ratings), dict(labels), tuple(seeds), n_ref, source)


def without_raters(data: Dataset, raters: Collection[int]) -> Dataset:
    """The network without the ratings that some people gave."""
    kept = tuple(rating for rating in data.ratings if rating.rater not in raters)
    return Dataset(kept, data.labels, data.seeds, data.n_ref, data.source)


def with_attack(data: Dataset, sybils: int) -> Dataset:
    """The network under attack by `sybils` accounts; the attack comes after everything else."""
    if sybils <= 0:
        return data
    attack = attack_of(data.labels, sybils)
    added = otc.sybil_ratings(data.ratings, data.labels, random.Random(ATTACK_SEED), attack)  # noqa: S311 - reproducible
    return Dataset((*data.ratings, *added), data.labels, data.seeds, data.n_ref, data.source)


def attack_of(labels: dict[int, int], sybils: int) -> otc.Attack:
    """The attack of the design, cut to what there is in smaller data."""
    usual = otc.Attack()
    kinds = list(labels.values())
    frauds, trusted = kinds.count(otc.FRAUDULENT), kinds.count(otc.TRUSTED)
    return otc.Attack(
        sybils=sybils,
        praised_frauds=min(usual.praised_frauds, frauds),
        slandered_trusted=min(usual.slandered_trusted, trusted),
        praised_sybils=min(usual.praised_sybils, sybils - 1),
        helping_frauds=min(usual.helping_frauds, max(1, round(frauds * _HELPING_SHARE))),
        helped_sybils=min(usual.helped_sybils, sybils),
    )


def _read(path: Path, parse: Callable[[Iterable[str]], T]) -> T:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="ascii") as lines:
                return parse(_bounded(lines))
        with path.open(encoding="ascii") as lines:
            return parse(_bounded(lines))
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        raise InvalidDataset(f"{path}: {error}") from error


def _bounded(lines: Iterable[str]) -> Iterator[str]:
    """The lines that say something. Raises ValueError past ROWS_MAX_COUNT."""
    for number, line in enumerate(lines):
        if number >= ROWS_MAX_COUNT:
            raise ValueError(f"more than {ROWS_MAX_COUNT:,} rows")
        if line.strip():
            yield line
