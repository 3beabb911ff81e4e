"""Block sync between honest peers: who is asked, when, and when again. Liars: tests/attacks."""

from __future__ import annotations

import pytest

from consensus.sync import (
    ANSWER_MAX_BLOCKS,
    ANSWER_MAX_BYTES,
    ONE_BEHIND_GRACE_MS,
    PEER_RETRY_MAX_MS,
    PEER_RETRY_MS,
    REQUEST_DEADLINE_MS,
    Ask,
    BlockSync,
    CertifiedBlock,
)

A, B = b"a", b"b"
BLOCK = CertifiedBlock(b"block", b"certificate")


def ask(sync: BlockSync, own_height: int, now_ms: int) -> Ask:
    request = sync.next_request(own_height, now_ms)
    assert request is not None
    return request


def test_nothing_is_asked_without_a_higher_claim() -> None:
    sync = BlockSync()
    assert sync.next_request(5, 0) is None
    sync.claim(A, 5)
    assert sync.next_request(5, 10_000) is None
    assert sync.target_height == 5


def test_a_request_names_the_next_height_and_is_the_only_one() -> None:
    sync = BlockSync()
    sync.claim(A, 9)
    sync.claim(B, 9)

    request = ask(sync, 5, 0)

    assert request.from_height == 6
    assert sync.next_request(5, 1) is None
    assert sync.next_request(5, REQUEST_DEADLINE_MS - 1) is None


def test_a_claim_is_never_taken_back_by_an_older_one() -> None:
    sync = BlockSync()
    sync.claim(A, 9)
    sync.claim(A, 4)
    assert sync.target_height == 9
    assert sync.claimed_by(A) == 9
    assert sync.claimed_by(B) == 0


def test_one_block_behind_has_a_moment_to_decide_it_itself() -> None:
    sync = BlockSync()
    sync.claim(A, 6)
    assert sync.next_request(5, 0) is None
    assert sync.next_request(5, ONE_BEHIND_GRACE_MS - 1) is None
    # It moved meanwhile: the moment begins anew.
    sync.claim(A, 7)
    assert sync.next_request(6, ONE_BEHIND_GRACE_MS) is None
    assert sync.next_request(6, 2 * ONE_BEHIND_GRACE_MS - 1) is None

    assert ask(sync, 6, 2 * ONE_BEHIND_GRACE_MS).from_height == 7


def test_two_blocks_behind_is_asked_at_once() -> None:
    sync = BlockSync()
    sync.claim(A, 7)
    assert ask(sync, 5, 0).from_height == 6


def test_blocks_of_an_answer_come_in_order_and_before_anything_is_asked() -> None:
    sync = BlockSync()
    sync.claim(A, 9)
    first = ask(sync, 0, 0)
    blocks = [CertifiedBlock(b"block %d" % height, b"") for height in range(1, 4)]

    assert sync.answer(first.request_id, list(blocks))

    assert sync.next_request(0, 1) is None
    for height, expected in enumerate(blocks, start=1):
        assert sync.next_block() == (expected, A)
        sync.delivered(A)
        if height < len(blocks):
            assert sync.next_request(height, 1) is None
    assert sync.next_block() is None
    assert ask(sync, 3, 2).from_height == 4


@pytest.mark.parametrize(
    ("sizes", "fits"),
    [
        ([1] * ANSWER_MAX_BLOCKS, True),
        ([1] * (ANSWER_MAX_BLOCKS + 1), False),
        ([ANSWER_MAX_BYTES + 1], True),
        ([ANSWER_MAX_BYTES, 5_000_000], True),
        ([ANSWER_MAX_BYTES, 1, 1], False),
        ([], False),
    ],
)
def test_an_answer_ends_with_the_block_that_passes_the_limit(sizes: list[int], fits: bool) -> None:
    sync = BlockSync()
    sync.claim(A, 1_000)
    request = ask(sync, 0, 0)
    blocks = {size: CertifiedBlock(bytes(size), b"") for size in set(sizes)}

    assert sync.answer(request.request_id, [blocks[size] for size in sizes]) is fits
    assert (sync.next_block() is not None) is fits


def test_after_the_deadline_another_peer_is_asked() -> None:
    sync = BlockSync()
    sync.claim(A, 9)
    sync.claim(B, 9)
    first = ask(sync, 0, 0)

    second = ask(sync, 0, REQUEST_DEADLINE_MS)

    assert {first.node_key, second.node_key} == {A, B}
    assert second.request_id != first.request_id


def test_a_failing_peer_is_asked_again_after_ever_longer_times() -> None:
    sync = BlockSync()
    sync.claim(A, 9)
    now_ms, waits = 0, []
    for _ in range(9):
        ask(sync, 0, now_ms)
        sync.fail(A, now_ms)
        failed_ms = now_ms
        while sync.next_request(0, now_ms) is None:
            now_ms += 500
        waits.append(now_ms - failed_ms)
        sync.answer(sync._next_request_id - 1, [])

    doubled = [min(PEER_RETRY_MS << each, PEER_RETRY_MAX_MS) for each in range(9)]
    assert waits == doubled


def test_a_block_that_holds_makes_up_for_failures() -> None:
    sync = BlockSync()
    sync.claim(A, 9)
    for _ in range(5):
        sync.fail(A, 0)
    sync.delivered(A)
    sync.fail(A, 100_000)

    assert sync.next_request(0, 100_000 + PEER_RETRY_MS - 1) is None
    assert ask(sync, 0, 100_000 + PEER_RETRY_MS).node_key == A


def test_a_peer_that_leaves_takes_its_claim_and_its_request_along() -> None:
    sync = BlockSync()
    sync.claim(A, 9)
    sync.claim(B, 7)
    first = ask(sync, 0, 0)

    sync.forget(first.node_key)

    other = ask(sync, 0, 1)
    assert other.node_key != first.node_key
    sync.forget(other.node_key)
    assert sync.target_height == 0
    assert sync.next_request(0, 2) is None


def test_blocks_already_here_outlive_the_link_they_came_by() -> None:
    sync = BlockSync()
    sync.claim(A, 9)
    request = ask(sync, 0, 0)
    sync.answer(request.request_id, [BLOCK, BLOCK])

    sync.forget(A)

    assert sync.next_block() == (BLOCK, A)
