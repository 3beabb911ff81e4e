"""A validator with an empty journal listens first; see consensus.first_vote."""

from __future__ import annotations

import pytest

from consensus.first_vote import FirstVote
from ledger.crypto import PrivateKey
from ledger.validators import Validator, ValidatorSet


def _key(name: str) -> bytes:
    return PrivateKey(name.encode().ljust(32, b"-")).public_key


def _validators(*powers: int) -> ValidatorSet:
    return ValidatorSet.make(
        [
            Validator(_key(f"operator{n}"), _key(f"consensus{n}"), _key(f"node{n}"), power)
            for n, power in enumerate(powers)
        ]
    )


FOUR = _validators(1, 1, 1, 1)
OWN = _key("node0")
PEERS = [_key(f"node{n}") for n in (1, 2, 3)]


def _listening() -> FirstVote:
    first_vote = FirstVote()
    assert first_vote.restore(()) == ()
    return first_vote


def test_a_beginning_network_votes_once_a_quorum_stands_at_nothing() -> None:
    first_vote = _listening()
    first_vote.report(PEERS[0], 0)
    assert not first_vote.settle(FOUR, OWN, 0)
    assert not first_vote.allows(1)
    first_vote.report(PEERS[1], 0)
    assert first_vote.settle(FOUR, OWN, 0)
    assert first_vote.allows(1)


def test_a_running_network_is_followed_for_two_heights() -> None:
    first_vote = _listening()
    for peer in PEERS:
        first_vote.report(peer, 7)
    assert not first_vote.settle(FOUR, OWN, 6), "there are blocks to fetch first"
    assert first_vote.settle(FOUR, OWN, 7)
    assert not first_vote.allows(9)
    assert first_vote.allows(10)


def test_who_exaggerates_is_only_not_counted() -> None:
    first_vote = _listening()
    for peer, height in zip(PEERS, (2**40, 7, 7), strict=True):
        first_vote.report(peer, height)
    assert first_vote.settle(FOUR, OWN, 7)
    assert first_vote.allows(10)


def test_two_liars_of_four_are_too_many_to_go_on() -> None:
    first_vote = _listening()
    for peer, height in zip(PEERS, (2**40, 2**40, 7), strict=True):
        first_vote.report(peer, height)
    assert not first_vote.settle(FOUR, OWN, 7)


def test_strangers_do_not_count() -> None:
    first_vote = _listening()
    for n in range(10):
        first_vote.report(_key(f"stranger{n}"), 0)
    assert not first_vote.settle(FOUR, OWN, 0)


def test_power_counts_and_not_heads() -> None:
    weighted = _validators(1, 1, 1, 7)
    first_vote = _listening()
    for peer in PEERS[:2]:
        first_vote.report(peer, 0)
    assert not first_vote.settle(weighted, OWN, 0)
    first_vote.report(PEERS[2], 0)
    assert first_vote.settle(weighted, OWN, 0)


def test_the_first_word_of_a_peer_stands() -> None:
    """Later heights of a chain that goes on would never be caught up with."""
    first_vote = _listening()
    for peer in PEERS:
        first_vote.report(peer, 7)
        first_vote.report(peer, 9)
    assert first_vote.settle(FOUR, OWN, 7)


@pytest.mark.parametrize(("height", "first"), [(0, 1), (5, 8)])
def test_what_was_found_out_survives_a_restart(height: int, first: int) -> None:
    first_vote = _listening()
    for peer in PEERS:
        first_vote.report(peer, height)
    assert first_vote.settle(FOUR, OWN, height)
    again = FirstVote()
    assert again.restore((first_vote.record(), b"vote", b"another")) == (b"vote", b"another")
    assert again.is_settled
    assert again.allows(first)
    assert not again.allows(first - 1)


def test_a_journal_with_votes_needs_no_listening() -> None:
    first_vote = FirstVote()
    assert first_vote.restore((b"vote",)) == (b"vote",)
    assert first_vote.allows(1)
