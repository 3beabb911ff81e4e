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

FORGE_ONE_IN = 2
"""Half of what it says is true: a validator that only lies is merely absent."""


class Forger(Adversary):
    """See the module. Which peers it lies to changes with the height."""

    def __init__(self, genesis: Genesis, key: SimulatedKey, random_stream: random.Random) -> None:
        super().__init__(genesis, key, random_stream)
        self._proofs: deque[tuple[int, PreparedCertificate]] = deque(maxlen=REMEMBERED_PROOFS)

    def speak(self, node_key: bytes, message: AnyMessage) -> list[AnyMessage]:
        """The truth to one side, a forgery to the other."""
        if isinstance(message, ViewChange | PrePrepare) and message.prepared is not None:
            self._proofs.append((message.height, message.prepared))
        if self.side_of(node_key, message.height) or self.random.randrange(FORGE_ONE_IN):
            return [message]
        match message:
            case Prepare() if self._proofs and self.random.random() < 0.5:
                return [self._false_decision(message)]
            case Prepare() | CommitVote():
                return self._other_vote(message)
            case ViewChange():
                return [self._forget(message)]
            case PrePrepare(round=0):
                return [self._other_block(message)]
            case PrePrepare():
                return [self._pass_over(message)]
            case _:
                return [message]

    def _other_vote(self, message: Prepare | CommitVote) -> list[AnyMessage]:
        """A vote for another block, a vote of the other type, or none."""
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

    def _other_block(self, message: PrePrepare) -> PrePrepare:
        """Another valid block: the same transactions a little later."""
        block = decode_block(message.block)
        header = msgspec.structs.replace(block.header, time_ms=block.header.time_ms + 1)
        other = msgspec.structs.replace(block, header=header)
        signed = self.sign(
            msgspec.structs.replace(message, block_hash=header.hash(), block=other.encode())
        )
        assert isinstance(signed, PrePrepare)
        return signed

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
