"""Leaving a round, following the others into a later one, and leading a round above 0."""

from __future__ import annotations

from consensus.engine import Build, CancelTimer, Proposal
from consensus.pbft.casting import cast
from consensus.pbft.justification import highest_claim
from consensus.pbft.messages import (
    NO_HASH,
    NO_ROUND,
    UNSIGNED,
    Claim,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    SignedMessage,
    ViewChange,
)
from consensus.pbft.state import Claimed, Core, Verdict
from consensus.pbft.timers import REBROADCAST_MS, round_timeout_ms
from consensus.pbft.votes import Entry
from ledger.certificate import VOTE_PRE_PREPARE


def enter_round(core: Core, round_: int, *, announce: bool) -> None:
    """Leave the present round for a higher one.

    `announce`: say so by a VIEW-CHANGE. A validator that follows a justified PRE-PREPARE need not;
    its PREPARE says as much.
    """
    assert round_ > core.h.round
    stop_round_timer(core)
    core.move_to(round_)
    if announce and core.own_index is not None:
        prepared = core.h.prepared
        cast(
            core,
            ViewChange(
                core.height,
                core.own_index,
                round_,
                prepared.round if prepared is not None else NO_ROUND,
                prepared.block_hash if prepared is not None else NO_HASH,
                UNSIGNED,
                prepared,
                core.tip.certificate,
            ),
        )


def follow(core: Core) -> bool:
    """Rule: go where more than a third of power has gone; one of them is correct."""
    if core.h.watch.highest <= core.h.round:
        return False
    target = core.h.watch.highest_with_one_honest()
    if target <= core.h.round:
        return False
    enter_round(core, target, announce=True)
    return True


# ---- leading ------------------------------------------------------------------------------------


def lead(core: Core) -> bool:
    """Rule: the leader of the round proposes once it may and there is reason to."""
    h = core.h
    if core.own_index != core.leader(h.round) or h.decided is not None:
        return False
    if core.own_vote(VOTE_PRE_PREPARE) is not None or h.accepted is not None:
        return False
    if h.round == 0:
        return _lead_round_0(core)
    votes = _justification(core)
    if votes is None:
        return False
    claim = highest_claim(entry.content for entry in votes.values())
    if claim[0] == NO_ROUND:
        return _propose_candidate(core, votes) or _build(core, allow_empty=True)
    supporter = next(validator for validator in votes if votes[validator].content == claim)
    _propose(core, h.proposals[claim[1]], votes, h.proofs[supporter].prepared)
    return True


def _justification(core: Core) -> dict[int, Entry[Claimed]] | None:
    """A quorum of VIEW-CHANGEs for this round by which we can propose, None while there is none.

    Those that claim a block we do not have are left out where a quorum remains. That is safe: what
    may be committed is claimed in every quorum. And it is needed: a faulty validator might hold the
    certificate of a block that nobody else has any more, and never show the block.
    """
    h = core.h
    if not h.view_changes.round_has_quorum(h.round):
        return None
    usable = {
        validator: entry
        for validator, entry in h.view_changes.round_votes(h.round).items()
        if entry.content[0] == NO_ROUND
        or (entry.content[1] in h.proposals and validator in h.proofs)
    }
    power = sum(core.validators[validator].power for validator in usable)
    return usable if core.validators.has_quorum(power) else None


def missing_choice(core: Core) -> bytes | None:
    """The block that this round's leader must propose and does not have."""
    h = core.h
    if core.own_index != core.leader(h.round) or h.round == 0 or h.accepted is not None:
        return None
    if not h.view_changes.round_has_quorum(h.round) or _justification(core) is not None:
        return None
    claims = [entry.content for entry in h.view_changes.round_votes(h.round).values()]
    missing = [claim for claim in claims if claim[0] != NO_ROUND and claim[1] not in h.proposals]
    return highest_claim(missing)[1] if missing else None


def _lead_round_0(core: Core) -> bool:
    if not core.waiting and not core.h.heartbeat_due:
        return False
    return _propose_candidate(core, {}) or _build(core, allow_empty=core.h.heartbeat_due)


def _build(core: Core, *, allow_empty: bool) -> bool:
    h = core.h
    wider = allow_empty and not h.building_empty
    if h.building is not None or (h.built_none and not wider):
        return False
    h.built_none = False
    h.building = core.next_request()
    h.building_empty = allow_empty
    core.effects.append(Build(h.building, core.tip, allow_empty))
    return True


def _propose_candidate(core: Core, votes: dict[int, Entry[Claimed]]) -> bool:
    candidate = core.h.candidate
    if candidate is None:
        return False
    core.h.verdicts[candidate.block_hash] = Verdict(ok=True, fresh=True)
    _propose(core, candidate, votes, None)
    return True


def _propose(
    core: Core,
    proposal: Proposal,
    votes: dict[int, Entry[Claimed]],
    prepared: PreparedCertificate | None,
) -> None:
    """Cast PRE-PREPARE, and PREPARE in the same record where the block is known to be valid."""
    h = core.h
    assert core.own_index is not None
    block_hash = proposal.block_hash
    h.proposals[block_hash] = proposal
    h.accepted = block_hash
    h.accepted_fresh = prepared is None
    claims = tuple(
        Claim(validator, *entry.content, entry.signature) for validator, entry in votes.items()
    )
    messages: list[SignedMessage] = [
        PrePrepare(
            core.height,
            core.own_index,
            h.round,
            block_hash,
            UNSIGNED,
            claims,
            prepared,
            proposal.block,
        )
    ]
    if core.is_valid(block_hash):
        messages.append(Prepare(core.height, core.own_index, h.round, block_hash, UNSIGNED))
    cast(core, *messages)


# ---- timers -------------------------------------------------------------------------------------


def run_timers(core: Core) -> None:
    """Start and stop the timers that the present facts ask for.

    Round 0 is timed from the first sign that a block is due: own work, the heartbeat deadline, or a
    valid message of the height. A later round is timed from the moment a quorum is known to be in
    it or beyond (Castro and Liskov 1999, 4.5.2): only then can its leader act, and while no quorum
    is connected rounds stand still instead of running away.
    """
    h = core.h
    if h.round == 0:
        due = core.waiting or h.heartbeat_due or h.heard
    else:
        due = h.watch.quorum_reached(h.round)
    due = due and h.decided is None and core.own_index is not None
    if due and h.round_timer is None:
        params = core.params
        h.round_timer = core.set_timer(
            round_timeout_ms(h.round, params.pbft_base_timeout_ms, params.pbft_timeout_cap_ms)
        )
    elif not due:
        stop_round_timer(core)
    if h.tick_timer is None and (h.own or h.requested is not None or h.built_none or h.decided):
        h.tick_timer = core.set_timer(REBROADCAST_MS)


def stop_round_timer(core: Core) -> None:
    """Cancel the timer of the round, if it runs."""
    if core.h.round_timer is not None:
        core.effects.append(CancelTimer(core.h.round_timer))
        core.h.round_timer = None
