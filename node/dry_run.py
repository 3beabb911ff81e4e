"""What a transaction would do: executed on the tip's state, and forgotten."""

from __future__ import annotations

from ledger.errors import MalformedData
from ledger.execution.block import apply_transaction
from ledger.execution.context import BlockContext, BlockFacts
from ledger.reasons import TransactionRefused
from ledger.state import read_account, read_params, read_validators
from ledger.transactions import ChainIdentity, decode_transaction
from ledger.verification import SignatureCache
from ledger.view import ReadView
from rpc.ports import Simulated


def dry_run(
    raw: bytes,
    view: ReadView,
    chain: ChainIdentity,
    *,
    genesis_time_ms: int,
    height: int,
    time_ms: int,
) -> Simulated | TransactionRefused:
    """The outcome of wire bytes in a block of this height and time, or why they cannot be in one.

    Its claims are checked as for admission, but not remembered: what is only tried must not push
    out what waits.
    """
    params = read_params(view)
    try:
        signed = decode_transaction(raw, chain.genesis_hash, params.tx_max_bytes)
    except MalformedData as error:
        return TransactionRefused(error.reason, detail=error.detail)
    proposer = read_validators(view)[0].operator
    context = BlockContext(
        view, BlockFacts(chain.chain_id, genesis_time_ms, height, time_ms, proposer)
    )
    try:
        # The cheap rules come first: most of what fails fails there.
        receipt = apply_transaction(context, signed)
        SignatureCache(chain.genesis_hash).check(
            signed, params, lambda address: read_account(view, address).active_key or address
        )
    except TransactionRefused as refusal:
        return refusal
    changed = [(address, context.account(address)) for address in context.changed_accounts()]
    return Simulated(height, receipt, changed)
