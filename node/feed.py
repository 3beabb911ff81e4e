"""The node's news for subscriptions (rpc.feed.Feed): what happened, in the order it happened.

Blocks come from the application, transactions from admission and the mempool, rounds and peers from
the trace that everything reports to anyway. Nothing is built while nobody listens.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.engine import Tip
from consensus.trace import RoundStatus
from ledger.execution.block import Outcome
from ledger.mempool import TransactionDropped
from ledger.state import EPOCH_KEY, VALIDATORS_KEY, decode_epoch_state
from ledger.trace import TraceEvent, Tracer
from ledger.transactions import SignedTransaction
from p2p.trace import PeerDown, PeerUp
from rpc.feed import (
    BlockStands,
    FeedEvent,
    Listener,
    PeersChanged,
    RoundMoved,
    TransactionLeft,
    TransactionsWait,
)


class NodeFeed:
    """See the module."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call with every event from now on."""
        self._listeners.append(listener)

    def on_block(self, tip: Tip, _included: list[SignedTransaction], outcome: Outcome) -> None:
        """A block was applied (LedgerApplication.on_block)."""
        if not self._listeners:
            return
        epoch_state = outcome.writes.get(EPOCH_KEY)
        scored = None if epoch_state is None else decode_epoch_state(epoch_state).last_scored
        set_changed = VALIDATORS_KEY in outcome.writes
        self._tell(BlockStands(tip.height, outcome.changed_accounts, scored, set_changed))

    def on_admitted(self, raws: Sequence[bytes]) -> None:
        """Transactions entered the mempool (Admission.on_admitted)."""
        self._tell(TransactionsWait(raws))

    def watching(self, tracer: Tracer) -> Tracer:
        """`tracer`, with an eye on what subscriptions want to know."""

        def trace(event: TraceEvent) -> None:
            tracer(event)
            if isinstance(event, RoundStatus):
                self._tell(RoundMoved())
            elif isinstance(event, TransactionDropped):
                self._tell(TransactionLeft(event.transaction_id, event.reason))
            elif isinstance(event, PeerUp | PeerDown):
                self._tell(PeersChanged())

        return trace

    def _tell(self, event: FeedEvent) -> None:
        for listener in self._listeners:
            listener(event)
