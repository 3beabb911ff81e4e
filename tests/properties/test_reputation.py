"""What the score promises whatever the network: the bounds, and the same bits by every road."""

import hashlib
import random
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.codec import encode
from ledger.errors import InvalidData
from ledger.reputation import edges, fast, quality, score_tree, trust
from ledger.reputation import epoch as epochs
from ledger.reputation.edge_table import EdgeTable
from ledger.reputation.epoch import Graph, PairEdge, ReputationParams, build_graph, compute
from ledger.reputation.trust import TRUST_TOTAL
from ledger.state import pair_key

P_MIN = 1_000
PEERS = 12


def address(number: int) -> bytes:
    """Addresses whose order has nothing to do with the number; some end in zero bytes."""
    digest = hashlib.sha256(b"%d" % number).digest()
    return b"\x02" + (digest if number % 3 else digest[:-4] + bytes(4))


params = st.builds(
    ReputationParams, st.just(P_MIN), st.integers(1, 4_096), st.sampled_from([1, 5, 1_000, 10**7])
)
# Small values make ties, large ones reach the caps.
points = st.one_of(st.integers(0, 3), st.integers(0, edges.HISTORY_CAP))


def edge_of(peers: st.SearchStrategy[int]) -> st.SearchStrategy[PairEdge]:
    return (
        st.tuples(peers, peers, st.integers(0, 2), points, points)
        .filter(lambda edge: edge[0] != edge[1])
        .map(lambda edge: (address(edge[0]), address(edge[1]), *edge[2:]))
    )


networks = st.lists(
    edge_of(st.integers(0, PEERS - 1)), max_size=60, unique_by=lambda edge: edge[:3]
)
seed_sets = st.lists(st.integers(0, PEERS - 1), min_size=1, max_size=5, unique=True).map(
    lambda numbers: [address(number) for number in numbers]
)


def fast_scores(
    pairs: list[PairEdge], seeds: list[bytes], params: ReputationParams
) -> fast.FastComputation:
    names = sorted({name for pair in pairs for name in pair[:2]} | set(seeds), reverse=True)
    number = {name: place for place, name in enumerate(names)}
    columns = zip(*((number[a], number[b], pos, neg) for a, b, _, pos, neg in pairs), strict=True)
    arrays = [np.array(column, dtype=np.int64) for column in columns] or [
        np.empty(0, dtype=np.int64) for _ in range(4)
    ]
    accounts = np.array(names, dtype=fast.ADDRESS_DTYPE)
    a, b, pos, neg = arrays
    return fast.compute(fast.build_graph(accounts, (a, b, pos, neg), seeds, seeds), params)


def assert_same(slow: epochs.Computation, quick: fast.FastComputation) -> None:
    width = fast.ADDRESS_DTYPE.itemsize
    raw = quick.graph.addresses.tobytes()
    assert list(slow.graph.addresses) == [
        raw[place : place + width] for place in range(0, len(raw), width)
    ]
    flat = [
        (rater, ratee, pos, neg)
        for rater, own in enumerate(slow.graph.edges)
        for ratee, pos, neg in own
    ]
    graph = quick.graph
    assert flat == list(
        zip(*(c.tolist() for c in (graph.rater, graph.ratee, graph.pos, graph.neg)), strict=True)
    )
    for field in (
        "first_trust",
        "weights",
        "qualities",
        "raters",
        "gains",
        "trust",
        "standings",
        "ranks",
    ):
        assert getattr(slow, field) == getattr(quick, field).tolist(), field
    blob = score_tree.build(9, epochs.leaves_of(slow, 9))
    assert blob == fast.encode(quick, 9)


@given(networks, seed_sets, params)
def test_arrays_give_the_same_bits_as_the_reference(
    pairs: list[PairEdge], seeds: list[bytes], params: ReputationParams
) -> None:
    slow = compute(build_graph(pairs, seeds, seeds), params)
    assert_same(slow, fast_scores(pairs, seeds, params))


def test_arrays_and_reference_agree_where_rows_and_edges_overflow_their_limits() -> None:
    rng = random.Random(5)
    everybody = range(1_300)
    pairs: list[PairEdge] = []
    for rater, most in ((0, 1_300), (1, 1_200), (2, 65), (3, 64), (4, 30), (700, 100)):
        for ratee in rng.sample(everybody, most):
            if ratee != rater:
                pos, neg = rng.choice([(5, 0), (6, 1), (rng.randrange(999), 0), (0, 3)])
                pairs.append((address(rater), address(ratee), 0, pos, neg))
    seeds = [address(0), address(1), address(700)]
    params = ReputationParams(P_MIN, 64, 100)
    slow = compute(build_graph(pairs, seeds, seeds), params)
    assert max(len(own) for own in slow.graph.edges) == epochs.EDGES_PER_RATER
    assert_same(slow, fast_scores(pairs, seeds, params))


