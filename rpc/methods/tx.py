"""tx_*: handing in transactions, and finding what became of them.

Submitting is the hot path: a list of 100 is checked as a list of strings and handed on as bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from ledger.block import decode_block
from ledger.crypto import sha256
from ledger.merkle import inclusion_proof, inclusion_proof_hashed, leaf_hashes
from ledger.reasons import REFUSED, TransactionRefused
from ledger.receipt import decode_receipt
from ledger.transactions import decode_transaction
from rpc.context import Call
from rpc.dispatcher import Raw
from rpc.errors import InvalidParams, LimitExceeded, NotFound, TransactionRejected, Unavailable
from rpc.forms import account_form, receipt_form, transaction_form
from rpc.ports import Committed, NodeApi, Pending, TransactionState
from rpc.proofs import anchor_form, leaf_form
from rpc.registry import method
from rpc.values import (
    PAGE_DEFAULT_COUNT,
    AddressText,
    BlockReference,
    Cursor,
    HashText,
    Hex,
    Limit,
    Order,
    Page,
    address_of,
    cursor_of,
    hash_of,
    height_of,
    hexed,
    number_in_cursor,
    position_of,
    unhex,
)

# Transactions in one call. The body limit is met earlier by large ones.
SUBMIT_COUNT = 100

# In tokens, for each transaction: a signature check, a place in the mempool, gossip.
SUBMIT_COST = 5

# A signature check or two and an execution, at once: some 200 µs.
SIMULATE_COST = 10

# A call waits no longer than this for a commit; whoever wants to know later asks again.
WAIT_MAX_MS = 60_000
WAIT_DEFAULT_MS = 10_000

# Checking the signatures of a full list takes some 10 ms; a node that needs this long is choked.
SUBMIT_MS = 5_000

# Refusals that the passing of time can mend.
_RETRYABLE = frozenset({"MEMPOOL_FULL", "SENDER_LIMIT", "NONCE_TOO_HIGH"})
assert REFUSED.keys() >= _RETRYABLE

Submitted = TransactionState | TransactionRefused


def rejected(refusal: TransactionRefused) -> TransactionRejected:
    """The RPC error of a ledger's refusal: its reason and its facts, unchanged."""
    return TransactionRejected(
        REFUSED[refusal.reason],
        reason=refusal.reason,
        retryable=refusal.reason in _RETRYABLE,
        facts=dict(refusal.facts),
    )


def state_form(node: NodeApi, state: Submitted | None) -> dict[str, Any]:
    """{hash, status: "pending"} or {hash, status: "committed", height, index, receipt}."""
    if isinstance(state, Pending):
        return {"hash": hexed(state.transaction_id), "status": "pending"}
    if isinstance(state, TransactionRefused):
        return {"status": "rejected", "error": rejected(state).as_object()}
    assert state is not None
    receipt = node.receipt(state.height, state.index)
    return {
        "hash": hexed(state.transaction_id),
        "status": "committed",
        "height": state.height,
        "index": state.index,
        "receipt": None if receipt is None else receipt_form(decode_receipt(receipt)),
    }


def _raw_of(text: str, position: int) -> bytes:
    raw = unhex(text, f"tx.{position}")
    if not raw:
        raise InvalidParams("tx is empty", facts={"parameter": f"tx.{position}"})
    return raw


@method(
    "tx_submit",
    errors=(TransactionRejected, LimitExceeded, Unavailable),
    cost=SUBMIT_COST,
    waits=True,
)
async def tx_submit(
    call: Call,
    tx: Hex | Annotated[list[str], Field(min_length=1, max_length=SUBMIT_COUNT)],
    wait: Literal["accepted", "committed"] = "accepted",
    timeout_ms: Annotated[int, Field(ge=0, le=WAIT_MAX_MS)] = WAIT_DEFAULT_MS,
) -> object:
    """Hands in one signed transaction, or a list in the order in which it should be taken.

    One: its status, or an error with the ledger's reason. A list: a status for each, where a
    refusal is `{status: "rejected", error}`. With `wait: "committed"` the answer comes when all are
    in a block or `timeoutMs` has passed; what still waits then has status "pending". Handing in a
    known transaction answers with its present status.
    """
    texts = [tx] if isinstance(tx, str) else tx
    if len(texts) > 1:
        call.charge(SUBMIT_COST * (len(texts) - 1))
    states = await _submit(call.node, [_raw_of(text, place) for place, text in enumerate(texts)])
    if wait == "committed":
        states = await _final(call, states, timeout_ms)
    if not isinstance(tx, str):
        # Spares the list a pass of its own: most items are a hash and a word.
        return _list_form(call.node, states)
    if isinstance(states[0], TransactionRefused):
        raise rejected(states[0])
    return state_form(call.node, states[0])


