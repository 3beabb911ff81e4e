"""The contract between a consensus engine and the driver.

    effects = engine.step(event)

An engine is a synchronous state machine: no clock, no randomness, no I/O, no keys, no await. The
same events give byte-identical effects. The driver owns sockets, disk, clock and keys: it turns
what happens into events and carries the effects out.

Order of effects. The driver carries the list out front to back. `Send` and `Commit` with
`after=k` wait until record k is durable; everything else happens at once. A vote runs

    Sign(request, digest) → Signed(request, signature) → Persist(k, record with state and signature)
    → PersistDone(k): the vote now counts for its own node → Send(vote, after=k)

so nobody ever sees a vote that a crash could make its voter forget. Signing is refused by the guard
(consensus.journal) when it would contradict a durable vote.

Recovery is `Start` with the durable records folded. Heights advance by `Applied` and `Synced`
only, in order: after `Commit` an engine waits for `Applied` of that height before it touches the
next.

Blocks are opaque to engines but for the facts in `Proposal`. Peers are validator indexes of the
current set, or None for a peer that is no validator (an observer).

The way of a peer's message. The driver decodes it and asks `wants`:

    NO         it is dropped; nothing was spent on it
    UNCHECKED  it is handed in as `Overheard`, without any further check. The engine believes
               nothing in it; it may answer a peer that is behind, or keep the message until its
               height comes and then return it by `Recheck`, whereupon it takes this way again
    NOW        the triples of `signatures_of` are checked and it is handed in as `Received`. Where
               `block_of` gives bytes, the driver decodes that block, checks that the body is the
               one the header commits to, and adds it as `proposal`. A message that fails any of
               this is dropped and its sender charged
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

import msgspec

from ledger.block import BlockHeader
from ledger.certificate import CommitCertificate, Vote
from ledger.codec import U53
from ledger.params import ChainParams
from ledger.validators import ValidatorSet


class Message(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Base of engine messages; each engine defines a tagged union. Opaque to p2p.

    Every message is about one height. A height far ahead is never trusted, only a reason to ask the
    sender for certified blocks.
    """

    height: U53


@dataclass(frozen=True, slots=True)
class Tip:
    """The last applied block: its height, hash, time (ms) and certificate (None at height 0)."""

    height: int
    block_hash: bytes
    time_ms: int
    certificate: CommitCertificate | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A whole block as the engine sees it: the header, its hash and the encoded block."""

    header: BlockHeader
    block_hash: bytes
    block: bytes


@dataclass(frozen=True, slots=True)
class SignRequest:
    """What a signature is wanted for. `vote` fixes every signed byte."""

    vote: Vote


# ---- events -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """First event. `records` are the journal's records (oldest first), already verified.

    `own_index` is None for an observer. `now_ms` is wall time; `seed` is for tie-breaking jitter.
    """

    now_ms: int
    records: tuple[bytes, ...]
    tip: Tip
    validators: ValidatorSet
    params: ChainParams
    own_index: int | None
    genesis_hash: bytes
    chain_id: str
    seed: int


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer set with this id has fired. Engines ignore ids that are no longer current."""

    timer_id: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class PersistDone:
    """Record `k` and all before it are durable."""

    k: int


@dataclass(frozen=True, slots=True)
class Received:
    """A message from a peer; `signatures_of` accepted it and the driver checked them all.

    `proposal` is the decoded block where `block_of(message)` gives one; its body matches its
    header, so that a block hash stands for exactly one sequence of bytes.
    """

    peer: int | None
    message: Message
    now_ms: int
    proposal: Proposal | None = None


@dataclass(frozen=True, slots=True)
class Overheard:
    """A message for which `wants` said UNCHECKED: only its sender is authentic."""

    peer: int
    message: Message
    now_ms: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """The block asked for by Build(request), or None when there is nothing to propose now."""

    request: int
    proposal: Proposal | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class Validated:
    """The verdict on Validate(block_hash): executed, all roots equal, time acceptable."""

    block_hash: bytes
    ok: bool
    now_ms: int


@dataclass(frozen=True, slots=True)
class Signed:
    """The signature asked for, or None when the guard refused."""

    request: SignRequest
    signature: bytes | None


