"""The Bitcoin-OTC trust network as a test of the score: reading, attacking and judging it.

35,592 real ratings of -10..+10 between 5,881 people, and labels for 316 of them (fraudulent or
trusted). Sources are named in tests/vectors/bitcoin_otc/README.md.

A replay makes each rating one service: a settle of ORDINARY_SERVICE, signed by both, and a rating
of it, all in one epoch, so that nothing decays. ORDINARY_SERVICE is 255 * p_min, eight doublings of
p_min, 128 points: the middle of the scale of 0..256, and twice the default n0 = 64, so that one
ordinary service gives a confidence of two thirds. From 15 * p_min to the upper end of the scale,
with n0 half of it, the figures move by less than 0.001.

Nothing here does I/O: files are handed in as lines, randomness as random.Random.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from ledger.reputation.edges import edge_at_end_of, rate_edge, settle_edge
from ledger.reputation.epoch import ReputationParams, compute_epoch

P_MIN = 1_000
ORDINARY_SERVICE = 255 * P_MIN
"""µT for one rated service."""
PARAMS = ReputationParams(p_min=P_MIN, n0=64, n_ref=5_000)
FOUNDERS = (1, 35)
"""The labels derive from their ratings."""
SEED_COUNT = 7
EPOCH = 0

TRUSTED = 1
FRAUDULENT = -1


class Rating(NamedTuple):
    """One person's score, -10..+10 without 0, of another."""

    rater: int
    ratee: int
    score: int


class Verdict(NamedTuple):
    """What the ledger says of a person, as in ledger.reputation.score_tree.Score."""

    trust: int
    quality: int
    standing: int


UNKNOWN = Verdict(0, 1 << 16, 0)
"""A newcomer."""


@dataclass(frozen=True, slots=True)
class Attack:
    """1,000 Sybils that praise frauds and slander the trusted, with help from some frauds."""

    sybils: int = 1_000
    praised_frauds: int = 20
    slandered_trusted: int = 20
    praised_sybils: int = 5
    helping_frauds: int = 40
    helped_sybils: int = 10


@dataclass(frozen=True, slots=True)
class Figures:
    """How well the scores tell trusted from fraudulent; shares are 0..1."""

    auc_quality: float
    auc_standing: float
    auc_mean_rating: float
    """The plain mean of the ratings received, for comparison; 0 if there are none."""
    frauds_without_standing: float
    trusted_without_standing: float


def read_ratings(lines: Iterable[str]) -> list[Rating]:
    """Rows of rater, ratee, rating, time. Raises ValueError on anything else."""
    ratings = []
    for line in lines:
        rater, ratee, score, _time = line.split(",")
        ratings.append(Rating(int(rater), int(ratee), int(score)))
    return ratings


def read_labels(lines: Iterable[str]) -> dict[int, int]:
    """Rows of person, +1 trusted or -1 fraudulent. Raises ValueError on anything else."""
    labels = {}
    for line in lines:
        person, label = line.split(",")
        labels[int(person)] = int(label)
    return labels


def people_of(ratings: Iterable[Rating]) -> list[int]:
    """Everybody who rates or is rated, ascending."""
    return sorted({person for rating in ratings for person in rating[:2]})


def choose_seeds(ratings: Iterable[Rating], labels: Mapping[int, int]) -> list[int]:
    """The people with most positive ratings who are neither labelled nor founders."""
    praise = Counter(rating.ratee for rating in ratings if rating.score > 0)
    for person in (*labels, *FOUNDERS):
        praise.pop(person, None)
    return sorted(praise, key=lambda person: (-praise[person], person))[:SEED_COUNT]


def without_founders(ratings: Iterable[Rating]) -> list[Rating]:
    """The network without the ratings from which the labels were derived."""
    return [rating for rating in ratings if rating.rater not in FOUNDERS]


