"""What the consensus room reports while it works (see ledger.trace)."""

from __future__ import annotations

from ledger.trace import TraceEvent


class BlockApplied(TraceEvent, frozen=True):
    """A block is durable. `how` is "agreed" (our engine decided it) or "synced"."""

    height: int
    round: int
    block_hash: bytes
    how: str


class RoundStatus(TraceEvent, frozen=True):
    """The engine moved: height, round, leader index and phase."""

    height: int
    round: int
    leader: int
    phase: str


class MessageRefused(TraceEvent, frozen=True):
    """A peer's message was discarded. `rule` names the reason."""

    peer: int | None
    rule: str


class SigningRefused(TraceEvent, frozen=True):
    """The guard refused a vote that contradicts a durable one."""

    height: int
    round: int
    type: int


class EquivocationSeen(TraceEvent, frozen=True):
    """Two votes of one validator that no correct validator casts."""

    validator: int
    kind: str
    height: int
    round: int


class SyncStarted(TraceEvent, frozen=True):
    """Asking a peer for blocks from a height on."""

    from_height: int
    target_height: int


class SyncPeerFailed(TraceEvent, frozen=True):
    """A peer did not deliver what it claimed to have."""

    node_key: bytes
    reason: str
