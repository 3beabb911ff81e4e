"""Several engines in one room: hosts, a network that the test moves by hand, and virtual time.

A `Host` carries out one engine's effects as the contract says, with a double-sign guard and a
journal in memory, and nothing happens by itself: messages lie in `Cluster.flying` until delivered,
timers fire when told, records become durable at once or when told. Signatures are keyed hashes,
which anybody here may make for anybody: tests play the faulty validators.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from consensus.engine import (
    Applied,
    Build,
    CancelTimer,
    Candidate,
    Commit,
    Effect,
    Engine,
    Event,
    NeedSync,
    Overheard,
    PeerFault,
    PeerUp,
    Persist,
    PersistDone,
    Proposal,
    Received,
    Recheck,
    Send,
    ServeHeight,
    SetTimer,
    Sign,
    Signed,
    Start,
    Synced,
    Timer,
    Tip,
    TransactionsWaiting,
    Validate,
    Validated,
    Wanted,
)
from consensus.errors import InvalidMessage
from consensus.journal import DoubleSignGuard, SigningForbidden
from ledger.block import (
    BLOCK_VERSION,
    Block,
    BlockHeader,
    decode_block,
    last_commit_hash,
    transactions_root,
)
from ledger.certificate import CommitCertificate, verify_certificate
from ledger.crypto import PrivateKey, sha256
from ledger.errors import MalformedData
from ledger.params import DEVNET_PARAMS, ChainParams
from ledger.validators import Validator, ValidatorSet

GENESIS_HASH = hashlib.sha256(b"scenario genesis").digest()
CHAIN_ID = "scenario"
START_MS = 1_700_000_000_000

_KEYS = [PrivateKey(hashlib.sha256(b"scenario key %d" % number).digest()) for number in range(40)]


def validator_set(powers: Iterable[int], first_key: int = 0) -> ValidatorSet:
    """Validators 0, 1, … with these powers, in canonical order (so that names are indexes)."""
    powers = list(powers)
    keys = sorted(key.public_key for key in _KEYS)[first_key : first_key + len(powers)]
    return ValidatorSet.make(
        [Validator(key, key, key, power) for key, power in zip(keys, powers, strict=True)]
    )


def sign(public_key: bytes, digest: bytes) -> bytes:
    """The signature of this room."""
    half = hashlib.sha256(public_key + digest).digest()
    return half + half


def verify(public_key: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether it is the owner's signature."""
    return sign(public_key, digest) == signature


def make_proposal(tip: Tip, proposer: bytes, time_ms: int, payload: bytes = b"") -> Proposal:
    """A block on `tip`; blocks of different payloads differ."""
    transactions = (payload,) if payload else ()
    header = BlockHeader(
        BLOCK_VERSION,
        CHAIN_ID,
        tip.height + 1,
        time_ms,
        tip.block_hash,
        last_commit_hash(tip.certificate),
        transactions_root([sha256(raw) for raw in transactions]),
        bytes(32),
        bytes(32),
        bytes(32),
        bytes(32),
        bytes(32),
        "pbft",
        proposer,
    )
    return Proposal(header, header.hash(), Block(header, tip.certificate, transactions).encode())


@dataclass(frozen=True, slots=True)
class Letter:
    """A message on its way."""

    sender: int
    receiver: int
    message: Any


@dataclass
class Disk:
    """What survives a crash of one validator."""

    records: list[bytes] = field(default_factory=list)
    chain: list[tuple[Proposal, CommitCertificate]] = field(default_factory=list)
    tip: Tip = field(default_factory=lambda: Tip(0, GENESIS_HASH, START_MS, None))


