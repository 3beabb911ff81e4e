"""Settle: put a cumulative service receipt on the ledger and pay what it adds.

Receipts of one (payer, payee, service) are cumulative: sequence number, units and sum all strictly
grow, and a settle pays the difference to the last settled receipt. So one transaction settles any
number of served requests, a receipt that never reaches the chain is covered by the next, and a
receipt that adds no µT or no unit is not newer (RECEIPT_NOT_NEWER).

Both parties must be registered peers: settling writes a pair object that stays for ever and from
which scores are computed, so both must have paid the entrance. µT for anybody else travel by
Transfer.

The cut is rounded up as a whole, burn and validators' share are rounded down, and the pool takes
the rest:

    cut        = ⌈paid · (burn + validators + pool ppm) / 10^6⌉
    burned     = ⌊paid · burn ppm / 10^6⌋
    validators = ⌊paid · validators ppm / 10^6⌋
    pool       = cut − burned − validators
    payee      = paid − cut

so that splitting a payment into small ones never lowers the cut. The validators' share goes to the
proposer of the block.

The payer's signature alone pays, and moves the sum paid only: were it to move number and units too,
a payer could put them beyond every receipt that the payee holds, and never owe those (ADR 0110).

Positive points need both parties' signatures (`cosigned`), and so does being rated: a payer could
otherwise force a payment on a stranger in order to complain about it. It does not matter which of
the two submits. If only what the payee submitted could be rated, a payee that leaves the submitting
to its payers would collect points that nobody can blame it for.
"""

from __future__ import annotations

from ledger.crypto import HASH_BYTES, SIGNATURE_BYTES
from ledger.execution.claims import ActiveKey, Claim, SignatureClaim
from ledger.execution.context import BlockContext
from ledger.identity import peer_id
from ledger.params import MICRO, ChainParams
from ledger.reasons import ExecutionFailed, TransactionRefused
from ledger.reputation.edges import EdgeRefused, settle_edge
from ledger.state import Totals
from ledger.transactions import Settle, receipt_body, receipt_digest


def check_fields(settle: Settle) -> None:
    """Parties, signature and channel fit together. Raises TransactionRefused."""
    if settle.payer == settle.payee:
        raise TransactionRefused("INVALID_FIELDS", field="payee", must="differ from payer")
    if settle.sender not in (settle.payer, settle.payee):
        raise TransactionRefused("INVALID_FIELDS", field="sender", must="be payer or payee")
    if len(settle.channel) not in (0, HASH_BYTES):
        raise TransactionRefused("INVALID_FIELDS", field="channel", must="have 0 or 32 bytes")
    allowed = (SIGNATURE_BYTES,) if settle.sender == settle.payee else (0, SIGNATURE_BYTES)
    if len(settle.counterparty_signature) not in allowed:
        must = "have " + " or ".join(map(str, allowed)) + " bytes"
        raise TransactionRefused("INVALID_FIELDS", field="counterparty_signature", must=must)


def claims(
    settle: Settle, genesis_hash: bytes, _params: ChainParams, active_key: ActiveKey
) -> tuple[Claim, ...]:
    """The other party's signature over the receipt, unless the payer settles alone."""
    if not settle.counterparty_signature:
        return ()
    counterparty = counterparty_of(settle)
    return (
        SignatureClaim(
            active_key(counterparty),
            receipt_digest(receipt_body(settle), genesis_hash),
            settle.counterparty_signature,
            "INVALID_COUNTERPARTY_SIGNATURE",
            counterparty,
        ),
    )


def terms(settle: Settle, _params: ChainParams, active_key: ActiveKey) -> bytes:
    """The key that the other party's signature is checked with."""
    return active_key(counterparty_of(settle)) if settle.counterparty_signature else b""


def counterparty_of(settle: Settle) -> bytes:
    """The party that is not the sender."""
    return settle.payee if settle.sender == settle.payer else settle.payer


def apply(context: BlockContext, settle: Settle) -> None:
    """Advance the pair, move what the receipt adds, take the cut. Raises ExecutionFailed."""
    check_channel(settle)
    check_registered(context, settle)
    paid = advance_pair(context, settle)
    pay(context, settle, paid)


def check_channel(settle: Settle) -> None:
    """Raise ExecutionFailed("CHANNEL_UNKNOWN") for any channel: none can be opened yet."""
    if settle.channel:
        raise ExecutionFailed("CHANNEL_UNKNOWN", channel=settle.channel.hex())


def check_registered(context: BlockContext, settle: Settle) -> None:
    """Raise ExecutionFailed("NOT_REGISTERED") unless both are registered peers."""
    for role, address in (("payer", settle.payer), ("payee", settle.payee)):
        if not context.account(address).is_registered:
            raise ExecutionFailed("NOT_REGISTERED", role=role, peer=peer_id(address))


def advance_pair(context: BlockContext, settle: Settle) -> int:
    """Let the pair stand at the new receipt; what it adds, µT > 0. Raises ExecutionFailed."""
    before = context.pair(settle.payer, settle.payee, settle.service)
    cosigned = bool(settle.counterparty_signature)
    try:
        after = settle_edge(
            before,
            epoch=context.epoch,
            seq=settle.seq,
            cum_units=settle.cum_units,
            cum_paid=settle.cum_paid,
            cosigned=cosigned,
            ratable=cosigned,
            p_min=context.params.reputation_p_min,
        )
    except EdgeRefused as refused:
        raise ExecutionFailed(refused.reason, **refused.facts) from None
    context.put_pair(settle.payer, settle.payee, settle.service, after)
    return settle.cum_paid - (0 if before is None else before.cum_paid)


def pay(context: BlockContext, settle: Settle, paid: int) -> None:
    """Payer to payee, less the cut. Raises ExecutionFailed("INSUFFICIENT_FUNDS")."""
    cut, burned, validators = cut_of(paid, context.params)
    context.debit(settle.payer, paid)
    context.credit(settle.payee, paid - cut)
    context.proposer_income += validators
    old = context.totals
    context.totals = Totals(
        old.supply, old.burned + burned, old.pool + cut - burned - validators, old.registered
    )


def cut_of(paid: int, params: ChainParams) -> tuple[int, int, int]:
    """(whole cut, burned part, validators' part) of `paid`, all µT; the pool has the rest."""
    cut = -(-paid * params.cut_ppm // MICRO)
    burned = paid * params.cut_burn_ppm // MICRO
    validators = paid * params.cut_validators_ppm // MICRO
    return cut, burned, validators
