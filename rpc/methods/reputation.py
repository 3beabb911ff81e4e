"""reputation_*: scores of the last closed epoch.

A score is proven in four steps: the leaf under the epoch's score root, the root as a state
object, the state root in a header, the header by a commit certificate. That the epoch is the last
one is proven by a state object as well (`epochState`), so that no older score can pass for the
present one.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ledger.codec import encode
from ledger.reputation.score_tree import ScoreTable
from ledger.state import EPOCH_KEY, read_epoch_state, scores_key
from rpc.context import Call
from rpc.errors import LimitExceeded, Unavailable
from rpc.forms import score_form
from rpc.ports import NodeApi
from rpc.proofs import anchored_tip, object_forms
from rpc.registry import method
from rpc.values import (
    PAGE_COUNT,
    PAGE_DEFAULT_COUNT,
    AddressText,
    Cursor,
    Limit,
    Page,
    address_of,
    cursor_of,
    hexed,
    invalid_cursor,
    number_in_cursor,
    position_of,
)

# A proof of one score, about 2 kB with its path; the anchor is shared by a list.
PROOF_COST = 5


def _last_table(node: NodeApi) -> tuple[int | None, ScoreTable | None]:
    """The last scored epoch and its table; (None, None) before the first. Raises Unavailable."""
    epoch = read_epoch_state(node.state()).last_scored
    if epoch < 0:
        return None, None
    table = node.score_table(epoch)
    if table is None:
        raise Unavailable(
            f"this node does not hold the scores of epoch {epoch} yet",
            reason="SCORES_NOT_HELD",
            facts={"epoch": epoch},
        )
    return epoch, table


@method("reputation_get", errors=(Unavailable, LimitExceeded), cost=1)
def reputation_get(
    call: Call,
    subject: AddressText | Annotated[list[AddressText], Field(min_length=1, max_length=PAGE_COUNT)],
    proof: bool = False,  # noqa: FBT001, FBT002 - a JSON parameter
) -> object:
    """The score of one subject, or of a list: {height, epoch, …} with the fields or with `items`.

    A subject without a score is a newcomer: no trust, no standing, unrated quality. `epoch` is null
    before the first epoch has been scored.
    """
    node = call.node
    texts = [subject] if isinstance(subject, str) else subject
    call.charge((len(texts) - 1) + (PROOF_COST * len(texts) if proof else 0))
    addresses = [address_of(text, "subject") for text in texts]
    epoch, table = _last_table(node)
    items: list[dict[str, Any]] = []
    for address in addresses:
        form = score_form(address, None if table is None else table.lookup(address))
        if proof:
            form["scoreProof"] = None if table is None else hexed(encode(table.prove(address)))
        items.append(form)
    answer: dict[str, Any] = {"height": node.tip().height, "epoch": epoch}
    if isinstance(subject, str):
        answer.update(items[0])
    else:
        answer["items"] = items
    if proof:
        answer["proof"] = _proof_form(node, epoch)
    return answer


def _proof_form(node: NodeApi, epoch: int | None) -> dict[str, Any]:
    _, anchor = anchored_tip(node)
    keys = [EPOCH_KEY] if epoch is None else [EPOCH_KEY, scores_key(epoch)]
    proven = object_forms(node, keys)
    return {
        "anchor": anchor,
        "epochState": proven[0],
        "commitment": None if epoch is None else proven[1],
    }


@method("reputation_leaderboard", errors=(Unavailable,), cost=5)
def reputation_leaderboard(
    call: Call, limit: Limit = PAGE_DEFAULT_COUNT, cursor: Cursor | None = None
) -> object:
    """Scores by rank: {height, epoch, items, nextCursor}. A cursor stays with its epoch."""
    node = call.node
    epoch, table = _last_table(node)
    offset = 0
    if cursor is not None:
        of_epoch, offset = map(number_in_cursor, position_of("ranks", cursor, 2))
        if of_epoch != epoch:
            epoch, table = of_epoch, node.score_table(of_epoch)
            if table is None:
                raise invalid_cursor()
    scores = [] if table is None else table.top(limit, offset)
    following = offset + limit
    more = table is not None and following < len(table)
    page = Page(
        [score_form(each.address, each) for each in scores],
        cursor_of("ranks", epoch or 0, following) if more else None,
    )
    return {"height": node.tip().height, "epoch": epoch, **page.as_object()}


METHODS = (reputation_get, reputation_leaderboard)
