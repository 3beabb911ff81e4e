"""The normal case: note what was voted, and the rules PREPARE, COMMIT and decide.

`note_*` enter facts; the rules look at facts and may be asked at any time, in any order, any number
of times. Nothing depends on the order in which messages came, save that of two contradicting votes
the first is kept and both are evidence.
"""

from __future__ import annotations

from consensus.engine import Commit, Evidence, PeerFault, Proposal, Received, Validate
from consensus.pbft.casting import cast
from consensus.pbft.justification import make_prepared
from consensus.pbft.messages import (
    MODE,
    UNSIGNED,
    CommitVote,
    Prepare,
    PrePrepare,
    SignedMessage,
    ViewChange,
    view_change_vote,
)
from consensus.pbft.round_change import enter_round, stop_round_timer
from consensus.pbft.state import Claimed, Core
from consensus.pbft.votes import Entry
from ledger.certificate import (
    VOTE_COMMIT,
    VOTE_PREPARE,
    Vote,
    make_certificate,
)

# Proposed now, requested, prepared by a quorum now, PREPAREd by us, claimed by us, decided.
KEPT_BLOCKS = 6

# ---- facts --------------------------------------------------------------------------------------


def note(core: Core, message: SignedMessage) -> None:
    """Enter a valid signed message of this height, a peer's or an own durable one."""
    core.h.watch.see(message.validator, message.round)
    match message:
        case PrePrepare():
            _note_pre_prepare(core, message)
        case Prepare():
            book = core.h.prepares
            known = book.add(
                message.validator, message.round, message.block_hash, message.signature
            )
            _accuse(core, "prepare", message, known)
        case CommitVote():
            book = core.h.commits
            known = book.add(
                message.validator, message.round, message.block_hash, message.signature
            )
            _accuse(core, "commit", message, known)
            _check_amnesia(core, message.validator)
        case ViewChange():
            _note_view_change(core, message)


def _note_pre_prepare(core: Core, message: PrePrepare) -> None:
    known = core.h.pre_prepares.add(
        message.validator, message.round, message.block_hash, message.signature
    )
    _accuse(core, "pre_prepare", message, known)
    for claim in message.claims:
        core.h.watch.see(claim.validator, message.round)
        entry = Entry(message.round, (claim.prepared_round, claim.prepared_hash), claim.signature)
        _note_claim(core, claim.validator, entry)


def _note_view_change(core: Core, message: ViewChange) -> None:
    h = core.h
    claimed = (message.prepared_round, message.prepared_hash)
    entry = Entry(message.round, claimed, message.signature)
    if not _note_claim(core, message.validator, entry):
        return
    kept = h.view_changes.entry(message.validator, message.round)
    if kept is not None and kept.content == claimed:
        h.proofs[message.validator] = message


def _note_claim(core: Core, validator: int, entry: Entry[Claimed]) -> bool:
    """Enter a VIEW-CHANGE, sent or in a justification. False when it contradicts an earlier one."""
    known = core.h.view_changes.add(validator, entry.round, entry.content, entry.signature)
    if known is not None:
        first, second = _view_change(core, known), _view_change(core, entry)
        _give_evidence(core, validator, "view_change", first, second)
        return False
    _check_amnesia(core, validator)
    return True


def _accuse(
    core: Core,
    kind: str,
    message: PrePrepare | Prepare | CommitVote,
    known: Entry[bytes] | None,
) -> None:
    if known is None:
        return
    vote = message.vote(core.chain_id)
    first = Vote(core.chain_id, MODE, vote.type, core.height, known.round, known.content)
    _give_evidence(
        core, message.validator, kind, (first, known.signature), (vote, message.signature)
    )


def _check_amnesia(core: Core, validator: int) -> None:
    """A VIEW-CHANGE that forgets what its signer committed: no correct validator casts both."""
    h = core.h
    for change in h.view_changes.entries(validator):
        for commit in h.commits.entries(validator):
            if change.content[0] < commit.round < change.round:
                vote = Vote(
                    core.chain_id, MODE, VOTE_COMMIT, core.height, commit.round, commit.content
                )
                _give_evidence(
                    core,
                    validator,
                    "amnesia",
                    (vote, commit.signature),
                    _view_change(core, change),
                )


def _view_change(core: Core, entry: Entry[Claimed]) -> tuple[Vote, bytes]:
    vote = view_change_vote(core.chain_id, core.height, entry.round, *entry.content)
    return vote, entry.signature


def _give_evidence(
    core: Core,
    validator: int,
    kind: str,
    first: tuple[Vote, bytes],
    second: tuple[Vote, bytes],
) -> None:
    """Once per validator and kind and height: one proof is enough."""
    if (validator, kind) not in core.h.accused:
        core.h.accused.add((validator, kind))
        core.effects.append(Evidence(validator, kind, first, second))


# ---- a proposal arrives -------------------------------------------------------------------------


