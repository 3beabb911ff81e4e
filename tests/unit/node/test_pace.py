"""How many transactions a proposer puts into a block."""

from __future__ import annotations

import pytest

from node.pace import FIRST_COUNT, LEAST_COUNT, TARGET_MS, ProposalPace

MANY = 1_000_000


def after(*blocks: tuple[int, int, int]) -> int:
    """The limit after blocks of (transactions, round, ms since the one before)."""
    pace = ProposalPace()
    now_ms = 1_000
    pace.block_applied(0, 0, now_ms)
    for count, round_number, taken_ms in blocks:
        now_ms += taken_ms
        pace.block_applied(count, round_number, now_ms)
    return pace.limit_count(MANY)


def test_the_parameters_bound_it() -> None:
    assert ProposalPace().limit_count(MANY) == FIRST_COUNT
    assert ProposalPace().limit_count(100) == 100


def test_quick_full_blocks_grow_and_slow_ones_shrink() -> None:
    full_and_quick = (FIRST_COUNT, 0, TARGET_MS)
    assert after(full_and_quick) == FIRST_COUNT + FIRST_COUNT // 4
    assert after((FIRST_COUNT, 0, TARGET_MS * 4 // 3)) < FIRST_COUNT
    # However slow one block was, the limit no more than halves.
    assert after((FIRST_COUNT, 0, 100 * TARGET_MS)) == max(LEAST_COUNT, FIRST_COUNT // 2)


def test_blocks_that_were_not_full_say_nothing() -> None:
    assert after((0, 0, 60_000)) == FIRST_COUNT
    assert after((FIRST_COUNT // 2 - 1, 0, 60_000)) == FIRST_COUNT
    assert after((FIRST_COUNT // 2, 0, 1)) == FIRST_COUNT


def test_the_first_block_has_nothing_to_be_measured_by() -> None:
    pace = ProposalPace()
    pace.block_applied(FIRST_COUNT, 0, 1_000_000)
    assert pace.limit_count(MANY) == FIRST_COUNT


@pytest.mark.parametrize("count", [0, 10, FIRST_COUNT, MANY])
def test_a_block_that_needed_another_round_halves_it(count: int) -> None:
    grown = [(FIRST_COUNT * 2, 0, 1)] * 8
    assert LEAST_COUNT <= after(*grown, (count, 1, 1)) <= after(*grown) // 2


def test_it_never_falls_below_what_a_round_costs_anyway() -> None:
    assert after(*[(FIRST_COUNT, 2, 10_000)] * 20) == LEAST_COUNT
    assert after(*[(FIRST_COUNT, 0, 10_000)] * 20) == LEAST_COUNT


def test_on_a_steady_machine_full_blocks_settle_near_the_target() -> None:
    pace = ProposalPace()
    now_ms, taken_ms = 0, 0
    pace.block_applied(0, 0, 0)
    for _ in range(100):
        count = pace.limit_count(MANY)
        # This machine executes five transactions a millisecond.
        taken_ms = count // 5
        now_ms += taken_ms
        pace.block_applied(count, 0, now_ms)
    assert TARGET_MS / 2 <= taken_ms <= TARGET_MS * 1.3
