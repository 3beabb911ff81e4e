"""What travels on which protocol, when, and in which portions; the p2p host is a recording one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.sync import (
    ANSWER_MAX_BLOCKS,
    ANSWER_MAX_BYTES,
    REQUEST_DEADLINE_MS,
    CertifiedBlock,
)
from ledger.codec import encode
from ledger.errors import MalformedData
from ledger.identity import peer_id, public_key_of
from node.network import (
    BATCH_MAX_BYTES,
    BATCH_MESSAGE_MAX_BYTES,
    BLOCKS,
    CONSENSUS_FAULT_POINTS,
    OFFER_MAX_COUNT,
    PROPOSALS,
    SPREAD_INTERVAL_S,
    TRANSACTIONS,
    VOTES,
    NodeNetwork,
    in_batches,
)
from p2p.errors import RequestTimeout
from p2p.lanes import Lane
from tests.unit.node.parts import key_of

ALICE, BOB = (key_of(name).public_key for name in ("alice", "bob"))


@dataclass
class Info:
    """What of a peer's information is looked at."""

    peer_id: str
    height: int


class RecordingHost:
    """A p2p.host.Host without links."""

    def __init__(self) -> None:
        self.lanes: dict[str, Lane] = {}
        self.limits: dict[str, int] = {}
        self.handlers: dict[str, Callable[[str, bytes], None]] = {}
        self.answer: Callable[[str, bytes], Awaitable[bytes]]
        self.sent: list[tuple[str, str, bytes]] = []
        self.broadcasts: list[tuple[float, bytes]] = []
        self.broadcasted = asyncio.Event()
        self.charges: list[tuple[str, str, float]] = []
        self.up: Callable[[str], None]
        self.down: Callable[[str, str], None]
        self.infos: list[Info] = []
        self.other: RecordingHost | None = None
        self.deadlines: list[float] = []

    def add_message_protocol(
        self, name: str, lane: Lane, limit: int, handler: Callable[[str, bytes], None], **_: Any
    ) -> None:
        self.lanes[name], self.limits[name], self.handlers[name] = lane, limit, handler

    def add_request_protocol(
        self,
        name: str,
        lane: Lane,
        _request_limit: int,
        response_limit: int,
        handler: Callable[[str, bytes], Awaitable[bytes]],
    ) -> None:
        assert name == BLOCKS
        self.lanes[name], self.limits[name], self.answer = lane, response_limit, handler

    def on_peer_up(self, callback: Callable[[str], None]) -> None:
        self.up = callback

    def on_peer_down(self, callback: Callable[[str, str], None]) -> None:
        self.down = callback

    def peers(self) -> list[Info]:
        return self.infos

    def send(self, peer: str, name: str, payload: bytes) -> bool:
        self.sent.append((peer, name, payload))
        return True

    def broadcast(self, name: str, payload: bytes) -> None:
        assert name == TRANSACTIONS
        self.broadcasts.append((asyncio.get_running_loop().time(), payload))
        self.broadcasted.set()

    def charge(self, peer: str, kind: str, points: float) -> None:
        self.charges.append((peer, kind, points))

    async def request(self, peer: str, name: str, payload: bytes, deadline_s: float) -> bytes:
        self.deadlines.append(deadline_s)
        if self.other is None:
            raise RequestTimeout(peer, name, "no answer")
        return await self.other.answer(peer_id(ALICE), payload)


class RecordingReplica:
    """Notes what the network tells it."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.told.append((name, *arguments))


class Blocks:
    """A chain of blocks that are only bytes; nobody is a validator."""

    def __init__(self, sizes: list[int] | None = None) -> None:
        self.sizes = sizes or []

    def certified_block(self, height: int) -> tuple[bytes, bytes] | None:
        if not 1 <= height <= len(self.sizes):
            return None
        return bytes(self.sizes[height - 1]), b"certificate of %d" % height

    def is_validator(self, _node_key: bytes) -> bool:
        return False

    def validator_node_keys(self) -> list[bytes]:
        return []


@dataclass
class World:
    """One node's network and what is around it."""

    host: RecordingHost
    replica: RecordingReplica
    network: NodeNetwork
    tasks: list[asyncio.Task[None]]
    waiting: list[bytes]

    async def settled(self) -> None:
        await asyncio.gather(*self.tasks)


