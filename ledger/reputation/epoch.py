"""The epoch computation: from the edges of all pairs to scores and their commitment.

    pairs -> kept edges -> trust (pass 1) -> rater weights -> quality -> gain
                        -> trust with opinions weighed by gain (pass 2) -> standing -> leaves

This is the reference: plain integers, the order of the rules of the specification, nothing clever.
`ledger.reputation.fast` computes the same bits over int64 arrays. Input order does not matter:
everything is sorted by address first.

An account gets a leaf if it has a kept edge, as rater or ratee, or is a governed seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ledger.reputation import quality, score_tree, trust
from ledger.reputation.score_tree import Score, ScoreCommitment, ScoreTable
from ledger.reputation.trust import NEGATIVE_WEIGHT, Edge

EDGES_PER_RATER = 1_024
"""Kept edges of one rater: bounds the work an account can cause in every later epoch."""
SEEDS_MAX = 21

PairEdge = tuple[bytes, bytes, int, int, int]
"""(rater, ratee, service, pos, neg) as of the end of the epoch."""


@dataclass(frozen=True, slots=True)
class ReputationParams:
    """The governed parameters of the computation; the rest is fixed per rules version."""

    p_min: int
    """µT for the first doubling of points."""
    n0: int
    """Points at which confidence is one half."""
    n_ref: int
    """Raters among whom trust is thought to be spread when their weight saturates."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Kept edges over peers numbered in ascending order of address."""

    addresses: tuple[bytes, ...]
    edges: tuple[tuple[Edge, ...], ...]
    """For each rater its (ratee, pos, neg), ascending by ratee, summed over services."""
    seeds: tuple[int, ...]
    """Active seeds."""
    governed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Computation:
    """Every intermediate value, by peer number."""

    graph: Graph
    first_trust: list[int]
    weights: list[int]
    """Rater weight r, 0..2^10."""
    qualities: list[int]
    raters: list[int]
    gains: list[int]
    trust: list[int]
    standings: list[int]
    ranks: list[int]


@dataclass(frozen=True, slots=True)
class EpochScores:
    """The finished table of one epoch."""

    epoch: int
    blob: bytes
    """See ledger.reputation.score_tree."""
    commitment: ScoreCommitment

    @property
    def table(self) -> ScoreTable:
        """A reader over the blob."""
        return ScoreTable(self.blob)


def build_graph(
    pairs: Iterable[PairEdge], governed: Sequence[bytes], active: Sequence[bytes]
) -> Graph:
    """Sum over services, drop what says nothing, keep the heaviest edges of each rater.

    `governed` are the 1-21 seeds; `active`, a subset, are those that act as seeds.
    """
    assert 1 <= len(active) <= len(governed) <= SEEDS_MAX
    sums: dict[bytes, dict[bytes, tuple[int, int]]] = {}
    for rater, ratee, _service, pos, neg in pairs:
        assert rater != ratee
        row = sums.setdefault(rater, {})
        old_pos, old_neg = row.get(ratee, (0, 0))
        row[ratee] = (old_pos + pos, old_neg + neg)
    kept = {rater: _heaviest(row) for rater, row in sums.items()}
    named = {ratee for row in kept.values() for ratee, _, _ in row}
    named.update(rater for rater, row in kept.items() if row)
    addresses = tuple(sorted(named.union(governed)))
    number = {address: place for place, address in enumerate(addresses)}
    return Graph(
        addresses=addresses,
        edges=tuple(
            tuple(sorted((number[ratee], pos, neg) for ratee, pos, neg in kept.get(rater, ())))
            for rater in addresses
        ),
        seeds=tuple(sorted(number[seed] for seed in active)),
        governed=tuple(sorted(number[seed] for seed in governed)),
    )


def _heaviest(row: Mapping[bytes, tuple[int, int]]) -> list[tuple[bytes, int, int]]:
    """The EDGES_PER_RATER edges with the largest pos + 4 * neg > 0; ties keep the lower address."""
    weighed = sorted(
        (-(pos + NEGATIVE_WEIGHT * neg), ratee, pos, neg)
        for ratee, (pos, neg) in row.items()
        if pos or neg
    )
    return [(ratee, pos, neg) for _, ratee, pos, neg in weighed[:EDGES_PER_RATER]]


def compute(graph: Graph, params: ReputationParams) -> Computation:
    """Rules 3 to 7."""
    rows = trust.trust_rows(graph.edges)
    first_trust = trust.propagate(rows, graph.seeds)
    weights = [quality.rater_weight(t, params.n_ref) for t in first_trust]
    qualities, raters = quality.qualities(graph.edges, weights, params.n0)
    gains = [quality.gain_of(q) for q in qualities]
    rows = trust.trust_rows(graph.edges, gains)
    second_trust = trust.propagate(rows, graph.seeds)
    standings = [quality.standing_of(t, g) for t, g in zip(second_trust, gains, strict=True)]
    return Computation(
        graph=graph,
        first_trust=first_trust,
        weights=weights,
        qualities=qualities,
        raters=raters,
        gains=gains,
        trust=second_trust,
        standings=standings,
        ranks=quality.ranks(standings),
    )


def compute_epoch(
    pairs: Iterable[PairEdge],
    seeds: Sequence[bytes],
    params: ReputationParams,
    epoch: int,
    previous_quality: Mapping[bytes, int],
) -> EpochScores:
    """The scores of `epoch`, whose edges `pairs` are.

    seeds: the governed set, 1-21 addresses. previous_quality: q of seeds in the last computed
    epoch; seeds without an entry count as unrated.
    """
    active = trust.active_seeds(seeds, previous_quality, quality.QUALITY_THRESHOLD)
    result = compute(build_graph(pairs, seeds, active), params)
    blob = score_tree.build(epoch, leaves_of(result, epoch))
    return EpochScores(epoch, blob, ScoreTable(blob).commitment)


def leaves_of(result: Computation, epoch: int) -> list[Score]:
    """The score leaves, ascending by address."""
    graph = result.graph
    return [
        Score(
            address=address,
            epoch=epoch,
            trust=result.trust[peer],
            quality=result.qualities[peer],
            standing=result.standings[peer],
            rank=result.ranks[peer],
            raters=result.raters[peer],
            flags=_flags(result, peer),
        )
        for peer, address in enumerate(graph.addresses)
    ]


def _flags(result: Computation, peer: int) -> int:
    flags = 0
    if peer in result.graph.governed:
        flags |= score_tree.FLAG_SEED
        if peer not in result.graph.seeds:
            flags |= score_tree.FLAG_SUSPENDED
    if result.gains[peer] == 0:
        flags |= score_tree.FLAG_CUT
    return flags
