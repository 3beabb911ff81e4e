"""Rules 3, 4 and 7 on networks small enough to follow by hand."""

import pytest

from ledger.reputation import trust
from ledger.reputation.trust import TRUST_TOTAL

A, B, C = 0, 1, 2
FALLEN = 39_321
THRESHOLD = 39_322


def test_four_bad_points_cancel_sixteen_good_ones() -> None:
    assert trust.opinion(17, 4) == 1
    assert trust.opinion(16, 4) == 0
    assert trust.opinion(0, 100) == 0


def test_a_row_is_shared_in_proportion() -> None:
    rows = trust.trust_rows([[(B, 30, 0), (C, 30, 5)], [], [(B, 4, 1)]])
    assert rows == [[(B, 2**20 * 3 // 4), (C, 2**20 // 4)], [], []]


def test_a_row_is_the_64_largest_and_ties_go_to_the_lower_address() -> None:
    own = [(peer, 10 if peer else 5, 0) for peer in range(100)]
    (row, *_) = trust.trust_rows([own])
    assert [peer for peer, _ in row] == list(range(1, 65))
    assert all(share == 2**20 // 64 for _, share in row)


def test_opinions_are_weighed_by_the_gain_of_the_ratee() -> None:
    rows = trust.trust_rows([[(B, 100, 0), (C, 100, 0)]], [2**16, 2**16, 2**15])
    assert rows == [[(B, 2**20 * 100 // 150), (C, 2**20 * 50 // 150)]]
    assert trust.trust_rows([[(B, 100, 0), (C, 100, 0)]], [2**16, 0, 2**16]) == [[(C, 2**20)]]


def test_one_round_by_hand() -> None:
    # The seed A trusts B wholly, B nobody: B gets 3/5, the seed keeps 2/5 ...
    rows = [[(B, 2**20)], []]
    first = trust.step(rows, [TRUST_TOTAL, 0], [A])
    assert first == [TRUST_TOTAL - 3 * TRUST_TOTAL // 5, 3 * TRUST_TOTAL // 5]
    # ... and then B's empty row gives its trust back to the seeds.
    second = trust.step(rows, first, [A])
    assert second[B] == 3 * first[A] // 5
    assert sum(second) == TRUST_TOTAL


def test_the_remainder_goes_to_the_first_seeds_in_index_order() -> None:
    spread = trust.spread_over_seeds(5, [4, 2, 3], TRUST_TOTAL)
    share, remainder = divmod(TRUST_TOTAL, 3)
    assert remainder == 1
    assert spread == [0, 0, share + 1, share, share]


def test_a_chain_converges_to_the_geometric_shares() -> None:
    # A -> B -> C -> A: t_B = 3/5 t_A, t_C = 9/25 t_A, so t_A = 25/49 of the total.
    rows = [[(B, 2**20)], [(C, 2**20)], [(A, 2**20)]]
    result = trust.propagate(rows, [A])
    assert sum(result) == TRUST_TOTAL
    for peer, parts in ((A, 25), (B, 15), (C, 9)):
        assert result[peer] == pytest.approx(TRUST_TOTAL * parts / 49, abs=TRUST_TOTAL * 1e-4)


def test_who_is_not_reached_from_the_seeds_has_no_trust_at_all() -> None:
    rows = [[(B, 2**20)], [], [(B, 2**20)]]
    assert trust.propagate(rows, [A])[C] == 0


def test_a_seed_whose_quality_falls_is_suspended() -> None:
    seeds = [b"a", b"b", b"c", b"d"]
    assert trust.active_seeds(seeds, {}, THRESHOLD) == seeds
    assert trust.active_seeds(seeds, {b"b": FALLEN, b"a": THRESHOLD}, THRESHOLD) == [
        b"a",
        b"c",
        b"d",
    ]


def test_two_thirds_of_the_governed_seeds_stay_the_best_of_the_fallen_first() -> None:
    seeds = [b"d", b"c", b"b", b"a"]  # at least three of four stay
    fallen = {b"a": 10, b"b": 30, b"c": 20}
    assert trust.active_seeds(seeds, fallen, THRESHOLD) == [b"b", b"c", b"d"]
    assert trust.active_seeds(seeds, dict.fromkeys(seeds, 10), THRESHOLD) == [b"a", b"b", b"c"]
    assert trust.active_seeds([b"a"], {b"a": 0}, THRESHOLD) == [b"a"]