def make(blocks: Blocks | None = None) -> World:
    host, replica = RecordingHost(), RecordingReplica()
    tasks: list[asyncio.Task[None]] = []
    waiting: list[bytes] = []

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        tasks.append(asyncio.get_running_loop().create_task(work))

    network = NodeNetwork(host, blocks or Blocks(), spawn)  # type: ignore[arg-type]
    network.attach(replica, lambda: waiting)  # type: ignore[arg-type]
    return World(host, replica, network, tasks, waiting)


# ---- portions ------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, BATCH_MAX_BYTES * 2).map(bytes), max_size=40))
def test_batches_keep_every_transaction_in_order_and_none_is_too_large(raws: list[bytes]) -> None:
    batches = in_batches(raws)

    assert [raw for batch in batches for raw in batch] == raws
    for batch in batches:
        assert batch
        assert sum(map(len, batch)) <= BATCH_MAX_BYTES or len(batch) == 1
    for one, following in itertools.pairwise(batches):
        assert sum(map(len, one)) + len(following[0]) > BATCH_MAX_BYTES, "no batch without need"


def test_the_largest_transactions_fit_into_a_message() -> None:
    smallest, largest = bytes(70), bytes(262_144)
    for raws in ([largest], [smallest] * 10_000, [largest, smallest, largest]):
        for batch in in_batches(raws):
            assert len(encode(batch)) <= BATCH_MESSAGE_MAX_BYTES


# ---- consensus -----------------------------------------------------------------------------------


async def test_votes_go_before_everything_and_blocks_behind_them() -> None:
    world = make()
    world.network.send(BOB, b"vote", bulk=False)
    world.network.send(BOB, b"block", bulk=True)

    bob = peer_id(BOB)
    assert world.host.sent == [(bob, VOTES, b"vote"), (bob, PROPOSALS, b"block")]
    order = [world.host.lanes[name] for name in (VOTES, PROPOSALS, TRANSACTIONS, BLOCKS)]
    assert order == [Lane.L0, Lane.L1, Lane.L2, Lane.L4]


@pytest.mark.parametrize("name", [VOTES, PROPOSALS])
async def test_consensus_messages_reach_the_replica_with_their_authentic_sender(name: str) -> None:
    world = make()
    world.host.handlers[name](peer_id(BOB), b"payload")
    assert world.replica.told == [("on_message", BOB, b"payload")]


async def test_a_broken_message_is_charged_to_its_sender() -> None:
    world = make()
    world.network.charge(BOB, "signature")
    assert world.host.charges == [(peer_id(BOB), "signature", CONSENSUS_FAULT_POINTS)]


# ---- peers ---------------------------------------------------------------------------------------


async def test_a_peer_that_comes_up_is_offered_what_waits() -> None:
    world = make()
    world.waiting += [b"%05d" % number for number in range(OFFER_MAX_COUNT + 1)]
    world.host.infos = [Info(peer_id(ALICE), 3), Info(peer_id(BOB), 7)]

    world.host.up(peer_id(BOB))

    assert world.replica.told == [("on_peer_up", BOB, 7)]
    assert {(peer, name) for peer, name, _ in world.host.sent} == {(peer_id(BOB), TRANSACTIONS)}
    received = make()
    for *_, payload in world.host.sent:
        received.host.handlers[TRANSACTIONS](peer_id(ALICE), payload)
    offered: list[bytes] = []
    for _ in world.host.sent:
        offered += (await received.network.next_batch())[1]
    assert offered == world.waiting[:OFFER_MAX_COUNT]


async def test_the_replica_hears_of_losses_and_of_heights_on_the_way() -> None:
    world = make()
    world.host.down(peer_id(BOB), "gone")
    assert world.replica.told == [("on_peer_down", BOB)]

    world.host.infos = [Info(peer_id(ALICE), 3), Info(peer_id(BOB), 7)]
    world.network.on_tick()

    assert world.replica.told[1:] == [
        ("on_peer_height", ALICE, 3),
        ("on_peer_height", BOB, 7),
        ("on_sync_tick",),
    ]


# ---- transactions --------------------------------------------------------------------------------


async def broadcasts(world: World, count: int) -> list[tuple[float, bytes]]:
    async with asyncio.timeout(10.0):
        while len(world.host.broadcasts) < count:
            world.host.broadcasted.clear()
            await world.host.broadcasted.wait()
    return world.host.broadcasts


