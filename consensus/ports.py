"""What the consensus room needs from others, as Protocols it owns; node/ and the simulator wire
them.

Every port is called from one thread and never blocks. An answer that takes time comes back
through a `Replica` method later, so that the whole room runs the same under asyncio and under a
simulated clock. Left out on purpose: peers' addresses and links (p2p's business), transactions
(the application's), and anything about time but `Clock.now_ms` and timers.
"""

from __future__ import annotations

from typing import Protocol

from consensus.engine import Proposal, Tip
from ledger.certificate import CommitCertificate
from ledger.params import ChainParams
from ledger.validators import ValidatorSet


class Clock(Protocol):
    """Wall time in ms since the Unix epoch."""

    def now_ms(self) -> int:
        """Now."""


class Timers(Protocol):
    """One-shot timers; fire by calling Replica.on_timer(timer_id)."""

    def set_timer(self, timer_id: int, delay_ms: int) -> None:
        """Start a timer. Ids are never reused."""

    def cancel_timer(self, timer_id: int) -> None:
        """Forget a timer."""


class Transport(Protocol):
    """Authenticated point-to-point messages between nodes, named by node key (33 bytes).

    Delivery may fail, repeat or reorder; a message that is never answered costs nothing.
    """

    def send(self, node_key: bytes, payload: bytes, *, bulk: bool) -> None:
        """Queue an engine message. Urgent ones are votes; bulk ones carry a block."""

    def request_blocks(self, node_key: bytes, request_id: int, from_height: int) -> None:
        """Ask a peer for blocks from a height on; answered by Replica.on_blocks(request_id, …)."""

    def charge(self, node_key: bytes, kind: str) -> None:
        """Tell p2p of a peer's fault."""


class Signer(Protocol):
    """Holds the consensus key. The guard against double signing stands in front of it."""

    public_key: bytes

    def sign(self, digest: bytes) -> bytes:
        """64-byte signature of a 32-byte digest."""


class JournalWriter(Protocol):
    """The write-ahead log. Appends are group-committed: one fsync makes many durable."""

    def append(self, sequence: int, record: bytes) -> None:
        """Queue a record; once durable, Replica.on_durable(sequence) is called.

        Records become durable in order, and a record reported durable survives any crash.
        """

    def reset(self, records: tuple[bytes, ...]) -> None:
        """Replace the whole journal by these records, atomically and durably, when it has grown."""


class Application(Protocol):
    """The ledger as consensus sees it. Blocks are executed before they are voted for."""

    @property
    def tip(self) -> Tip:
        """The last applied block."""

    def validators(self) -> ValidatorSet:
        """The set of height tip + 1."""

    def params(self) -> ChainParams:
        """The parameters in force at tip + 1."""

    def build(self, request: int, parent: Tip, *, allow_empty: bool) -> None:
        """Make a block on the tip; answered by Replica.on_built(request, proposal | None)."""

    def validate(self, proposal: Proposal, *, fresh: bool) -> None:
        """Execute and judge; answered by Replica.on_validated(block_hash, ok).

        A validator that is not ready (scores still being computed) answers later, not wrongly. A
        fresh proposal that is early by less than max_clock_drift_ms is held until its time.
        """

    def apply(self, proposal: Proposal, certificate: CommitCertificate) -> None:
        """Write the block durably; answered by Replica.on_applied(tip).

        The certificate and the body's hashes were checked. A block that then does not execute to
        its header is our own bug or damaged storage and stops the node.
        """

    def encoded_block(self, height: int) -> bytes | None:
        """A stored block's bytes, None where it is not held."""

    def certificate(self, height: int) -> CommitCertificate | None:
        """The certificate stored for a height."""
