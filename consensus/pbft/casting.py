"""Casting own votes: Sign → Signed → Persist → Send, and after PersistDone the vote counts.

Votes of one group travel in one record (a leader's PRE-PREPARE and PREPARE), so that the usual
height costs a validator two records. A group whose round was left while it was being signed is
dropped: after VIEW-CHANGE(h, r) nothing of a round below r is cast.
"""

from __future__ import annotations

import msgspec

from consensus.engine import Persist, Send, Sign, Signed, SignRequest
from consensus.pbft.messages import (
    UNSIGNED,
    PrePrepare,
    Record,
    SignedMessage,
    StoredProposal,
    encode_record,
)
from consensus.pbft.state import CastGroup, Core, OwnVote
from consensus.pbft.trace import VoteRefused
from ledger.certificate import Vote


def cast(core: Core, *messages: SignedMessage) -> None:
    """Begin to cast these votes, whose signatures are still missing."""
    group = CastGroup(core.height, core.h.round, messages)
    for message in messages:
        assert message.signature == UNSIGNED
        vote = message.vote(core.chain_id)
        core.h.own[vote.type] = OwnVote(message, "signing")
        core.signing[vote] = group
        core.effects.append(Sign(SignRequest(vote)))


def signed(core: Core, event: Signed) -> None:
    """A signature came, or was refused."""
    vote = event.request.vote
    group = core.signing.pop(vote, None)
    if group is None or group.height != core.height or group.round != core.h.round:
        return
    if event.signature is None:
        core.trace(VoteRefused(vote.height, vote.round, vote.type))
        group.refused = True
    else:
        group.signatures[vote] = event.signature
    if group.refused:
        for message in group.messages:
            _set_stage(core, message.vote(core.chain_id), "refused")
    elif len(group.signatures) == len(group.messages):
        _persist(core, group)


def retry_refused(core: Core) -> None:
    """Ask again for the votes of this round that were not signed."""
    for kind in sorted(core.h.own):
        own = core.own_vote(kind)
        if own is not None and own.stage == "refused":
            cast(core, own.message)


def durable(core: Core, k: int) -> list[SignedMessage]:
    """Records up to `k` are durable: the votes of this height which count from now on."""
    counting: list[SignedMessage] = []
    while core.writing and core.writing[0][0] <= k:
        _, height, messages = core.writing.popleft()
        if height == core.height:
            counting.extend(messages)
    for message in counting:
        own = core.h.own.get(message.vote(core.chain_id).type)
        if own is not None and own.message == message:
            own.stage = "cast"
    return counting


def _set_stage(core: Core, vote: Vote, stage: str) -> None:
    own = core.h.own.get(vote.type)
    if own is not None and own.message.vote(core.chain_id) == vote:
        own.stage = stage


def _persist(core: Core, group: CastGroup) -> None:
    messages: list[SignedMessage] = []
    votes = []
    for unsigned in group.messages:
        vote = unsigned.vote(core.chain_id)
        signature = group.signatures[vote]
        message = msgspec.structs.replace(unsigned, signature=signature)
        messages.append(message)
        votes.append((vote, signature))
        core.h.own[vote.type] = OwnVote(message, "writing")
    core.last_record += 1
    record = Record(
        core.chain_id,
        tuple(map(_without_block, messages)),
        core.h.prepared,
        _blocks_to_store(core, messages),
    )
    core.effects.append(Persist(core.last_record, encode_record(record), tuple(votes)))
    core.writing.append((core.last_record, core.height, tuple(messages)))
    for message in messages:
        core.effects.append(
            Send(None, message, after=core.last_record, bulk=isinstance(message, PrePrepare))
        )


def _blocks_to_store(core: Core, messages: list[SignedMessage]) -> tuple[StoredProposal, ...]:
    """The blocks which this record must carry: the one prepared and the one proposed."""
    h = core.h
    needed = [h.prepared.block_hash] if h.prepared is not None else []
    needed.extend(each.block_hash for each in messages if isinstance(each, PrePrepare))
    stored = []
    for block_hash in needed:
        proposal = h.proposals.get(block_hash)
        if proposal is not None and block_hash not in h.journaled:
            h.journaled.add(block_hash)
            stored.append(StoredProposal(proposal.header, block_hash, proposal.block))
    return tuple(stored)


def _without_block(message: SignedMessage) -> SignedMessage:
    if isinstance(message, PrePrepare):
        return msgspec.structs.replace(message, block=b"")
    return message