async def _submit(node: NodeApi, raws: list[bytes]) -> list[Submitted]:
    try:
        async with asyncio.timeout(SUBMIT_MS / 1000):
            return await node.submit(raws)
    except TimeoutError:
        raise Unavailable(
            "the node could not check the transactions in time; some may have been taken in",
            reason="DEADLINE_EXCEEDED",
        ) from None


def _list_form(node: NodeApi, states: list[Submitted]) -> Raw:
    parts = [
        b'{"hash":"0x%b","status":"pending"}' % state.transaction_id.hex().encode()
        if type(state) is Pending
        else orjson.dumps(state_form(node, state))
        for state in states
    ]
    return Raw(b"[" + b",".join(parts) + b"]")


async def _final(call: Call, states: list[Submitted], timeout_ms: int) -> list[Submitted]:
    """The states once nothing waits any more or the time is up."""
    node = call.node
    waiting = [each.transaction_id for each in states if isinstance(each, Pending)]
    if not waiting:
        return states
    with call.waiting_place():
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await node.wait_final(waiting)
        except TimeoutError:
            pass
    # One that was dropped meanwhile stays "pending" in this answer: nothing says that it failed,
    # and tx_get tells that it is unknown.
    return [
        (node.transaction_state(each.transaction_id) or each) if isinstance(each, Pending) else each
        for each in states
    ]


def _not_found(node: NodeApi) -> NotFound:
    earliest = node.earliest_height()
    return NotFound(
        "no transaction with this hash waits here or is in a block that this node keeps",
        reason="TRANSACTION_NOT_FOUND",
        facts={} if earliest == 1 else {"earliestHeight": earliest},
    )


def _committed(node: NodeApi, hash_text: str) -> Committed:
    """Raises NotFound, or Unavailable (PENDING) for one that still waits."""
    state = node.transaction_state(hash_of(hash_text, "hash"))
    if state is None:
        raise _not_found(node)
    if isinstance(state, Pending):
        raise Unavailable("the transaction still waits", reason="PENDING")
    return state


@method("tx_get", errors=(NotFound,))
def tx_get(call: Call, hash: HashText) -> object:  # noqa: A002 - the parameter's public name
    """A transaction, decoded, with its status and, once committed, its receipt."""
    node = call.node
    state = node.transaction_state(hash_of(hash, "hash"))
    if state is None:
        raise _not_found(node)
    raw = state.raw if isinstance(state, Pending) else node.transaction(state.height, state.index)
    if raw is None:
        raise _not_found(node)
    signed = decode_transaction(raw, node.chain.genesis_hash)
    return {**transaction_form(signed), **state_form(node, state)}


@method("tx_getReceipt", errors=(NotFound, Unavailable))
def tx_get_receipt(call: Call, hash: HashText) -> object:  # noqa: A002 - as above
    """What became of a committed transaction: {height, index, receipt}."""
    state = _committed(call.node, hash)
    return state_form(call.node, state)


