"""How a replica catches up: whom it believes, what it applies, whom it serves."""

from __future__ import annotations

import msgspec
import pytest

from consensus.engine import (
    Applied,
    NeedSync,
    Proposal,
    ServeHeight,
    Synced,
    Timer,
    Wanted,
)
from consensus.sync import ONE_BEHIND_GRACE_MS, CertifiedBlock
from consensus.trace import BlockApplied, SyncPeerFailed
from ledger.certificate import CommitCertificate
from tests.kit.rpc_node import certify
from tests.unit.consensus.replica_world import (
    OWN,
    VALIDATORS,
    VOTED,
    World,
    chain_of,
    commit,
    make_block,
    node_key,
    note,
    tampered_block,
    wire,
)


@pytest.fixture
def world() -> World:
    return World().start(VOTED)


def certified(chain: list[tuple[Proposal, CommitCertificate]]) -> list[CertifiedBlock]:
    return [CertifiedBlock(proposal.block, certificate.encode()) for proposal, certificate in chain]


def requested(world: World) -> tuple[bytes, int, int]:
    """The last request: (peer, id, height)."""
    _, key, request_id, height = world.logged("request")[-1]
    return key, request_id, height


def test_a_peer_ahead_is_asked_and_its_blocks_are_applied_in_order(world: World) -> None:
    chain = chain_of(3)
    world.replica.on_peer_up(node_key(1), 3)
    key, request_id, height = requested(world)
    assert (key, height) == (node_key(1), 1)

    world.replica.on_blocks(key, request_id, certified(chain))
    for expected in (1, 2, 3):
        assert world.logged("apply")[-1] == ("apply", expected)
        assert len(world.applying) == 1
        world.applied()

    assert [each.tip.height for each in world.engine.of(Synced)] == [1, 2, 3]
    assert [each.how for each in world.seen(BlockApplied)] == ["synced"] * 3
    assert len(world.logged("request")) == 1, "nothing is left to ask for"


def test_a_peer_that_delivers_is_asked_for_more_at_once(world: World) -> None:
    world.applies_at_once = True
    world.replica.on_peer_up(node_key(1), 5)
    chain = chain_of(4)
    for start in (0, 2):
        key, request_id, height = requested(world)
        assert (key, height) == (node_key(1), start + 1)
        world.replica.on_blocks(key, request_id, certified(chain[start : start + 2]))

    assert world.tip.height == 4
    assert world.seen(SyncPeerFailed) == []


@pytest.mark.parametrize("how", ["message", "engine"])
def test_other_signs_of_a_higher_chain_lead_to_a_request_too(world: World, how: str) -> None:
    if how == "message":
        world.replica.on_message(node_key(2), wire(note(height=9, wanted=Wanted.NO)))
    else:
        world.engine.on(Timer, NeedSync(8, 2))
        world.replica.on_timer(1)

    assert requested(world)[::2] == (node_key(2), 1)


def test_one_block_behind_is_fetched_when_it_does_not_come_by_itself(world: World) -> None:
    world.replica.on_peer_up(node_key(1), 1)
    world.replica.on_sync_tick()
    assert world.logged("request") == []

    world.time_ms += ONE_BEHIND_GRACE_MS
    world.replica.on_sync_tick()

    assert requested(world)[2] == 1


def lying_answers() -> dict[str, list[CertifiedBlock]]:
    (first, of_first), (second, of_second) = chain_of(2)
    weak = certify(first.header, VALIDATORS, (0, 1))
    forged = msgspec.structs.replace(of_first, signatures=of_first.signatures[::-1])
    other = certify(make_block(World().tip, transactions=(b"other",)).header, VALIDATORS)
    return {
        "power": [CertifiedBlock(first.block, weak.encode())],
        "signature": [CertifiedBlock(first.block, forged.encode())],
        "block": [CertifiedBlock(first.block, other.encode())],
        "height": [CertifiedBlock(second.block, of_second.encode())],
        "MALFORMED": [CertifiedBlock(b"no block", of_first.encode())],
        "tx_root": [CertifiedBlock(tampered_block(), of_first.encode())],
    }


@pytest.mark.parametrize("rule", lying_answers())
def test_a_bad_answer_is_not_applied_and_the_next_peer_is_asked(world: World, rule: str) -> None:
    chain = chain_of(2)
    world.replica.on_peer_up(node_key(1), 2)
    world.replica.on_peer_up(node_key(2), 2)
    liar, request_id, _ = requested(world)

    world.replica.on_blocks(liar, request_id, lying_answers()[rule] * 2)

    assert world.logged("apply") == []
    assert [each.node_key for each in world.seen(SyncPeerFailed)] == [liar]
    assert world.logged("charge") == [("charge", liar, rule)]
    honest, request_id, _ = requested(world)
    assert honest != liar
    world.applies_at_once = True
    world.replica.on_blocks(honest, request_id, certified(chain))
    assert world.tip.height == 2


@pytest.mark.parametrize("nothing", [None, []])
def test_no_answer_is_no_crime_but_another_is_asked(
    world: World, nothing: list[CertifiedBlock] | None
) -> None:
    world.replica.on_peer_up(node_key(1), 2)
    world.replica.on_peer_up(node_key(2), 2)
    first, request_id, _ = requested(world)

    world.replica.on_blocks(first, request_id, nothing)

    assert world.logged("charge") == []
    assert requested(world)[0] != first


def test_who_decides_while_syncing_drops_the_double(world: World) -> None:
    (first, of_first), (second, of_second) = chain_of(2)
    world.replica.on_peer_up(node_key(1), 2)
    key, request_id, _ = requested(world)
    commit(world, first, of_first)

    world.replica.on_blocks(key, request_id, certified([(first, of_first), (second, of_second)]))
    assert world.logged("apply") == [("apply", 1)]
    world.applied()

    assert world.logged("apply") == [("apply", 1), ("apply", 2)]
    world.applied()
    assert len(world.engine.of(Applied)) == len(world.engine.of(Synced)) == 1
    assert world.logged("charge") == []


def test_a_validator_behind_is_sent_the_block_and_takes_it(world: World) -> None:
    ((proposal, certificate),) = chain_of(1)
    commit(world, proposal, certificate)
    world.applied()
    world.log.clear()
    world.engine.on(Timer, ServeHeight(2, 1), ServeHeight(2, 7))
    world.replica.on_timer(1)
    ((_, index, payload, bulk),) = world.logged("send")
    assert (index, bulk) == (2, True)

    behind = World().start(VOTED)
    behind.replica.on_message(node_key(OWN), payload)

    assert behind.applying == [(proposal, certificate)]
    # Once more while it is being written, and once it is: nothing happens.
    behind.replica.on_message(node_key(OWN), payload)
    behind.applied()
    behind.replica.on_message(node_key(OWN), payload)
    assert behind.logged("apply", "charge") == [("apply", 1)]
