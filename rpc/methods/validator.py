"""validator_*: who votes, and every change of who votes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ledger.block import decode_header
from ledger.certificate import decode_certificate
from ledger.state import read_validators
from rpc.context import Call
from rpc.errors import NotFound
from rpc.forms import validator_form
from rpc.ports import NodeApi
from rpc.proofs import anchor_form
from rpc.registry import method
from rpc.values import (
    PAGE_COUNT,
    PAGE_DEFAULT_COUNT,
    AddressText,
    Cursor,
    Height,
    Limit,
    Page,
    address_of,
    cursor_of,
    hexed,
    number_in_cursor,
    position_of,
)

# Changes in one answer. Each carries a header, a certificate and a set: up to 16 KiB at n = 100.
CHANGES_COUNT = 50


# Blocks of one answer; each is a header and a certificate, some 50 µs with 100 validators.
PARTICIPATION_BLOCKS = 100
PARTICIPATION_COST = 20


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


@method("validator_get", errors=(NotFound,), cost=PARTICIPATION_COST)
def validator_get(
    call: Call,
    operator: AddressText,
    blocks: Annotated[int, Field(ge=0, le=PARTICIPATION_BLOCKS)] = PARTICIPATION_BLOCKS,
) -> object:
    """A validator of the next height, and its part in the last `blocks` blocks.

    {height, index, …, totalPower, participation: {fromHeight, toHeight, proposed, absent}}: the
    heights it proposed, and those whose certificate goes without it. A certificate holds a quorum
    and often no more, so an absence now and then says nothing; absence all the time does.
    """
    node = call.node
    address = address_of(operator, "operator")
    validators = read_validators(node.state())
    index = next(
        (place for place, each in enumerate(validators.validators) if each.operator == address),
        None,
    )
    if index is None:
        raise NotFound("no validator has this operator", reason="VALIDATOR_NOT_FOUND")
    tip = node.tip().height
    first = max(node.earliest_height(), tip - blocks + 1)
    return {
        "height": tip,
        **validator_form(index, validators[index]),
        "totalPower": validators.total_power,
        "participation": _participation(node, address, first),
    }


def _participation(node: NodeApi, operator: bytes, first: int) -> dict[str, Any]:
    tip = node.tip().height
    proposed, absent = [], []
    sets: dict[bytes, int | None] = {}
    for height in range(first, tip + 1):
        raw, certificate = node.header(height), node.certificate(height)
        assert raw is not None and certificate is not None, "kept from the earliest height on"
        header = decode_header(raw)
        if header.validators_hash not in sets:
            sets[header.validators_hash] = _index_in(node, header.validators_hash, operator)
        index = sets[header.validators_hash]
        if header.proposer == operator:
            proposed.append(height)
        if index is not None and index not in decode_certificate(certificate).signers():
            absent.append(height)
    return {"fromHeight": first, "toHeight": tip, "proposed": proposed, "absent": absent}


def _index_in(node: NodeApi, validators_hash: bytes, operator: bytes) -> int | None:
    validators = node.validator_set(validators_hash)
    assert validators is not None, "sets are kept for ever"
    places = enumerate(validators.validators)
    return next((index for index, each in places if each.operator == operator), None)


METHODS = (validator_get, validator_list, validator_list_changes)
