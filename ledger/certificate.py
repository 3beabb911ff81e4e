"""Commit certificates: proof that the validators of a height agreed on a block.

A vote is a 64-byte signature over

    SHA-256(tag ‖ genesis hash ‖ encode([chain id, mode, type, height, round, block hash, …]))

so that a vote of one chain, mode, type, height or round can never pass for another. A certificate
is a bitmap of validators (bit i of byte i // 8, least significant first, is validator i of the
set in canonical order) and their signatures in index order. Verification needs nothing but the
validator set, hence a light client needs no engine.

PBFT certificates carry COMMIT votes of more than two thirds of power in one round. Raft
certificates carry append acknowledgements of a majority of voters in one term; they are final
only if every validator follows the protocol and keeps its disk, so a verifier must accept that
explicitly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from ledger import domains
from ledger.codec import U53, ChainId, Codec, Hash, Signature, encode
from ledger.crypto import verify
from ledger.errors import InvalidData
from ledger.validators import MAX_VALIDATORS, ValidatorSet

Mode = Literal["pbft", "raft"]

VOTE_PREPARE = 2
VOTE_COMMIT = 3
VOTE_ACK = 4
VOTE_PRE_PREPARE = 1
VOTE_VIEW_CHANGE = 0
"""Types of votes; the PBFT ones are ordered as a validator casts them within one round."""

CERTIFICATE_LIMIT_BYTES = MAX_VALIDATORS * 72 + 512

VerifySignature = Callable[[bytes, bytes, bytes], bool]
"""(public key 33, digest 32, signature 64) → bool."""


class InvalidCertificate(InvalidData):
    """A certificate that proves nothing. `rule` is a stable name, `detail` has the facts."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class Vote(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a vote's signature covers beyond the genesis hash.

    `prepared_round` (−1 = none) and `prepared_hash` (32 zero bytes = none) belong to VIEW-CHANGE;
    in every other type they are −1 and zero.
    """

    chain_id: ChainId
    mode: Mode
    type: U53
    height: U53
    round: U53
    block_hash: Hash
    prepared_round: int = -1
    prepared_hash: Hash = bytes(32)

    def digest(self, genesis_hash: bytes) -> bytes:
        """The 32 bytes that are signed."""
        return domains.signing_digest(domains.VOTE, genesis_hash, encode(self))


class CommitCertificate(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Who committed which block. `round` is the round (PBFT) or the log term (Raft)."""

    mode: Mode
    chain_id: ChainId
    height: U53
    round: U53
    block_hash: Hash
    validators_hash: Hash
    bitmap: bytes
    signatures: tuple[Signature, ...]

    @property
    def vote(self) -> Vote:
        """The vote which every signature signs."""
        kind = VOTE_COMMIT if self.mode == "pbft" else VOTE_ACK
        return Vote(self.chain_id, self.mode, kind, self.height, self.round, self.block_hash)

    def signers(self) -> list[int]:
        """Validator indexes in the bitmap, ascending."""
        return [
            8 * place + bit
            for place, byte in enumerate(self.bitmap)
            for bit in range(8)
            if byte >> bit & 1
        ]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return encode(self)


def make_certificate(
    *,
    mode: Mode,
    chain_id: str,
    height: int,
    round: int,  # noqa: A002 - the field's standard name
    block_hash: bytes,
    validators: ValidatorSet,
    signatures: dict[int, bytes],
) -> CommitCertificate:
    """The certificate of these votes. `signatures` maps validator index → signature."""
    bitmap = bytearray((len(validators) + 7) // 8)
    for index in signatures:
        bitmap[index // 8] |= 1 << index % 8
    return CommitCertificate(
        mode,
        chain_id,
        height,
        round,
        block_hash,
        validators.hash,
        bytes(bitmap),
        tuple(signatures[index] for index in sorted(signatures)),
    )


def verify_certificate(
    certificate: CommitCertificate,
    *,
    genesis_hash: bytes,
    chain_id: str,
    validators: ValidatorSet,
    accept_crash_fault: bool = False,
    verify_signature: VerifySignature = verify,
) -> None:
    """Raise InvalidCertificate unless a quorum of `validators` signed. Every signature is checked.

    `accept_crash_fault`: whether a Raft certificate, which tolerates no Byzantine fault, is enough.
    """
    if certificate.chain_id != chain_id:
        raise InvalidCertificate("chain", f"{certificate.chain_id!r} instead of {chain_id!r}")
    if certificate.validators_hash != validators.hash:
        raise InvalidCertificate("validators", "another validator set than that of the height")
    if certificate.mode == "raft" and not accept_crash_fault:
        raise InvalidCertificate("mode", "a Raft certificate tolerates no Byzantine validator")
    if len(certificate.bitmap) != (len(validators) + 7) // 8:
        raise InvalidCertificate("bitmap", f"{len(certificate.bitmap)} bytes")
    signers = certificate.signers()
    if signers and signers[-1] >= len(validators):
        raise InvalidCertificate("bitmap", f"there is no validator {signers[-1]}")
    if len(signers) != len(certificate.signatures):
        raise InvalidCertificate(
            "signatures", f"{len(certificate.signatures)} for {len(signers)} signers"
        )
    power = sum(validators[index].power for index in signers)
    if certificate.mode == "pbft" and not validators.has_quorum(power):
        raise InvalidCertificate("power", f"{power} of {validators.total_power} is no quorum")
    if certificate.mode == "raft" and not validators.has_majority(len(signers)):
        raise InvalidCertificate("power", f"{len(signers)} of {len(validators)} is no majority")
    digest = certificate.vote.digest(genesis_hash)
    for index, signature in zip(signers, certificate.signatures, strict=True):
        if not verify_signature(validators[index].consensus_key, digest, signature):
            raise InvalidCertificate("signature", f"that of validator {index} is wrong")


_codec = Codec[CommitCertificate]("certificate", CommitCertificate, CERTIFICATE_LIMIT_BYTES)
decode_certificate = _codec.decode
"""The certificate in canonical bytes. Raises MalformedData."""
