"""What a block's transactions see and write: decoded state objects over a read view.

Every object is decoded at most once per block and encoded at most once, at its end. Objects are
immutable; a write puts a new object in the place of the old one and notes the old one in a journal,
so that a transaction that fails leaves nothing but its fee (`checkpoint`, `rollback`). That is also
why handlers need not order their checks before their effects.

`proposer_income` collects what the block's proposer is owed, µT: fees and the validators' share of
the cut on settled value. It is paid once, after the last transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from ledger.codec import LIMIT_53, encode
from ledger.params import ChainParams
from ledger.reasons import ExecutionFailed
from ledger.reputation.edges import PairState
from ledger.state import (
    ACCOUNT_PREFIX,
    EPOCH_KEY,
    TOTALS_KEY,
    Account,
    EpochState,
    ScoredEpoch,
    Totals,
    decode_account,
    pair_key,
    read_epoch_state,
    read_params,
    read_totals,
    scores_key,
)
from ledger.view import ReadView

_NO_ACCOUNT = Account(0)

# What stands in the state was encoded by execution: its spelling need not be checked again.
_decode_pair = msgspec.msgpack.Decoder(PairState).decode


class _Mark(Enum):
    """Marks an object that has not been read; None already means absent."""

    UNREAD = "unread"


_UNREAD: Final = _Mark.UNREAD


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """What execution knows of the block besides its transactions.

    `proposer` is the operator's address; times are ms since the Unix epoch. `genesis_time_ms` is
    the network's: epochs are counted from it.
    """

    chain_id: str
    genesis_time_ms: int
    height: int
    time_ms: int
    proposer: bytes


def epoch_at(time_ms: int, genesis_time_ms: int, params: ChainParams) -> int:
    """The epoch of a block time."""
    return (time_ms - genesis_time_ms) // params.epoch_ms


class BlockContext:
    """One block's view of the state. See the module."""

    __slots__ = (
        "_income_at_checkpoint",
        "_journal",
        "_objects",
        "_originals",
        "_view",
        "_written",
        "chain_id",
        "epoch",
        "failed_count",
        "height",
        "params",
        "proposer",
        "proposer_income",
        "time_ms",
    )

    def __init__(self, view: ReadView, facts: BlockFacts) -> None:
        self._view = view
        self._objects: dict[bytes, Any] = {}
        self._originals: dict[bytes, Any] = {}
        self.failed_count = 0
        self._journal: list[tuple[bytes, Any]] = []
        self._written: dict[bytes, None] = {}  # an ordered set
        self.params: ChainParams = read_params(view)
        self.chain_id = facts.chain_id
        self.height = facts.height
        self.time_ms = facts.time_ms
        self.epoch = epoch_at(facts.time_ms, facts.genesis_time_ms, self.params)
        self.proposer = facts.proposer
        self.proposer_income = 0
        self._income_at_checkpoint = 0
        self._load(TOTALS_KEY, read_totals(view))
        self._load(EPOCH_KEY, read_epoch_state(view))

    # ---- objects ---------------------------------------------------------------------------------

    def account(self, address: bytes) -> Account:
        """The account; an empty one where none stands."""
        key = ACCOUNT_PREFIX + address
        account: Account | None = self._objects.get(key)
        if account is None:
            raw = self._view.get(key)
            account = _NO_ACCOUNT if raw is None else decode_account(raw)
            self._load(key, account)
        return account

    def put_account(self, address: bytes, account: Account) -> None:
        """Give an account that was read before a new content."""
        self._put(ACCOUNT_PREFIX + address, account)

    def credit(self, address: bytes, amount: int) -> None:
        """Add µT to a balance."""
        old = self.account(address)
        self._put(ACCOUNT_PREFIX + address, with_balance(old, old.balance + amount))

    def debit(self, address: bytes, amount: int) -> None:
        """Take µT from a balance. Raises ExecutionFailed where it does not cover them."""
        old = self.account(address)
        if amount > old.balance:
            # `needed` may be a sum past 2^53; no balance is, so the cap tells the same.
            needed = min(amount, LIMIT_53 - 1)
            raise ExecutionFailed("INSUFFICIENT_FUNDS", needed=needed, balance=old.balance)
        self._put(ACCOUNT_PREFIX + address, with_balance(old, old.balance - amount))

    def pair(self, payer: bytes, payee: bytes, service: int) -> PairState | None:
        """The pair object, None before the first settle."""
        key = pair_key(payer, payee, service)
        pair: PairState | _Mark | None = self._objects.get(key, _UNREAD)
        if pair is _UNREAD:
            raw = self._view.get(key)
            pair = None if raw is None else _decode_pair(raw)
            self._load(key, pair)
        assert not isinstance(pair, _Mark)
        return pair

    def put_pair(self, payer: bytes, payee: bytes, service: int, pair: PairState) -> None:
        """Give a pair that was read before a new content."""
        self._put(pair_key(payer, payee, service), pair)

    @property
    def totals(self) -> Totals:
        """Supply, burned, pool, registered peers."""
        totals: Totals = self._objects[TOTALS_KEY]
        return totals

    @totals.setter
    def totals(self, totals: Totals) -> None:
        self._put(TOTALS_KEY, totals)

    @property
    def epoch_state(self) -> EpochState:
        """Which epoch's scores stand."""
        state: EpochState = self._objects[EPOCH_KEY]
        return state

    def put_scores(self, scores: ScoredEpoch) -> None:
        """Let these scores be the newest."""
        commitment = scores.commitment
        self._load(scores_key(commitment.epoch), None)
        self._put(scores_key(commitment.epoch), commitment)
        self._put(EPOCH_KEY, EpochState(commitment.epoch, scores.seed_qualities))

    def delete_scores(self, epoch: int) -> None:
        """Forget the commitment of an epoch, if there is one."""
        key = scores_key(epoch)
        if self._view.get(key) is not None:
            self._load(key, _UNREAD)
            self._put(key, None)

    # ---- journal ---------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """`rollback` shall return to here. What came before can no longer be undone."""
        self._journal.clear()
        self._income_at_checkpoint = self.proposer_income

    def rollback(self) -> None:
        """Undo everything since the last `checkpoint`."""
        journal, objects = self._journal, self._objects
        while journal:
            key, before = journal.pop()
            objects[key] = before
        self.proposer_income = self._income_at_checkpoint

    # ---- the block's result ----------------------------------------------------------------------

    def writes(self) -> dict[bytes, bytes | None]:
        """Every key whose object changed and its canonical bytes, None for deleted.

        In the order of first writing, which follows from the block's transactions alone: what a
        proposer tried and dropped was read, but never written.
        """
        return {key: None if value is None else encode(value) for key, _, value in self._changes()}

    def money_delta(self) -> int:
        """Change of Σ balances + Σ deposits + pool + burned in this block, µT. Must be 0."""
        delta = 0
        for _, before, value in self._changes():
            if isinstance(value, Account):
                delta += value.balance + value.deposit - before.balance - before.deposit
            elif isinstance(value, Totals):
                delta += value.pool + value.burned - before.pool - before.burned
        return delta

    def changed_accounts(self) -> tuple[bytes, ...]:
        """Addresses of the accounts this block changed, in the order of first writing."""
        return tuple(key[1:] for key, _, value in self._changes() if isinstance(value, Account))

    def _changes(self) -> Iterator[tuple[bytes, Any, Any]]:
        """(key, object before the block, object now) of what was written and not undone."""
        objects, originals = self._objects, self._originals
        for key in self._written:
            value, before = objects[key], originals[key]
            if value is not before:
                yield key, before, value

    def _load(self, key: bytes, value: Any) -> None:
        self._objects[key] = value
        self._originals[key] = value

    def _put(self, key: bytes, value: Any) -> None:
        objects = self._objects
        self._journal.append((key, objects[key]))
        self._written[key] = None
        objects[key] = value


def with_balance(account: Account, balance: int) -> Account:
    """The account with another balance. (Spelled out: three times faster than a generic copy.)"""
    return Account(
        balance,
        account.nonce,
        account.active_key,
        account.registered_height,
        account.service_mask,
        account.endpoint_hash,
        account.deposit,
    )


def after_fee(account: Account, fee: int) -> Account:
    """The account having paid a transaction's fee and used its nonce."""
    return Account(
        account.balance - fee,
        account.nonce + 1,
        account.active_key,
        account.registered_height,
        account.service_mask,
        account.endpoint_hash,
        account.deposit,
    )
