"""The forger: signs whatever might bring two honest validators apart.

Its forgeries are the known attacks on PBFT's phases: equivocation in every type of vote, a
VIEW-CHANGE that conceals what its sender prepared (amnesia) or that proves an older round, and a
NEW-VIEW that passes over the highest prepared block in the four ways there are: without the
certificate, without the claims that name it, with a block of the forger's own under an intact
justification, or with its own claim altered. It also presents PREPAREs as a commit certificate.
"""

from __future__ import annotations

import random
from collections import deque

import msgspec

from consensus.pbft.messages import (
    NO_HASH,
    NO_ROUND,
    AnyMessage,
    Claim,
    CommitVote,
    Decided,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    ViewChange,
)
from ledger.block import decode_block
from ledger.certificate import CommitCertificate
from node.simulation.byzantine import REMEMBERED_PROOFS, Adversary
from node.simulation.keys import SimulatedKey
from node.simulation.ledger import Genesis


class Forger(Adversary):
    """See the module. Which peers it lies to changes with the height.

    A lie is kept up: who was shown another block gets PREPARE and COMMIT for that block.
    """

    def __init__(self, genesis: Genesis, key: SimulatedKey, random_stream: random.Random) -> None:
        super().__init__(genesis, key, random_stream)
        self._proofs: deque[tuple[int, PreparedCertificate]] = deque(maxlen=REMEMBERED_PROOFS)
        self._height = 0
        self._blocks: dict[int, bytes] = {}
        """Of the present height: round → a block proposed in it."""
        self._others: dict[int, tuple[bytes, bytes]] = {}
        """Of the present height: round → hash and bytes of the forger's block for it."""

    def hear(self, message: AnyMessage) -> None:
        """Keep what can be used: blocks and prepared certificates."""
        self._enter(message.height)
        if isinstance(message, PrePrepare):
            self._blocks[message.round] = message.block
        if isinstance(message, ViewChange | PrePrepare) and message.prepared is not None:
            self._proofs.append((message.height, message.prepared))

    def speak(self, node_key: bytes, message: AnyMessage) -> list[AnyMessage]:
        """The truth to one side, forgeries to the other."""
        self.hear(message)
        if self._is_spared(node_key, message.height):
            return [message]
        match message:
            case Prepare() | CommitVote() if message.round in self._others:
                other, _ = self._others[message.round]
                return [self.sign(msgspec.structs.replace(message, block_hash=other))]
            case Prepare() if self._proofs and self._chance():
                return [message, self._false_decision(message)]
            case CommitVote() if self._chance():
                return [message, *self._invented_new_view(message)]
            case Prepare() | CommitVote() if self._chance():
                return self._other_vote(message)
            case ViewChange() if self._chance():
                return [self._forget(message)]
            case PrePrepare(round=0) if message.round in self._others or self._chance():
                forged = self._other_block(message)
                return [message, forged] if self._chance() else [forged]
            case PrePrepare() if message.round in self._others or self._chance():
                return [self._pass_over(message)]
            case _:
                return [message]

    def _enter(self, height: int) -> None:
        if height > self._height:
            self._height = height
            self._blocks.clear()
            self._others.clear()

    def _chance(self) -> bool:
        """Half of what it says is true: a validator that only lies is merely absent."""
        return self.random.random() < 0.5

    def _is_spared(self, node_key: bytes, height: int) -> bool:
        """At every other height or so it lies to all."""
        return height % 3 != 0 and self.side_of(node_key, height) == 1

    def _other_vote(self, message: Prepare | CommitVote) -> list[AnyMessage]:
        """A vote for a block that nobody has, a vote of the other type, or none."""
        match self.random.randrange(3):
            case 0:
                other = self.random.randbytes(32)
                return [self.sign(msgspec.structs.replace(message, block_hash=other))]
            case 1:
                kind = CommitVote if isinstance(message, Prepare) else Prepare
                # The signature of the other phase under this phase's name must not pass.
                return [
                    kind(
                        message.height,
                        message.validator,
                        message.round,
                        message.block_hash,
                        message.signature,
                    )
                ]
            case _:
                return []

    def _false_decision(self, message: Prepare) -> AnyMessage:
        """PREPAREs presented as COMMITs, which their signatures must not pass for."""
        height, proof = self._proofs[-1]
        validators = self.genesis.validators_at(height)
        certificate = CommitCertificate(
            "pbft",
            self.genesis.chain.chain_id,
            height,
            proof.round,
            proof.block_hash,
            validators.hash,
            proof.bitmap,
            proof.signatures,
        )
        return Decided(height, message.validator, certificate)

    def _forget(self, message: ViewChange) -> ViewChange:
        """Conceal what was prepared, or prove something older."""
        older = [
            proof
            for height, proof in self._proofs
            if height == message.height and proof.round < message.prepared_round
        ]
        if older and self.random.random() < 0.5:
            proof = older[0]
            forged = msgspec.structs.replace(
                message,
                prepared_round=proof.round,
                prepared_hash=proof.block_hash,
                prepared=proof,
            )
        else:
            forged = msgspec.structs.replace(
                message, prepared_round=NO_ROUND, prepared_hash=NO_HASH, prepared=None
            )
        signed = self.sign(forged)
        assert isinstance(signed, ViewChange)
        return signed

    def _forged_block(self, round_number: int, encoded: bytes) -> tuple[bytes, bytes]:
        """Hash and bytes of its own block for a round: the one proposed, a little later, and
        now and then with a wrong state root. The same for everybody it is shown to."""
        known = self._others.get(round_number)
        if known is None:
            block = decode_block(encoded)
            header = msgspec.structs.replace(block.header, time_ms=block.header.time_ms + 1)
            if self.random.random() < 0.3:
                header = msgspec.structs.replace(header, state_root=self.random.randbytes(32))
            known = (header.hash(), msgspec.structs.replace(block, header=header).encode())
            self._others[round_number] = known
        return known

    def _other_block(self, message: PrePrepare) -> PrePrepare:
        """Another block than the others get."""
        block_hash, block = self._forged_block(message.round, message.block)
        signed = self.sign(msgspec.structs.replace(message, block_hash=block_hash, block=block))
        assert isinstance(signed, PrePrepare)
        return signed

    def _invented_new_view(self, message: CommitVote) -> list[AnyMessage]:
        """Once a block is prepared: another one for the next round it leads, out of turn."""
        encoded = self._blocks.get(message.round)
        if encoded is None:
            return []
        count = len(self.genesis.validators_at(message.height))
        ahead = (message.validator - message.height - message.round - 1) % count + 1
        round_number = message.round + ahead
        block_hash, block = self._forged_block(round_number, encoded)
        proposal = PrePrepare(
            message.height,
            message.validator,
            round_number,
            block_hash,
            bytes(64),
            (),
            None,
            block,
        )
        return [self.sign(proposal)]

    def _pass_over(self, message: PrePrepare) -> PrePrepare:
        """A NEW-VIEW that does not follow from its justification."""
        forged = self._other_block(message)
        match self.random.randrange(4):
            case 0:
                return msgspec.structs.replace(forged, prepared=None)
            case 1:
                silent = tuple(each for each in message.claims if each.prepared_round == NO_ROUND)
                return msgspec.structs.replace(forged, prepared=None, claims=silent)
            case 2:
                return forged
            case _:
                return self._with_forgotten_claim(forged)

    def _with_forgotten_claim(self, forged: PrePrepare) -> PrePrepare:
        """Its own claim made to forget; the others' cannot be altered."""
        forgetful = self.sign(
            ViewChange(
                forged.height,
                forged.validator,
                forged.round,
                NO_ROUND,
                NO_HASH,
                bytes(64),
                None,
                None,
            )
        )
        claims = tuple(
            Claim(each.validator, NO_ROUND, NO_HASH, forgetful.signature)
            if each.validator == forged.validator
            else each
            for each in forged.claims
        )
        return msgspec.structs.replace(forged, prepared=None, claims=claims)