def receive_pre_prepare(core: Core, message: PrePrepare, event: Received) -> None:
    """A justified PRE-PREPARE from the leader of its round, which is this one or a later one."""
    if not is_block_of(core, message.block_hash, event.proposal):
        core.effects.append(PeerFault(event.peer, "block"))
        return
    assert event.proposal is not None
    leader = core.validators[message.validator]
    if message.prepared is None and event.proposal.header.proposer != leader.operator:
        # The proposer is paid the fees; only a block that was prepared before keeps its own.
        core.effects.append(PeerFault(event.peer, "proposer"))
        return
    h = core.h
    note(core, message)
    if message.round > h.round:
        enter_round(core, message.round, announce=False)
    if h.accepted is None:
        h.accepted = message.block_hash
        h.accepted_fresh = message.prepared is None
    if h.accepted == message.block_hash:
        h.proposals[message.block_hash] = event.proposal


def is_block_of(core: Core, block_hash: bytes, proposal: Proposal | None) -> bool:
    """Whether a decoded block is the one named, and would follow the tip."""
    return (
        proposal is not None
        and proposal.block_hash == block_hash
        and proposal.header.height == core.height
        and proposal.header.parent_hash == core.tip.block_hash
    )


# ---- rules --------------------------------------------------------------------------------------


def decide(core: Core) -> bool:
    """Rule: a quorum of COMMITs for one block in one round decides, whatever round we are in."""
    h = core.h
    if h.decided is None:
        found = h.commits.any_quorum()
        if found is None:
            return False
        round_, block_hash = found
        h.decided = make_certificate(
            mode=MODE,
            chain_id=core.chain_id,
            height=core.height,
            round=round_,
            block_hash=block_hash,
            validators=core.validators,
            signatures=h.commits.voters(round_, block_hash),
        )
    proposal = h.proposals.get(h.decided.block_hash)
    if proposal is None or h.committed:
        return False
    h.committed = True
    stop_round_timer(core)
    core.effects.append(Commit(proposal, h.decided))
    return True


def judge(core: Core) -> bool:
    """Rule: have the application execute what we may come to vote for, once.

    A block that was refused as a fresh one, perhaps for its time, or is still held for its time, is
    judged again without regard to time once a quorum has prepared it.
    """
    h = core.h
    for block_hash in (h.accepted, h.prepares.quorum_in(h.round)):
        proposal = h.proposals.get(block_hash) if block_hash is not None else None
        if block_hash is None or proposal is None:
            continue
        fresh = h.accepted_fresh and h.prepares.quorum_in(h.round) != block_hash
        verdict = h.verdicts.get(block_hash)
        if verdict is not None and (verdict.ok or fresh or not verdict.fresh):
            continue
        asked = h.validating.get(block_hash)
        if asked is not None and (fresh or not asked):
            continue
        h.validating[block_hash] = fresh
        core.effects.append(Validate(proposal, fresh))
        return True
    return False


def prepare(core: Core) -> bool:
    """Rule: PREPARE the block proposed in this round when it is valid."""
    h = core.h
    if core.own_index is None or h.accepted is None or not core.is_valid(h.accepted):
        return False
    if core.own_vote(VOTE_PREPARE) is not None or core.own_vote(VOTE_COMMIT) is not None:
        return False
    cast(core, Prepare(core.height, core.own_index, h.round, h.accepted, UNSIGNED))
    return True


def commit(core: Core) -> bool:
    """Rule: COMMIT a block that a quorum prepared in this round, when it is valid.

    From here on this validator claims it in every VIEW-CHANGE, until one of a later round.
    """
    h = core.h
    block_hash = h.prepares.quorum_in(h.round)
    if block_hash is None or core.own_vote(VOTE_COMMIT) is not None:
        return False
    if core.own_index is None or not core.is_valid(block_hash):
        return False
    h.prepared = make_prepared(
        core.validators, h.round, block_hash, h.prepares.voters(h.round, block_hash)
    )
    cast(core, CommitVote(core.height, core.own_index, h.round, block_hash, UNSIGNED))
    return True


def forget_blocks(core: Core) -> None:
    """Drop the blocks that no fact refers to any more: at most KEPT_BLOCKS stay.

    A block that we PREPAREd last stays through changes of round: a quorum may have prepared it,
    and then the next leader may need it from us.
    """
    h = core.h
    in_use = {h.accepted, h.requested, h.prepares.quorum_in(h.round)}
    own = h.own.get(VOTE_PREPARE)
    if own is not None and isinstance(own.message, Prepare):
        in_use.add(own.message.block_hash)
    if h.prepared is not None:
        in_use.add(h.prepared.block_hash)
    if h.decided is not None:
        in_use.add(h.decided.block_hash)
    for block_hash in [each for each in h.proposals if each not in in_use]:
        del h.proposals[block_hash]
        h.verdicts.pop(block_hash, None)
        h.validating.pop(block_hash, None)


def phase(core: Core) -> str:
    """One word for people."""
    h = core.h
    if h.decided is not None:
        return "decided"
    if core.own_vote(VOTE_COMMIT) is not None:
        return "committing"
    if h.accepted is not None:
        return "preparing"
    return "waiting" if h.round == 0 else "changing"
