"""Peers at other heights, and blocks whose bytes are missing.

Behind us. A validator that repeats itself, or changes rounds, at a height below ours has missed a
decision. It first gets DECIDED with the certificate of our tip; where it decides a height that it
holds the block for, nothing else is needed, and otherwise it starts block sync. When it asks again
at the same height, the certificate did not help it (the validator set changed in between), and the
driver sends it the block and certificate of its own height. Answers are limited per peer, so that
asking is never cheaper than answering for long.

Ahead of us. Messages of the next height are kept unchecked, one per peer and type, because only
the block of this height says which validators they must be checked against. A certificate for this
height or a later one, where it can be checked, starts block sync; it comes with DECIDED and with
every VIEW-CHANGE.
"""

from __future__ import annotations

import msgspec

from consensus.engine import (
    NeedSync,
    Overheard,
    PeerFault,
    Received,
    Recheck,
    Send,
    ServeHeight,
    Wanted,
)
from consensus.pbft.agreement import is_block_of
from consensus.pbft.messages import (
    AnyMessage,
    BlockReply,
    BlockRequest,
    CommitVote,
    Decided,
    Prepare,
    PrePrepare,
    SignedMessage,
    ViewChange,
)
from consensus.pbft.round_change import missing_choice
from consensus.pbft.state import MAX_ROUND, Answered, Core, OwnVote
from consensus.pbft.trace import PeerAnswered
from ledger.certificate import VOTE_PREPARE, CommitCertificate
from ledger.validators import ValidatorSet

# One answer per peer, height and second.
ANSWER_INTERVAL_MS = 1_000

# How many holders of a missing block are asked at a time. One may be faulty or gone; asking all
# would bring the block n times over.
HOLDERS_ASKED = 2

_EARLY_TYPES: dict[type, int] = {PrePrepare: 0, Prepare: 1, CommitVote: 2, ViewChange: 3}


# ---- what is wanted -----------------------------------------------------------------------------


def wants(core: Core, peer: int | None, message: AnyMessage) -> Wanted:
    """See consensus.engine.Engine.wants. O(1)."""
    if peer is None or not 0 <= peer < len(core.validators):
        return Wanted.NO
    if peer == core.own_index:
        return Wanted.NO
    if isinstance(message, SignedMessage) and message.round > MAX_ROUND:
        return Wanted.NO
    if message.height > core.height:
        return _wants_later(core, peer, message)
    if message.height < core.height:
        return Wanted.UNCHECKED if _calls_for_answer(core, message) else Wanted.NO
    if message.validator != peer:
        # At other heights this index belongs to another set, and nothing is believed anyway.
        return Wanted.NO
    if core.h.decided is not None and _calls_for_answer(core, message):
        return Wanted.UNCHECKED
    return Wanted.NO if core.h.committed else _wants_now(core, message)


def _wants_now(core: Core, message: AnyMessage) -> Wanted:
    h = core.h
    match message:
        case PrePrepare():
            useful = _wants_pre_prepare(core, message)
        case Prepare():
            useful = message.round >= h.round and h.prepares.wants(
                message.validator, message.round, message.block_hash
            )
        case CommitVote():
            useful = h.commits.wants(message.validator, message.round, message.block_hash)
        case ViewChange():
            claimed = (message.prepared_round, message.prepared_hash)
            useful = message.round >= h.round and (
                h.view_changes.wants(message.validator, message.round, claimed)
                or _lacks_proof(core, message)
            )
        case BlockRequest():
            return Wanted.UNCHECKED
        case BlockReply():
            useful = message.block_hash == h.requested and h.requested not in h.proposals
        case Decided():
            useful = h.decided is None
    return Wanted.NOW if useful else Wanted.NO


def _wants_pre_prepare(core: Core, message: PrePrepare) -> bool:
    h = core.h
    if message.round < h.round:
        return False
    if message.round == h.round and h.accepted is not None:
        if h.accepted == message.block_hash:
            return message.block_hash not in h.proposals
        accused = (message.validator, "pre_prepare") in h.accused
        known = h.pre_prepares.entry(message.validator, message.round)
        return known is not None and known.content != message.block_hash and not accused
    return True


def _lacks_proof(core: Core, message: ViewChange) -> bool:
    """The claim is known from a justification, its certificate is not."""
    proof = core.h.proofs.get(message.validator)
    return proof is None or proof.round < message.round


