"""When an epoch's scores enter the state.

Epoch E covers [genesis time + E · epoch_ms, … + (E+1) · epoch_ms) of block time. The first block of
epoch E at or after boundary(E) + score_delay_ms carries the scores of epoch E−1. Their computation
takes seconds and runs elsewhere, so the commitment is handed in; a validator that does not have it
yet waits with its vote (ScoresNotReady).

An epoch in which no block was due leaves no scores, and is not made up for: the edges needed for it
are gone (ledger.reputation.edges). The history keeps score_history_epochs commitments at most.
"""

from __future__ import annotations

from ledger.errors import LedgerError
from ledger.execution.context import BlockContext, epoch_at
from ledger.params import ChainParams
from ledger.state import ScoredEpoch


class ScoresNotReady(LedgerError):
    """The block must carry the scores of `epoch`, which were not handed in: ask again later."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the scores of epoch {epoch} are not computed yet")
        self.epoch = epoch


def due_epoch(
    time_ms: int, genesis_time_ms: int, params: ChainParams, last_scored: int
) -> int | None:
    """The epoch whose scores a block at `time_ms` must carry, or None."""
    epoch = epoch_at(time_ms, genesis_time_ms, params)
    boundary_ms = genesis_time_ms + epoch * params.epoch_ms
    if last_scored < epoch - 1 and time_ms >= boundary_ms + params.score_delay_ms:
        return epoch - 1
    return None


def commit_scores(context: BlockContext, genesis_time_ms: int, scores: ScoredEpoch | None) -> None:
    """Write the scores that are due, drop those past the history. Raises ScoresNotReady.

    Scores that are handed in but not due (or of another epoch) are left alone.
    """
    last_scored = context.epoch_state.last_scored
    due = due_epoch(context.time_ms, genesis_time_ms, context.params, last_scored)
    if due is None:
        return
    if scores is None or scores.commitment.epoch != due:
        raise ScoresNotReady(due)
    context.put_scores(scores)
    # Commitments stand in (last_scored − history, last_scored] at most, so this loop is bounded by
    # the history however long the chain stood still.
    history = context.params.score_history_epochs
    oldest = max(0, last_scored - history + 1)
    for epoch in range(oldest, min(last_scored, due - history) + 1):
        context.delete_scores(epoch)
