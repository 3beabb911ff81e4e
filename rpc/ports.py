"""What the methods need from the node, as one Protocol owned by this room; node/ implements it.

Everything synchronous answers from memory or with one short read, and describes one moment: between
two awaits of a method, `tip`, `state` and `prove` speak of the same height. Heights beyond the tip,
below `earliest_height` and unknown hashes are None, never exceptions. Exceptions from here are the
node's failures (StorageError).

Left out on purpose: JSON, names of parameters, cursors and limits (this room's business);
signature checks, mempool rules and slicing of work (the node's); the operator's commands (AdminApi
below); historical state (only the tip's state can be read and proved).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ledger.reasons import TransactionRefused
from ledger.receipt import Receipt
from ledger.reputation.quality import Voice
from ledger.reputation.score_tree import ScoreTable
from ledger.state import Account
from ledger.state_proof import StateProof
from ledger.transactions import ChainIdentity, SignedTransaction
from ledger.validators import ValidatorSet
from ledger.view import ReadView


@dataclass(frozen=True, slots=True)
class Tip:
    """The last applied block. Height 0 is the network definition: its hash, its time."""

    height: int
    block_hash: bytes
    time_ms: int


@dataclass(frozen=True, slots=True)
class Pending:
    """A transaction that waits in the mempool. `raw` are its wire bytes."""

    transaction_id: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction in a block: `index` counts from 0 within the block at `height`."""

    transaction_id: bytes
    height: int
    index: int


TransactionState = Pending | Committed

LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """`target_height` is the height peers report while the node is behind, else None.

    `not_ready` says in words why the node should not be asked, or is None.
    """

    target_height: int | None
    not_ready: str | None


@dataclass(frozen=True, slots=True)
class ConsensusStatus:
    """The round as the engine shows it, and what the engine is (capabilities as data).

    `leader` is the operator's address. `own_index` is None for an observer.
    """

    mode: str
    tolerates: str
    quorum: str
    height: int
    round: int
    phase: str
    leader: bytes | None
    own_index: int | None


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One connected peer. `node_key` has 33 bytes; `validator` is its operator, or None."""

    node_key: bytes
    address: str
    outbound: bool
    connected_ms: int
    round_trip_ms: int | None
    validator: bytes | None


@dataclass(frozen=True, slots=True)
class MempoolStatus:
    """How full the mempool is, with its limits, and the least fee that gets in when it is full."""

    count: int
    size_bytes: int
    limit_count: int
    limit_bytes: int
    floor_fee: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which raters move a score, largest effect first, in the epoch computed last here.

    That is the last scored one, or a newer one whose scores are about to stand.
    """

    epoch: int
    voices: Sequence[Voice]


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a transaction would do at the tip: its receipt, and the accounts it changes.

    `height` is that of the block it would stand in. The proposer's income is left out.
    """

    height: int
    receipt: Receipt
    accounts: Sequence[tuple[bytes, Account]]


@dataclass(frozen=True, slots=True)
class DialStatus:
    """One link that the node keeps up by itself. `failures` are those in a row."""

    node_key: bytes
    address: str
    link: str
    failures: int
    last_failure: str


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """This node on the network. `listening` is "host:port"; `foreign` are other libp2p programs."""

    node_key: bytes
    listening: str
    agent: str
    links: int
    foreign: Sequence[tuple[str, str, str]]
    dialing: Sequence[DialStatus]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A transaction in the mempool. `arrival` counts entries; `is_ready`: no nonce is missing."""

    arrival: int
    signed: SignedTransaction
    is_ready: bool


class NodeBusy(Exception):
    """Too many such questions wait already."""