def sybil_ratings(
    ratings: Sequence[Rating],
    labels: Mapping[int, int],
    rng: random.Random,
    attack: Attack | None = None,
) -> list[Rating]:
    """The ratings an attack adds: Sybils get the numbers after the largest person."""
    attack = attack or Attack()
    frauds = sorted(person for person, label in labels.items() if label == FRAUDULENT)
    trusted = sorted(person for person, label in labels.items() if label == TRUSTED)
    first = max(people_of(ratings)) + 1
    sybils = range(first, first + attack.sybils)
    known = {rating[:2] for rating in ratings}
    added = []
    for sybil in sybils:
        others = [other for other in sybils if other != sybil]
        added += [Rating(sybil, p, 10) for p in rng.sample(frauds, attack.praised_frauds)]
        added += [Rating(sybil, p, -10) for p in rng.sample(trusted, attack.slandered_trusted)]
        added += [Rating(sybil, p, 10) for p in rng.sample(others, attack.praised_sybils)]
    for fraud in rng.sample(frauds, attack.helping_frauds):
        added += [Rating(fraud, p, 10) for p in rng.sample(sybils, attack.helped_sybils)]
    assert known.isdisjoint(rating[:2] for rating in added)
    return added


def address_of(person: int) -> bytes:
    """A stand-in for the person's key, 33 bytes, ascending with the number."""
    return b"\x02" + person.to_bytes(32, "big")


def replay(
    ratings: Iterable[Rating], seeds: Sequence[int], params: ReputationParams = PARAMS
) -> dict[int, Verdict]:
    """The scores after every rating became a settle and a rating in one epoch.

    A pair of people that occurs twice is refused by the rules (one rating per epoch), as in a real
    replay; the data set has no such pair. Raises ledger.reputation.edges.EdgeRefused.
    """
    pairs = []
    for rater, ratee, score in ratings:
        pair = settle_edge(
            None,
            epoch=EPOCH,
            seq=1,
            cum_units=1,
            cum_paid=ORDINARY_SERVICE,
            cosigned=True,
            ratable=True,
            p_min=params.p_min,
        )
        pair = rate_edge(pair, epoch=EPOCH, receipt_seq=1, score=score, p_min=params.p_min)
        edge = edge_at_end_of(pair, EPOCH)
        pairs.append((address_of(rater), address_of(ratee), 0, *edge))
    table = compute_epoch(pairs, [address_of(seed) for seed in seeds], params, EPOCH, {}).table
    scores = (table.at(index) for index in range(len(table)))
    return {
        int.from_bytes(score.address[1:], "big"): Verdict(
            score.trust, score.quality, score.standing
        )
        for score in scores
    }


def mean_ratings(ratings: Iterable[Rating]) -> dict[int, Fraction]:
    """The mean rating each person received."""
    received: dict[int, list[int]] = defaultdict(list)
    for rating in ratings:
        received[rating.ratee].append(rating.score)
    return {person: Fraction(sum(scores), len(scores)) for person, scores in received.items()}


def area_under_curve(good: Sequence[Fraction | int], bad: Sequence[Fraction | int]) -> float:
    """The chance that a good one scores above a bad one, ties counting one half (Mann-Whitney)."""
    ordered = sorted(bad)
    twice = sum(bisect_left(ordered, score) + bisect_right(ordered, score) for score in good)
    return twice / (2 * len(good) * len(bad))


def judge(
    ratings: Iterable[Rating], labels: Mapping[int, int], verdicts: Mapping[int, Verdict]
) -> Figures:
    """How the verdicts stand against the labels."""
    trusted = [person for person, label in labels.items() if label == TRUSTED]
    frauds = [person for person, label in labels.items() if label == FRAUDULENT]
    means = mean_ratings(ratings)
    good = [verdicts.get(person, UNKNOWN) for person in trusted]
    bad = [verdicts.get(person, UNKNOWN) for person in frauds]
    zero = Fraction(0)
    return Figures(
        auc_quality=area_under_curve([v.quality for v in good], [v.quality for v in bad]),
        auc_standing=area_under_curve([v.standing for v in good], [v.standing for v in bad]),
        auc_mean_rating=area_under_curve(
            [means.get(person, zero) for person in trusted],
            [means.get(person, zero) for person in frauds],
        ),
        frauds_without_standing=sum(v.standing == 0 for v in bad) / len(bad),
        trusted_without_standing=sum(v.standing == 0 for v in good) / len(good),
    )
