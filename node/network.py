"""The node's traffic over p2p: consensus messages, transaction batches, block requests.

| protocol | lane | direction | when a queue is full |
| --- | --- | --- | --- |
| `/tally/votes/1` | L0 | one way | the oldest is dropped: newer votes replace it |
| `/tally/proposals/1` | L1 | one way | the oldest is dropped: it belongs to an earlier round |
| `/tally/transactions/1` | L2 | one way | the newest is dropped: its submitter still has it |
| `/tally/blocks/1` | L4 | request | the asking side limits itself |

Transactions that were admitted here leave in batches: those of one turn of the event loop
together, at most BATCH_MAX_BYTES each. They go to the validators, who form a full mesh, and no
further: a message to a peer costs as much as checking a transaction, and two hundred strangers that
only listen would take more of a validator than all its work. A node that reaches no validator sends
them to everybody it knows. Incoming batches wait in a bounded queue and are checked in slices by
one task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from consensus.replica import Replica
from consensus.sync import ANSWER_MAX_BLOCKS, ANSWER_MAX_BYTES, REQUEST_DEADLINE_MS, CertifiedBlock
from ledger.block import BLOCK_HARD_LIMIT_BYTES
from ledger.codec import U53, Codec, encode
from ledger.errors import MalformedData
from ledger.identity import peer_id, public_key_of
from p2p.errors import RequestError
from p2p.host import Host
from p2p.lanes import Lane
from p2p.messages import Overflow

VOTES = "/tally/votes/1"
PROPOSALS = "/tally/proposals/1"
TRANSACTIONS = "/tally/transactions/1"
BLOCKS = "/tally/blocks/1"

# A vote is 200 bytes; a VIEW-CHANGE carries two certificates of at most 1,000 validators.
VOTE_MAX_BYTES = 512 << 10
VOTE_QUEUE_BYTES = 8 << 20

# A NEW-VIEW carries a block and a quorum of VIEW-CHANGEs.
PROPOSAL_MAX_BYTES = BLOCK_HARD_LIMIT_BYTES + (8 << 20)

# The first transaction after a pause leaves at once, the next ones within this time together: a
# message to every peer costs as much as checking several transactions.
SPREAD_INTERVAL_S = 0.005

BATCH_MAX_BYTES = 256 << 10
BATCH_MESSAGE_MAX_BYTES = BATCH_MAX_BYTES + (264 << 10)
BATCH_QUEUE_BYTES = 16 << 20

# Incoming batches that wait for their checks: ten seconds of checking at full speed. One peer may
# have a quarter of the room, so that it cannot keep the others' transactions out.
INBOX_MAX_BYTES = 64 << 20
INBOX_PEER_MAX_BYTES = INBOX_MAX_BYTES // 4

# What a waiting transaction takes beside its bytes: many small ones must not count for nothing.
# Weighed after decoding, so a peer may pass its share by one batch.
INBOX_ITEM_BYTES = 128

# What a peer that comes up is offered of our mempool; it pulls the rest from blocks.
OFFER_MAX_COUNT = 10_000

# One request is answered with at most a few full blocks; see consensus.sync.
BLOCKS_RESPONSE_MAX_BYTES = ANSWER_MAX_BYTES + BLOCK_HARD_LIMIT_BYTES

# What a broken consensus message costs the peer, in fault points (p2p.limits: 100 disconnect).
CONSENSUS_FAULT_POINTS = 20

_batch = Codec[list[bytes]]("transaction batch", list[bytes], BATCH_MESSAGE_MAX_BYTES)


class _BlocksRequest(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    from_height: U53


class _CertifiedBlock(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    block: bytes
    certificate: bytes


_request = Codec[_BlocksRequest]("blocks request", _BlocksRequest, 16)
_response = Codec[list[_CertifiedBlock]]("blocks", list[_CertifiedBlock], BLOCKS_RESPONSE_MAX_BYTES)


class Chain(Protocol):
    """What the network asks of the ledger."""

    def certified_block(self, height: int) -> tuple[bytes, bytes] | None:
        """A stored block, for other nodes: (block bytes, certificate bytes)."""

    def is_validator(self, node_key: bytes) -> bool:
        """Whether the key is that of a validator of the next height."""

    def validator_node_keys(self) -> Iterable[bytes]:
        """The node keys of the validators of the next height."""


Spawn = Callable[[Coroutine[Any, Any, None]], object]


class NodeNetwork:
    """Wires a p2p host to replica and admission; is the replica's Transport."""

    def __init__(self, host: Host, chain: Chain, spawn: Spawn) -> None:
        self._host = host
        self._chain = chain
        self._spawn = spawn
        self._replica: Replica | None = None
        self._waiting: Callable[[], Sequence[bytes]] = tuple
        self._up: set[str] = set()
        self._outbox: list[bytes] = []
        self._flush_scheduled = False
        self._flushed_s = 0.0
        self._inbox: deque[tuple[str, list[bytes]]] = deque()
        self._inbox_bytes = 0
        self._inbox_bytes_of: dict[str, int] = {}
        self._inbox_filled = asyncio.Event()
        self.transactions_received = 0
        self.batches_dropped = 0
        host.add_message_protocol(
            VOTES,
            Lane.L0,
            VOTE_MAX_BYTES,
            self._on_consensus,
            queue_bytes=VOTE_QUEUE_BYTES,
            overflow=Overflow.DROP_OLDEST,
            hears=self._is_validator,
        )
        host.add_message_protocol(
            PROPOSALS,
            Lane.L1,
            PROPOSAL_MAX_BYTES,
            self._on_consensus,
            queue_count=16,
            queue_bytes=2 * PROPOSAL_MAX_BYTES,
            overflow=Overflow.DROP_OLDEST,
            hears=self._is_validator,
        )
        host.add_message_protocol(
            TRANSACTIONS,
            Lane.L2,
            BATCH_MESSAGE_MAX_BYTES,
            self._on_batch,
            queue_bytes=BATCH_QUEUE_BYTES,
            overflow=Overflow.DROP_NEWEST,
        )
        host.add_request_protocol(
            BLOCKS, Lane.L4, 16, BLOCKS_RESPONSE_MAX_BYTES, self._answer_blocks
        )

    def attach(self, replica: Replica, waiting: Callable[[], Sequence[bytes]]) -> None:
        """Name the replica that gets consensus messages and peer events.

        `waiting` gives the mempool's transactions, which a peer that comes up is offered.
        """
        self._replica = replica
        self._waiting = waiting
        self._host.on_peer_up(self._on_peer_up)
        self._host.on_peer_down(self._on_peer_down)

    # ---- consensus.ports.Transport ---------------------------------------------------------------

    def send(self, node_key: bytes, payload: bytes, *, bulk: bool) -> None:
        """Queue a consensus message for one node; dropped when it is not connected."""
        self._host.send(peer_id(node_key), PROPOSALS if bulk else VOTES, payload)

    def request_blocks(self, node_key: bytes, request_id: int, from_height: int) -> None:
        """Ask for blocks; the replica gets the answer."""
        self._spawn(self._request_blocks(node_key, request_id, from_height))

    def charge(self, node_key: bytes, kind: str) -> None:
        """A consensus message broke a rule."""
        self._host.charge(peer_id(node_key), kind, CONSENSUS_FAULT_POINTS)

    # ---- transactions ----------------------------------------------------------------------------

    def spread(self, raws: Sequence[bytes]) -> None:
        """Send admitted transactions to the validators, together with their neighbours."""
        self._outbox.extend(raws)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            loop = asyncio.get_running_loop()
            loop.call_at(max(loop.time(), self._flushed_s + SPREAD_INTERVAL_S), self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        self._flushed_s = asyncio.get_running_loop().time()
        validators = self._validators_up()
        for batch in in_batches(self._outbox):
            payload = encode(batch)
            if validators:
                for peer in validators:
                    self._host.send(peer, TRANSACTIONS, payload)
            else:
                self._host.broadcast(TRANSACTIONS, payload)
        self._outbox.clear()

    def _validators_up(self) -> list[str]:
        """The validators that are connected, in the order of the set."""
        named = map(peer_id, self._chain.validator_node_keys())
        return [peer for peer in named if peer in self._up]

    def _on_batch(self, peer: str, payload: bytes) -> None:
        # Before decoding: each transaction took at least one byte of the message.
        if not self._has_room(peer, len(payload)):
            self.batches_dropped += 1
            return
        batch = _batch.decode(payload)
        self.transactions_received += len(batch)
        self._inbox.append((peer, batch))
        self._weigh(peer, _weight(batch))
        self._inbox_filled.set()

    def _has_room(self, peer: str, size_bytes: int) -> bool:
        return (
            self._inbox_bytes + size_bytes <= INBOX_MAX_BYTES
            and self._inbox_bytes_of.get(peer, 0) + size_bytes <= INBOX_PEER_MAX_BYTES
        )

    def _weigh(self, peer: str, change_bytes: int) -> None:
        self._inbox_bytes += change_bytes
        of_peer = self._inbox_bytes_of.get(peer, 0) + change_bytes
        if of_peer:
            self._inbox_bytes_of[peer] = of_peer
        else:
            del self._inbox_bytes_of[peer]

    async def next_batch(self) -> tuple[str, list[bytes]]:
        """The oldest incoming batch: (peer, wire bytes)."""
        while not self._inbox:
            self._inbox_filled.clear()
            await self._inbox_filled.wait()
        peer, batch = self._inbox.popleft()
        self._weigh(peer, -_weight(batch))
        return peer, batch

    def forget_batches(self, peer: str) -> None:
        """Drop what waits of a peer that has sent what it should have refused itself."""
        kept = [each for each in self._inbox if each[0] != peer]
        self.batches_dropped += len(self._inbox) - len(kept)
        self._inbox = deque(kept)
        self._inbox_bytes -= self._inbox_bytes_of.pop(peer, 0)

    def charge_peer(self, peer: str, kind: str, points: int) -> None:
        """A peer sent a transaction that it should have refused itself."""
        self._host.charge(peer, kind, points)

    # ---- from the host ---------------------------------------------------------------------------

    def _is_validator(self, peer: str) -> bool:
        """Nobody else has votes or proposals to send; a proposal may have 70 MB."""
        return self._chain.is_validator(public_key_of(peer))

    def _on_consensus(self, peer: str, payload: bytes) -> None:
        assert self._replica is not None
        self._replica.on_message(public_key_of(peer), payload)

    def _on_peer_up(self, peer: str) -> None:
        assert self._replica is not None
        self._up.add(peer)
        self._replica.on_peer_up(public_key_of(peer), self._height_of(peer))
        if self._validators_up() and not self._is_validator(peer):
            return
        for batch in in_batches(self._waiting()[:OFFER_MAX_COUNT]):
            self._host.send(peer, TRANSACTIONS, encode(batch))

    def _height_of(self, peer: str) -> int:
        return next((each.height for each in self._host.peers() if each.peer_id == peer), 0)

    def on_tick(self) -> None:
        """Tell the replica how far the peers' chains go now; called about twice a second.

        Validators hear of new blocks by votes, everybody else only this way.
        """
        assert self._replica is not None
        for each in self._host.peers():
            self._replica.on_peer_height(public_key_of(each.peer_id), each.height)
        self._replica.on_sync_tick()

    def _on_peer_down(self, peer: str, _reason: str) -> None:
        assert self._replica is not None
        self._up.discard(peer)
        self._replica.on_peer_down(public_key_of(peer))

    # ---- blocks ----------------------------------------------------------------------------------

    async def _request_blocks(self, node_key: bytes, request_id: int, from_height: int) -> None:
        assert self._replica is not None
        blocks: list[CertifiedBlock] | None = None
        try:
            raw = await self._host.request(
                peer_id(node_key),
                BLOCKS,
                encode(_BlocksRequest(from_height)),
                REQUEST_DEADLINE_MS / 1_000,
            )
            blocks = [
                CertifiedBlock(each.block, each.certificate) for each in _response.decode(raw)
            ]
        except (RequestError, MalformedData):
            pass
        self._replica.on_blocks(node_key, request_id, blocks)

    async def _answer_blocks(self, _peer: str, payload: bytes) -> bytes:
        height = _request.decode(payload).from_height
        answer: list[_CertifiedBlock] = []
        size_bytes = 0
        while len(answer) < ANSWER_MAX_BLOCKS and size_bytes < ANSWER_MAX_BYTES:
            certified = self._chain.certified_block(height)
            if certified is None:
                break
            answer.append(_CertifiedBlock(*certified))
            size_bytes += len(certified[0])
            height += 1
        return encode(answer)


def _weight(batch: Sequence[bytes]) -> int:
    """What a waiting batch takes of memory; at least one byte."""
    return 1 + sum(map(len, batch)) + INBOX_ITEM_BYTES * len(batch)


def in_batches(raws: Sequence[bytes]) -> list[list[bytes]]:
    """Split into batches of at most BATCH_MAX_BYTES, but at least one transaction each."""
    batches: list[list[bytes]] = []
    size_bytes = BATCH_MAX_BYTES
    for raw in raws:
        if size_bytes + len(raw) > BATCH_MAX_BYTES:
            batches.append([])
            size_bytes = 0
        batches[-1].append(raw)
        size_bytes += len(raw)
    return batches
