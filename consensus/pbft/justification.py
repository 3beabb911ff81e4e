"""What a message must prove, and the signatures that this takes.

Everything here is decided before any signature is checked, so that a message which cannot be
right whoever signed it costs only arithmetic. The rules:

- A prepared certificate holds PREPAREs of more than two thirds of power for one block and round.
- A VIEW-CHANGE for round r that claims (p, block) has 0 ≤ p < r and carries the certificate of
  exactly that; one that claims nothing carries none.
- A PRE-PREPARE comes from the leader of its round. In round 0 it carries nothing. In round r > 0 it
  carries VIEW-CHANGEs for r from a quorum. If none of them claims a prepared block, any block may
  be proposed. Otherwise the block of the highest claim must be, and the certificate of that claim
  is carried; so the choice is a function of what is carried, and every receiver computes it again.
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus.errors import InvalidMessage
from consensus.pbft.messages import (
    MODE,
    NO_HASH,
    NO_ROUND,
    AnyMessage,
    BlockReply,
    BlockRequest,
    Claim,
    Decided,
    PreparedCertificate,
    PrePrepare,
    ViewChange,
    view_change_vote,
)
from consensus.pbft.state import Claimed, Core
from ledger.certificate import VOTE_PREPARE, CommitCertificate, Vote
from ledger.validators import ValidatorSet

Triple = tuple[int, bytes, bytes]
"""(validator index, digest, signature) to be checked."""


def highest_claim(claims: Iterable[Claimed]) -> Claimed:
    """The claim with the highest prepared round; (−1, zeros) when nothing is claimed."""
    return max(claims, default=(NO_ROUND, NO_HASH), key=lambda claim: claim[0])


def signatures_of(core: Core, message: AnyMessage) -> list[Triple]:
    """See consensus.engine.Engine.signatures_of. Raises InvalidMessage."""
    match message:
        case BlockRequest() | BlockReply():
            return []
        case Decided():
            if message.certificate.height != message.height:
                raise InvalidMessage("height", "certificate of another height")
            return commit_triples(core, message.certificate)
        case ViewChange() if message.height > core.height:
            if message.last_commit is None or message.last_commit.height != message.height - 1:
                raise InvalidMessage("height", "certificate of another height")
            return commit_triples(core, message.last_commit)
        case ViewChange():
            return [*_own_triple(core, message), *_view_change_triples(core, message)]
        case PrePrepare():
            return [*_own_triple(core, message), *_pre_prepare_triples(core, message)]
        case _:
            return _own_triple(core, message)


def commit_triples(core: Core, certificate: CommitCertificate) -> list[Triple]:
    """The signatures of a commit certificate under the present set. Raises InvalidMessage."""
    if certificate.mode != MODE or certificate.chain_id != core.chain_id:
        raise InvalidMessage("certificate", "of another chain or engine")
    if certificate.validators_hash != core.validators.hash:
        raise InvalidMessage("certificate", "of another validator set")
    signers = _signers(core.validators, certificate.bitmap, len(certificate.signatures))
    digest = certificate.vote.digest(core.genesis_hash)
    return [
        (index, digest, signature)
        for index, signature in zip(signers, certificate.signatures, strict=True)
    ]


def prepared_triples(core: Core, prepared: PreparedCertificate) -> list[Triple]:
    """The signatures of a prepared certificate of this height. Raises InvalidMessage."""
    signers = _signers(core.validators, prepared.bitmap, len(prepared.signatures))
    vote = Vote(core.chain_id, MODE, VOTE_PREPARE, core.height, prepared.round, prepared.block_hash)
    digest = vote.digest(core.genesis_hash)
    return [
        (index, digest, signature)
        for index, signature in zip(signers, prepared.signatures, strict=True)
    ]


def make_prepared(
    validators: ValidatorSet, round_: int, block_hash: bytes, signatures: dict[int, bytes]
) -> PreparedCertificate:
    """The certificate of these PREPAREs (validator → signature, by index)."""
    bitmap = bytearray((len(validators) + 7) // 8)
    for index in signatures:
        bitmap[index // 8] |= 1 << index % 8
    return PreparedCertificate(round_, block_hash, bytes(bitmap), tuple(signatures.values()))


def _signers(validators: ValidatorSet, bitmap: bytes, signatures: int) -> list[int]:
    """The indexes in a bitmap, which must be a quorum with one signature each."""
    if len(bitmap) != (len(validators) + 7) // 8:
        raise InvalidMessage("bitmap", f"{len(bitmap)} bytes for {len(validators)} validators")
    signers = [
        8 * place + bit for place, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1
    ]
    if signers and signers[-1] >= len(validators):
        raise InvalidMessage("bitmap", f"there is no validator {signers[-1]}")
    if len(signers) != signatures:
        raise InvalidMessage("bitmap", f"{signatures} signatures of {len(signers)} signers")
    if not validators.has_quorum(sum(validators[index].power for index in signers)):
        raise InvalidMessage("certificate", "signed by less than a quorum")
    return signers


def _own_triple(core: Core, message: AnyMessage) -> list[Triple]:
    assert not isinstance(message, BlockRequest | BlockReply | Decided)
    digest = message.vote(core.chain_id).digest(core.genesis_hash)
    return [(message.validator, digest, message.signature)]


def _check_claim(round_: int, prepared_round: int, prepared_hash: bytes) -> None:
    if not NO_ROUND <= prepared_round < round_:
        raise InvalidMessage("claim", f"prepared in round {prepared_round} before {round_}")
    if (prepared_round == NO_ROUND) != (prepared_hash == NO_HASH):
        raise InvalidMessage("claim", "a prepared round and a block belong together")


def _check_carried(claim: Claimed, prepared: PreparedCertificate | None) -> None:
    """The certificate must be that of the claim, and there must be one exactly for a claim."""
    if claim[0] == NO_ROUND:
        if prepared is not None:
            raise InvalidMessage("prepared", "a certificate that nothing claims")
    elif prepared is None or (prepared.round, prepared.block_hash) != claim:
        raise InvalidMessage("prepared", f"no certificate for the claim of round {claim[0]}")


def _view_change_triples(core: Core, message: ViewChange) -> list[Triple]:
    if message.round == 0:
        raise InvalidMessage("round", "nobody changes to round 0")
    _check_claim(message.round, message.prepared_round, message.prepared_hash)
    _check_carried((message.prepared_round, message.prepared_hash), message.prepared)
    return [] if message.prepared is None else prepared_triples(core, message.prepared)


def _pre_prepare_triples(core: Core, message: PrePrepare) -> list[Triple]:
    if message.validator != core.leader(message.round):
        raise InvalidMessage("leader", f"round {message.round} is not led by {message.validator}")
    if message.round == 0:
        if message.claims or message.prepared is not None:
            raise InvalidMessage("justification", "round 0 needs none")
        return []
    _check_quorum(core, message)
    claimed = [(claim.prepared_round, claim.prepared_hash) for claim in message.claims]
    highest = highest_claim(claimed)
    if any(claim[0] == highest[0] and claim != highest for claim in claimed):
        raise InvalidMessage("claim", "two blocks prepared in one round")
    _check_carried(highest, message.prepared)
    if message.prepared is not None and message.block_hash != message.prepared.block_hash:
        raise InvalidMessage("choice", "a block was prepared and another one is proposed")
    triples = [] if message.prepared is None else prepared_triples(core, message.prepared)
    return [*triples, *(_claim_triple(core, message, claim) for claim in message.claims)]


def _check_quorum(core: Core, message: PrePrepare) -> None:
    power = 0
    last = -1
    for claim in message.claims:
        if not last < claim.validator < len(core.validators):
            raise InvalidMessage("claim", f"validator {claim.validator} after {last}")
        last = claim.validator
        power += core.validators[claim.validator].power
        _check_claim(message.round, claim.prepared_round, claim.prepared_hash)
    if not core.validators.has_quorum(power):
        raise InvalidMessage("justification", "VIEW-CHANGEs of less than a quorum")


def _claim_triple(core: Core, message: PrePrepare, claim: Claim) -> Triple:
    vote = view_change_vote(
        core.chain_id, message.height, message.round, claim.prepared_round, claim.prepared_hash
    )
    return (claim.validator, vote.digest(core.genesis_hash), claim.signature)