@dataclass(frozen=True, slots=True)
class Applied:
    """The block of `tip` is durably applied; these rule the next height."""

    tip: Tip
    validators: ValidatorSet
    params: ChainParams
    own_index: int | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class Synced:
    """As Applied, for a block that came by block sync instead of this engine's Commit."""

    tip: Tip
    validators: ValidatorSet
    params: ChainParams
    own_index: int | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A validator became reachable."""

    peer: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class PeerDown:
    """A validator became unreachable."""

    peer: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class TransactionsWaiting:
    """Whether the mempool holds transactions that a block could include.

    A level: it stands until the next one. When applying a block empties the mempool, `false` comes
    before (or right with) Applied; otherwise validators would wait for a block nobody makes.
    """

    waiting: bool
    now_ms: int


Event = (
    Start
    | Timer
    | PersistDone
    | Received
    | Overheard
    | Candidate
    | Validated
    | Signed
    | Applied
    | Synced
    | PeerUp
    | PeerDown
    | TransactionsWaiting
)


# ---- effects ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sign:
    """Ask the guarded signer; answered by Signed."""

    request: SignRequest


@dataclass(frozen=True, slots=True)
class Persist:
    """Append record `k` (consecutive from 1 since Start) to the journal; answered by PersistDone.

    `votes` are the votes with their signatures that this record makes durable, in the order in
    which they were cast, for the double-sign guard.
    """

    k: int
    record: bytes
    votes: tuple[tuple[Vote, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Send:
    """Send to one validator (`to` index) or to all others (None), once record `after` is durable.

    `bulk` marks messages that carry a block and travel in lane L1 instead of L0.
    """

    to: int | None
    message: Message
    after: int = 0
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class Build:
    """Ask the application for a block on the tip; answered by Candidate(request).

    `allow_empty`: whether a block without transactions is wanted (the heartbeat). With
    `allow_empty` false the application answers at once with None when nothing waits.
    """

    request: int
    parent: Tip
    allow_empty: bool


@dataclass(frozen=True, slots=True)
class Validate:
    """Ask the application to execute and judge a block; answered by Validated.

    `fresh` is false for a re-proposal, whose time was acceptable when it was first proposed.
    """

    proposal: Proposal
    fresh: bool


@dataclass(frozen=True, slots=True)
class Commit:
    """The block is decided; answered by Applied once durable."""

    proposal: Proposal
    certificate: CommitCertificate
    after: int = 0


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire Timer(timer_id) after `delay_ms`. Ids are never reused."""

    timer_id: int
    delay_ms: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Forget a timer; a Timer event already on its way is ignored by its id."""

    timer_id: int


@dataclass(frozen=True, slots=True)
class NeedSync:
    """Blocks up to `height` exist: a verified certificate shows it, and `peer` should have them.

    May repeat while it lasts. Unverified claims of heights are the driver's to follow.
    """

    height: int
    peer: int | None


@dataclass(frozen=True, slots=True)
class ServeHeight:
    """Send a lagging peer the certificate and block of `height` (the driver reads the store)."""

    to: int
    height: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two signed votes of one validator that no correct validator casts."""

    validator: int
    kind: str
    first: tuple[Vote, bytes]
    second: tuple[Vote, bytes]


@dataclass(frozen=True, slots=True)
class PeerFault:
    """The peer sent what no correct peer sends; p2p charges it."""

    peer: int | None
    kind: str


@dataclass(frozen=True, slots=True)
class Recheck:
    """An overheard message whose height has come: let it take the way of a message again."""

    peer: int
    message: Message


@dataclass(frozen=True, slots=True)
class Status:
    """What the round looks like, for people. Emitted when it changes."""

    height: int
    round: int
    leader: int
    phase: str


Effect = (
    Sign
    | Persist
    | Send
    | Build
    | Validate
    | Commit
    | SetTimer
    | CancelTimer
    | NeedSync
    | ServeHeight
    | Evidence
    | PeerFault
    | Recheck
    | Status
)


class Wanted(IntEnum):
    """What `Engine.wants` says of a message, see the module. NO is false."""

    NO = 0
    UNCHECKED = 1
    NOW = 2


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine is, as data: RPC and CLI never ask for engine names."""

    mode: str
    tolerates: str
    quorum: str
    supports_transfer: bool


class Engine(Protocol):
    """See the module."""

    capabilities: Capabilities

    def step(self, event: Event) -> list[Effect]:
        """Advance by one event."""

    def encode(self, message: Any) -> bytes:
        """Canonical bytes of a message."""

    def decode(self, raw: bytes) -> Any:
        """The message in canonical bytes. Raises MalformedData; bounded work before any check."""

    def votes_of(self, record: bytes) -> tuple[tuple[Vote, bytes], ...]:
        """The votes and signatures that a journal record carries, for the double-sign guard."""

    def wants(self, peer: int | None, message: Any) -> Wanted:
        """Pure and O(1): what to do with `message`. Asked before anything is spent on it."""

    def block_of(self, message: Any) -> bytes | None:
        """The encoded block that travels in `message`, if any. Pure."""

    def signatures_of(self, message: Any) -> list[tuple[int, bytes, bytes]]:
        """The (validator index, digest, signature) triples that the driver must check in `message`.

        Asked only where `wants` said NOW. Certificates inside count with all their signatures.
        Raises consensus.errors.InvalidMessage for a message that breaks a rule whoever signed it:
        an index out of range, a certificate with too little power, a choice that does not follow
        from its justification.
        """
