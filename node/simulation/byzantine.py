"""Validators that lie. Each is an honest node whose words are twisted on their way out.

twins       two whole nodes under one identity, each heard by a part of the network only, so that
            they lead, vote and change views against each other (Bano et al., Twins, OPODIS 2021)
selective   says to each peer only a part of what it says
forger      signs what no honest validator signs: other votes for other peers, VIEW-CHANGEs that
            forget what was prepared, or that prove an older block, NEW-VIEWs that pass over the
            prepared block, blocks of its own for half of the network (node.simulation.forger)
sync_liar   answers sync with other blocks, other certificates, or nothing
flooder     adds validly signed votes of far rounds and heights, and requests for unknown blocks

An adversary signs with its own validator's key only; nobody else's signature can be forged.
"""

from __future__ import annotations

import random

import msgspec

from consensus.pbft.messages import (
    NO_HASH,
    NO_ROUND,
    AnyMessage,
    BlockRequest,
    CommitVote,
    Prepare,
    PrePrepare,
    SignedMessage,
    ViewChange,
)
from consensus.sync import CertifiedBlock
from ledger.block import decode_block
from ledger.certificate import decode_certificate
from node.simulation.keys import SimulatedKey
from node.simulation.ledger import Genesis
from node.simulation.wire import decode_payload, encode_payload

# What an adversary remembers to use against others later.
REMEMBERED_PROOFS = 32

FAR = (1, 2, 17, 1_000, 2**31, 2**52)
"""How far ahead a flooder's rounds and heights lie, besides the near ones that it draws."""

NEAR_ROUNDS = 15_000
"""Rounds up to here are not refused for being impossible (consensus.pbft.state.MAX_ROUND)."""

BURST = 200
"""Messages of a burst: enough to fill what is not bounded, few enough to simulate."""


class Adversary:
    """Honest to everyone; the base of the others. `rewrite` gives what is sent instead."""

    def __init__(self, genesis: Genesis, key: SimulatedKey, random_stream: random.Random) -> None:
        self.genesis = genesis
        self.key = key
        self.random = random_stream

    def rewrite(self, node_key: bytes, kind: str, body: object) -> list[object]:
        """The bodies that travel to the owner of `node_key` instead of `body`."""
        if kind == "consensus":
            assert isinstance(body, bytes)
            message = decode_payload(body)
            if message is not None:
                return [encode_payload(each) for each in self.speak(node_key, message)]
        if kind == "blocks":
            assert isinstance(body, tuple)
            life, request_id, blocks = body
            served = self.serve(list(blocks))
            return [] if served is None else [(life, request_id, served)]
        return [body]

    def hear(self, message: AnyMessage) -> None:
        """What its node is told, for later use."""

    def speak(self, node_key: bytes, message: AnyMessage) -> list[AnyMessage]:  # noqa: ARG002
        """What is said to one peer instead of `message`."""
        return [message]

    def serve(self, blocks: list[CertifiedBlock]) -> list[CertifiedBlock] | None:
        """What is answered to a peer that is behind, None for no answer."""
        return blocks

    def claim(self, height: int) -> int:
        """How high it says its chain is."""
        return height

    def sign(self, message: SignedMessage) -> SignedMessage:
        """The message with the adversary's valid signature."""
        vote = message.vote(self.genesis.chain.chain_id)
        signature = self.key.sign(vote.digest(self.genesis.chain.genesis_hash))
        return msgspec.structs.replace(message, signature=signature)

    def side_of(self, node_key: bytes, salt: int = 0) -> int:
        """0 or 1: the half of the network that a peer is in, another one for each salt."""
        return (node_key[-1] >> (salt % 8)) & 1


class Twin(Adversary):
    """Copy 0 speaks to some peers, copy 1 to others, both to the rest."""

    def __init__(
        self, genesis: Genesis, key: SimulatedKey, random_stream: random.Random, copy: int
    ) -> None:
        super().__init__(genesis, key, random_stream)
        self._copy = copy

    def speak(self, node_key: bytes, message: AnyMessage) -> list[AnyMessage]:
        """Only to its own side, which is another one at each height."""
        return [message] if self.side_of(node_key, message.height) == self._copy else []


