"""A replica among ports that record, with an engine that does what a test scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from consensus.engine import (
    Capabilities,
    Commit,
    Effect,
    Event,
    Message,
    Proposal,
    Timer,
    Tip,
    Wanted,
)
from consensus.errors import InvalidMessage
from consensus.replica import Replica, SignatureMemory
from ledger.block import BLOCK_VERSION, Block, BlockHeader, last_commit_hash, transactions_root
from ledger.certificate import CommitCertificate, Vote, decode_certificate
from ledger.codec import Codec, encode
from ledger.crypto import PrivateKey, sha256, verify
from ledger.params import DEVNET_PARAMS, ChainParams
from ledger.trace import TraceEvent
from ledger.validators import ValidatorSet
from tests.kit.chain import CHAIN, GENESIS_HASH, GENESIS_TIME_MS, key_of, make_validators
from tests.kit.rpc_node import certify

NAMES = ("val-0", "val-1", "val-2", "val-3")
VALIDATORS = make_validators(NAMES)
CONSENSUS = {key_of(f"{name} consensus").public_key: key_of(f"{name} consensus") for name in NAMES}
OWN = 0
STRANGER = key_of("stranger").public_key


def consensus_key(index: int) -> PrivateKey:
    """The private key of a validator of the set."""
    return CONSENSUS[VALIDATORS[index].consensus_key]


def node_key(index: int) -> bytes:
    """The node key of a validator of the set."""
    return VALIDATORS[index].node_key


VOTED = b"a record from before"
"""A journal that is not empty: the validator voted before and need not listen first."""


class Note(Message, frozen=True):
    """The scripted engine's message. `wanted` is what it says to it; `signature` signs `text`."""

    wanted: int
    author: int
    text: bytes
    signature: bytes = b""
    block: bytes = b""


_codec = Codec[Note]("note", Note, 1 << 20)

PRODUCES_INVALID = b"breaks a rule"


def digest_of(note: Note) -> bytes:
    """What a note's author signs."""
    return sha256(note.text)


def note(
    height: int = 1,
    *,
    wanted: Wanted = Wanted.NOW,
    author: int = 1,
    text: bytes = b"text",
    signed: bool = True,
    block: bytes = b"",
) -> Note:
    """A note, signed by its author."""
    signature = consensus_key(author).sign(sha256(text)) if signed else b""
    return Note(height, int(wanted), author, text, signature, block)


def wire(message: Note) -> bytes:
    """As it travels."""
    return b"\x00" + encode(message)


class ScriptedEngine:
    """Answers each event with what `on` says for its type; never re-entered."""

    capabilities = Capabilities("pbft", "nothing", "everything", supports_transfer=False)

    def __init__(self, log: list[tuple[Any, ...]]) -> None:
        self.events: list[Event] = []
        self.answers: dict[type, Callable[[Any], list[Effect]]] = {}
        self.records: dict[bytes, tuple[tuple[Vote, bytes], ...]] = {}
        self._log = log
        self._stepping = False

    def on(self, kind: type, *effects: Effect) -> None:
        """Answer the next event of this type with these effects."""

        def once(_event: Any) -> list[Effect]:
            del self.answers[kind]
            return list(effects)

        self.answers[kind] = once

    def of(self, kind: type) -> list[Any]:
        """The events of a type."""
        return [event for event in self.events if isinstance(event, kind)]

    # consensus.engine.Engine

    def step(self, event: Event) -> list[Effect]:
        """Record and answer."""
        assert not self._stepping, "an engine's step is never re-entered"
        self._stepping = True
        self.events.append(event)
        self._log.append(("event", type(event).__name__))
        effects = self.answers.get(type(event), lambda _: [])(event)
        self._stepping = False
        return effects

    def encode(self, message: Note) -> bytes:
        """Canonical."""
        return encode(message)

    def decode(self, raw: bytes) -> Note:
        """Strict."""
        return _codec.decode(raw)

    def votes_of(self, record: bytes) -> tuple[tuple[Vote, bytes], ...]:
        """What the test said the record carries."""
        return self.records.get(record, ())

    def wants(self, peer: int | None, message: Note) -> Wanted:
        """As the message says."""
        return Wanted(message.wanted)

    def block_of(self, message: Note) -> bytes | None:
        """The block in it."""
        return message.block or None

    def signatures_of(self, message: Note) -> list[tuple[int, bytes, bytes]]:
        """The author's."""
        if message.text == PRODUCES_INVALID:
            raise InvalidMessage("scripted", "the text breaks a rule")
        return [(message.author, digest_of(message), message.signature)]


class CountingSigner:
    """Validator OWN's consensus key; `count` signatures so far."""

    def __init__(self) -> None:
        self.public_key = consensus_key(OWN).public_key
        self.count = 0

    def sign(self, digest: bytes) -> bytes:
        """As the key does."""
        self.count += 1
        return consensus_key(OWN).sign(digest)


