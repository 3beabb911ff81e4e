"""Admission: how transactions get in, from clients and from peers, and who waits for them.

Order of work, cheapest first: known by exact bytes (nothing more to do), decode, stateless rules,
the mempool's rules against the state at the tip, signatures, entry. Signatures are checked once
ever: good ones are remembered by full hash (ledger.verification) and found again when a block is
judged.

Checks run in slices with a turn of the event loop between them, so that a burst of transactions
never holds up votes for longer than one slice. Slices are measured in time: what a refusal, a
look-up or a proof of work takes is for the sender to choose.

A transaction whose id waits here is known, whatever its signature: its sender could make any number
of good signatures for the one fee, and each would be checked and carried everywhere.

What comes from a client is spread to the validators, and so is what comes from an observer, which
may know few of them. What comes from a validator is not passed on, since validators form a full
mesh. A peer is charged only for what it must have refused itself, and nothing else of its batches
is then looked at: it would get its checks for the price of one fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from consensus.engine import Tip
from ledger.crypto import sha256
from ledger.errors import MalformedData
from ledger.execution.block import Outcome
from ledger.identity import public_key_of
from ledger.mempool import Mempool, TransactionDropped
from ledger.reasons import TransactionRefused
from ledger.state import read_account
from ledger.store import LevelStore
from ledger.trace import TraceEvent, Tracer, no_trace
from ledger.transactions import SignedTransaction, decode_transaction
from ledger.verification import SignatureCache, check_stateless
from node.application import SLICE_S, LedgerApplication
from node.network import NodeNetwork
from rpc.ports import Committed, Pending, TransactionState

# Of a transaction with broken bytes or signature. Points decay by one a second, so that the sixth
# within a few seconds disconnects (p2p.limits).
BAD_TRANSACTION_POINTS = 20

# What only a faulty or hostile peer passes on; everything else may be a race with a block.
CHARGED_REASONS = frozenset(
    {
        "MALFORMED",
        "TRAILING_BYTES",
        "NOT_CANONICAL",
        "OVERSIZED",
        "WRONG_CHAIN",
        "INVALID_SIGNATURE",
        "INVALID_COUNTERPARTY_SIGNATURE",
        "INVALID_REGISTRANT_SIGNATURE",
        "INVALID_WORK",
        "INVALID_ADDRESS",
        "INVALID_FIELDS",
    }
)


class TransactionsAdmitted(TraceEvent, frozen=True):
    """Transactions entered the mempool. `source` is "client" or "peer"."""

    source: str
    count: int


class TransactionRejected(TraceEvent, frozen=True):
    """A transaction was refused. `source` is "client" or "peer"."""

    source: str
    reason: str


class Finality:
    """Who waits for which transactions. Bounded by the callers' places and deadlines (rpc)."""

    def __init__(self) -> None:
        self._waiters: dict[bytes, list[_Waiter]] = {}

    async def wait(self, transaction_ids: Iterable[bytes]) -> None:
        """Until each of these has left the mempool; cancellation forgets the wait."""
        waiter = _Waiter(set(transaction_ids))
        if not waiter.remaining:
            return
        for transaction_id in waiter.remaining:
            self._waiters.setdefault(transaction_id, []).append(waiter)
        try:
            await waiter.done.wait()
        finally:
            for transaction_id in waiter.remaining:
                others = self._waiters[transaction_id]
                others.remove(waiter)
                if not others:
                    del self._waiters[transaction_id]

    def settle(self, transaction_id: bytes) -> None:
        """The transaction is in a block or was dropped."""
        for waiter in self._waiters.pop(transaction_id, ()):
            waiter.remaining.discard(transaction_id)
            if not waiter.remaining:
                waiter.done.set()


class _Waiter:
    __slots__ = ("done", "remaining")

    def __init__(self, remaining: set[bytes]) -> None:
        self.remaining = remaining
        self.done = asyncio.Event()