@method("tx_getProof", errors=(NotFound, Unavailable), cost=20)
def tx_get_proof(call: Call, hash: HashText) -> object:  # noqa: A002 - as above
    """Proof that a transaction and its receipt are in a certified block.

    {height, hash, raw, anchor, transaction: leaf, receipt: leaf}; the transaction's leaf is its
    full hash, the receipt's leaf its canonical bytes.
    """
    node = call.node
    state = _committed(node, hash)
    raw, encoded = node.block(state.height), node.receipts(state.height)
    if raw is None or encoded is None:
        raise _not_found(node)
    transactions = decode_block(raw).transactions
    full_hashes = [sha256(each) for each in transactions]
    size = len(full_hashes)
    return {
        "height": state.height,
        "hash": hexed(state.transaction_id),
        "raw": hexed(transactions[state.index]),
        "anchor": anchor_form(node, state.height),
        "transaction": leaf_form(
            full_hashes[state.index],
            state.index,
            size,
            inclusion_proof_hashed(leaf_hashes(full_hashes), state.index),
        ),
        "receipt": leaf_form(
            encoded[state.index], state.index, size, inclusion_proof(encoded, state.index)
        ),
    }


@method("tx_list", errors=(NotFound, Unavailable), cost=10)
def tx_list(
    call: Call,
    block: BlockReference | None = None,
    account: AddressText | None = None,
    limit: Limit = PAGE_DEFAULT_COUNT,
    cursor: Cursor | None = None,
    order: Order = "desc",
) -> object:
    """Committed transactions of one block or touching one account, decoded, with receipts.

    {items, nextCursor}. Exactly one of `block` and `account` is given.
    """
    node = call.node
    ascending = order == "asc"
    if (block is None) == (account is None):
        raise InvalidParams(
            "give either block or account", facts={"parameters": ["block", "account"]}
        )
    if block is not None:
        height = height_of(node, block)
        kind = f"txs@{height}"
        after = _place_after(kind, cursor)
        places = _places_in_block(node, height, after, limit + 1, ascending=ascending)
    else:
        assert account is not None
        kind = f"txs@{account}"
        after = _place_after(kind, cursor)
        places = node.account_transactions(
            address_of(account, "account"), after, limit + 1, ascending=ascending
        )
    shown = places[:limit]
    items = [form for place in shown if (form := _item_form(node, *place)) is not None]
    more = len(places) > limit
    return Page(items, cursor_of(kind, *shown[-1]) if more else None).as_object()


def _place_after(kind: str, cursor: str | None) -> tuple[int, int] | None:
    """The (height, index) in a cursor. `kind` names the list, so that no other's cursor fits."""
    if cursor is None:
        return None
    height, index = map(number_in_cursor, position_of(kind, cursor, 2))
    return height, index


def _places_in_block(
    node: NodeApi, height: int, after: tuple[int, int] | None, limit: int, *, ascending: bool
) -> Sequence[tuple[int, int]]:
    count = node.transaction_count(height) or 0
    if ascending:
        start = 0 if after is None else after[1] + 1
        return [(height, index) for index in range(start, min(start + limit, count))]
    start = count if after is None else min(after[1], count)
    return [(height, index) for index in range(start - 1, max(start - limit, 0) - 1, -1)]


def _item_form(node: NodeApi, height: int, index: int) -> dict[str, Any] | None:
    raw = node.transaction(height, index)
    if raw is None:
        return None
    signed = decode_transaction(raw, node.chain.genesis_hash)
    state = Committed(signed.transaction_id, height, index)
    return {**transaction_form(signed), **state_form(node, state)}


@method("tx_simulate", errors=(TransactionRejected,), cost=SIMULATE_COST)
def tx_simulate(call: Call, tx: Hex) -> object:
    """What a signed transaction would do in the next block, without handing it in.

    {height, receipt, accounts}: the receipt as it would stand, and the accounts as they would be.
    It is executed on the state of the latest block; what waits in the mempool is not. An error with
    the ledger's reason where it could not stand in a block at all.
    """
    found = call.node.simulate(_raw_of(tx, 0))
    if isinstance(found, TransactionRefused):
        raise rejected(found)
    return {
        "height": found.height,
        "receipt": receipt_form(found.receipt),
        "accounts": [account_form(address, account) for address, account in found.accounts],
    }


METHODS = (tx_submit, tx_simulate, tx_get, tx_get_receipt, tx_get_proof, tx_list)