@given(networks, seed_sets, params, st.randoms(use_true_random=False))
def test_the_order_of_pairs_and_seeds_does_not_matter(
    pairs: list[PairEdge], seeds: list[bytes], params: ReputationParams, rng: random.Random
) -> None:
    first = epochs.compute_epoch(pairs, seeds, params, 4, {})
    mixed, mixed_seeds = list(pairs), list(seeds)
    rng.shuffle(mixed)
    rng.shuffle(mixed_seeds)
    assert epochs.compute_epoch(mixed, mixed_seeds, params, 4, {}) == first


@given(networks, seed_sets, params)
def test_values_stay_in_their_ranges(
    pairs: list[PairEdge], seeds: list[bytes], params: ReputationParams
) -> None:
    result = compute(build_graph(pairs, seeds, seeds), params)
    assert sum(result.first_trust) == sum(result.trust) == TRUST_TOTAL
    assert all(t >= 0 for t in (*result.first_trust, *result.trust))
    assert all(0 <= r <= 1_024 for r in result.weights)
    # Σ r <= 2^10 · N_ref / 4, whoever they are; a rater's r · 4S/N_ref is at most 2^10 of its t.
    full = 4 * TRUST_TOTAL // params.n_ref
    assert sum(result.weights) * full <= 1_024 * TRUST_TOTAL
    assert all(0 <= q <= quality.QUALITY_UNIT for q in result.qualities)
    assert all(w <= t for w, t in zip(result.standings, result.trust, strict=True))
    assert sorted(result.ranks) == list(range(1, len(result.ranks) + 1))


outsiders = st.lists(
    st.tuples(
        st.integers(100, 130), st.integers(0, PEERS - 1), st.integers(0, 2), points, points
    ).map(lambda edge: (address(edge[0]), address(edge[1]), *edge[2:])),
    max_size=40,
    unique_by=lambda edge: edge[:3],
)
rings = st.lists(edge_of(st.integers(100, 130)), max_size=40, unique_by=lambda edge: edge[:3])


@given(networks, outsiders, rings, seed_sets, params)
def test_raters_without_trust_have_exactly_no_effect(
    pairs: list[PairEdge],
    slander: list[PairEdge],
    ring: list[PairEdge],
    seeds: list[bytes],
    params: ReputationParams,
) -> None:
    """Accounts no trusted peer ever rated praise and slander as they like: not one bit changes."""

    def says(result: epochs.Computation) -> dict[bytes, tuple[int, ...]]:
        rows = zip(
            result.first_trust,
            result.weights,
            result.qualities,
            result.raters,
            result.trust,
            result.standings,
            strict=True,
        )
        return dict(zip(result.graph.addresses, rows, strict=True))

    before = says(compute(build_graph(pairs, seeds, seeds), params))
    after = says(compute(build_graph([*pairs, *slander, *ring], seeds, seeds), params))
    nobody = (0, 0, 65_536, 0, 0, 0)
    for name, values in after.items():
        assert values == before.get(name, nobody)


def passes(graph: Graph, gain: list[int] | None) -> tuple[list[trust.Row], list[list[int]]]:
    """The rows of a pass and t before its first and after each of its rounds."""
    rows = trust.trust_rows(graph.edges, gain)
    rounds = [trust.spread_over_seeds(len(rows), graph.seeds, TRUST_TOTAL)]
    for _ in range(trust.ROUNDS):
        rounds.append(trust.step(rows, rounds[-1], graph.seeds))
    assert rounds[-1] == trust.propagate(rows, graph.seeds)
    return rows, rounds


@given(networks, seed_sets, params, st.sets(st.integers(0, PEERS - 1), min_size=1))
def test_a_group_multiplies_what_it_is_given_by_at_most_three_halves(
    pairs: list[PairEdge], seeds: list[bytes], params: ReputationParams, members: set[int]
) -> None:
    """T(S) <= ((1 - a) / a) * f + k / |P| in both passes, f the largest inflow of any round."""
    graph = build_graph(pairs, seeds, seeds)
    names = {address(member) for member in members}
    inside = [name in names for name in graph.addresses]
    k = Fraction(sum(inside[seed] for seed in graph.seeds), len(graph.seeds))
    # One floor per peer and round, and the remainder of the division over the seeds.
    rounding = Fraction(5, 2) * (2 * len(inside) + len(seeds)) if k else 0
    for gain in (None, compute(graph, params).gains):
        rows, rounds = passes(graph, gain)
        inflow = Fraction(0)
        for values in rounds[:-1]:
            flow = Fraction(0)
            for peer, row in enumerate(rows):
                if not inside[peer]:
                    kept = trust.ROW_UNIT - sum(share for _, share in row)
                    given_in = sum(share for ratee, share in row if inside[ratee])
                    # What a row does not pass on is spread by p, so S's seeds get their part.
                    flow += Fraction(values[peer], trust.ROW_UNIT) * (given_in + k * kept)
            inflow = max(inflow, flow)
        for values in rounds:
            total = sum(value for value, mine in zip(values, inside, strict=True) if mine)
            assert total <= Fraction(3, 2) * inflow + k * TRUST_TOTAL + rounding


def honest_network(attacker: int) -> list[PairEdge]:
    rng = random.Random(11)
    pairs: list[PairEdge] = []
    for rater in range(40):
        for ratee in rng.sample([peer for peer in range(40) if peer != rater], 8):
            pairs.append((address(rater), address(ratee), 0, 64, 0))
    # Two honest peers were served by the attacker.
    return [*pairs, *((address(n), address(attacker), 0, 64, 0) for n in (3, 7))]