class NodeApi(Protocol):
    """One running node."""

    @property
    def chain(self) -> ChainIdentity:
        """Which chain this is."""

    @property
    def version(self) -> str:
        """The program's version."""

    def genesis_document(self) -> bytes:
        """The network definition as JSON text."""

    def now_ms(self) -> int:
        """Wall time, ms since the Unix epoch."""

    def sync_status(self) -> SyncStatus:
        """Whether the node is up with the chain."""

    # transactions

    async def submit(self, raws: Sequence[bytes]) -> list[TransactionState | TransactionRefused]:
        """Check and take in wire bytes, in order; one answer for each, in the same order.

        A known transaction answers with its present state. Nothing is raised for bad bytes.
        """

    async def wait_final(self, transaction_ids: Sequence[bytes]) -> None:
        """Returns when none of these waits any more: each is in a block, or was dropped.

        Cancelled by the caller at its deadline; the node then forgets the wait.
        """

    def simulate(self, raw: bytes) -> Simulated | TransactionRefused:
        """What wire bytes would do in a block on the tip. Nothing is kept, nothing is spread."""

    def waiting(self, after: int, limit: int) -> Sequence[Waiting]:
        """Waiting transactions in the order of arrival, behind `after`; the first is 0."""

    def waiting_of(self, sender: bytes) -> Sequence[Waiting]:
        """A sender's waiting transactions by nonce; the mempool bounds their number."""

    def transaction_state(self, transaction_id: bytes) -> TransactionState | None:
        """Where a transaction is; None for one that is unknown, dropped or pruned."""

    def next_nonce(self, address: bytes) -> int:
        """The first nonce that neither the state nor a waiting transaction has used."""

    def account_transactions(
        self, address: bytes, after: tuple[int, int] | None, limit: int, *, ascending: bool
    ) -> Sequence[tuple[int, int]]:
        """(height, index) of committed transactions that touch an account, behind `after`."""

    # blocks

    def tip(self) -> Tip:
        """The last applied block."""

    def earliest_height(self) -> int:
        """The lowest height whose block is kept; 1 unless pruned. 1 also on an empty chain."""

    def height_of(self, block_hash: bytes) -> int | None:
        """The height of a block hash."""

    def header(self, height: int) -> bytes | None:
        """An encoded header."""

    def block(self, height: int) -> bytes | None:
        """A whole encoded block."""

    def transaction_count(self, height: int) -> int | None:
        """How many transactions a block has."""

    def transaction(self, height: int, index: int) -> bytes | None:
        """The wire bytes of one transaction."""

    def receipt(self, height: int, index: int) -> bytes | None:
        """The encoded execution receipt of one transaction."""

    def receipts(self, height: int) -> Sequence[bytes] | None:
        """The encoded execution receipts of a block, in block order."""

    def certificate(self, height: int) -> bytes | None:
        """The encoded commit certificate of a block."""

    def validator_set(self, validators_hash: bytes) -> ValidatorSet | None:
        """Any set that ever was in force, by its hash."""

    def validator_changes(self, after_height: int, limit: int) -> Sequence[int]:
        """Heights > `after_height` whose header names another set for the next height, ascending.

        These headers, their certificates and the sets are kept for ever, pruned or not.
        """

    # state at the tip

    def state(self) -> ReadView:
        """The state after the tip's block."""

    def prove(self, keys: Sequence[bytes]) -> list[StateProof]:
        """Proofs of presence or absence under the tip's state root."""

    def score_table(self, epoch: int) -> ScoreTable | None:
        """The score table of a closed epoch, None where it is not held."""

    def state_items(
        self, prefix: bytes, after: bytes | None, limit: int
    ) -> Sequence[tuple[bytes, bytes]]:
        """(key, value) of the state keys with a prefix, in order, behind `after`."""

    async def explain(self, subject: bytes, limit: int) -> Explanation | None:
        """What moves a subject's score; None where this node cannot say. Raises NodeBusy."""

    async def raters_of(self, subject: bytes, after: bytes, limit: int) -> Sequence[bytes]:
        """Who has a pair object with the subject as its payee, ascending. Raises NodeBusy."""

    def scored_epochs(self, from_height: int, limit: int) -> Sequence[tuple[int, int]]:
        """(epoch, height) of the blocks from `from_height` on that carry scores, ascending."""

    def scored_height(self, epoch: int) -> int | None:
        """The height of the block that carries an epoch's scores."""

    # the node itself

    def consensus(self) -> ConsensusStatus:
        """The round."""

    def peers(self) -> Sequence[PeerStatus]:
        """Connected peers; the node bounds their number."""

    def mempool(self) -> MempoolStatus:
        """The mempool."""

    def network(self) -> NetworkStatus:
        """This node on the network; the settings bound what it dials."""


class AdminApi(Protocol):
    """What the operator can make a running node do. Nothing of it outlives the process."""

    def add_peer(self, address: str) -> str:
        """Keep links to "PeerID@host:port"; the PeerID. Raises ValueError with what is wrong."""

    def remove_peer(self, peer_id: str) -> bool:
        """Stop dialling a peer and close its links; whether there was anything to stop or close."""

    def set_log_level(self, level: LogLevel) -> None:
        """Log from this level on."""

    def stop(self) -> None:
        """Stop in order, after the answer."""
