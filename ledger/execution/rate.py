"""Rate: the payer of a settled receipt judges it, −10…+10 without 0.

The rules (which receipts, how late, how often) and what a rating does to the points are those of
the pair object: ledger.reputation.edges. No party's registration is asked for, because a pair
object stands only between registered peers.
"""

from __future__ import annotations

from ledger.crypto import HASH_BYTES
from ledger.execution.claims import ActiveKey, Claim
from ledger.execution.context import BlockContext
from ledger.params import ChainParams
from ledger.reasons import ExecutionFailed, TransactionRefused
from ledger.reputation.edges import EdgeRefused, rate_edge
from ledger.transactions import Rate


def check_fields(rate: Rate) -> None:
    """A judgement, of another, with a whole evidence hash or none. Raises TransactionRefused."""
    if rate.score == 0:
        raise TransactionRefused("INVALID_FIELDS", field="score", must="not be 0")
    if rate.subject == rate.sender:
        raise TransactionRefused("INVALID_FIELDS", field="subject", must="differ from sender")
    if len(rate.evidence_hash) not in (0, HASH_BYTES):
        raise TransactionRefused("INVALID_FIELDS", field="evidence_hash", must="have 0 or 32 bytes")


def claims(
    _rate: Rate, _genesis_hash: bytes, _params: ChainParams, _active_key: ActiveKey
) -> tuple[Claim, ...]:
    """Nothing but the sender's signature."""
    return ()


def terms(_rate: Rate, _params: ChainParams, _active_key: ActiveKey) -> bytes:
    """None."""
    return b""


def apply(context: BlockContext, rate: Rate) -> None:
    """Take the rating into the pair. Raises ExecutionFailed."""
    before = context.pair(rate.sender, rate.subject, rate.service)
    try:
        after = rate_edge(
            before,
            epoch=context.epoch,
            receipt_seq=rate.receipt_seq,
            score=rate.score,
            p_min=context.params.reputation_p_min,
        )
    except EdgeRefused as refused:
        raise ExecutionFailed(refused.reason, **refused.facts) from None
    context.put_pair(rate.sender, rate.subject, rate.service, after)
