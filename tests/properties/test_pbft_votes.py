"""Tallies against counting from scratch, and time-outs against the formula."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from consensus.pbft.timers import LONGEST_ROUND_MS, round_timeout_ms
from consensus.pbft.votes import RoundWatch, VoteBook
from tests.kit.engines import validator_set

power_lists = st.lists(st.integers(1, 9), min_size=1, max_size=7)
casts = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 4), st.sampled_from([b"A", b"B", b"C"])),
    max_size=60,
)


@given(power_lists, casts, st.integers(1, 3))
def test_a_book_counts_like_one_that_keeps_everything(
    powers: list[int], votes: list[tuple[int, int, bytes]], kept: int
) -> None:
    validators = validator_set(powers)
    book: VoteBook[bytes] = VoteBook(validators, kept)
    # The first vote of each validator and round, as long as the round was worth keeping.
    held: list[dict[int, bytes]] = [{} for _ in powers]
    for number, (who, round_, content) in enumerate(votes):
        who %= len(powers)
        mine = held[who]
        wanted = book.wants(who, round_, content)
        contradicted = book.add(who, round_, content, b"%d" % number)
        if round_ in mine:
            assert wanted == (mine[round_] != content)
            assert (contradicted is not None) == (mine[round_] != content)
            continue
        assert contradicted is None
        mine[round_] = content
        if len(mine) > kept:
            del mine[min(mine)]
        assert wanted == (round_ in mine)
        _compare(book, held, powers)


def _compare(book: VoteBook[bytes], held: list[dict[int, bytes]], powers: list[int]) -> None:
    total = sum(powers)
    quorums = []
    for round_ in range(5):
        in_round = sum(power for power, mine in zip(powers, held, strict=True) if round_ in mine)
        assert book.round_has_quorum(round_) == (3 * in_round > 2 * total)
        for content in (b"A", b"B", b"C"):
            voters = [who for who, mine in enumerate(held) if mine.get(round_) == content]
            power = sum(powers[who] for who in voters)
            assert list(book.voters(round_, content)) == voters
            assert book.has_quorum(round_, content) == (3 * power > 2 * total)
            if 3 * power > 2 * total:
                quorums.append((round_, content))
                assert book.quorum_in(round_) == content
    assert book.any_quorum() == (quorums[0] if quorums else None)


@given(power_lists, st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=30))
def test_rounds_are_followed_only_behind_one_correct_validator(
    powers: list[int], seen: list[tuple[int, int]]
) -> None:
    watch = RoundWatch(validator_set(powers))
    highest: dict[int, int] = {}
    for who, round_ in seen:
        who %= len(powers)
        watch.see(who, round_)
        highest[who] = max(round_, highest.get(who, -1))
    total = sum(powers)

    def power_from(round_: int) -> int:
        return sum(powers[who] for who, at in highest.items() if at >= round_)

    reachable = [round_ for round_ in range(10) if 3 * power_from(round_) > total]
    assert watch.highest_with_one_honest() == max(reachable, default=-1)
    assert watch.highest == max(highest.values(), default=-1)
    for round_ in range(11):
        assert watch.quorum_reached(round_) == (3 * power_from(round_) > 2 * total)


@given(st.integers(0, 400), st.integers(200, 60_000), st.integers(0, 100_000))
def test_time_outs_follow_the_formula(round_: int, base_ms: int, more_ms: int) -> None:
    cap_ms = base_ms + more_ms
    growing = [Fraction(base_ms) * Fraction(3, 2) ** each for each in range(round_ + 1)]
    capped = [each for each in growing if each >= cap_ms]
    doubled = cap_ms * 2 ** ((len(capped) - 1) // 16) if capped else 0
    expected = doubled or int(growing[-1])
    assert round_timeout_ms(round_, base_ms, cap_ms) == min(expected, LONGEST_ROUND_MS)


def test_time_outs_of_the_default_parameters() -> None:
    times = [round_timeout_ms(round_, 2_000, 8_000) for round_ in range(22)]
    assert times[:5] == [2_000, 3_000, 4_500, 6_750, 8_000]
    assert times[19:] == [8_000, 16_000, 16_000]
    assert round_timeout_ms(1 << 14, 2_000, 8_000) == LONGEST_ROUND_MS
