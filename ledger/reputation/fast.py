"""The epoch computation over int64 arrays: the same bits as ledger.reputation.epoch, only faster.

Each function has its namesake in trust, quality or epoch, which hold the theory; this file only
says the same to numpy. What keeps the result exact and equal on every machine:

- int64 everywhere, spelled out; no float ever, so no `mean`, no `bincount(weights=)`;
- only non-negative values are shifted or divided;
- sums over groups are `np.add.reduceat` over sorted groups. Integer addition is associative, so the
  order of summation cannot show, and the bounds proven in trust and quality (2^60 per flow, 2^58 in
  a quality) keep every product and sum below 2^63; they are asserted on the inputs that bound them,
  because an overflow in an array would not raise.
- ties are broken by sorting on (value, index), never by what a sort happens to do with equals.

Edges are four arrays (rater, ratee, pos, neg), ascending by (rater, ratee); peers are numbered in
ascending order of address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ledger.reputation import quality, score_tree, trust
from ledger.reputation.epoch import EDGES_PER_RATER, SEEDS_MAX, ReputationParams

Ints = npt.NDArray[np.int64]
Addresses = npt.NDArray[np.bytes_]
"""dtype S33; as an array of fixed width it compares all 33 bytes, unsigned."""
Bools = npt.NDArray[np.bool_]

ADDRESS_DTYPE = np.dtype("S33")
LEAF_DTYPE = np.dtype(
    [
        ("address", "S33"),
        ("epoch", ">u8"),
        ("trust", ">u8"),
        ("quality", ">u4"),
        ("standing", ">u8"),
        ("rank", ">u4"),
        ("raters", ">u4"),
        ("flags", "u1"),
    ]
)
"""The packed layout of score_tree's leaf."""
PEERS_LIMIT = 1 << 31
"""rater * peers + ratee, the sort key of an edge, stays below 2^62."""
WEIGHT_LIMIT = 1 << 20
"""Most that pos + 4 * neg of one edge can be (edges.HISTORY_CAP over all services)."""


@dataclass(frozen=True, slots=True)
class FastGraph:
    """Kept edges, ascending by (rater, ratee), over peers in ascending order of address."""

    addresses: Addresses
    rater: Ints
    ratee: Ints
    pos: Ints
    neg: Ints
    seeds: Ints
    """Active seeds, ascending."""
    governed: Ints


@dataclass(frozen=True, slots=True)
class FastComputation:
    """Every intermediate value, by peer number."""

    graph: FastGraph
    first_trust: Ints
    weights: Ints
    qualities: Ints
    raters: Ints
    gains: Ints
    trust: Ints
    standings: Ints
    ranks: Ints


def build_graph(
    accounts: Addresses,
    edges: tuple[Ints, Ints, Ints, Ints],
    governed: Sequence[bytes],
    active: Sequence[bytes],
) -> FastGraph:
    """Sum over services, drop what says nothing, keep the heaviest edges, number the peers.

    accounts: addresses in any order, without duplicates, seeds among them. edges: rater and ratee
    as places in `accounts`, pos and neg; one entry per pair and service, in any order.
    """
    assert 1 <= len(active) <= len(governed) <= SEEDS_MAX
    assert len(accounts) < PEERS_LIMIT
    order = np.argsort(accounts, kind="stable")
    place = np.empty(len(accounts), dtype=np.int64)
    place[order] = np.arange(len(accounts), dtype=np.int64)
    ascending = accounts[order]
    rater, ratee, pos, neg = _kept(*_summed(place[edges[0]], place[edges[1]], *edges[2:]))
    seed_places = np.searchsorted(ascending, np.array(governed, dtype=ADDRESS_DTYPE))
    is_peer = np.zeros(len(accounts), dtype=np.bool_)
    for named in (rater, ratee, seed_places):
        is_peer[named] = True
    number = np.cumsum(is_peer, dtype=np.int64) - 1
    addresses = ascending[is_peer]
    return FastGraph(
        addresses=addresses,
        rater=number[rater],
        ratee=number[ratee],
        pos=pos,
        neg=neg,
        seeds=np.searchsorted(addresses, np.array(sorted(active), dtype=ADDRESS_DTYPE)),
        governed=np.searchsorted(addresses, np.array(sorted(governed), dtype=ADDRESS_DTYPE)),
    )