class World:
    """Every port of a replica; all of them write into one log, whose order tests look at."""

    def __init__(
        self,
        *,
        observer: bool = False,
        keep_bytes: int = 1 << 20,
        validators: ValidatorSet = VALIDATORS,
    ) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.events: list[TraceEvent] = []
        self.engine = ScriptedEngine(self.log)
        self.blocks: dict[int, tuple[bytes, CommitCertificate]] = {}
        self.applying: list[tuple[Proposal, CommitCertificate]] = []
        self.applies_at_once = False
        self.set = validators
        self.time_ms = GENESIS_TIME_MS
        self.checks = 0
        self.signer = CountingSigner()
        self._tip = Tip(0, GENESIS_HASH, GENESIS_TIME_MS, None)
        self.replica = Replica(
            engine=self.engine,
            chain=CHAIN,
            application=self,
            transport=self,
            journal=self,
            timers=self,
            clock=self,
            signer=None if observer else self.signer,
            seed=7,
            verify_signature=SignatureMemory(self._check),
            tracer=self.events.append,
            journal_keep_bytes=keep_bytes,
        )

    def start(self, *records: bytes) -> World:
        """As one that has voted before, unless no records are given. What it says is forgotten."""
        self.replica.start(records)
        self.log.clear()
        return self

    def _check(self, public_key: bytes, digest: bytes, signature: bytes) -> bool:
        self.checks += 1
        return verify(public_key, digest, signature)

    def seen(self, kind: type) -> list[Any]:
        """Trace events of a type."""
        return [event for event in self.events if isinstance(event, kind)]

    def logged(self, *kinds: str) -> list[tuple[Any, ...]]:
        """The log's entries of these kinds."""
        return [entry for entry in self.log if entry[0] in kinds]

    # Clock, Timers

    def now_ms(self) -> int:
        """The test's."""
        return self.time_ms

    def set_timer(self, timer_id: int, delay_ms: int) -> None:
        """Recorded."""
        self.log.append(("set timer", timer_id, delay_ms))

    def cancel_timer(self, timer_id: int) -> None:
        """Recorded."""
        self.log.append(("cancel timer", timer_id))

    # Transport

    def send(self, node_key: bytes, payload: bytes, *, bulk: bool) -> None:
        """Recorded."""
        index = VALIDATORS.index_of_node_key[node_key]
        self.log.append(("send", index, payload, bulk))

    def request_blocks(self, node_key: bytes, request_id: int, from_height: int) -> None:
        """Recorded."""
        self.log.append(("request", node_key, request_id, from_height))

    def charge(self, node_key: bytes, kind: str) -> None:
        """Recorded."""
        self.log.append(("charge", node_key, kind))

    # JournalWriter

    def append(self, sequence: int, record: bytes) -> None:
        """Recorded; durable when the test says so."""
        self.log.append(("append", sequence, record))

    def reset(self, records: tuple[bytes, ...]) -> None:
        """Recorded."""
        self.log.append(("reset", records))

    # Application

    @property
    def tip(self) -> Tip:
        """The last applied block."""
        return self._tip

    def validators(self) -> ValidatorSet:
        """The test's."""
        return self.set

    def params(self) -> ChainParams:
        """The devnet's."""
        return DEVNET_PARAMS

    def build(self, request: int, parent: Tip, *, allow_empty: bool) -> None:
        """Recorded."""
        self.log.append(("build", request, parent.height, allow_empty))

    def validate(self, proposal: Proposal, *, fresh: bool) -> None:
        """Recorded."""
        self.log.append(("validate", proposal.block_hash, fresh))

    def apply(self, proposal: Proposal, certificate: CommitCertificate) -> None:
        """Recorded; durable when the test calls `applied`, or at once."""
        self.log.append(("apply", proposal.header.height))
        self.applying.append((proposal, certificate))
        if self.applies_at_once:
            self.applied()

    def applied(self) -> None:
        """The oldest block that is being written is durable."""
        proposal, certificate = self.applying.pop(0)
        header = proposal.header
        self.blocks[header.height] = (proposal.block, certificate)
        self._tip = Tip(header.height, proposal.block_hash, header.time_ms, certificate)
        self.replica.on_applied(self._tip)

    def encoded_block(self, height: int) -> bytes | None:
        """A block that was applied."""
        return self.blocks[height][0] if height in self.blocks else None

    def certificate(self, height: int) -> CommitCertificate | None:
        """Its certificate."""
        return self.blocks[height][1] if height in self.blocks else None


def make_block(
    parent: Tip,
    *,
    validators: ValidatorSet = VALIDATORS,
    next_validators: ValidatorSet | None = None,
    transactions: Iterable[bytes] = (),
) -> Proposal:
    """A block that follows, as far as consensus looks at it."""
    raws = tuple(transactions)
    header = BlockHeader(
        version=BLOCK_VERSION,
        chain_id=CHAIN.chain_id,
        height=parent.height + 1,
        time_ms=parent.time_ms + 1,
        parent_hash=parent.block_hash,
        last_commit_hash=last_commit_hash(parent.certificate),
        tx_root=transactions_root([sha256(raw) for raw in raws]),
        receipts_root=bytes(32),
        state_root=bytes(32),
        validators_hash=validators.hash,
        next_validators_hash=(next_validators or validators).hash,
        params_hash=DEVNET_PARAMS.hash(),
        next_mode="pbft",
        proposer=validators[0].operator,
    )
    return Proposal(header, header.hash(), Block(header, parent.certificate, raws).encode())


def chain_of(count: int) -> list[tuple[Proposal, CommitCertificate]]:
    """So many certified blocks from the network definition on."""
    tip = Tip(0, GENESIS_HASH, GENESIS_TIME_MS, None)
    made = []
    for _ in range(count):
        proposal = make_block(tip)
        certificate = certify(proposal.header, VALIDATORS, (0, 1, 2))
        # As it comes from the wire.
        assert decode_certificate(certificate.encode()) == certificate
        made.append((proposal, certificate))
        header = proposal.header
        tip = Tip(header.height, proposal.block_hash, header.time_ms, certificate)
    return made


def tampered_block() -> bytes:
    """The first block with another transaction than its header says."""
    honest = make_block(Tip(0, GENESIS_HASH, GENESIS_TIME_MS, None), transactions=(b"honest",))
    return honest.block.replace(b"honest", b"forged")


def commit(world: World, proposal: Proposal, certificate: CommitCertificate) -> None:
    """Let the engine decide a block."""
    world.engine.on(Timer, Commit(proposal, certificate))
    world.replica.on_timer(1)