class Selective(Adversary):
    """Leaves out a part, by peer and height, so that the same peers starve for a while."""

    def speak(self, node_key: bytes, message: AnyMessage) -> list[AnyMessage]:
        """Nothing to one half, now and then nothing to anybody."""
        starved = self.side_of(node_key, message.height // 3)
        return [] if starved or self.random.random() < 0.2 else [message]


class SyncLiar(Adversary):
    """Answers sync requests wrongly."""

    def serve(self, blocks: list[CertifiedBlock]) -> list[CertifiedBlock] | None:
        """Nothing, or blocks and certificates that were changed or do not belong together."""
        if not blocks:
            return blocks
        first = blocks[0]
        match self.random.randrange(7):
            case 0:
                return []
            case 6:
                return None
            case 1 if len(blocks) > 1:
                return [CertifiedBlock(blocks[1].block, first.certificate), *blocks[1:]]
            case 2:
                return [CertifiedBlock(self._altered(first.block), first.certificate)]
            case 3:
                certificate = first.certificate
                return [CertifiedBlock(first.block, certificate[:-1] + b"\0"), *blocks[1:]]
            case 4:
                return [self._invented(first)]
            case _:
                return blocks

    def claim(self, height: int) -> int:
        """Often more than there is."""
        return height + self.random.choice((0, 1, 50, 2**40))

    def _invented(self, certified: CertifiedBlock) -> CertifiedBlock:
        """Another block that would be valid, and a certificate that names it."""
        block = decode_block(certified.block)
        header = msgspec.structs.replace(block.header, time_ms=block.header.time_ms + 1)
        certificate = msgspec.structs.replace(
            decode_certificate(certified.certificate), block_hash=header.hash()
        )
        other = msgspec.structs.replace(block, header=header)
        return CertifiedBlock(other.encode(), certificate.encode())

    def _altered(self, encoded: bytes) -> bytes:
        """Another body under the certified header, or another header."""
        block = decode_block(encoded)
        if self.random.random() < 0.5:
            header = msgspec.structs.replace(block.header, time_ms=block.header.time_ms + 1)
            return msgspec.structs.replace(block, header=header).encode()
        return msgspec.structs.replace(block, transactions=(b"\0" * 80,)).encode()


class Flooder(Adversary):
    """Adds what must cost nothing."""

    def speak(self, node_key: bytes, message: AnyMessage) -> list[AnyMessage]:  # noqa: ARG002
        """The message, and sometimes a few signed votes from far away."""
        said = [message]
        draw = self.random
        if not isinstance(message, PrePrepare) and draw.random() < 0.3:
            count = BURST if draw.random() < 0.03 else draw.randint(1, 4)
            height = message.height + draw.choice((0, 0, 0, 1, 1, 2, 50, 2**40))
            said += [self._far_vote(message, height) for _ in range(count)]
        return said

    def _far_vote(self, message: AnyMessage, height: int) -> AnyMessage:
        draw = self.random
        round_number = draw.choice(FAR) if draw.random() < 0.3 else draw.randrange(NEAR_ROUNDS)
        block_hash = draw.randbytes(32)
        empty = bytes(64)
        match draw.randrange(4):
            case 0:
                return self.sign(
                    Prepare(height, message.validator, round_number, block_hash, empty)
                )
            case 1:
                return self.sign(
                    CommitVote(height, message.validator, round_number, block_hash, empty)
                )
            case 2:
                return self.sign(
                    ViewChange(
                        height,
                        message.validator,
                        round_number,
                        NO_ROUND,
                        NO_HASH,
                        empty,
                        None,
                        None,
                    )
                )
            case _:
                return BlockRequest(height, message.validator, block_hash)
