"""Register: make a peer known to the ledger.

The sender pays, who may be the registrant or a sponsor; a sponsored registrant signs that it wants
to be registered, by whom, and as what (ledger.transactions.RegistrationBody). The registration fee
is burned. The deposit is locked in the registrant's account, whoever paid it. A peer registers
once. Registered alone, a peer has no score.
"""

from __future__ import annotations

from ledger.crypto import SIGNATURE_BYTES
from ledger.execution.claims import ActiveKey, Claim, SignatureClaim, WorkClaim, work_terms
from ledger.execution.context import BlockContext
from ledger.params import ChainParams
from ledger.reasons import ExecutionFailed, TransactionRefused
from ledger.state import Account, Totals
from ledger.transactions import Register, registration_digest


def check_fields(register: Register) -> None:
    """A sponsored registrant signs, one that is the sender does not. Raises TransactionRefused."""
    own = register.registrant == register.sender
    if len(register.registrant_signature) != (0 if own else SIGNATURE_BYTES):
        must = "be empty" if own else f"have {SIGNATURE_BYTES} bytes"
        raise TransactionRefused("INVALID_FIELDS", field="registrant_signature", must=must)


def claims(
    register: Register, genesis_hash: bytes, params: ChainParams, active_key: ActiveKey
) -> tuple[Claim, ...]:
    """The registrant's work, and its signature if it is sponsored."""
    work = WorkClaim(register.registrant, register.work_nonce, genesis_hash, params)
    if register.registrant == register.sender:
        return (work,)
    signature = SignatureClaim(
        active_key(register.registrant),
        registration_digest(register, genesis_hash),
        register.registrant_signature,
        "INVALID_REGISTRANT_SIGNATURE",
        register.registrant,
    )
    # The signature first: it is a tenth of the work's cost.
    return (signature, work)


def terms(register: Register, params: ChainParams, active_key: ActiveKey) -> bytes:
    """The registrant's key where it signs, and the parameters of the work."""
    own = register.registrant == register.sender
    return (b"" if own else active_key(register.registrant)) + work_terms(params)


def apply(context: BlockContext, register: Register) -> None:
    """Burn the fee, lock the deposit, enter the peer. Raises ExecutionFailed."""
    check_not_registered(context, register)
    check_deposit(context, register)
    burn_fee_and_lock_deposit(context, register)
    enter_peer(context, register)


def check_not_registered(context: BlockContext, register: Register) -> None:
    """Raise ExecutionFailed("ALREADY_REGISTERED") for a known peer."""
    account = context.account(register.registrant)
    if account.is_registered:
        raise ExecutionFailed("ALREADY_REGISTERED", registered_height=account.registered_height)


def check_deposit(context: BlockContext, register: Register) -> None:
    """Raise ExecutionFailed("DEPOSIT_TOO_LOW") below the parameter."""
    required = context.params.register_deposit
    if register.deposit < required:
        raise ExecutionFailed("DEPOSIT_TOO_LOW", required=required, deposit=register.deposit)


def burn_fee_and_lock_deposit(context: BlockContext, register: Register) -> None:
    """The sender pays both. Raises ExecutionFailed("INSUFFICIENT_FUNDS")."""
    fee = context.params.register_fee
    context.debit(register.sender, fee + register.deposit)
    old = context.totals
    context.totals = Totals(old.supply, old.burned + fee, old.pool, old.registered + 1)


def enter_peer(context: BlockContext, register: Register) -> None:
    """Write the registration into the registrant's account."""
    old = context.account(register.registrant)
    context.put_account(
        register.registrant,
        Account(
            old.balance,
            old.nonce,
            old.active_key,
            context.height,
            register.service_mask,
            register.endpoint_hash,
            register.deposit,
        ),
    )