class Host:
    """One engine and what surrounds it. `log` hears of every effect."""

    def __init__(self, cluster: Cluster, index: int) -> None:
        self.cluster = cluster
        self.index = index
        self.disk = cluster.disks[index]
        self.engine = cluster.make_engine()
        self.timers: dict[int, int] = {}
        self.unwritten: list[tuple[int, bytes]] = []
        self.held: list[Send | Commit] = []
        self.durable = 0
        self.status: Any = None
        self.events: list[Event] = []
        self.timeline: list[tuple[Event, list[Effect]]] = []
        self.guard = DoubleSignGuard()
        self.pending: dict[str, list[Event]] = {
            "build": [],
            "validate": [],
            "sign": [],
            "apply": [],
        }

    def start(self) -> None:
        """Begin from the disk."""
        for record in self.disk.records:
            for vote, signature in self.engine.votes_of(record):
                self.guard.remember(vote, signature)
        tip = self.disk.tip
        validators = self.cluster.validators_at(tip.height + 1)
        self.feed(
            Start(
                self.now_ms,
                tuple(self.disk.records),
                tip,
                validators,
                self.cluster.params,
                self.own_index(validators),
                GENESIS_HASH,
                CHAIN_ID,
                self.index,
            )
        )

    @property
    def now_ms(self) -> int:
        """Virtual wall time."""
        return self.cluster.now_ms

    @property
    def validators(self) -> ValidatorSet:
        """The set of the height being decided."""
        return self.cluster.validators_at(self.disk.tip.height + 1)

    @property
    def key(self) -> bytes:
        """This validator's only key."""
        return self.cluster.keys[self.index]

    def own_index(self, validators: ValidatorSet) -> int | None:
        """This validator's index in a set."""
        return validators.index_of_consensus_key.get(self.key)

    def feed(self, event: Event) -> None:
        """Hand in one event and what follows from it at once."""
        self.events.append(event)
        if len(self.events) > 1:
            return
        while self.events:
            event = self.events[0]
            effects = self.engine.step(event)
            if self.cluster.keep_timeline:
                self.timeline.append((event, list(effects)))
            for effect in effects:
                self.carry_out(effect)
            if self.cluster.hosts[self.index] is not self:
                return
            self.events.pop(0)

    def carry_out(self, effect: Effect) -> None:  # noqa: C901 - one line per effect
        """As a driver must."""
        if isinstance(effect, Send | Commit) and effect.after > self.durable:
            self.held.append(effect)
            return
        self.cluster.log(self.index, effect)
        match effect:
            case Sign():
                self._answer("sign", Signed(effect.request, self._sign(effect)))
            case Persist():
                for vote, signature in effect.votes:
                    self.guard.remember(vote, signature)
                self.unwritten.append((effect.k, effect.record))
                if self.cluster.write_at_once:
                    self.write()
            case Send():
                self._send(effect)
            case Build():
                payload = b"%d/%d" % (self.index, self.cluster.next_payload())
                proposal = make_proposal(effect.parent, self.key, self.now_ms, payload)
                if not self.cluster.has_work(self.index) and not effect.allow_empty:
                    proposal = None
                self._answer("build", Candidate(effect.request, proposal, self.now_ms))
            case Validate():
                ok = effect.proposal.block_hash not in self.cluster.refused.get(self.index, set())
                self._answer("validate", Validated(effect.proposal.block_hash, ok, self.now_ms))
            case Commit():
                self.apply(effect.proposal, effect.certificate)
            case SetTimer():
                self.timers[effect.timer_id] = self.now_ms + effect.delay_ms
            case CancelTimer():
                self.timers.pop(effect.timer_id, None)
            case Recheck():
                self.hand_in(effect.peer, effect.message)
            case ServeHeight():
                self._serve(effect)
            case NeedSync():
                self.cluster.wants_sync(self.index, effect)
            case _:
                pass

    def _answer(self, kind: str, event: Event) -> None:
        if kind in self.cluster.slow:
            self.pending[kind].append(event)
        else:
            self.feed(event)

    def release(self, kind: str) -> None:
        """Hand in what a slow application or signer held back."""
        events, self.pending[kind] = self.pending[kind], []
        for event in events:
            self.feed(event)

    def _sign(self, effect: Sign) -> bytes | None:
        vote = effect.request.vote
        if self.index in self.cluster.mute_signers:
            return None
        try:
            known = self.guard.admit(vote)
        except SigningForbidden:
            return None
        return known or sign(self.key, vote.digest(GENESIS_HASH))

    def write(self) -> None:
        """Make every record durable."""
        if not self.unwritten:
            return
        self.disk.records.extend(record for _, record in self.unwritten)
        self.durable = self.unwritten[-1][0]
        self.unwritten.clear()
        held, self.held = self.held, []
        for effect in held:
            self.carry_out(effect)
        self.feed(PersistDone(self.durable))

    def apply(self, proposal: Proposal, certificate: CommitCertificate, *, how: str = "") -> None:
        """Write a block; the certificate must hold."""
        tip = self.disk.tip
        if proposal.header.height <= tip.height:
            return
        assert proposal.header.height == tip.height + 1
        assert proposal.header.parent_hash == tip.block_hash
        assert certificate.block_hash == proposal.block_hash
        verify_certificate(
            certificate,
            genesis_hash=GENESIS_HASH,
            chain_id=CHAIN_ID,
            validators=self.cluster.validators_at(tip.height + 1),
            verify_signature=verify,
        )
        new = Tip(proposal.header.height, proposal.block_hash, proposal.header.time_ms, certificate)
        self.disk.chain.append((proposal, certificate))
        self.disk.tip = new
        self.cluster.applied(self.index, proposal, certificate)
        validators = self.cluster.validators_at(new.height + 1)
        self.cluster.work_done(self.index)
        kind = Synced if how == "sync" else Applied
        self._answer(
            "apply",
            kind(new, validators, self.cluster.params, self.own_index(validators), self.now_ms),
        )

    def hand_in(self, sender: int | None, message: Any) -> str | None:
        """The way of a message; a rule's name when it is refused. `sender` is an index."""
        wanted = self.engine.wants(sender, message)
        if wanted is Wanted.NO:
            return "unwanted"
        if wanted is Wanted.UNCHECKED:
            self.feed(Overheard(sender, message, self.now_ms))
            return None
        try:
            for index, digest, signature in self.engine.signatures_of(message):
                if not verify(self.validators[index].consensus_key, digest, signature):
                    raise InvalidMessage("signature")
        except InvalidMessage as error:
            self.cluster.log(self.index, PeerFault(sender, error.rule))
            return error.rule
        proposal = None
        encoded = self.engine.block_of(message)
        if encoded is not None:
            block = decode_block(encoded)
            proposal = Proposal(block.header, block.header.hash(), encoded)
        self.feed(Received(sender, message, self.now_ms, proposal))
        return None

    def receive(self, letter: Letter) -> str | None:
        """A message from another validator."""
        try:
            message = self.engine.decode(self.engine.encode(letter.message))
        except MalformedData:
            return "malformed"
        sender = self.validators.index_of_node_key.get(self.cluster.keys[letter.sender])
        return self.hand_in(sender, message)

    def fire(self, timer_id: int) -> None:
        """A timer's time has come."""
        if self.timers.pop(timer_id, None) is not None:
            self.feed(Timer(timer_id, self.now_ms))

    def _send(self, effect: Send) -> None:
        validators = self.validators
        targets = range(len(validators)) if effect.to is None else (effect.to,)
        for index in targets:
            receiver = self.cluster.keys.index(validators[index].node_key)
            if receiver != self.index:
                self.cluster.post(Letter(self.index, receiver, effect.message))

    def _serve(self, effect: ServeHeight) -> None:
        if effect.height > len(self.disk.chain):
            return
        receiver = self.cluster.keys.index(self.validators[effect.to].node_key)
        self.cluster.carry(self.index, receiver, effect.height)


