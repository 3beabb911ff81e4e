"""What the PBFT engine reports beyond its effects (see ledger.trace)."""

from __future__ import annotations

from ledger.trace import TraceEvent


class RoundEntered(TraceEvent, frozen=True):
    """A new round. `leader` is a validator index."""

    height: int
    round: int
    leader: int


class VoteCast(TraceEvent, frozen=True):
    """An own vote is durable and counts. `type` as in ledger.certificate."""

    height: int
    round: int
    type: int
    block_hash: bytes


class VoteRefused(TraceEvent, frozen=True):
    """The guard or the key store did not sign."""

    height: int
    round: int
    type: int


class PeerAnswered(TraceEvent, frozen=True):
    """A peer that is behind was told so. `repeated` when the first answer had not helped."""

    peer: int
    height: int
    repeated: bool