def _summed(rater: Ints, ratee: Ints, pos: Ints, neg: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Edges without silent ones, ascending by (rater, ratee), summed over services."""
    speaks = (pos > 0) | (neg > 0)
    rater, ratee, pos, neg = rater[speaks], ratee[speaks], pos[speaks], neg[speaks]
    assert not np.any(rater == ratee)
    key = rater * PEERS_LIMIT + ratee
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = _starts(key)
    if len(starts) == 0:
        return rater, ratee, pos, neg
    first = order[starts]
    return (
        rater[first],
        ratee[first],
        np.add.reduceat(pos[order], starts, dtype=np.int64),
        np.add.reduceat(neg[order], starts, dtype=np.int64),
    )


def _kept(rater: Ints, ratee: Ints, pos: Ints, neg: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    weight = pos + trust.NEGATIVE_WEIGHT * neg
    assert not np.any(weight > WEIGHT_LIMIT)
    keep = _largest_per_group(rater, weight, EDGES_PER_RATER)
    return rater[keep], ratee[keep], pos[keep], neg[keep]


def _starts(groups: Ints) -> Ints:
    """Where each run of equal values begins; `groups` is sorted."""
    if len(groups) == 0:
        return np.empty(0, dtype=np.int64)
    changes = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    return np.concatenate((np.zeros(1, dtype=np.int64), changes.astype(np.int64)))


def _largest_per_group(group: Ints, value: Ints, limit: int) -> Bools:
    """Mask of the `limit` largest values of each group; among equals the earlier ones.

    `group` is sorted and entries of a group ascend by ratee, so earlier is the lower address.
    """
    keep = np.ones(len(group), dtype=np.bool_)
    starts = _starts(group)
    sizes = np.diff(np.append(starts, len(group)))
    if not np.any(sizes > limit):
        return keep
    crowded = np.flatnonzero(np.repeat(sizes > limit, sizes))
    # Only crowded groups are sorted; the last key of lexsort is the first criterion.
    order = crowded[np.lexsort((crowded, -value[crowded], group[crowded]))]
    run_starts = _starts(group[order])
    run_sizes = np.diff(np.append(run_starts, len(order)))
    within = np.arange(len(order), dtype=np.int64) - np.repeat(run_starts, run_sizes)
    keep[order[within >= limit]] = False
    return keep


class GroupSum:
    """Sums values over groups given by `index` (0 <= index < size); the sorting is done once."""

    def __init__(self, index: Ints, size: int) -> None:
        self._size = size
        self.order = np.argsort(index, kind="stable")
        ordered = index[self.order]
        self._starts = _starts(ordered)
        self._targets = ordered[self._starts]

    def sums_of_ordered(self, values: Ints) -> Ints:
        """Sums of values that are already in `order`."""
        result = np.zeros(self._size, dtype=np.int64)
        if len(values):
            result[self._targets] = np.add.reduceat(values, self._starts, dtype=np.int64)
        return result


def _propagate(graph: FastGraph, gain: Ints | None) -> Ints:
    """Rules 3 and 4: trust after trust.ROUNDS rounds."""
    size = len(graph.addresses)
    opinion = np.maximum(graph.pos - trust.NEGATIVE_WEIGHT * graph.neg, np.int64(0))
    if gain is not None:
        opinion = opinion * gain[graph.ratee] >> 16
    speaks = opinion > 0
    rater, ratee, opinion = graph.rater[speaks], graph.ratee[speaks], opinion[speaks]
    keep = _largest_per_group(rater, opinion, trust.ROW_LIMIT)
    rater, ratee, opinion = rater[keep], ratee[keep], opinion[keep]
    assert not np.any(opinion > trust.OPINION_LIMIT)
    starts = _starts(rater)
    if len(starts):
        totals = np.add.reduceat(opinion, starts, dtype=np.int64)
        totals = np.repeat(totals, np.diff(np.append(starts, len(rater))))
        share = opinion * trust.ROW_UNIT // totals
    else:
        share = opinion
    by_ratee = GroupSum(ratee, size)
    rater, share = rater[by_ratee.order], share[by_ratee.order]
    values = _spread_over_seeds(graph.seeds, size, trust.TRUST_TOTAL)
    for _ in range(trust.ROUNDS):
        flow = by_ratee.sums_of_ordered(values[rater] * share)
        flow = 3 * (flow >> 20) // 5
        missing = trust.TRUST_TOTAL - int(flow.sum(dtype=np.int64))
        # Negative values would be the trace of an overflow.
        assert missing >= 2 * trust.TRUST_TOTAL // 5
        assert not np.any(flow < 0)
        values = flow + _spread_over_seeds(graph.seeds, size, missing)
    return values


def _spread_over_seeds(seeds: Ints, size: int, amount: int) -> Ints:
    parts, remainder = divmod(amount, len(seeds))
    values = np.zeros(size, dtype=np.int64)
    values[seeds] = parts
    values[seeds[:remainder]] += 1
    return values


def _qualities(graph: FastGraph, weights: Ints, n0: int) -> tuple[Ints, Ints]:
    """Rules 5 and 6: (q, number of raters with a voice)."""
    size = len(graph.addresses)
    heard_of = weights[graph.rater] > 0
    ratee, pos = graph.ratee[heard_of], graph.pos[heard_of]
    n = pos + trust.NEGATIVE_WEIGHT * graph.neg[heard_of]
    confidence = n * quality.WEIGHT_UNIT // (n + n0)
    good_share = pos * quality.WEIGHT_UNIT // n
    voice = weights[graph.rater[heard_of]] * confidence
    good = voice * good_share >> 10
    by_ratee = GroupSum(ratee, size)
    heard = by_ratee.sums_of_ordered(voice[by_ratee.order])
    praised = by_ratee.sums_of_ordered(good[by_ratee.order])
    raters = by_ratee.sums_of_ordered((voice[by_ratee.order] > 0).astype(np.int64))
    assert not np.any(heard > (1 << 46))
    return ((praised + quality.PRIOR) << 16) // (heard + quality.PRIOR), raters


def compute(graph: FastGraph, params: ReputationParams) -> FastComputation:
    """Rules 3 to 7; see epoch.compute."""
    first_trust = _propagate(graph, None)
    full = quality.WEIGHT_SHARES * trust.TRUST_TOTAL // params.n_ref
    weights = np.minimum(first_trust, np.int64(full)) * quality.WEIGHT_UNIT // full
    qualities, raters = _qualities(graph, weights, params.n0)
    gains = qualities
    for _ in range(3):
        gains = gains * gains >> 16
    gains = np.where(qualities < quality.QUALITY_THRESHOLD, np.int64(0), gains)
    second_trust = _propagate(graph, gains)
    standings = second_trust * gains >> 16
    ranks = np.empty(len(standings), dtype=np.int64)
    peers = np.arange(len(standings), dtype=np.int64)
    ranks[np.lexsort((peers, -standings))] = peers + 1
    return FastComputation(
        graph, first_trust, weights, qualities, raters, gains, second_trust, standings, ranks
    )


def encode(result: FastComputation, epoch: int) -> bytes:
    """The score blob; byte for byte what score_tree.build gives for the same leaves."""
    graph = result.graph
    flags = np.zeros(len(graph.addresses), dtype=np.uint8)
    flags[graph.governed] |= score_tree.FLAG_SEED | score_tree.FLAG_SUSPENDED
    flags[graph.seeds] &= ~np.uint8(score_tree.FLAG_SUSPENDED)
    flags[result.gains == 0] |= score_tree.FLAG_CUT
    leaves = np.empty(len(graph.addresses), dtype=LEAF_DTYPE)
    for name, column in (
        ("address", graph.addresses),
        ("epoch", epoch),
        ("trust", result.trust),
        ("quality", result.qualities),
        ("standing", result.standings),
        ("rank", result.ranks),
        ("raters", result.raters),
        ("flags", flags),
    ):
        leaves[name] = column
    by_rank = np.empty(len(leaves), dtype=">u4")
    by_rank[result.ranks - 1] = np.arange(len(leaves), dtype=np.uint32)
    return score_tree.build_encoded(epoch, leaves.tobytes(), by_rank.tobytes())
