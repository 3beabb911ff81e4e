"""The transaction families: one table from type to what the family checks and does.

A new family is a struct in ledger.transactions, a module here and a line in FAMILIES. The four
functions of a family:

    check_fields  fields that contradict each other; a property of the transaction alone
    claims        what else must be checked once besides the sender's signature
    terms         the terms of those claims in one, without preparing the checks: what the hot path
                  needs to know of a transaction that was checked before
    apply         the effect; fee and nonce are taken before. Raises ExecutionFailed

`check_fields` and `claims` refuse (TransactionRefused): such a transaction is in no block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ledger.execution import rate, register, settle, transfer
from ledger.execution.claims import ActiveKey, Claim
from ledger.execution.context import BlockContext
from ledger.params import ChainParams
from ledger.transactions import Rate, Register, Settle, Transfer

Claims = Callable[[Any, bytes, ChainParams, ActiveKey], tuple[Claim, ...]]
"""(transaction, genesis hash, parameters, active key) → claims."""

Terms = Callable[[Any, ChainParams, ActiveKey], bytes]
"""(transaction, parameters, active key) → the claims' terms, joined."""


@dataclass(frozen=True, slots=True)
class Family:
    """One row of the table. `name` is what RPC and indexes call it."""

    name: str
    check_fields: Callable[[Any], None]
    claims: Claims
    terms: Terms
    apply: Callable[[BlockContext, Any], None]


FAMILIES: dict[type, Family] = {
    Register: Family(
        "register", register.check_fields, register.claims, register.terms, register.apply
    ),
    Transfer: Family(
        "transfer", transfer.check_fields, transfer.claims, transfer.terms, transfer.apply
    ),
    Settle: Family("settle", settle.check_fields, settle.claims, settle.terms, settle.apply),
    Rate: Family("rate", rate.check_fields, rate.claims, rate.terms, rate.apply),
}