def _wants_later(core: Core, peer: int, message: AnyMessage) -> Wanted:
    certificate = _carried_certificate(message)
    if (
        certificate is not None
        and not core.h.committed
        and certificate.height > max(core.tip.height, core.h.sync_height)
        and certificate.validators_hash == core.validators.hash
    ):
        return Wanted.NOW
    return Wanted.UNCHECKED if _is_early(core, peer, message) else Wanted.NO


def _is_early(core: Core, peer: int, message: AnyMessage) -> bool:
    """Whether it belongs to the next height and would replace what is kept of that peer."""
    kind = _EARLY_TYPES.get(type(message))
    if kind is None or message.height != core.height + 1:
        return False
    assert isinstance(message, SignedMessage)
    if isinstance(message, PrePrepare):
        # A block each from n validators would be too much: only the next height's first leader.
        first_leader = (core.height + 1) % len(core.validators)
        return message.round == 0 and peer == first_leader and (peer, kind) not in core.early
    kept = core.early.get((peer, kind))
    assert kept is None or isinstance(kept, Prepare | CommitVote | ViewChange)
    return kept is None or message.round > kept.round


def _carried_certificate(message: AnyMessage) -> CommitCertificate | None:
    if isinstance(message, Decided):
        return message.certificate
    return message.last_commit if isinstance(message, ViewChange) else None


# ---- peers at other heights ---------------------------------------------------------------------


def overhear(core: Core, event: Overheard) -> None:
    """A message for which `wants` said UNCHECKED."""
    message = event.message
    assert isinstance(message, AnyMessage)
    wanted = wants(core, event.peer, message)
    if wanted is Wanted.NOW:
        # Its height came between asking and handing in.
        core.effects.append(Recheck(event.peer, message))
    elif wanted is Wanted.UNCHECKED:
        if message.height > core.height:
            _keep_early(core, event.peer, message)
        elif isinstance(message, BlockRequest) and message.height == core.height:
            _serve_block(core, event.peer, message)
        else:
            _answer(core, event.peer, message.height)


def _calls_for_answer(core: Core, message: AnyMessage) -> bool:
    """Whether the sender, at or below a height we decided, has missed the decision.

    A vote of the height just decided is usually only late. It says so itself when it is repeated.
    """
    if isinstance(message, BlockReply | Decided):
        return False
    if isinstance(message, BlockRequest | ViewChange):
        return not (isinstance(message, BlockRequest) and message.height == core.height)
    return message.again or message.height < core.tip.height


def _answer(core: Core, peer: int, height: int) -> None:
    last = core.answered.get(peer)
    if (
        last is not None
        and height <= last.height
        and 0 <= core.now_ms - last.at_ms < ANSWER_INTERVAL_MS
    ):
        return
    times = last.times + 1 if last is not None and last.height == height else 1
    core.answered[peer] = Answered(height, core.now_ms, times)
    certificate = core.h.decided if height == core.height else core.tip.certificate
    if certificate is None or core.own_index is None:
        return
    core.trace(PeerAnswered(peer, height, times > 1))
    if times > 1 and height < core.height:
        core.effects.append(ServeHeight(peer, height))
    else:
        decided = Decided(certificate.height, core.own_index, certificate)
        core.effects.append(Send(peer, decided))


def _keep_early(core: Core, peer: int, message: AnyMessage) -> None:
    core.early[(peer, _EARLY_TYPES[type(message)])] = message


def recheck_early(core: Core, before: ValidatorSet) -> None:
    """The height of the kept messages has come, or gone. `before` is the set they came under."""
    early, core.early = core.early, {}
    for peer, kind in sorted(early, key=lambda key: (key[1], key[0])):
        message = early[(peer, kind)]
        if message.height != core.height:
            continue
        index = core.validators.index_of_node_key.get(before[peer].node_key)
        if index is not None:
            core.effects.append(Recheck(index, message))


def receive_certificate(core: Core, event: Received, certificate: CommitCertificate) -> None:
    """A verified commit certificate of this height or a later one."""
    h = core.h
    if certificate.height == core.height:
        if h.decided is None:
            h.decided = certificate
        if h.decided.block_hash in h.proposals:
            return
    if certificate.height > h.sync_height:
        h.sync_height = certificate.height
        core.effects.append(NeedSync(certificate.height, event.peer))


# ---- missing blocks -----------------------------------------------------------------------------


