"""The mempool: transactions that wait for a block. Pure: no time, no randomness, no state access.

Theory
------
*Within a sender* the nonce orders. The entries from the account's nonce on without a gap are READY,
the first of them is the sender's head; those behind a gap are PARKED until it is filled. A nonce is
at most `max_per_sender` ahead of the account, and a nonce holds one entry, so a sender has no more
than that.

*Between senders* the fee per byte orders (block space is bytes), and arrival breaks ties. A block
takes the best head, then that sender's next entry competes as its head.

*When the pool is full* the cheapest entry makes room, if the newcomer is worth strictly more. An
entry is worth no more than what must come before it: its worth is the least fee rate from the
sender's head up to itself. So worth never rises along a sender's chain, the cheapest of all is
always the last of its chain, and a dear transaction behind a thousand cheap ones protects none.
Parked entries are worth less than any ready one.

*A known nonce* is replaced if fee and fee rate are both REPLACEMENT_BUMP_PERCENT higher, so that a
sender cannot make the network carry the same transaction over and over for a pittance.

*Funds*: the fees of all of a sender's entries together are covered by its balance, so every ready
entry could pay for its place. Amounts are looked at in execution, where a failure still pays.

Signatures are checked before `add` (ledger.verification); `check` applies the pool's rules alone,
so that a hopeless transaction costs no signature check.

Three heaps hold the heads by rate, all entries by worth, and those that expire by height. Items are
never searched for: an entry knows its current item, an item that is not its entry's current one is
stale and passed over, and a heap that is mostly stale is rebuilt. Adding is O(log n), selecting k
of s senders O(k log s), and a block touches its senders only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, Literal

from ledger.execution.fees import check_expiry, check_nonce_unused
from ledger.reasons import TransactionRefused
from ledger.state import Account
from ledger.trace import TraceEvent, Tracer, no_trace
from ledger.transactions import SignedTransaction

Status = Literal["ready", "parked"]

# Fee rates are compared as integers: µT per million bytes.
RATE_SCALE = 1_000_000

REPLACEMENT_BUMP_PERCENT = 10

# Once the next transaction no longer fits into a block, smaller ones are still tried, but not the
# whole pool.
SELECT_MISFITS_MAX = 64

# A heap may hold this many stale items beyond twice the live ones before it is rebuilt: keeps a
# small pool from rebuilding all the time, at a cost of 100 kB.
_HEAP_SLACK_COUNT = 1_024


@dataclass(frozen=True, slots=True)
class MempoolLimits:
    """Bounds of the pool; a node's setting, not the network's (parameters.md).

    A default entry of 250 bytes takes about 1.6 kB of memory with its decoded form and indexes.
    """

    max_txs: int = 50_000
    max_bytes: int = 64 << 20
    max_per_sender: int = 1_024


class TransactionDropped(TraceEvent, frozen=True):
    """A waiting transaction left the pool without having been committed.

    `reason`: EVICTED, REPLACED, EXPIRED, NONCE_TOO_LOW (another used its nonce),
    INSUFFICIENT_FEE_FUNDS, or what `remove` was told.
    """

    transaction_id: bytes
    reason: str


class _Sender:
    __slots__ = ("address", "balance", "entries", "fees", "nonce", "ready_end")

    def __init__(self, address: bytes, nonce: int, balance: int) -> None:
        self.address = address
        self.nonce = nonce
        """Of the account: the head's nonce."""
        self.balance = balance
        self.entries: dict[int, _Entry] = {}
        self.fees = 0
        """Of all entries together."""
        self.ready_end = nonce
        """The first nonce that is missing."""


class _Entry:
    __slots__ = (
        "arrival", "expiry_item", "head_item", "nonce", "rate", "ready",
        "sender", "signed", "size_bytes", "worth", "worth_item",
    )  # fmt: skip

    def __init__(
        self, signed: SignedTransaction, sender: _Sender, nonce: int, rate: int, arrival: int
    ) -> None:
        self.signed = signed
        self.sender = sender
        self.nonce = nonce
        self.size_bytes = len(signed.raw)
        self.rate = rate
        self.arrival = arrival
        self.ready = False
        self.worth = rate
        self.head_item: _Item | None = None
        self.worth_item: _Item | None = None
        self.expiry_item: _Item | None = None


