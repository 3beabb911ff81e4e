"""The ledger under a simulated validator: built, judged and applied with time and power loss.

Implements consensus.ports.Application. What takes time in a node takes virtual time here, so that
messages, timers and crashes fall between asking and answering. The store is the machine's and
outlives the process; a block enters it whole, at one instant, as with the synced batch of the real
store.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

from consensus.engine import Proposal, Tip
from ledger.certificate import CommitCertificate
from ledger.errors import InvalidData
from ledger.mempool import Mempool
from ledger.params import ChainParams
from ledger.reasons import TransactionRefused
from ledger.validators import ValidatorSet
from node.simulation.ledger import Ledger, Store, StoredBlock
from node.simulation.schedule import MS

WORK_MIN_US = 1 * MS
WORK_MAX_US = 5 * MS
"""Time to build, to execute or to write a small block."""

BLOCK_TRANSACTIONS = 8
"""Blocks stay small, so that most of a run is consensus and not execution."""


HOLD_LIMIT_MS = 120_000
"""A fresh proposal that is early is held until its time; one that is earlier than this is not."""


class Host(Protocol):
    """What the application needs of the process it runs in."""

    def now_ms(self) -> int:
        """The machine's wall clock."""

    def later(self, delay_us: int, action: Callable[[], None]) -> Any:
        """Do `action` in this process after a while; never, if the process dies first."""

    def at_boundary(self, point: str) -> None:
        """The power may go here (node.simulation.faults.CrashPoint)."""

    def disk_delay_us(self) -> int:
        """What a slow disk adds to a synced write."""

    def executes_wrongly(self) -> bool:
        """Whether this machine computes other results than it should."""

    def apply_asked(self, proposal: Proposal, certificate: CommitCertificate) -> None:
        """The replica asks for a block to be written."""

    def apply_failed(self, detail: str) -> None:
        """A decided block did not execute to its header."""

    def block_applied(self, stored: StoredBlock) -> None:
        """A block became durable."""


class Answers(Protocol):
    """The part of consensus.replica.Replica that answers go to."""

    def on_built(self, request: int, proposal: Proposal | None) -> None:
        """Answer to build."""

    def on_validated(self, block_hash: bytes, *, ok: bool) -> None:
        """Answer to validate."""

    def on_applied(self, tip: Tip) -> None:
        """Answer to apply."""

    def on_transactions_waiting(self, *, waiting: bool) -> None:
        """The mempool has, or no longer has, transactions for a block."""


class SimulatedApplication:
    """See the module. `replica` is set once it exists."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        store: Store,
        host: Host,
        operator: bytes,
        random_stream: random.Random,
    ) -> None:
        self.mempool = Mempool()
        self.replica: Answers | None = None
        self._ledger = ledger
        self._store = store
        self._host = host
        self._operator = operator
        self._random = random_stream

    # ---- consensus.ports.Application -------------------------------------------------------------

    @property
    def tip(self) -> Tip:
        """The last applied block."""
        return self._store.tip

    def validators(self) -> ValidatorSet:
        """The set of height tip + 1."""
        return self._ledger.genesis.validators_at(self._store.tip.height + 1)

    def validators_at(self, height: int) -> ValidatorSet | None:
        """The set that certifies `height`."""
        known = 1 <= height <= self._store.tip.height + 1
        return self._ledger.genesis.validators_at(height) if known else None

    def params(self) -> ChainParams:
        """The parameters, which never change in a simulation."""
        return self._ledger.genesis.params

    def build(self, request: int, parent: Tip, *, allow_empty: bool) -> None:
        """Answered by on_built after a moment."""

        def answer() -> None:
            proposal: Proposal | None = None
            if self._store.tip.height == parent.height:
                params = self.params()
                chosen = self.mempool.select(BLOCK_TRANSACTIONS, params.block_max_bytes)
                if chosen or allow_empty:
                    now_ms = self._host.now_ms()
                    proposal = self._ledger.build(chosen, self._operator, now_ms)
            self._replica.on_built(request, proposal)

        self._host.later(self._work_us(), answer)

    def validate(self, proposal: Proposal, *, fresh: bool) -> None:
        """Answered by on_validated after a moment, for an early block at its time."""

        def answer() -> None:
            drift_ms = self._ledger.genesis.params.max_clock_drift_ms
            early_ms = proposal.header.time_ms - self._host.now_ms() - drift_ms
            if fresh and 0 < early_ms <= HOLD_LIMIT_MS:
                self._host.later(early_ms * MS, answer)
                return
            ok = not (fresh and early_ms > 0) and self._executes(proposal)
            self._replica.on_validated(proposal.block_hash, ok=ok)

        self._host.later(self._work_us(), answer)

    def apply(self, proposal: Proposal, certificate: CommitCertificate) -> None:
        """Answered by on_applied once durable."""
        self._host.apply_asked(proposal, certificate)

        def answer() -> None:
            try:
                executed = self._ledger.judge(proposal)
            except InvalidData as error:
                self._host.apply_failed(str(error))
                return
            self._host.at_boundary("apply")
            stored = self._store.append(proposal, certificate, executed)
            self._host.block_applied(stored)
            self._host.at_boundary("applied")
            tip = self._store.tip
            self.mempool.update(
                executed.included, executed.changed_accounts, self._store.account, tip.height + 1
            )
            self._tell_waiting()
            self._replica.on_applied(tip)

        self._host.later(self._work_us() + self._host.disk_delay_us(), answer)

    def encoded_block(self, height: int) -> bytes | None:
        """A stored block's bytes."""
        stored = self._store.block(height)
        return None if stored is None else stored.encoded

    def certificate(self, height: int) -> CommitCertificate | None:
        """The certificate stored for a height."""
        stored = self._store.block(height)
        return None if stored is None else stored.certificate

    # ---- transactions ----------------------------------------------------------------------------

    def submit(self, raw: bytes) -> None:
        """A transaction from a client or by gossip."""
        signed = self._ledger.decode(raw)
        account = self._store.account(signed.transaction.sender)
        try:
            self.mempool.add(signed, account, self._store.tip.height + 1)
        except TransactionRefused:
            return
        self._tell_waiting()

    def _tell_waiting(self) -> None:
        self._replica.on_transactions_waiting(waiting=self.mempool.waiting)

    # ---- the rest --------------------------------------------------------------------------------

    @property
    def _replica(self) -> Answers:
        assert self.replica is not None
        return self.replica

    def _work_us(self) -> int:
        return self._random.randint(WORK_MIN_US, WORK_MAX_US)

    def _executes(self, proposal: Proposal) -> bool:
        if self._host.executes_wrongly() or self._store.tip.height + 1 != proposal.header.height:
            return False
        try:
            self._ledger.judge(proposal)
        except InvalidData:
            return False
        return True
