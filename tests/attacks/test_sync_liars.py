"""Attacks on a node that catches up, by the peers it asks for blocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consensus.sync import (
    ANSWER_MAX_BLOCKS,
    ANSWER_MAX_BYTES,
    PEER_RETRY_MAX_MS,
    REQUEST_DEADLINE_MS,
    BlockSync,
    CertifiedBlock,
)

HONEST = [b"honest %d" % number for number in range(3)]
BLOCK = CertifiedBlock(b"block", b"certificate")
FAR = 2**53 - 1

Answer = Callable[[bytes], list[CertifiedBlock] | None]


class CatchingUp:
    """A node at height 0 of a chain of `height` blocks; `answer` plays its peers.

    An answer takes no time unless it is None, which is silence until the deadline.
    """

    def __init__(self, height: int, answer: Answer, validators: list[bytes]) -> None:
        self.sync = BlockSync()
        self.answer = answer
        self.validators = validators
        self.chain_height = height
        self.own_height = 0
        self.now_ms = 0
        self.requests: list[bytes] = []
        for peer in HONEST:
            self.sync.claim(peer, height)

    def run(self, limit_ms: int) -> int:
        """Milliseconds until the node has every block."""
        start_ms = self.now_ms
        while self.own_height < self.chain_height and self.now_ms - start_ms < limit_ms:
            assert len(self.requests) < 10_000, "asks in circles"
            ask = self.sync.next_request(self.own_height, self.now_ms, self.validators)
            if ask is None:
                self.now_ms += 100
                continue
            self.requests.append(ask.node_key)
            blocks = self.answer(ask.node_key)
            if blocks is None:
                self.now_ms += REQUEST_DEADLINE_MS
            elif not self.sync.answer(ask.request_id, blocks):
                self.sync.fail(ask.node_key, self.now_ms)
            while (upcoming := self.sync.next_block()) is not None:
                if upcoming[0].block == b"block":
                    self.own_height += 1
                    self.sync.delivered(upcoming[1])
                elif upcoming[0].block == b"bent":
                    self.sync.fail(upcoming[1], self.now_ms)
                # Anything else is an old block, passed over.
        return self.now_ms - start_ms


def honestly(peer: bytes) -> list[CertifiedBlock]:
    """What an honest peer sends."""
    return [BLOCK] * ANSWER_MAX_BLOCKS


@pytest.mark.parametrize(
    "lie", [None, [], [CertifiedBlock(b"bent", b"")], [CertifiedBlock(b"", b"")]]
)
def test_sybils_with_high_claims_do_not_keep_a_node_from_its_validators(
    lie: list[CertifiedBlock] | None,
) -> None:
    # Two hundred strangers say that they are at 2^53 − 1, and then stall, send nothing, bent blocks
    # or old ones. Asked in the order of their claims they would take a quarter of an hour a round.
    node = CatchingUp(
        5_000, lambda peer: honestly(peer) if peer in HONEST else lie, validators=HONEST
    )
    for number in range(200):
        node.sync.claim(b"sybil %d" % number, FAR)
    assert node.run(600_000) < 1_000


def test_without_a_validator_at_hand_strangers_take_turns() -> None:
    # An observer whose only honest peers are observers too, among as many that stall.
    node = CatchingUp(1_000, lambda peer: honestly(peer) if peer in HONEST else None, validators=[])
    for number in range(3):
        node.sync.claim(b"sybil %d" % number, FAR)
    assert node.run(600_000) <= 3 * REQUEST_DEADLINE_MS + 1_000


def test_a_validator_that_drips_one_block_an_answer_costs_a_turn_of_many() -> None:
    # Each answer comes just before the deadline and is valid, so it is no failure.
    node: CatchingUp

    def answer(peer: bytes) -> list[CertifiedBlock]:
        if peer != b"drip":
            return honestly(peer)
        node.now_ms += REQUEST_DEADLINE_MS - 1
        return [BLOCK]

    node = CatchingUp(1_280, answer, validators=[*HONEST, b"drip"])
    node.sync.claim(b"drip", FAR)
    assert node.run(600_000) <= 5 * REQUEST_DEADLINE_MS
    assert node.requests.count(b"drip") <= len(node.requests) / 4 + 1


def test_coming_again_is_not_a_new_beginning() -> None:
    # A validator that stalls, drops its link and comes again would be the one not asked for
    # longest, every time.
    node: CatchingUp

    def answer(peer: bytes) -> list[CertifiedBlock] | None:
        if peer != b"bad":
            return honestly(peer)[:1]
        node.sync.forget(b"bad")
        node.now_ms += REQUEST_DEADLINE_MS - 1
        node.sync.claim(b"bad", FAR)
        return []

    node = CatchingUp(300, answer, validators=[*HONEST, b"bad"])
    node.sync.claim(b"bad", FAR)
    node.run(10_000_000)
    assert node.own_height == 300
    assert node.requests.count(b"bad") <= 1 + len(node.requests) / 4


def test_a_lone_liar_is_asked_less_and_less() -> None:
    # Nobody else claims anything: answers of no use must not be fetched as fast as the link allows.
    node = CatchingUp(0, lambda _: [CertifiedBlock(b"", b"")], validators=[b"liar"])
    node.chain_height = 1
    node.sync.claim(b"liar", FAR)
    node.run(10 * PEER_RETRY_MAX_MS)
    assert len(node.requests) < 20


def test_a_late_answer_neither_counts_nor_harms_the_next_peer() -> None:
    sync = BlockSync()
    for peer in HONEST[:2]:
        sync.claim(peer, 10)
    first = sync.next_request(0, 0)
    late_ms = REQUEST_DEADLINE_MS
    second = sync.next_request(0, late_ms)
    assert first is not None and second is not None
    assert first.node_key != second.node_key
    assert sync.answer(second.request_id, [BLOCK] * 2)
    assert sync.answer(first.request_id, [CertifiedBlock(b"bent", b"")])
    sync.fail(first.node_key, late_ms)
    assert [sync.next_block(), sync.next_block(), sync.next_block()] == [
        (BLOCK, second.node_key),
        (BLOCK, second.node_key),
        None,
    ]


def test_an_answer_is_no_larger_than_asked_for() -> None:
    for blocks in (
        [BLOCK] * (ANSWER_MAX_BLOCKS + 1),
        [CertifiedBlock(bytes(ANSWER_MAX_BYTES + 1), b"")] * 2,
    ):
        sync = BlockSync()
        sync.claim(b"peer", 1_000)
        ask = sync.next_request(0, 0)
        assert ask is not None
        assert not sync.answer(ask.request_id, blocks)
        assert sync.next_block() is None


def test_memory_of_peers_is_bounded() -> None:
    sync = BlockSync()
    for number in range(5_000):
        peer = b"%d" % number
        sync.claim(peer, FAR)
        sync.fail(peer, number)
        sync.forget(peer)
    assert len(sync._conduct) <= 1_024
    assert sync.target_height == 0
