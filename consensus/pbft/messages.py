"""What PBFT validators say to each other, and what they write down.

Every message names its height and the validator that says it, which is also the one that sends it:
nothing is relayed but inside a justification. Signed messages are signed over their `vote`
(ledger.certificate.Vote), so a COMMIT can never pass for a PREPARE, nor a vote of one height,
round, chain or mode for another. `again` is an unsigned hint: the sender repeats itself because it
has heard nothing for a while; a peer that is ahead answers it.

    PRE-PREPARE    the leader of a round proposes a block. For a round above 0 it carries a quorum
                   of VIEW-CHANGEs and the certificate of the highest prepared block among them
                   (Castro and Liskov's NEW-VIEW)
    PREPARE        this block, in this round, is executable and the only one I prepare
    COMMIT         I have seen a quorum prepare it
    VIEW-CHANGE    I have left all rounds below; this is the highest block I saw prepared
    BLOCK-REQUEST, BLOCK-REPLY   the bytes of a block whose hash is known
    DECIDED        the commit certificate of a height, for a peer that is behind
"""

from __future__ import annotations

from typing import Any

import msgspec

from consensus.engine import Message, Proposal
from ledger.block import BLOCK_HARD_LIMIT_BYTES, BlockHeader
from ledger.certificate import (
    CERTIFICATE_LIMIT_BYTES,
    VOTE_COMMIT,
    VOTE_PRE_PREPARE,
    VOTE_PREPARE,
    VOTE_VIEW_CHANGE,
    CommitCertificate,
    Mode,
    Vote,
)
from ledger.codec import U53, ChainId, Codec, Hash, Signature, encode
from ledger.validators import MAX_VALIDATORS

NO_HASH = bytes(32)
NO_ROUND = -1
MODE: Mode = "pbft"
UNSIGNED = bytes(64)
"""Stands in a message until its signature is there."""

# A message is at most a block, with a certificate and a VIEW-CHANGE of each validator.
MESSAGE_LIMIT_BYTES = BLOCK_HARD_LIMIT_BYTES + CERTIFICATE_LIMIT_BYTES + MAX_VALIDATORS * 160


class PreparedCertificate(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A quorum's PREPAREs of one block in one round; the height is that of the message around it.

    Bitmap and signatures as in ledger.certificate.CommitCertificate.
    """

    round: U53
    block_hash: Hash
    bitmap: bytes
    signatures: tuple[Signature, ...]


class Claim(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A VIEW-CHANGE inside a justification, whose height and round are those around it."""

    validator: U53
    prepared_round: int
    prepared_hash: Hash
    signature: Signature


class PbftMessage(Message, frozen=True):
    """`validator` is the index of the sender in the set of `height`."""

    validator: U53


class PrePrepare(PbftMessage, frozen=True, tag=1):
    """`block` are the encoded block's bytes, whose hash is `block_hash`."""

    round: U53
    block_hash: Hash
    signature: Signature
    claims: tuple[Claim, ...]
    prepared: PreparedCertificate | None
    block: bytes
    again: bool = False

    def vote(self, chain_id: str) -> Vote:
        """What is signed."""
        return Vote(chain_id, MODE, VOTE_PRE_PREPARE, self.height, self.round, self.block_hash)


class Prepare(PbftMessage, frozen=True, tag=2):
    """See the module."""

    round: U53
    block_hash: Hash
    signature: Signature
    again: bool = False

    def vote(self, chain_id: str) -> Vote:
        """What is signed."""
        return Vote(chain_id, MODE, VOTE_PREPARE, self.height, self.round, self.block_hash)


class CommitVote(PbftMessage, frozen=True, tag=3):
    """See the module. (`Commit` is the engine's effect.)"""

    round: U53
    block_hash: Hash
    signature: Signature
    again: bool = False

    def vote(self, chain_id: str) -> Vote:
        """What is signed."""
        return Vote(chain_id, MODE, VOTE_COMMIT, self.height, self.round, self.block_hash)


class ViewChange(PbftMessage, frozen=True, tag=4):
    """`prepared` proves (prepared_round, prepared_hash), and is None exactly for (−1, zeros).

    `last_commit` certifies the height before, for receivers that have not decided it yet.
    """

    round: U53
    prepared_round: int
    prepared_hash: Hash
    signature: Signature
    prepared: PreparedCertificate | None
    last_commit: CommitCertificate | None
    again: bool = False

    def vote(self, chain_id: str) -> Vote:
        """What is signed."""
        return view_change_vote(
            chain_id, self.height, self.round, self.prepared_round, self.prepared_hash
        )


class BlockRequest(PbftMessage, frozen=True, tag=5):
    """Unsigned: the sender is authentic, and an answer costs it as much as us."""

    block_hash: Hash


class BlockReply(PbftMessage, frozen=True, tag=6):
    """Unsigned: the hash says whether the block is the right one."""

    block_hash: Hash
    block: bytes


class Decided(PbftMessage, frozen=True, tag=7):
    """`certificate.height` is `height`."""

    certificate: CommitCertificate


SignedMessage = PrePrepare | Prepare | CommitVote | ViewChange
AnyMessage = SignedMessage | BlockRequest | BlockReply | Decided

_codec = Codec[Any]("PBFT message", AnyMessage, MESSAGE_LIMIT_BYTES)

decode_message = _codec.decode
"""The message in canonical bytes. Raises MalformedData."""
encode_message = encode
"""Canonical bytes of a message."""


def view_change_vote(
    chain_id: str, height: int, round_: int, prepared_round: int, prepared_hash: bytes
) -> Vote:
    """What a VIEW-CHANGE signs."""
    return Vote(
        chain_id,
        MODE,
        VOTE_VIEW_CHANGE,
        height,
        round_,
        NO_HASH,
        prepared_round,
        prepared_hash,
    )


# A record carries at most two blocks, a certificate, and a VIEW-CHANGE of each validator.
RECORD_LIMIT_BYTES = 2 * MESSAGE_LIMIT_BYTES

# ---- the journal's records ----------------------------------------------------------------------


class StoredProposal(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A block in a journal record."""

    header: BlockHeader
    block_hash: Hash
    block: bytes

    def proposal(self) -> Proposal:
        """As the engine holds it."""
        return Proposal(self.header, self.block_hash, self.block)


class Record(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One step of a validator that others may see: the votes cast, and what justified them.

    `votes` are complete signed messages in the order cast, but for the block of a PRE-PREPARE,
    which is left out. `prepared` is the highest prepared certificate at that moment. `proposals`
    holds the blocks of both, unless earlier records of the height do.
    """

    chain_id: ChainId
    votes: tuple[SignedMessage, ...]
    prepared: PreparedCertificate | None
    proposals: tuple[StoredProposal, ...]


_record_codec = Codec[Record]("PBFT record", Record, RECORD_LIMIT_BYTES)

decode_record = _record_codec.decode
"""The record in canonical bytes. Raises MalformedData."""
encode_record = encode
"""Canonical bytes of a record."""