def missing_blocks(core: Core) -> list[bytes]:
    """Hashes of blocks that this validator needs and does not have, most urgent first."""
    h = core.h
    own = core.own_vote(VOTE_PREPARE)
    needed = [
        h.decided.block_hash if h.decided is not None else None,
        missing_choice(core),
        h.prepares.quorum_in(h.round),
        own.message.block_hash if own is not None and isinstance(own.message, Prepare) else None,
    ]
    return [each for each in needed if each is not None and each not in h.proposals]


def fetch(core: Core) -> bool:
    """Rule: ask for a missing block as soon as it is known to be needed, and anew in each round."""
    missing = missing_blocks(core)
    if not missing:
        return False
    if core.h.requested == missing[0] and core.h.requested_in == core.h.round:
        return False
    core.h.requested = missing[0]
    core.h.requested_in = core.h.round
    core.h.requests_sent = 0
    request_block(core)
    return True


def request_block(core: Core) -> None:
    """Ask the next holders for the block wanted; repeated at every tick."""
    h = core.h
    if h.requested is None or h.requested in h.proposals or core.own_index is None:
        return
    holders = _holders(core, h.requested)
    for turn in range(min(HOLDERS_ASKED, len(holders))):
        holder = holders[(h.requests_sent + turn) % len(holders)]
        core.effects.append(Send(holder, BlockRequest(core.height, core.own_index, h.requested)))
    h.requests_sent += HOLDERS_ASKED


def _holders(core: Core, block_hash: bytes) -> list[int]:
    """Peers that voted for the block in a way that needs its bytes, those who claim it as prepared
    first (they keep it longest); everybody if none is known."""
    h = core.h
    books = (h.pre_prepares, h.prepares, h.commits)
    everybody = [index for index in range(len(core.validators)) if index != core.own_index]
    claiming = [
        index
        for index in everybody
        if any(entry.content[1] == block_hash for entry in h.view_changes.entries(index))
    ]
    voting = [
        index
        for index in everybody
        if index not in claiming
        and any(entry.content == block_hash for book in books for entry in book.entries(index))
    ]
    known = claiming + voting
    return known or everybody


def _serve_block(core: Core, peer: int, message: BlockRequest) -> None:
    proposal = core.h.proposals.get(message.block_hash)
    if proposal is None or core.own_index is None:
        return
    last = core.served.get(peer)
    if (
        last is not None
        and last[0] == message.block_hash
        and 0 <= core.now_ms - last[1] < ANSWER_INTERVAL_MS
    ):
        return
    core.served[peer] = (message.block_hash, core.now_ms)
    reply = BlockReply(core.height, core.own_index, message.block_hash, proposal.block)
    core.effects.append(Send(peer, reply, bulk=True))


def receive_block(core: Core, message: BlockReply, event: Received) -> None:
    """A block that was asked for."""
    if not is_block_of(core, message.block_hash, event.proposal):
        core.effects.append(PeerFault(event.peer, "block"))
        return
    assert event.proposal is not None
    core.h.proposals[message.block_hash] = event.proposal


# ---- repeating ----------------------------------------------------------------------------------


def repeat_votes(core: Core, to: int | None) -> None:
    """Send own latest votes again: to one peer, or to all.

    A PRE-PREPARE carries a block and goes only to those who have not shown that they have it.
    """
    in_order_cast = sorted(core.h.own, key=lambda kind: (core.h.own[kind].message.round, kind))
    for kind in in_order_cast:
        own = core.h.own[kind]
        if own.stage != "cast" or not _is_latest(core, own):
            continue
        message = own.message
        if not isinstance(message, PrePrepare):
            core.effects.append(Send(to, _again(message)))
            continue
        for index in range(len(core.validators)):
            if index != core.own_index and to in (None, index) and not _has_block(core, index):
                core.effects.append(Send(index, _again(message), bulk=True))


def _is_latest(core: Core, own: OwnVote) -> bool:
    message = own.message
    if isinstance(message, CommitVote):
        return True
    if isinstance(message, ViewChange) and core.own_vote(VOTE_PREPARE) is not None:
        return False
    return message.round == core.h.round


def _has_block(core: Core, peer: int) -> bool:
    round_ = core.h.round
    return (
        core.h.prepares.entry(peer, round_) is not None
        or core.h.commits.entry(peer, round_) is not None
    )


def _again(message: SignedMessage) -> SignedMessage:
    return msgspec.structs.replace(message, again=True)
