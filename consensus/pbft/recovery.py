"""What a journal remembers, and how it is taken up again.

Folding keeps the highest height with votes only: places ascend (consensus.journal), so nothing can
be voted any more below it. It may lie above the tip, where the store lost more than the journal,
and is then kept until the tip gets there. A validator that forgot a prepared block in that gap
would be as bad as one with a wiped journal.

Taken up again are: the round; the latest vote of each type, signature included, so that it is
repeated and never cast anew; the highest prepared certificate; the blocks that the records carry. A
PREPARE record carries no block: if the block matters still, it is asked of the peers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from consensus.engine import Proposal
from consensus.pbft.agreement import note
from consensus.pbft.messages import (
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Record,
    SignedMessage,
    decode_record,
)
from consensus.pbft.state import Core, OwnVote, Verdict
from ledger.certificate import Vote


@dataclass(slots=True)
class Folded:
    """The records of the highest height with votes."""

    height: int = 0
    own: dict[int, SignedMessage] = field(default_factory=dict)
    prepared: PreparedCertificate | None = None
    proposals: dict[bytes, Proposal] = field(default_factory=dict)


def votes_of(record: bytes) -> tuple[tuple[Vote, bytes], ...]:
    """The votes in a record, in the order cast. Raises MalformedData."""
    decoded = decode_record(record)
    return tuple((vote.vote(decoded.chain_id), vote.signature) for vote in decoded.votes)


def fold(records: Iterable[bytes]) -> Folded:
    """See the module. Raises MalformedData."""
    folded = Folded()
    for raw in records:
        _fold_one(folded, decode_record(raw))
    return folded


def _fold_one(folded: Folded, record: Record) -> None:
    height = max((vote.height for vote in record.votes), default=0)
    if height > folded.height:
        folded.height = height
        folded.own.clear()
        folded.prepared = None
        folded.proposals.clear()
    if height < folded.height or not record.votes:
        return
    for message in record.votes:
        folded.own[message.vote(record.chain_id).type] = message
    if record.prepared is not None:
        folded.prepared = record.prepared
    for stored in record.proposals:
        folded.proposals[stored.block_hash] = stored.proposal()


def take_up(core: Core, folded: Folded) -> None:
    """Continue the height where the journal left it. The state of the height is fresh."""
    h = core.h
    h.prepared = folded.prepared
    h.journaled.update(folded.proposals)
    round_ = max(vote.round for vote in folded.own.values())
    if round_ > 0:
        core.move_to(round_)
    for block_hash, proposal in folded.proposals.items():
        # We voted for them, so they were executed and found good.
        h.proposals[block_hash] = proposal
        h.verdicts[block_hash] = Verdict(ok=True, fresh=False)
    for kind in sorted(folded.own):
        message = folded.own[kind]
        if isinstance(message, PrePrepare):
            proposal = folded.proposals[message.block_hash]
            message = msgspec.structs.replace(message, block=proposal.block)
        if isinstance(message, PrePrepare | Prepare) and message.round == round_:
            h.accepted = message.block_hash
            h.accepted_fresh = False
        h.own[kind] = OwnVote(message, "cast")
        note(core, message)
    h.heard = True
