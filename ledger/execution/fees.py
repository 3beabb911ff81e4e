"""What must hold before a transaction may stand in a block, and what it pays for standing there.

A transaction in a block pays its fee and uses its nonce whatever becomes of its effect. Rules that
the mempool shares raise TransactionRefused; in a block somebody proposed, that makes the block
invalid.
"""

from __future__ import annotations

from ledger.execution.context import BlockContext, after_fee
from ledger.params import ChainParams
from ledger.reasons import TransactionRefused
from ledger.state import Account
from ledger.transactions import Header


def minimum_fee(size_bytes: int, params: ChainParams) -> int:
    """The least fee of a transaction of this size on the wire, µT."""
    return params.fee_base + params.fee_per_byte * size_bytes


def check_expiry(transaction: Header, height: int) -> None:
    """`height` is the block's. Raises TransactionRefused("EXPIRED")."""
    if 0 < transaction.expiry_height < height:
        raise TransactionRefused(
            "EXPIRED", expiry_height=transaction.expiry_height, block_height=height
        )


def check_nonce_unused(transaction: Header, account: Account) -> None:
    """Raise TransactionRefused("NONCE_TOO_LOW") for a nonce the account is past."""
    if transaction.nonce < account.nonce:
        raise TransactionRefused(
            "NONCE_TOO_LOW", expected_nonce=account.nonce, nonce=transaction.nonce
        )


def check_nonce_next(transaction: Header, account: Account) -> None:
    """Raise TransactionRefused("NONCE_TOO_HIGH") for a nonce whose turn has not come."""
    if transaction.nonce > account.nonce:
        raise TransactionRefused(
            "NONCE_TOO_HIGH", expected_nonce=account.nonce, nonce=transaction.nonce
        )


def check_fee_funds(transaction: Header, account: Account) -> None:
    """Raise TransactionRefused("INSUFFICIENT_FEE_FUNDS") unless the balance covers the fee."""
    if transaction.fee > account.balance:
        raise TransactionRefused(
            "INSUFFICIENT_FEE_FUNDS", needed=transaction.fee, balance=account.balance
        )


def take_fee_and_nonce(context: BlockContext, transaction: Header) -> None:
    """The sender pays; the proposer is owed. Raises TransactionRefused before any change."""
    sender = transaction.sender
    account = context.account(sender)
    check_expiry(transaction, context.height)
    check_nonce_unused(transaction, account)
    check_nonce_next(transaction, account)
    check_fee_funds(transaction, account)
    context.put_account(sender, after_fee(account, transaction.fee))
    context.proposer_income += transaction.fee


def pay_proposer(context: BlockContext) -> None:
    """All fees and the validators' share of the cut go to the proposer's operator account."""
    if context.proposer_income:
        context.credit(context.proposer, context.proposer_income)
        context.proposer_income = 0
