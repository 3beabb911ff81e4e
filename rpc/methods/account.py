"""account_*: balances, nonces, registration."""

from __future__ import annotations

from ledger.state import ACCOUNT_PREFIX, account_key, decode_account
from rpc.context import Call
from rpc.errors import Unavailable
from rpc.forms import account_form
from rpc.proofs import anchored_tip, object_forms
from rpc.registry import method
from rpc.values import (
    PAGE_DEFAULT_COUNT,
    AddressText,
    Cursor,
    Limit,
    Page,
    address_of,
    cursor_of,
    position_of,
)

# What a proof costs beyond the read: a bucket, sixteen siblings, a header and a certificate.
PROOF_COST = 5


@method("account_get", errors=(Unavailable,))
def account_get(
    call: Call,
    address: AddressText,
    proof: bool = False,  # noqa: FBT001, FBT002 - a JSON parameter
) -> object:
    """An account at the tip: {height, address, exists, balance, nonce, …, proof?}.

    `nonce` is the one the account's next transaction in a block must use; `nextNonce` counts the
    waiting ones too and is the one to sign with. An address that the state does not hold has
    `exists` false, balance "0" and nonce 0, which is provable too.
    """
    node = call.node
    owner = address_of(address, "address")
    key = account_key(owner)
    raw = node.state().get(key)
    answer = {
        "height": node.tip().height,
        **account_form(owner, None if raw is None else decode_account(raw)),
        "nextNonce": node.next_nonce(owner),
    }
    if proof:
        call.charge(PROOF_COST)
        _, anchor = anchored_tip(node)
        (proven,) = object_forms(node, [key])
        answer["proof"] = {"anchor": anchor, "account": proven}
    return answer


@method("account_list", cost=10)
def account_list(
    call: Call, limit: Limit = PAGE_DEFAULT_COUNT, cursor: Cursor | None = None
) -> object:
    """Every account that stands in the state, in the order of addresses' bytes.

    {height, items, nextCursor}. Pages read the tip of their own moment: an account that stays is
    neither skipped nor repeated.
    """
    node = call.node
    after = None
    if cursor is not None:
        after = account_key(address_of(position_of("accounts", cursor, 1)[0], "cursor"))
    found = node.state_items(ACCOUNT_PREFIX, after, limit + 1)
    items = [account_form(key[1:], decode_account(raw)) for key, raw in found[:limit]]
    following = cursor_of("accounts", items[-1]["address"]) if len(found) > limit else None
    return {"height": node.tip().height, **Page(items, following).as_object()}


METHODS = (account_get, account_list)
