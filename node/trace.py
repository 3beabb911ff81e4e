"""What the node itself reports (see ledger.trace)."""

from __future__ import annotations

from ledger.trace import TraceEvent


class BlockStored(TraceEvent, frozen=True):
    """A block and its effects are on disk.

    `failed` of its `transactions` left a failed receipt; `size_bytes` is that of the transactions.
    """

    height: int
    time_ms: int
    transactions: int
    failed: int
    size_bytes: int
    state_root: bytes


class ScoresReady(TraceEvent, frozen=True):
    """The scores of an epoch are computed: how many peers have one, and how long it took."""

    epoch: int
    peers: int
    duration_ms: int


class ScoreTableDamaged(TraceEvent, frozen=True):
    """The file of an epoch's scores was put aside: it is not what was written."""

    epoch: int
    detail: str