# Ends in (arrival, entry); arrivals are unique, so entries themselves are never compared.
_Item = tuple[Any, ...]


class Mempool:
    """Waiting transactions. See the module."""

    def __init__(self, limits: MempoolLimits | None = None, tracer: Tracer = no_trace) -> None:
        self.limits = limits or MempoolLimits()
        self._trace = tracer
        self._by_id: dict[bytes, _Entry] = {}
        self._by_full_hash: dict[bytes, _Entry] = {}
        self._senders: dict[bytes, _Sender] = {}
        self._heads: list[_Item] = []  # (−rate, arrival, entry): best first
        self._by_worth: list[_Item] = []  # (ready, worth, −nonce, −arrival, entry): cheapest first
        self._by_expiry: list[_Item] = []  # (expiry height, arrival, entry)
        self._expiring_count = 0
        self._arrivals = 0
        self._ready_count = 0
        self._size_bytes = 0

    # ---- questions -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def size_bytes(self) -> int:
        """Of all transactions on the wire."""
        return self._size_bytes

    @property
    def ready_count(self) -> int:
        """How many could be included now, as far as nonces tell."""
        return self._ready_count

    @property
    def waiting(self) -> bool:
        """Whether a block could include something."""
        return self._ready_count > 0

    def status(self, transaction_id: bytes) -> Status | None:
        """Of a transaction, None where it is not in the pool."""
        entry = self._by_id.get(transaction_id)
        if entry is None:
            return None
        return "ready" if entry.ready else "parked"

    def get(self, transaction_id: bytes) -> SignedTransaction | None:
        """The transaction with this id."""
        entry = self._by_id.get(transaction_id)
        return None if entry is None else entry.signed

    def get_by_full_hash(self, full_hash: bytes) -> SignedTransaction | None:
        """The transaction of exactly these bytes, as proposals name it."""
        entry = self._by_full_hash.get(full_hash)
        return None if entry is None else entry.signed

    def next_nonce(self, sender: bytes) -> int | None:
        """The first nonce that is not waiting; None for a sender without entries."""
        record = self._senders.get(sender)
        return None if record is None else record.ready_end

    def of_sender(self, sender: bytes) -> list[SignedTransaction]:
        """A sender's transactions by nonce."""
        record = self._senders.get(sender)
        if record is None:
            return []
        return [record.entries[nonce].signed for nonce in sorted(record.entries)]

    def transactions(self) -> list[SignedTransaction]:
        """All, in order of arrival."""
        return [entry.signed for entry in self._by_id.values()]

    def arrived_after(self, arrival: int, limit: int) -> list[tuple[int, SignedTransaction]]:
        """(arrival, transaction) behind an arrival, in this order; the first arrival is 0."""
        later = itertools.dropwhile(lambda entry: entry.arrival <= arrival, self._by_id.values())
        return [(entry.arrival, entry.signed) for entry in itertools.islice(later, limit)]

    # ---- entering --------------------------------------------------------------------------------

    def check(self, signed: SignedTransaction, account: Account, next_height: int) -> None:
        """Raise TransactionRefused where `add` would. Changes nothing."""
        if signed.transaction_id not in self._by_id:
            self._admit(signed, account, next_height)

    def add(self, signed: SignedTransaction, account: Account, next_height: int) -> Status:
        """Take a transaction in, or say how one that is known stands.

        `account`: the sender's in the last applied state; `next_height`: of the next block. The
        caller has checked everything in ledger.verification. Raises TransactionRefused.
        """
        known = self._by_id.get(signed.transaction_id)
        if known is not None:
            return "ready" if known.ready else "parked"
        entry, replaced, victims = self._admit(signed, account, next_height)
        if replaced is not None:
            self._drop(replaced, "REPLACED", successor=entry)
        else:
            self._insert(entry)
        for victim in victims:
            self._drop(victim, "EVICTED")
        return "ready" if entry.ready else "parked"

    def _admit(
        self, signed: SignedTransaction, account: Account, next_height: int
    ) -> tuple[_Entry, _Entry | None, list[_Entry]]:
        """The entry, the one it replaces, those that make room. Raises TransactionRefused."""
        transaction = signed.transaction
        check_expiry(transaction, next_height)
        check_nonce_unused(transaction, account)
        sender = self._senders.get(transaction.sender)
        if sender is None:
            sender = _Sender(transaction.sender, account.nonce, account.balance)
        elif sender.nonce != account.nonce or sender.balance != account.balance:
            self._follow(sender, account, frozenset())
        nonce = transaction.nonce
        self._check_window(sender, nonce)
        rate = transaction.fee * RATE_SCALE // len(signed.raw)
        entry = _Entry(signed, sender, nonce, rate, self._arrivals)
        replaced = sender.entries.get(nonce)
        if replaced is not None:
            _check_bump(entry, replaced)
        self._check_funds(sender, transaction.fee, replaced)
        ready = nonce == sender.ready_end or (replaced is not None and replaced.ready)
        if ready and nonce > sender.nonce:
            entry.worth = min(rate, sender.entries[nonce - 1].worth)
        return entry, replaced, self._make_room(entry, replaced, ready=ready)

    def _check_window(self, sender: _Sender, nonce: int) -> None:
        limit = self.limits.max_per_sender
        if nonce < sender.nonce + limit:
            return
        if sender.ready_end == sender.nonce + limit:
            raise TransactionRefused("SENDER_LIMIT", waiting=limit, limit=limit)
        raise TransactionRefused(
            "NONCE_TOO_HIGH",
            expected_nonce=sender.ready_end,
            highest_nonce=sender.nonce + limit - 1,
        )

    @staticmethod
    def _check_funds(sender: _Sender, fee: int, replaced: _Entry | None) -> None:
        needed = sender.fees + fee
        if replaced is not None:
            needed -= replaced.signed.transaction.fee
        if needed > sender.balance:
            raise TransactionRefused(
                "INSUFFICIENT_FEE_FUNDS", needed=needed, balance=sender.balance
            )

    def _make_room(self, entry: _Entry, replaced: _Entry | None, *, ready: bool) -> list[_Entry]:
        """Who must go so that the pool stays within its bounds. Raises MEMPOOL_FULL."""
        excess_count = len(self._by_id) + 1 - self.limits.max_txs
        excess_bytes = self._size_bytes + entry.size_bytes - self.limits.max_bytes
        if replaced is not None:
            excess_count -= 1
            excess_bytes -= replaced.size_bytes
        victims: list[_Entry] = []
        if excess_count <= 0 and excess_bytes <= 0:
            return victims
        heap, popped = self._by_worth, []
        full = False
        while excess_count > 0 or excess_bytes > 0:
            while heap and heap[0][-1].worth_item is not heap[0]:
                heappop(heap)
            if not heap or heap[0][:2] >= (ready, entry.worth):
                full = True
                break
            item = heappop(heap)
            popped.append(item)
            victim: _Entry = item[-1]
            if victim is not replaced:
                victims.append(victim)
                excess_count -= 1
                excess_bytes -= victim.size_bytes
        for item in popped:
            heappush(heap, item)
        if full:
            raise self._full(entry, ready=ready)
        return victims

    def _full(self, entry: _Entry, *, ready: bool) -> TransactionRefused:
        if ready and self._by_worth:
            # The least fee whose rate is above the cheapest worth; its own predecessors permitting.
            required = -(-(self._by_worth[0][1] + 1) * entry.size_bytes // RATE_SCALE)
            return TransactionRefused(
                "MEMPOOL_FULL", waiting=len(self._by_id), required_fee=required
            )
        return TransactionRefused(
            "MEMPOOL_FULL", waiting=len(self._by_id), expected_nonce=entry.sender.ready_end
        )

    def _insert(self, entry: _Entry) -> None:
        sender, signed = entry.sender, entry.signed
        self._senders[sender.address] = sender
        sender.entries[entry.nonce] = entry
        sender.fees += signed.transaction.fee
        self._by_id[signed.transaction_id] = entry
        self._by_full_hash[signed.full_hash] = entry
        self._size_bytes += entry.size_bytes
        self._arrivals += 1
        expiry_height = signed.transaction.expiry_height
        if expiry_height:
            entry.expiry_item = item = (expiry_height, entry.arrival, entry)
            self._expiring_count += 1
            heappush(self._by_expiry, item)
            self._by_expiry = _compact(self._by_expiry, self._expiring_count, _is_expiry_item)
        if entry.nonce == sender.ready_end:
            self._extend_ready(sender)
        else:
            self._rank(entry)

    # ---- leaving ---------------------------------------------------------------------------------

    def select(
        self, max_txs: int, max_bytes: int, excluding: Container[bytes] = frozenset()
    ) -> list[SignedTransaction]:
        """The best ready transactions for a block, each sender's in nonce order. Changes nothing.

        `excluding`: ids that stand in a block which is not applied yet; their successors may be
        chosen.
        """
        chosen: list[SignedTransaction] = []
        heads, taken, successors = self._heads, [], list[_Item]()
        room_bytes, misfits = max_bytes, 0
        while len(chosen) < max_txs and misfits < SELECT_MISFITS_MAX:
            while heads and heads[0][-1].head_item is not heads[0]:
                heappop(heads)
            if heads and (not successors or heads[0] < successors[0]):
                item = heappop(heads)
                taken.append(item)
            elif successors:
                item = heappop(successors)
            else:
                break
            entry: _Entry = item[-1]
            if entry.signed.transaction_id not in excluding:
                if entry.size_bytes > room_bytes:
                    misfits += 1
                    continue
                room_bytes -= entry.size_bytes
                chosen.append(entry.signed)
            follower = entry.sender.entries.get(entry.nonce + 1)
            if follower is not None:
                heappush(successors, (-follower.rate, follower.arrival, follower))
        for item in taken:
            heappush(heads, item)
        return chosen

    def update(
        self,
        committed: Iterable[SignedTransaction],
        changed_accounts: Iterable[bytes],
        account_of: Callable[[bytes], Account],
        next_height: int,
    ) -> None:
        """A block was applied: let go of what it settled and of what can no longer be included.

        `changed_accounts` as in the block's outcome (every sender among them); `account_of` reads
        the new state.
        """
        ids = {signed.transaction_id for signed in committed}
        for address in changed_accounts:
            sender = self._senders.get(address)
            if sender is not None:
                self._follow(sender, account_of(address), ids)
        expiring = self._by_expiry
        while expiring and expiring[0][0] < next_height:
            item = heappop(expiring)
            if item[-1].expiry_item is item:
                self._drop(item[-1], "EXPIRED")

    def remove(self, transaction_id: bytes, reason: str) -> None:
        """Drop a transaction that was found not to belong into any block. Unknown ids are fine."""
        entry = self._by_id.get(transaction_id)
        if entry is not None:
            self._drop(entry, reason)

    def _follow(self, sender: _Sender, account: Account, committed: Container[bytes]) -> None:
        """Let a sender's entries stand on its account as it is now."""
        assert account.nonce >= sender.nonce, "an account from before the last update"
        for nonce in range(
            sender.nonce, min(account.nonce, sender.nonce + self.limits.max_per_sender)
        ):
            entry = sender.entries.get(nonce)
            if entry is None:
                continue
            self._forget(entry)
            if entry.signed.transaction_id not in committed:
                self._trace(TransactionDropped(entry.signed.transaction_id, "NONCE_TOO_LOW"))
        sender.nonce = account.nonce
        sender.balance = account.balance
        if not sender.entries:
            self._senders.pop(sender.address, None)
        if sender.ready_end < sender.nonce:
            sender.ready_end = sender.nonce
        head = sender.entries.get(sender.nonce)
        if head is not None and head.ready:
            self._revalue(sender, head.nonce)
            self._make_head(head)
        self._extend_ready(sender)
        if sender.fees > sender.balance:
            self._shed(sender)

    def _shed(self, sender: _Sender) -> None:
        """Drop a sender's last entries until its balance covers the fees of the others."""
        for nonce in sorted(sender.entries, reverse=True):
            self._drop(sender.entries[nonce], "INSUFFICIENT_FEE_FUNDS")
            if sender.fees <= sender.balance:
                return

    def _drop(self, entry: _Entry, reason: str, successor: _Entry | None = None) -> None:
        """Take an entry out and, unless another takes its place, park what stood on it."""
        sender = entry.sender
        self._forget(entry)
        self._trace(TransactionDropped(entry.signed.transaction_id, reason))
        if successor is not None:
            was_ready = entry.ready
            self._insert(successor)
            if was_ready:
                self._take_place(successor)
            return
        if entry.ready:
            for nonce in range(entry.nonce + 1, sender.ready_end):
                self._park(sender.entries[nonce])
            sender.ready_end = entry.nonce
        if not sender.entries:
            self._senders.pop(sender.address, None)

    def _forget(self, entry: _Entry) -> None:
        """Remove from every index; items in heaps go stale. Leaves its sender's ready_end."""
        sender, signed = entry.sender, entry.signed
        del sender.entries[entry.nonce]
        sender.fees -= signed.transaction.fee
        del self._by_id[signed.transaction_id]
        self._by_full_hash.pop(signed.full_hash)
        self._size_bytes -= entry.size_bytes
        self._ready_count -= entry.ready
        self._expiring_count -= entry.expiry_item is not None
        entry.head_item = entry.worth_item = entry.expiry_item = None

    # ---- order -----------------------------------------------------------------------------------

    def _extend_ready(self, sender: _Sender) -> None:
        """Let entries be ready as far as there is no gap."""
        entry = sender.entries.get(sender.ready_end)
        while entry is not None:
            entry.ready = True
            self._ready_count += 1
            if entry.nonce == sender.nonce:
                entry.worth = entry.rate
                self._make_head(entry)
            else:
                entry.worth = min(entry.rate, sender.entries[entry.nonce - 1].worth)
            self._rank(entry)
            sender.ready_end += 1
            entry = sender.entries.get(sender.ready_end)

    def _take_place(self, entry: _Entry) -> None:
        """Let a replacement be ready where the one it replaced was, and revalue what follows."""
        sender = entry.sender
        entry.ready = True
        self._ready_count += 1
        if entry.nonce == sender.nonce:
            self._make_head(entry)
        entry.worth_item = None
        self._revalue(sender, entry.nonce)

    def _revalue(self, sender: _Sender, nonce: int) -> None:
        """Compute worth anew along the chain from `nonce`, as far as it changes."""
        bound = sender.entries[nonce - 1].worth if nonce > sender.nonce else None
        for place in range(nonce, sender.ready_end):
            entry = sender.entries[place]
            worth = entry.rate if bound is None else min(entry.rate, bound)
            if worth == entry.worth and entry.worth_item is not None:
                return
            entry.worth = bound = worth
            self._rank(entry)

    def _park(self, entry: _Entry) -> None:
        entry.ready = False
        self._ready_count -= 1
        entry.worth = entry.rate
        entry.head_item = None
        self._rank(entry)

    def _rank(self, entry: _Entry) -> None:
        """Give the entry its place among all by worth."""
        item = (entry.ready, entry.worth, -entry.nonce, -entry.arrival, entry)
        entry.worth_item = item
        heappush(self._by_worth, item)
        self._by_worth = _compact(self._by_worth, len(self._by_id), _is_worth_item)

    def _make_head(self, entry: _Entry) -> None:
        if entry.head_item is None:
            entry.head_item = item = (-entry.rate, entry.arrival, entry)
            heappush(self._heads, item)
            self._heads = _compact(self._heads, len(self._senders), _is_head_item)


def _check_bump(entry: _Entry, replaced: _Entry) -> None:
    """Raise REPLACEMENT_FEE_TOO_LOW unless fee and fee rate both grow enough."""
    bump = 100 + REPLACEMENT_BUMP_PERCENT
    required = max(
        -(-replaced.signed.transaction.fee * bump // 100),
        -(-replaced.rate * bump * entry.size_bytes // (100 * RATE_SCALE)),
        replaced.signed.transaction.fee + 1,
    )
    if entry.signed.transaction.fee < required:
        raise TransactionRefused("REPLACEMENT_FEE_TOO_LOW", required_fee=required)


def _is_head_item(item: _Item) -> bool:
    return item[-1].head_item is item


def _is_worth_item(item: _Item) -> bool:
    return item[-1].worth_item is item


def _is_expiry_item(item: _Item) -> bool:
    return item[-1].expiry_item is item


def _compact(
    heap: list[_Item], live_count: int, is_current: Callable[[_Item], bool]
) -> list[_Item]:
    """The heap, without its stale items once they are most of it."""
    if len(heap) <= 2 * live_count + _HEAP_SLACK_COUNT:
        return heap
    heap = [item for item in heap if is_current(item)]
    heapify(heap)
    return heap
