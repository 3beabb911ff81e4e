"""mempool_*: what waits, and how full the mempool is."""

from __future__ import annotations

from rpc.context import Call
from rpc.forms import payload_form
from rpc.ports import Waiting
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
)


@method("mempool_status")
def mempool_status(call: Call) -> object:
    """{count, sizeBytes, limitCount, limitBytes, floorFee}; floorFee in µT, "0" when not full."""
    status = call.node.mempool()
    return {
        "count": status.count,
        "sizeBytes": status.size_bytes,
        "limitCount": status.limit_count,
        "limitBytes": status.limit_bytes,
        "floorFee": str(status.floor_fee),
    }


@method("mempool_list", cost=10)
def mempool_list(
    call: Call,
    sender: AddressText | None = None,
    limit: Limit = PAGE_DEFAULT_COUNT,
    cursor: Cursor | None = None,
) -> object:
    """Waiting transactions, first come first, or those of one sender by nonce.

    {items, nextCursor}. An item is {hash, status, sizeBytes, payload}: "ready" for the next block
    as far as nonces tell, or "parked" behind a nonce that is missing.
    """
    kind = "mempool" if sender is None else f"mempool@{sender}"
    after = -1 if cursor is None else number_in_cursor(position_of(kind, cursor, 1)[0])
    if sender is None:
        found = call.node.waiting(after, limit + 1)
    else:
        of_sender = call.node.waiting_of(address_of(sender, "sender"))
        found = [each for each in of_sender if each.signed.transaction.nonce > after]
    shown = found[:limit]
    following = None
    if len(found) > limit:
        last = shown[-1]
        place = last.arrival if sender is None else last.signed.transaction.nonce
        following = cursor_of(kind, place)
    return Page([_waiting_form(each) for each in shown], following).as_object()


def _waiting_form(waiting: Waiting) -> dict[str, object]:
    signed = waiting.signed
    return {
        "hash": hexed(signed.transaction_id),
        "status": "ready" if waiting.is_ready else "parked",
        "sizeBytes": len(signed.raw),
        "payload": payload_form(signed.transaction),
    }


METHODS = (mempool_status, mempool_list)
