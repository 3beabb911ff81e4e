"""chain_*: blocks, headers and what certifies them. `block` is a height, a hash or a word."""

from __future__ import annotations

from typing import Any

from ledger.block import decode_block, decode_header
from ledger.certificate import decode_certificate
from rpc.context import Call
from rpc.errors import LimitExceeded, NotFound, Unavailable
from rpc.forms import block_summary_form, certificate_form, header_form
from rpc.ports import NodeApi
from rpc.proofs import anchor_form
from rpc.registry import method
from rpc.values import (
    PAGE_DEFAULT_COUNT,
    BlockReference,
    Cursor,
    Limit,
    Order,
    Page,
    cursor_of,
    height_of,
    hexed,
    number_in_cursor,
    position_of,
    pruned,
)

# Transactions that chain_getBlock decodes in one go, some 20 µs each on the event loop; larger
# blocks are paged with tx_list.
DECODED_COUNT = 500


@method("chain_getBlock", errors=(NotFound, Unavailable, LimitExceeded), cost=5)
def chain_get_block(
    call: Call,
    block: BlockReference,
    full: bool = False,  # noqa: FBT001, FBT002 - a JSON parameter
) -> object:
    """{header, lastCommit, sizeBytes, transactions}: ids, or decoded with `full`."""
    node = call.node
    height = height_of(node, block)
    held = call.desk.blocks.get(height, full=full)
    if held is not None:
        return held
    count = node.transaction_count(height) or 0
    if full and count > DECODED_COUNT:
        raise LimitExceeded(
            f"the block has {count} transactions; page them with tx_list",
            reason="BLOCK_TOO_LARGE",
            facts={"limit": DECODED_COUNT, "transactionCount": count},
        )
    raw = node.block(height)
    if raw is None:
        raise pruned(node.earliest_height())
    return call.desk.blocks.put(decode_block(raw), node.chain.genesis_hash, full=full)


@method("chain_getHeader", errors=(NotFound, Unavailable))
def chain_get_header(call: Call, block: BlockReference) -> object:
    """{hash, height, timeMs, stateRoot, …, encoded}."""
    raw = call.node.header(height_of(call.node, block))
    if raw is None:
        raise pruned(call.node.earliest_height())
    return {**header_form(decode_header(raw)), "encoded": hexed(raw)}


@method("chain_listBlocks", errors=(), cost=10)
def chain_list_blocks(
    call: Call,
    limit: Limit = PAGE_DEFAULT_COUNT,
    cursor: Cursor | None = None,
    order: Order = "desc",
) -> object:
    """Headers with their number of transactions, latest first unless `order` is "asc"."""
    node = call.node
    low, high = node.earliest_height(), node.tip().height
    step = 1 if order == "asc" else -1
    start = low if order == "asc" else high
    if cursor is not None:
        start = number_in_cursor(position_of("blocks", cursor, 1)[0])
    heights = [
        height for height in range(start, start + step * limit, step) if low <= height <= high
    ]
    items = [form for height in heights if (form := _summary(node, height)) is not None]
    following = start + step * limit
    # In ascending order the list has no end: the cursor goes on once there are more blocks.
    more = bool(heights) and low <= following <= high
    return Page(items, cursor_of("blocks", following) if more else None).as_object()


def _summary(node: NodeApi, height: int) -> dict[str, Any] | None:
    raw, count = node.header(height), node.transaction_count(height)
    return None if raw is None or count is None else block_summary_form(decode_header(raw), count)


@method("chain_getCommit", errors=(NotFound, Unavailable), cost=2)
def chain_get_commit(call: Call, block: BlockReference) -> object:
    """The commit certificate of a block, decoded, and header and certificate as bytes."""
    node = call.node
    height = height_of(node, block)
    raw = node.certificate(height)
    if raw is None:
        raise pruned(node.earliest_height())
    return {**certificate_form(decode_certificate(raw)), "anchor": anchor_form(node, height)}


METHODS = (chain_get_block, chain_get_header, chain_list_blocks, chain_get_commit)
