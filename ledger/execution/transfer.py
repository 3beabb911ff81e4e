"""Transfer: move µT from the sender's balance to another.

The receiver's account comes into being with the first µT. A transfer to oneself needs the balance
like any other and moves nothing. An amount of 0 is not a transaction (it does not decode).
"""

from __future__ import annotations

from ledger.execution.claims import ActiveKey, AddressClaim, Claim
from ledger.execution.context import BlockContext
from ledger.params import ChainParams
from ledger.transactions import Transfer


def check_fields(_transfer: Transfer) -> None:
    """No fields of a transfer can contradict each other."""


def claims(
    transfer: Transfer, _genesis_hash: bytes, _params: ChainParams, _active_key: ActiveKey
) -> tuple[Claim, ...]:
    """The receiver is a public key: a slip of the pen must not lock µT away for ever."""
    return (AddressClaim("to", transfer.to),)


def terms(_transfer: Transfer, _params: ChainParams, _active_key: ActiveKey) -> bytes:
    """None: a point on the curve stays one."""
    return b""


def apply(context: BlockContext, transfer: Transfer) -> None:
    """Move the amount. Raises ExecutionFailed("INSUFFICIENT_FUNDS")."""
    context.debit(transfer.sender, transfer.amount)
    context.credit(transfer.to, transfer.amount)
