"""From pairs to leaves: what is kept, who gets a leaf, and what the flags say."""

from ledger.reputation import epoch as epochs
from ledger.reputation import score_tree
from ledger.reputation.epoch import PairEdge, ReputationParams, build_graph, compute_epoch

PARAMS = ReputationParams(p_min=1_000, n0=64, n_ref=10)


def address(number: int) -> bytes:
    return b"\x02" + number.to_bytes(32, "big")


def test_services_are_summed_and_silent_edges_dropped() -> None:
    a, b, c = map(address, (1, 2, 3))
    pairs: list[PairEdge] = [(a, b, 0, 10, 1), (a, b, 5, 20, 2), (a, c, 0, 0, 0)]
    graph = build_graph(pairs, [a], [a])
    assert graph.addresses == (a, b)
    assert graph.edges == (((1, 30, 3),), ())


def test_the_heaviest_edges_are_kept_and_ties_evict_the_higher_address() -> None:
    rater = address(0)
    pairs: list[PairEdge] = [(rater, address(n), 0, 5, 0) for n in range(1, 1_026)]
    pairs.append((rater, address(2_000), 0, 0, 2))  # 8 points
    graph = build_graph(reversed(pairs), [rater], [rater])
    kept = [graph.addresses[ratee] for ratee, _, _ in graph.edges[0]]
    assert len(kept) == epochs.EDGES_PER_RATER
    assert kept == [*(address(n) for n in range(1, 1_024)), address(2_000)]
    assert address(1_024) not in graph.addresses


def test_a_small_network_from_end_to_end() -> None:
    seed, good, bad, victim = map(address, (1, 2, 3, 4))
    pairs: list[PairEdge] = [
        (seed, good, 0, 128, 0),
        (seed, bad, 0, 0, 128),
        (good, seed, 0, 128, 0),
        (good, victim, 0, 128, 0),
        (bad, victim, 0, 0, 128),
    ]
    scores = compute_epoch(pairs, [seed], PARAMS, 7, {})
    table = scores.table
    assert [table.at(n).address for n in range(len(table))] == [seed, good, bad, victim]
    by_rank = [score.address for score in table.top(10)]
    assert by_rank == [seed, good, victim, bad]
    outcast = table.lookup(bad)
    assert outcast is not None
    assert (outcast.trust, outcast.standing) == (0, 0)
    assert outcast.quality < 39_322
    assert outcast.flags == score_tree.FLAG_CUT
    slandered = table.lookup(victim)
    assert slandered is not None
    assert slandered.quality == 65_536, "who has no trust is not heard"
    assert slandered.raters == 1
    root = table.lookup(seed)
    assert root is not None
    assert root.flags == score_tree.FLAG_SEED
    assert root.epoch == scores.commitment.epoch == 7
    assert table.lookup(address(99)) is None


def test_a_seed_without_edges_has_a_leaf_and_a_fallen_one_is_flagged() -> None:
    seeds = [address(n) for n in (1, 2, 3)]
    table = compute_epoch([], seeds, PARAMS, 0, {address(2): 10}).table
    flags = [table.at(n).flags for n in range(3)]
    assert flags == [1, 1 | score_tree.FLAG_SUSPENDED, 1]
    assert [table.at(n).trust for n in range(3)] == [2**39, 0, 2**39]