def ring_trust(sybils: int) -> tuple[int, int, int]:
    """(the attacker's trust, the trust of it and its Sybils, what flows in to them)."""
    attacker, first = 90, 1_000
    ring: list[PairEdge] = []
    for sybil in range(first, first + sybils):
        ring.append((address(attacker), address(sybil), 0, 4_096, 0))
        ring.append((address(sybil), address(attacker), 0, 4_096, 0))
    seeds = [address(n) for n in range(5)]
    graph = build_graph([*honest_network(attacker), *ring], seeds, seeds)
    rows, rounds = passes(graph, None)
    group = {address(attacker), *(address(s) for s in range(first, first + sybils))}
    numbers = {n for n, name in enumerate(graph.addresses) if name in group}
    inflow = max(
        sum(
            values[peer] * share >> 20
            for peer, row in enumerate(rows)
            for ratee, share in row
            if peer not in numbers and ratee in numbers
        )
        for values in rounds[:-1]
    )
    own = rounds[-1][graph.addresses.index(address(attacker))]
    return own, sum(rounds[-1][n] for n in numbers), inflow


def test_sybils_are_worth_the_same_from_one_to_a_thousand() -> None:
    """1.5625 times for the attacker, 2.5 times for the group, against passing nothing around."""
    results = {count: ring_trust(count) for count in (0, 1, 10, 64, 1_000)}
    alone = results.pop(0)[0]
    assert alone > 0
    for own, group, inflow in results.values():
        assert alone < own <= alone * 157 // 100
        assert own < group <= alone * 5 // 2
        assert own * 16 <= 15 * inflow
        assert group * 2 <= 3 * inflow
    owns = [own for own, _, _ in results.values()]
    assert max(owns) - min(owns) <= max(owns) // 1_000


events = st.lists(
    st.tuples(
        st.integers(0, 6),  # epochs that pass before the event
        st.integers(0, 5),
        st.integers(0, 5),
        st.integers(0, 1),
        st.one_of(st.integers(1, 2**27), st.integers(-10, -1), st.just(0)),
    ).filter(lambda event: event[1] != event[2]),
    max_size=40,
)


@settings(max_examples=60)
@given(events, params)
def test_a_boundary_is_read_from_the_state_at_any_time_in_the_next_epoch(
    history: list[tuple[int, int, int, int, int]], params: ReputationParams
) -> None:
    """The follower, one restarted from the present state, and a snapshot taken in time agree."""
    state: dict[bytes, bytes] = {}
    follower = EdgeTable()
    seeds = [address(0), address(1)]
    now = 1
    snapshot = follower.compute(seeds, params, 0, {})
    snapshot_pairs: list[PairEdge] = []
    for gap, payer, payee, service, amount in history:
        if gap:
            now += gap
            # Taken at the boundary, before the first write of the new epoch.
            snapshot_pairs = list(follower.edges_at_end_of(now - 1))
            snapshot = epochs.compute_epoch(snapshot_pairs, seeds, params, now - 1, {})
        write = touch(state, pair_key(address(payer), address(payee), service), now, amount)
        follower.apply(write)
        state.update(write)
        restarted = EdgeTable()
        restarted.apply([(b"cparams", b"not a pair"), *state.items()])
        for table in (follower, restarted):
            assert table.compute(seeds, params, now - 1, {}) == snapshot
        kept = {pair for pair in restarted.edges_at_end_of(now - 1) if pair[3] or pair[4]}
        assert kept == {pair for pair in snapshot_pairs if pair[3] or pair[4]}


def touch(
    state: dict[bytes, bytes], key: bytes, now: int, amount: int
) -> list[tuple[bytes, bytes]]:
    """A settle of `amount` > 0, or a rating (0 stands for the best score); nothing if refused."""
    raw = state.get(key)
    pair = None if raw is None else edges.decode_pair(raw)
    try:
        if amount > 0:
            seq, units, paid = (pair.seq, pair.cum_units, pair.cum_paid) if pair else (0, 0, 0)
            pair = edges.settle_edge(
                pair,
                epoch=now,
                seq=seq + 1,
                cum_units=units + 1,
                cum_paid=paid + amount,
                cosigned=True,
                ratable=True,
                p_min=P_MIN,
            )
        else:
            last = 1 if pair is None else pair.seq
            pair = edges.rate_edge(
                pair, epoch=now, receipt_seq=last, score=amount or 10, p_min=P_MIN
            )
    except InvalidData:
        return []
    return [(key, encode(pair))]


@given(st.integers(0, TRUST_TOTAL), st.integers(1, 10**7))
def test_a_raters_weight_never_falls_with_its_trust(amount: int, n_ref: int) -> None:
    weight = quality.rater_weight(amount, n_ref)
    assert weight <= quality.rater_weight(min(amount + 1_000_000, TRUST_TOTAL), n_ref)
    assert weight <= 1_024 * amount * n_ref // (4 * TRUST_TOTAL - n_ref) + 1