async def test_the_first_leaves_at_once_and_its_followers_together() -> None:
    world = make()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    world.network.spread([b"one"])
    ((first_s, first),) = await broadcasts(world, 1)
    assert first == encode([b"one"])
    assert first_s - began_s < SPREAD_INTERVAL_S

    world.network.spread([b"two"])
    await asyncio.sleep(0)
    world.network.spread([b"three", b"four"])
    (_, (second_s, second)) = await broadcasts(world, 2)

    assert second == encode([b"two", b"three", b"four"])
    # The clock of timers has a granularity of its own.
    assert second_s - first_s >= SPREAD_INTERVAL_S * 0.9
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(world.host.broadcasts) == 2, "nothing leaves twice"


async def test_much_at_once_leaves_in_several_messages() -> None:
    world = make()
    raws = [bytes([number]) * 100_000 for number in range(6)]
    world.network.spread(raws)

    sent = await broadcasts(world, 3)

    assert [payload for _, payload in sent] == [encode(batch) for batch in in_batches(raws)]


async def test_batches_are_taken_in_the_order_of_their_arrival() -> None:
    world = make()
    handler = world.host.handlers[TRANSACTIONS]
    taker = asyncio.create_task(world.network.next_batch())
    await asyncio.sleep(0)

    handler(peer_id(ALICE), encode([b"one", b"two"]))
    handler(peer_id(BOB), encode([b"three"]))

    assert await taker == (peer_id(ALICE), [b"one", b"two"])
    assert await world.network.next_batch() == (peer_id(BOB), [b"three"])
    assert world.network.transactions_received == 3


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", encode([b"x"]) + b"\0", encode(["text"]), b"\xc0"]
)
async def test_a_batch_that_does_not_decode_is_the_senders_fault(payload: bytes) -> None:
    world = make()
    # The host charges whoever made a handler raise InvalidData.
    with pytest.raises(MalformedData):
        world.host.handlers[TRANSACTIONS](peer_id(BOB), payload)
    assert world.network.transactions_received == 0


# ---- blocks --------------------------------------------------------------------------------------


async def asked(world: World, other: World | None, from_height: int) -> list[CertifiedBlock] | None:
    world.host.other = None if other is None else other.host
    world.network.request_blocks(BOB, 9, from_height)
    await world.settled()
    (what, key, request_id, blocks) = world.replica.told[-1]
    assert (what, key, request_id) == ("on_blocks", BOB, 9)
    assert blocks is None or isinstance(blocks, list)
    return blocks


async def test_blocks_come_from_the_asked_height_on() -> None:
    other = make(Blocks([10, 20, 30]))
    blocks = await asked(make(), other, 2)
    assert blocks == [
        CertifiedBlock(bytes(20), b"certificate of 2"),
        CertifiedBlock(bytes(30), b"certificate of 3"),
    ]
    for height in (0, 4, 2**53 - 1):
        assert await asked(make(), other, height) == []


async def test_an_answer_has_at_most_so_many_blocks_and_bytes() -> None:
    many = await asked(make(), make(Blocks([1] * (ANSWER_MAX_BLOCKS + 5))), 1)
    assert many is not None and len(many) == ANSWER_MAX_BLOCKS

    half = ANSWER_MAX_BYTES // 2
    large = await asked(make(), make(Blocks([half, half - 1, half, half])), 1)
    assert large is not None
    assert [len(each.block) for each in large] == [half, half - 1, half]


async def test_a_request_that_fails_or_brings_nonsense_is_no_answer() -> None:
    world = make()
    assert await asked(world, None, 1) is None
    assert world.host.deadlines == [REQUEST_DEADLINE_MS / 1_000]

    nonsense = make()

    async def answer(_peer: str, _payload: bytes) -> bytes:
        return b"\xc1"

    nonsense.host.answer = answer
    assert await asked(make(), nonsense, 1) is None


@pytest.mark.parametrize("payload", [b"", b"\x91\xff", b"\x91\x01\x01", b"\x91\xcd\x00\x01"])
async def test_a_request_that_does_not_decode_is_the_senders_fault(payload: bytes) -> None:
    with pytest.raises(MalformedData):
        await make().host.answer(peer_id(BOB), payload)


def test_keys_and_peer_ids_name_the_same() -> None:
    assert public_key_of(peer_id(BOB)) == BOB
