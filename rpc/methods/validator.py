"""validator_*: who votes, and every change of who votes."""

from __future__ import annotations

from ledger.block import decode_header
from ledger.state import read_validators
from rpc.context import Call
from rpc.forms import validator_form
from rpc.proofs import anchor_form
from rpc.registry import method
from rpc.values import (
    PAGE_COUNT,
    PAGE_DEFAULT_COUNT,
    Cursor,
    Height,
    Limit,
    Page,
    cursor_of,
    hexed,
    number_in_cursor,
    position_of,
)

# Changes in one answer. Each carries a header, a certificate and a set: up to 16 KiB at n = 100.
CHANGES_COUNT = 50


@method("validator_list", cost=2)
def validator_list(call: Call, limit: Limit = PAGE_COUNT, cursor: Cursor | None = None) -> object:
    """The set that certifies the next height, in the order of votes' indexes."""
    node = call.node
    validators = read_validators(node.state())
    start = 0 if cursor is None else number_in_cursor(position_of("validators", cursor, 1)[0])
    stop = min(start + limit, len(validators))
    page = Page(
        [validator_form(index, validators[index]) for index in range(start, stop)],
        cursor_of("validators", stop) if stop < len(validators) else None,
    )
    return {
        "height": node.tip().height,
        "hash": hexed(validators.hash),
        "count": len(validators),
        "totalPower": validators.total_power,
        **page.as_object(),
    }


@method("validator_listChanges", cost=10)
def validator_list_changes(
    call: Call, after_height: Height = 0, limit: Limit = PAGE_DEFAULT_COUNT
) -> object:
    """The chain of validator sets, for light clients: {items, nextAfterHeight}.

    Each item is a height whose header names another set for the next one: {height, anchor,
    validators}, with the new set in canonical bytes. These are kept for ever.
    """
    node = call.node
    count = min(limit, CHANGES_COUNT)
    heights = list(node.validator_changes(after_height, count + 1))
    items = []
    for height in heights[:count]:
        raw = node.header(height)
        assert raw is not None
        following = node.validator_set(decode_header(raw).next_validators_hash)
        assert following is not None
        items.append(
            {
                "height": height,
                "anchor": anchor_form(node, height),
                "validators": hexed(following.encode()),
            }
        )
    more = len(heights) > count
    return {"items": items, "nextAfterHeight": heights[count - 1] if more else None}


METHODS = (validator_list, validator_list_changes)