class Cluster:
    """See the module."""

    def __init__(
        self,
        powers: Iterable[int],
        make_engine: Callable[[], Engine],
        params: ChainParams = DEVNET_PARAMS,
    ) -> None:
        first = validator_set(powers)
        self.make_engine = make_engine
        self.params = params
        self.now_ms = START_MS
        self.sets: dict[int, ValidatorSet] = {1: first}
        self.keys = [each.node_key for each in first.validators]
        self.disks = [Disk() for _ in self.keys]
        self.flying: list[Letter] = []
        self.groups: list[set[int]] | None = None
        self.working: set[int] = set()
        self.refused: dict[int, set[bytes]] = {}
        self.mute_signers: set[int] = set()
        self.slow: set[str] = set()
        self.write_at_once = True
        self.keep_timeline = False
        self.syncs = True
        self.log: Callable[[int, Effect], None] = lambda _index, _effect: None
        self.on_applied: Callable[[int, int], None] = lambda _index, _height: None
        self.on_posted: Callable[[Letter], None] = lambda _letter: None
        self.decided: dict[int, bytes] = {}
        self._payloads = 0
        self.hosts: list[Host | None] = [None] * len(self.keys)

    def validators_at(self, height: int) -> ValidatorSet:
        """The set of a height."""
        return self.sets[max(start for start in self.sets if start <= height)]

    def join(self, key: bytes) -> int:
        """A node with this key exists from now on (it need not be a validator)."""
        self.keys.append(key)
        self.disks.append(Disk())
        self.hosts.append(None)
        return len(self.keys) - 1

    def start(self, *indexes: int) -> None:
        """Bring validators up, all if none is named."""
        for index in indexes or range(len(self.keys)):
            host = Host(self, index)
            self.hosts[index] = host
            host.start()
            if index in self.working:
                host.feed(TransactionsWaiting(waiting=True, now_ms=self.now_ms))

    def crash(self, index: int, written: int = 0) -> None:
        """The process is gone; the disk stays, with so many of the records under way."""
        host = self.host(index)
        self.disks[index].records.extend(record for _, record in host.unwritten[:written])
        self.hosts[index] = None

    def up(self) -> list[Host]:
        """The hosts that run."""
        return [host for host in self.hosts if host is not None]

    def host(self, index: int) -> Host:
        """A running host."""
        host = self.hosts[index]
        assert host is not None, f"{index} is down"
        return host

    def set_work(self, indexes: Iterable[int], *, waiting: bool) -> None:
        """Tell validators whether transactions wait."""
        for index in indexes:
            self.working.add(index) if waiting else self.working.discard(index)
            host = self.hosts[index]
            if host is not None:
                host.feed(TransactionsWaiting(waiting, self.now_ms))

    def has_work(self, index: int) -> bool:
        """Whether a block of this validator would not be empty."""
        return index in self.working

    def work_done(self, index: int) -> None:
        """A block took the transactions."""
        if index in self.working:
            self.working.discard(index)
            host = self.hosts[index]
            if host is not None:
                host.feed(TransactionsWaiting(waiting=False, now_ms=self.now_ms))

    def next_payload(self) -> int:
        """A number of its own for every block."""
        self._payloads += 1
        return self._payloads

    def connected(self, one: int, other: int) -> bool:
        """Whether no partition lies between them."""
        return self.groups is None or any({one, other} <= group for group in self.groups)

    def post(self, letter: Letter) -> None:
        """A message leaves."""
        self.on_posted(letter)
        if self.connected(letter.sender, letter.receiver):
            self.flying.append(letter)

    def deliver(self, letter: Letter) -> str | None:
        """A message arrives, if anybody is there."""
        host = self.hosts[letter.receiver]
        return host.receive(letter) if host is not None else None

    def deliver_all(self, limit: int = 20_000) -> int:
        """Deliver in order until nothing flies. Returns how many."""
        count = 0
        while self.flying:
            self.deliver(self.flying.pop(0))
            count += 1
            assert count < limit, "a message storm"
        return count

    def partition(self, groups: list[set[int]] | None) -> None:
        """Separate; None heals and tells everybody of the peers that are back."""
        before = self.groups
        self.groups = groups
        if groups is None and before is not None:
            for host in self.up():
                for other in self.up():
                    if not any({host.index, other.index} <= group for group in before):
                        index = host.validators.index_of_node_key.get(self.keys[other.index])
                        if index is not None:
                            host.feed(PeerUp(index, self.now_ms))
        else:
            self.flying = [
                each for each in self.flying if self.connected(each.sender, each.receiver)
            ]

    def applied(self, index: int, proposal: Proposal, certificate: CommitCertificate) -> None:
        """A block became durable somewhere: it must be everybody's."""
        height = proposal.header.height
        known = self.decided.setdefault(height, proposal.block_hash)
        assert known == proposal.block_hash, f"two blocks at height {height}"
        self.on_applied(index, height)

    def carry(self, source: int, target: int, height: int) -> None:
        """Block sync of one height."""
        host = self.hosts[target]
        if host is not None and host.disk.tip.height == height - 1:
            host.apply(*self.disks[source].chain[height - 1], how="sync")

    def wants_sync(self, index: int, effect: NeedSync) -> None:
        """Block sync: fetch what a reachable peer has."""
        if not self.syncs:
            return
        for source, disk in enumerate(self.disks):
            if source == index or self.hosts[source] is None or not self.connected(index, source):
                continue
            for height in range(self.disks[index].tip.height + 1, disk.tip.height + 1):
                self.carry(source, index, height)

    def next_due(self) -> int | None:
        """When the next timer fires, virtual ms."""
        times = [time for host in self.up() for time in host.timers.values()]
        return min(times, default=None)

    def advance(self, milliseconds: int) -> None:
        """Let time pass: timers fire in order, messages arrive at once."""
        end = self.now_ms + milliseconds
        while True:
            self.deliver_all()
            due = self.next_due()
            if due is None or due > end:
                self.now_ms = end
                return
            self.now_ms = max(due, self.now_ms)
            for host in self.up():
                for timer_id in sorted(host.timers):
                    if host.timers.get(timer_id, end + 1) <= self.now_ms:
                        host.fire(timer_id)