class Admission:
    """See the module."""

    def __init__(
        self,
        application: LedgerApplication,
        store: LevelStore,
        mempool: Mempool,
        signatures: SignatureCache,
        network: NodeNetwork,
        finality: Finality,
        tracer: Tracer = no_trace,
    ) -> None:
        self._application = application
        self._store = store
        self._mempool = mempool
        self._signatures = signatures
        self._network = network
        self._finality = finality
        self._trace = tracer
        # One slice between two turns of the loop, however many callers submit at a time.
        self._turn = asyncio.Lock()
        self._on_admitted: list[Callable[[Sequence[bytes]], None]] = []
        application.on_block(self._on_block)

    def on_admitted(self, callback: Callable[[Sequence[bytes]], None]) -> None:
        """Call with the wire bytes of what entered the mempool, in slices."""
        self._on_admitted.append(callback)

    async def submit(self, raws: Sequence[bytes]) -> list[TransactionState | TransactionRefused]:
        """From a client: one answer for each, in order; admitted ones are spread."""
        return await self._take_all(raws, "client", self._network.spread, None)

    async def take_from_peers(self) -> None:
        """Admit what peers send, batch by batch, until cancelled."""
        while True:
            peer, batch = await self._network.next_batch()

            is_validator = self._application.is_validator(public_key_of(peer))
            spread = None if is_validator else self._network.spread
            await self._take_all(batch, "peer", spread, peer)

    def standing(self, transaction_id: bytes) -> TransactionState | None:
        """Where a transaction is; None for unknown or dropped ones."""
        waiting = self._mempool.get(transaction_id)
        if waiting is not None:
            return Pending(transaction_id, waiting.raw)
        place = self._store.transaction_place(transaction_id)
        return None if place is None else Committed(transaction_id, *place)

    async def _take_all(
        self,
        raws: Sequence[bytes],
        source: str,
        spread: Callable[[Sequence[bytes]], None] | None,
        peer: str | None,
    ) -> list[TransactionState | TransactionRefused]:
        answers: list[TransactionState | TransactionRefused] = []
        admitted: list[bytes] = []
        now_s = asyncio.get_running_loop().time
        slice_ends_s = now_s() + SLICE_S
        for raw in raws:
            try:
                standing, is_new = self._take(raw)
            except TransactionRefused as refusal:
                self._trace(TransactionRejected(source, refusal.reason))
                answers.append(refusal)
                if peer is not None and refusal.reason in CHARGED_REASONS:
                    self._network.charge_peer(peer, refusal.reason, BAD_TRANSACTION_POINTS)
                    self._network.forget_batches(peer)
                    break
            else:
                answers.append(standing)
                if is_new:
                    admitted.append(raw)
            if now_s() >= slice_ends_s:
                self._hand_on(admitted, source, spread)
                admitted = []
                async with self._turn:
                    await asyncio.sleep(0)
                slice_ends_s = now_s() + SLICE_S
        self._hand_on(admitted, source, spread)
        return answers

    def _hand_on(
        self,
        admitted: list[bytes],
        source: str,
        spread: Callable[[Sequence[bytes]], None] | None,
    ) -> None:
        if not admitted:
            return
        self._trace(TransactionsAdmitted(source, len(admitted)))
        for callback in self._on_admitted:
            callback(admitted)
        if spread is not None:
            spread(admitted)
        self._application.mempool_changed()

    def _take(self, raw: bytes) -> tuple[TransactionState, bool]:
        """Admit one; its standing, and whether it was not known before.

        Raises TransactionRefused.
        """
        known = self._mempool.get_by_full_hash(sha256(raw))
        if known is not None:
            return Pending(known.transaction_id, raw), False
        params = self._application.params()
        chain = self._application.chain
        try:
            signed = decode_transaction(raw, chain.genesis_hash, params.tx_max_bytes)
        except MalformedData as error:
            raise TransactionRefused(error.reason, detail=error.detail) from error
        known = self._mempool.get(signed.transaction_id)
        if known is not None:
            return Pending(known.transaction_id, known.raw), False
        check_stateless(signed, chain.chain_id, params)
        account = read_account(self._store, signed.transaction.sender)
        next_height = self._application.tip.height + 1
        try:
            self._mempool.check(signed, account, next_height)
        except TransactionRefused as refusal:
            place = self._committed(signed, refusal)
            if place is None:
                raise
            return place, False
        self._signatures.check(signed, params, self._application.active_key)
        self._mempool.add(signed, account, next_height)
        return Pending(signed.transaction_id, raw), True

    def _committed(
        self, signed: SignedTransaction, refusal: TransactionRefused
    ) -> Committed | None:
        """Where the transaction stands, if its nonce is used because it is in a block itself."""
        if refusal.reason != "NONCE_TOO_LOW":
            return None
        place = self._store.transaction_place(signed.transaction_id)
        return None if place is None else Committed(signed.transaction_id, *place)

    def _on_block(self, _tip: Tip, included: list[SignedTransaction], _outcome: Outcome) -> None:
        for signed in included:
            self._finality.settle(signed.transaction_id)
        self._signatures.forget(signed.full_hash for signed in included)


def dropping_tracer(finality: Finality, tracer: Tracer) -> Tracer:
    """The mempool's tracer: whoever waits for a dropped transaction is told."""

    def trace(event: TraceEvent) -> None:
        if isinstance(event, TransactionDropped):
            finality.settle(event.transaction_id)
        tracer(event)

    return trace
