"""Attacks on a replica by those who are connected to it."""

from __future__ import annotations

from typing import Any

import pytest

from consensus.engine import Tip
from consensus.pbft.engine import PbftEngine
from consensus.pbft.messages import Prepare, encode_message
from consensus.replica import Replica
from consensus.sync import CertifiedBlock
from ledger.block import BLOCK_VERSION, Block, BlockHeader, last_commit_hash, transactions_root
from ledger.params import DEVNET_PARAMS
from ledger.trace import TraceEvent
from ledger.validators import ValidatorSet
from tests.kit.chain import CHAIN, GENESIS_HASH, GENESIS_TIME_MS, address_of, make_validators
from tests.kit.rpc_node import certify

VALIDATORS = make_validators()
STRANGER = address_of("a stranger's node")
FAR = 2**53 - 1


class Ports:
    """Every port of a replica that does nothing but remember."""

    def __init__(self) -> None:
        self.tip = Tip(0, GENESIS_HASH, GENESIS_TIME_MS, None)
        self.charged: list[tuple[bytes, str]] = []
        self.asked: list[tuple[bytes, int, int]] = []
        self.applying: list[int] = []

    def validators(self) -> ValidatorSet:
        return VALIDATORS

    def params(self) -> Any:
        return DEVNET_PARAMS

    def now_ms(self) -> int:
        return GENESIS_TIME_MS + 10_000

    def charge(self, node_key: bytes, kind: str) -> None:
        self.charged.append((node_key, kind))

    def request_blocks(self, node_key: bytes, request_id: int, from_height: int) -> None:
        self.asked.append((node_key, request_id, from_height))

    def apply(self, proposal: Any, _certificate: Any) -> None:
        self.applying.append(proposal.header.height)

    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: None


class Counting(PbftEngine):
    """Counts what is decoded."""

    decoded = 0

    def decode(self, raw: bytes) -> Any:
        self.decoded += 1
        return super().decode(raw)


@pytest.fixture
def world() -> tuple[Replica, Ports, Counting, list[TraceEvent]]:
    ports, events = Ports(), list[TraceEvent]()
    engine = Counting(events.append)
    replica = Replica(
        engine=engine,
        chain=CHAIN,
        application=ports,
        transport=ports,
        journal=ports,
        timers=ports,
        clock=ports,
        signer=None,
        seed=1,
        tracer=events.append,
    )
    replica.start(())
    return replica, ports, engine, events


World = tuple[Replica, Ports, Counting, list[TraceEvent]]


def block(height: int, *transactions: bytes, parent: bytes = GENESIS_HASH) -> CertifiedBlock:
    """A block which all validators signed; its content is not looked at here."""
    header = BlockHeader(
        BLOCK_VERSION,
        CHAIN.chain_id,
        height,
        GENESIS_TIME_MS + height,
        parent,
        last_commit_hash(None),
        transactions_root([]),
        bytes(32),
        bytes(32),
        VALIDATORS.hash,
        VALIDATORS.hash,
        bytes(32),
        "pbft",
        VALIDATORS[0].operator,
    )
    return CertifiedBlock(
        Block(header, None, transactions).encode(), certify(header, VALIDATORS).encode()
    )


def pushed(certified: CertifiedBlock) -> bytes:
    """As a validator sends a decided block to one that is behind."""
    size = len(certified.certificate).to_bytes(4, "big")
    return b"\x01" + size + certified.certificate + certified.block


def test_a_strangers_consensus_messages_are_not_even_decoded(world: World) -> None:
    # Anybody may connect. A proposal may have 70 MB and takes half a second to decode.
    replica, ports, engine, events = world
    events.clear()
    message = b"\x00" + encode_message(Prepare(1, 0, 0, bytes(32), bytes(64)))
    for payload in (message, b"\x00" + bytes(100), pushed(block(1)), b"\x07", b""):
        replica.on_message(STRANGER, payload)
    assert (engine.decoded, ports.charged, ports.applying, events) == (0, [], [], [])


def test_a_validators_broken_messages_are_charged(world: World) -> None:
    replica, ports, _, _ = world
    sender = VALIDATORS[1].node_key
    for payload in (b"\x00" + bytes(100), b"\x07", b"", b"\x01\xff\xff\xff\xff"):
        replica.on_message(sender, payload)
    assert [key for key, _ in ports.charged] == [sender] * 4


def test_bent_blocks_are_charged_whether_asked_for_or_pushed(world: World) -> None:
    replica, ports, _, _ = world
    sender = VALIDATORS[1].node_key
    true, other = block(1), block(1, parent=bytes(32))
    swapped = CertifiedBlock(other.block, true.certificate)
    replica.on_message(sender, pushed(swapped))
    with_body = CertifiedBlock(block(1, b"a transaction").block, true.certificate)
    replica.on_message(sender, pushed(with_body))
    other_sender = VALIDATORS[2].node_key
    replica.on_peer_up(other_sender, 5)
    _, request_id, _ = ports.asked[-1]
    replica.on_blocks(other_sender, request_id, [swapped])
    assert [key for key, _ in ports.charged] == [sender, sender, other_sender]
    assert ports.applying == []
    replica.on_message(sender, pushed(true))
    assert ports.applying == [1]


def test_a_block_that_was_applied_meanwhile_is_nobodys_fault(world: World) -> None:
    replica, ports, _, _ = world
    sender = VALIDATORS[1].node_key
    replica.on_peer_up(sender, 5)
    _, request_id, _ = ports.asked[-1]
    ports.tip = Tip(1, bytes(32), GENESIS_TIME_MS + 1, None)
    replica.on_blocks(sender, request_id, [block(1), block(2)])
    assert ports.charged == []
    assert ports.applying == [2]


def test_strangers_cannot_make_a_node_call_itself_behind(world: World) -> None:
    # /readyz says no while the node is behind. One liar could take the whole network out of
    # service, were its word enough.
    replica, _, _, _ = world
    for number in range(10):
        replica.on_peer_up(address_of(f"stranger {number}"), FAR)
    replica.on_peer_up(VALIDATORS[0].node_key, FAR)
    assert replica.highest_claim == 0
    replica.on_peer_up(VALIDATORS[1].node_key, 40)
    assert replica.highest_claim == 40, "one of the two is correct, so 40 is reached"
    replica.on_peer_up(VALIDATORS[2].node_key, 41)
    assert replica.highest_claim == 41
    replica.on_peer_down(VALIDATORS[0].node_key)
    assert replica.highest_claim == 40


def test_an_observer_hears_of_heights_without_any_vote(world: World) -> None:
    replica, ports, _, _ = world
    replica.on_peer_up(VALIDATORS[0].node_key, 0)
    assert ports.asked == []
    replica.on_peer_height(VALIDATORS[0].node_key, 7)
    replica.on_sync_tick()
    assert [(key, height) for key, _, height in ports.asked] == [(VALIDATORS[0].node_key, 1)]
