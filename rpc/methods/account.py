"""account_*: balances, nonces, registration."""

from __future__ import annotations

from ledger.state import account_key, decode_account
from rpc.context import Call
from rpc.errors import Unavailable
from rpc.forms import account_form
from rpc.proofs import anchored_tip, object_forms
from rpc.registry import method
from rpc.values import AddressText, address_of

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


METHODS = (account_get,)
