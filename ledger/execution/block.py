"""Executing a block: the state it leads to, as a pure function.

    outcome = execute_block(view, tree, facts, transactions, scores=…, mode=…)

Nothing is written: the outcome carries the writes and the tree's update. Two modes, one path:

    validate   the transactions of a proposed block; one that must not be there raises
               TransactionNotAllowed, and the block is not voted for
    build      candidates for a block of our own; those that must not be there are dropped with
               their reason, the others are the block

Before the call, every transaction was decoded and its claims (signatures, work) hold under the
active keys and parameters of `view` (ledger.verification.SignatureCache); no family changes either
within a block.

A transaction that stands in a block pays. If its family's rule then fails it, its effects are
undone, fee and nonce stay taken, and its receipt carries the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ledger.errors import InvalidBlock
from ledger.execution.context import BlockContext, BlockFacts
from ledger.execution.families import FAMILIES
from ledger.execution.fees import pay_proposer, take_fee_and_nonce
from ledger.execution.scores import commit_scores
from ledger.reasons import ExecutionFailed, TransactionRefused
from ledger.receipt import Receipt, receipts_root
from ledger.state import ScoredEpoch, read_validators
from ledger.state_tree import StateTree, TreeUpdate
from ledger.transactions import SignedTransaction
from ledger.validators import ValidatorSet
from ledger.verification import check_stateless
from ledger.view import ReadView

Mode = Literal["validate", "build"]


class TransactionNotAllowed(InvalidBlock):
    """Transaction number `index` must not stand in the block; `refusal` says why."""

    def __init__(self, index: int, signed: SignedTransaction, refusal: TransactionRefused) -> None:
        super().__init__(
            "transaction", f"number {index} ({signed.transaction_id.hex()}): {refusal}"
        )
        self.index = index
        self.transaction_id = signed.transaction_id
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a block does. Hashes have 32 bytes.

    `writes`: state key → canonical bytes, None for deleted. `receipts`: encoded, in block order.
    `included`: the block's transactions, in order; `dropped` (build mode): those that must not be
    in it. `changed_accounts`: addresses whose balance or nonce may differ now, for the mempool.
    `failed_count`: how many receipts say that a family's rule was not met.
    """

    writes: dict[bytes, bytes | None]
    tree_update: TreeUpdate
    state_root: bytes
    receipts: list[bytes]
    receipts_root: bytes
    next_validators: ValidatorSet
    params_hash: bytes
    included: list[SignedTransaction]
    dropped: list[tuple[SignedTransaction, TransactionRefused]]
    changed_accounts: tuple[bytes, ...]
    failed_count: int


def execute_block(
    view: ReadView,
    tree: StateTree,
    facts: BlockFacts,
    transactions: Sequence[SignedTransaction],
    *,
    scores: ScoredEpoch | None = None,
    mode: Mode = "validate",
    on: TreeUpdate | None = None,
) -> Outcome:
    """The outcome of a block on the state `view`, whose tree is `tree` (with `on` over it).

    Raises TransactionNotAllowed (validate mode), InvalidBlock, ScoresNotReady.
    """
    context = BlockContext(view, facts)
    validators = read_validators(view)
    check_proposer(facts, validators)
    commit_scores(context, facts.genesis_time_ms, scores)
    included, receipts, dropped = run_transactions(context, transactions, mode)
    pay_proposer(context)
    check_conserved(context)
    writes = context.writes()
    update = tree.update(writes, on)
    return Outcome(
        writes=writes,
        tree_update=update,
        state_root=update.root,
        receipts=receipts,
        receipts_root=receipts_root(receipts),
        next_validators=validators,
        params_hash=context.params.hash(),
        included=included,
        dropped=dropped,
        changed_accounts=context.changed_accounts(),
        failed_count=context.failed_count,
    )


def check_proposer(facts: BlockFacts, validators: ValidatorSet) -> None:
    """Fees go to the proposer, so it must be one of the height's validators."""
    if all(each.operator != facts.proposer for each in validators.validators):
        raise InvalidBlock("proposer", f"{facts.proposer.hex()} is no validator of this height")


def run_transactions(
    context: BlockContext, transactions: Sequence[SignedTransaction], mode: Mode
) -> tuple[
    list[SignedTransaction], list[bytes], list[tuple[SignedTransaction, TransactionRefused]]
]:
    """(included, encoded receipts, dropped with the reason). Raises TransactionNotAllowed."""
    included: list[SignedTransaction] = []
    receipts: list[bytes] = []
    dropped: list[tuple[SignedTransaction, TransactionRefused]] = []
    for index, signed in enumerate(transactions):
        try:
            receipt = apply_transaction(context, signed)
        except TransactionRefused as refusal:
            if mode == "validate":
                raise TransactionNotAllowed(index, signed, refusal) from refusal
            dropped.append((signed, refusal))
            continue
        included.append(signed)
        receipts.append(receipt.encode())
    return included, receipts, dropped


def apply_transaction(context: BlockContext, signed: SignedTransaction) -> Receipt:
    """Charge it, then let it take effect or fail. Raises TransactionRefused before any change."""
    transaction = signed.transaction
    check_stateless(signed, context.chain_id, context.params)
    take_fee_and_nonce(context, transaction)
    context.checkpoint()
    try:
        FAMILIES[type(transaction)].apply(context, transaction)
    except ExecutionFailed as failure:
        context.rollback()
        context.failed_count += 1
        return Receipt(
            signed.transaction_id,
            ok=False,
            fee=transaction.fee,
            reason=failure.reason,
            facts=failure.facts,
        )
    return Receipt(signed.transaction_id, ok=True, fee=transaction.fee)


def check_conserved(context: BlockContext) -> None:
    """µT neither come into being nor vanish; where they do, the bug is ours."""
    assert context.proposer_income == 0
    assert context.money_delta() == 0, f"the supply changed by {context.money_delta()} µT"
