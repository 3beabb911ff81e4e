"""What the node tells subscriptions, as one port owned by this room; node/ implements it.

An event says that something changed, never what it is now: subscriptions read that from NodeApi, so
that what is replayed and what is live come from the same place. Events are delivered synchronously,
in the order in which things happened, after the change can be read. A listener returns at once and
never raises.

Left out on purpose: contents of blocks, states of accounts, the round itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BlockStands:
    """A block was applied. `changed` are the accounts it wrote (33-byte addresses).

    `scored_epoch` is the epoch whose scores it carries, or None; `set_changed` says that it names
    another validator set for the next height.
    """

    height: int
    changed: Collection[bytes]
    scored_epoch: int | None
    set_changed: bool


@dataclass(frozen=True, slots=True)
class TransactionsWait:
    """Transactions (wire bytes) entered the mempool."""

    raws: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class TransactionLeft:
    """A waiting transaction was dropped; `reason` is the mempool's."""

    transaction_id: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class RoundMoved:
    """The consensus engine is in another height, round or phase."""


@dataclass(frozen=True, slots=True)
class PeersChanged:
    """A peer came or went."""


FeedEvent = BlockStands | TransactionsWait | TransactionLeft | RoundMoved | PeersChanged

Listener = Callable[[FeedEvent], None]


class Feed(Protocol):
    """The node's news."""

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every event from now on, for the life of the node."""
