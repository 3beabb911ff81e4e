"""reputation_*, the evidence: who moved a score, what was rated, and how scores went.

The pairs are state objects and thereby provable; an explanation is this node's own arithmetic over
them. Both speak of what is public anyway: every settlement and every rating stands in a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from pydantic import Field

from ledger.identity import peer_id
from ledger.reputation.edges import PairState, Window, decode_pair, edge_at_end_of
from ledger.reputation.quality import Voice
from ledger.reputation.score_tree import ScoreCommitment
from ledger.state import (
    PAIR_PREFIX,
    read_epoch_state,
    read_params,
    scores_key,
    split_pair_key,
)
from rpc.context import Call
from rpc.errors import InvalidParams, LimitExceeded, Unavailable
from rpc.forms import score_form
from rpc.ports import NodeApi, NodeBusy
from rpc.registry import method
from rpc.values import (
    PAGE_DEFAULT_COUNT,
    AddressText,
    Cursor,
    Limit,
    Page,
    address_of,
    cursor_of,
    hexed,
    number_in_cursor,
    position_of,
    unhex,
)

# Services of one pair; each has an object of its own.
SERVICES_COUNT = 32

# Both ask the worker process, which reads all edges of the network for an answer.
WORKER_COST = 20

_decode_commitment = msgspec.msgpack.Decoder(ScoreCommitment).decode


def _busy() -> LimitExceeded:
    return LimitExceeded(
        "too many such questions wait already",
        reason="BUSY",
        retryable=True,
        facts={"retryAfterMs": 1_000},
    )


@method("reputation_explain", errors=(Unavailable, LimitExceeded), cost=WORKER_COST)
async def reputation_explain(
    call: Call, subject: AddressText, limit: Limit = PAGE_DEFAULT_COUNT
) -> object:
    """The raters that move a subject's quality most first: {height, epoch, score, items}.

    An item is {rater, weight, pos, neg, effect}: `weight` is the rater's, 0 to 1,024, `pos` and
    `neg` are the points of its edge, `effect` is the quality minus what it would be without this
    rater, in parts of 2^16. Between the end of an epoch and the block with its scores, `epoch` may
    be the one whose scores are about to stand.
    """
    node = call.node
    address = address_of(subject, "subject")
    try:
        explanation = await node.explain(address, limit)
    except NodeBusy:
        raise _busy() from None
    if explanation is None:
        raise Unavailable(
            "this node has computed no epoch that it can explain; it can after the next one",
            reason="NOT_EXPLAINED",
        )
    table = node.score_table(explanation.epoch)
    return {
        "height": node.tip().height,
        "epoch": explanation.epoch,
        "score": None if table is None else score_form(address, table.lookup(address)),
        "items": [_voice_form(voice) for voice in explanation.voices],
    }


def _voice_form(voice: Voice) -> dict[str, Any]:
    return {
        "rater": peer_id(voice.rater),
        "weight": voice.weight,
        "pos": voice.pos,
        "neg": voice.neg,
        "effect": str(voice.effect),
    }


@method("reputation_ratings", errors=(LimitExceeded,), cost=WORKER_COST)
async def reputation_ratings(
    call: Call,
    subject: AddressText | None = None,
    rater: AddressText | None = None,
    limit: Limit = PAGE_DEFAULT_COUNT,
    cursor: Cursor | None = None,
) -> object:
    """What is known between a rater and a subject, for each service: {height, items, nextCursor}.

    At least one of `subject` (who served) and `rater` (who paid) is given; with both, all services
    of that pair. An item has the sums of the pair's receipts, the points of its edge (`edge`, at
    the end of an epoch; null before the first one), and the past receipts that can still be rated
    (`windows`).
    """
    node = call.node
    if subject is None and rater is None:
        facts = {"parameters": ["subject", "rater"]}
        raise InvalidParams("give subject, rater or both", facts=facts)
    payee = None if subject is None else address_of(subject, "subject")
    payer = None if rater is None else address_of(rater, "rater")
    if payer is not None:
        page = _ratings_by(node, payer, payee, limit, cursor)
    else:
        assert payee is not None
        page = await _ratings_of(node, payee, limit, cursor)
    return {"height": node.tip().height, **page.as_object()}


def _ratings_by(
    node: NodeApi, payer: bytes, payee: bytes | None, limit: int, cursor: str | None
) -> Page:
    prefix = PAIR_PREFIX + payer + (payee or b"")
    after = None if cursor is None else unhex(position_of("pairs", cursor, 1)[0], "cursor")
    found = node.state_items(prefix, None if after is None else prefix + after, limit + 1)
    shown = found[:limit]
    more = len(found) > limit
    following = cursor_of("pairs", hexed(shown[-1][0][len(prefix) :])) if more else None
    return Page(_rating_forms(node, shown), following)


async def _ratings_of(node: NodeApi, payee: bytes, limit: int, cursor: str | None) -> Page:
    after = b"" if cursor is None else unhex(position_of("raters", cursor, 1)[0], "cursor")
    try:
        raters = await node.raters_of(payee, after, limit + 1)
    except NodeBusy:
        raise _busy() from None
    found: list[tuple[bytes, bytes]] = []
    shown = 0
    # A rater's services stay on one page, so the last rater may carry it past the limit.
    for payer in raters[:limit]:
        if len(found) >= limit:
            break
        found += node.state_items(PAIR_PREFIX + payer + payee, None, SERVICES_COUNT)
        shown += 1
    more = shown < len(raters)
    return Page(
        _rating_forms(node, found), cursor_of("raters", hexed(raters[shown - 1])) if more else None
    )


def _rating_forms(node: NodeApi, pairs: Sequence[tuple[bytes, bytes]]) -> list[dict[str, Any]]:
    last_scored = read_epoch_state(node.state()).last_scored
    return [_rating_form(key, decode_pair(raw), last_scored) for key, raw in pairs]


def _rating_form(key: bytes, pair: PairState, last_scored: int) -> dict[str, Any]:
    payer, payee, service = split_pair_key(key)
    # A pair that was touched since knows its edge only at the end of the epoch before the touch.
    epoch = max(last_scored, pair.epoch - 1)
    edge = None
    if epoch >= 0:
        pos, neg = edge_at_end_of(pair, epoch)
        edge = {"epoch": epoch, "pos": pos, "neg": neg}
    return {
        "rater": peer_id(payer),
        "subject": peer_id(payee),
        "service": service,
        "seq": pair.seq,
        "cumUnits": pair.cum_units,
        "cumPaid": str(pair.cum_paid),
        "epoch": pair.epoch,
        "paidCosigned": str(pair.paid_cosigned),
        "paidRatable": str(pair.paid_ratable),
        "score": pair.score,
        "edge": edge,
        "windows": [_window_form(window) for window in pair.windows],
    }


def _window_form(window: Window) -> dict[str, Any]:
    return {
        "epoch": window.epoch,
        "afterSeq": window.after_seq,
        "lastSeq": window.last_seq,
        "points": window.points,
        "blame": window.blame,
        "score": window.score,
        "ratedIn": window.rated_in if window.score else None,
    }


@method("reputation_history", errors=(), cost=10)
def reputation_history(
    call: Call,
    subject: AddressText,
    limit: Annotated[int, Field(ge=1, le=100)] = PAGE_DEFAULT_COUNT,
    cursor: Cursor | None = None,
) -> object:
    """A subject's scores epoch by epoch, newest first: {height, items, nextCursor}.

    An item is {epoch, height, root, held, …}: `height` is the block that carries the epoch's
    scores, `root` commits to them. With `held` the fields of the score follow; nodes that joined
    later do not hold the tables of earlier epochs. Epochs that were never scored are left out.
    """
    node = call.node
    address = address_of(subject, "subject")
    view = node.state()
    last = read_epoch_state(view).last_scored
    oldest = max(0, last - read_params(view).score_history_epochs + 1)
    start = last if cursor is None else number_in_cursor(position_of("epochs", cursor, 1)[0])
    items: list[dict[str, Any]] = []
    epoch = min(start, last)
    while epoch >= oldest and len(items) < limit:
        raw = view.get(scores_key(epoch))
        if raw is not None:
            items.append(_history_form(node, address, epoch, _decode_commitment(raw)))
        epoch -= 1
    following = cursor_of("epochs", epoch) if epoch >= oldest else None
    return {"height": node.tip().height, **Page(items, following).as_object()}


def _history_form(
    node: NodeApi, address: bytes, epoch: int, commitment: ScoreCommitment
) -> dict[str, Any]:
    form = {
        "epoch": epoch,
        "height": node.scored_height(epoch),
        "root": hexed(commitment.root),
        "count": commitment.count,
    }
    table = node.score_table(epoch)
    # A table of another root was computed before a fault was mended; it proves nothing.
    if table is None or table.commitment != commitment:
        return {**form, "held": False}
    return {**form, "held": True, **score_form(address, table.lookup(address))}


METHODS = (reputation_explain, reputation_ratings, reputation_history)
