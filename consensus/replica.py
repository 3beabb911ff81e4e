"""The replica: hosts an engine and carries its effects out, synchronously and without I/O.

It is the production code between an engine and the ports of `consensus.ports`, and the simulator
runs this very class under virtual time. Four concerns meet here:

*Order.* Events are processed one at a time from a queue; an effect that produces an event at once
(Sign, or an answer of a port) enqueues it, so `Engine.step` is never re-entered. `Send` and
`Commit` with after=k are kept until record k is durable. This is the only place where that order
is enforced.

*The guard.* Every signature passes `DoubleSignGuard`, whose memory is the journal: a vote is
admitted only if it does not contradict a vote ever written, and an identical request gets the
identical signature. The journal record that carries a vote is durable before the vote leaves.

*Peers.* Messages are opaque to p2p. They are decoded strictly, asked for by `Engine.wants` before
any signature is checked, and their signatures are checked once (a bounded cache remembers good
ones, which matters for certificates that many messages repeat). A message that breaks a rule is
dropped, traced and charged; nothing it contains is used.

*Advance.* Blocks reach the ledger only through `_apply`, one at a time, in height order, from the
engine's Commit or from block sync. A Commit for a height that sync has already applied is
dropped, and the other way round.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from consensus.engine import (
    Applied,
    Build,
    CancelTimer,
    Candidate,
    Commit,
    Effect,
    Engine,
    Event,
    Evidence,
    Message,
    NeedSync,
    Overheard,
    PeerDown,
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
    Status,
    Synced,
    Timer,
    Tip,
    TransactionsWaiting,
    Validate,
    Validated,
    Wanted,
)
from consensus.errors import InvalidMessage
from consensus.first_vote import FirstVote
from consensus.journal import DoubleSignGuard, SigningForbidden
from consensus.ports import Application, Clock, JournalWriter, Signer, Timers, Transport
from consensus.sync import BlockSync, CertifiedBlock
from consensus.trace import (
    BlockApplied,
    EquivocationSeen,
    MessageRefused,
    RoundStatus,
    SigningRefused,
    SyncPeerFailed,
    SyncStarted,
)
from ledger.block import check_body, decode_block
from ledger.certificate import (
    CommitCertificate,
    InvalidCertificate,
    decode_certificate,
    verify_certificate,
)
from ledger.crypto import verify
from ledger.errors import InvalidBlock, MalformedData
from ledger.trace import Tracer, no_trace
from ledger.transactions import ChainIdentity

# Remembered good signatures: a certificate of 100 validators 160 times over, about 3 MB.
VERIFIED_SIGNATURES_COUNT = 16_384

# Replica payloads are an engine message or a certified block for a peer that is behind.
_ENGINE_MESSAGE = b"\x00"
_CERTIFIED_BLOCK = b"\x01"

# Past this, records of decided heights are dropped from the journal at the next apply.
JOURNAL_KEEP_BYTES = 4 << 20

VerifySignature = Callable[[bytes, bytes, bytes], bool]


class SignatureMemory:
    """Checks signatures and remembers the good ones; bounded, oldest forgotten first."""

    def __init__(self, check: VerifySignature = verify) -> None:
        self._check = check
        self._good: OrderedDict[tuple[bytes, bytes, bytes], None] = OrderedDict()

    def __call__(self, public_key: bytes, digest: bytes, signature: bytes) -> bool:
        key = (public_key, digest, signature)
        if key in self._good:
            return True
        if not self._check(public_key, digest, signature):
            return False
        self._good[key] = None
        if len(self._good) > VERIFIED_SIGNATURES_COUNT:
            self._good.popitem(last=False)
        return True


class Replica:
    """See the module. All methods are called from one thread and return without waiting."""

    def __init__(
        self,
        *,
        engine: Engine,
        chain: ChainIdentity,
        application: Application,
        transport: Transport,
        journal: JournalWriter,
        timers: Timers,
        clock: Clock,
        signer: Signer | None,
        seed: int,
        verify_signature: VerifySignature | None = None,
        tracer: Tracer = no_trace,
        journal_keep_bytes: int = JOURNAL_KEEP_BYTES,
    ) -> None:
        self.engine = engine
        self.status = Status(0, 0, 0, "starting")
        self._chain = chain
        self._application = application
        self._transport = transport
        self._journal = journal
        self._timers = timers
        self._clock = clock
        self._signer = signer
        self._seed = seed
        self._verify = verify_signature or SignatureMemory()
        self._trace = tracer
        self._journal_keep_bytes = journal_keep_bytes
        self._guard = DoubleSignGuard()
        self._sync = BlockSync()
        self._events: deque[Event] = deque()
        self._running = False
        self._durable = 0
        self._held: dict[int, list[Send | Commit]] = {}
        self._records: deque[tuple[int, bytes]] = deque()
        self._records_bytes = 0
        self._applying: tuple[Tip, str, int] | None = None
        self._peers: set[bytes] = set()
        self._waiting = False
        self._started = False
        self._first_vote: FirstVote | None = None
        self._validators = application.validators()

    # ---- what happens to the node ----------------------------------------------------------------

    def start(self, records: tuple[bytes, ...]) -> None:
        """Begin with the journal's records, oldest first.

        With an empty journal a validator listens before it votes (consensus.first_vote).
        """
        first_vote = FirstVote()
        own_records = first_vote.restore(records)
        for record in own_records:
            self._records.append((0, record))
            self._records_bytes += len(record)
            for signed in self.engine.votes_of(record):
                self._guard.remember(*signed)
        for node_key in self._peers:
            first_vote.report(node_key, self._sync.claimed_by(node_key))
        self._first_vote = first_vote
        self.status = Status(self._application.tip.height + 1, 0, 0, "listening")
        self._try_start(own_records)

    def _try_start(self, records: tuple[bytes, ...] = ()) -> None:
        """Find out when to vote first; start the engine, unless the network may be beginning."""
        assert self._first_vote is not None
        own_height = self._application.tip.height
        own = self._own_place()
        if own is not None and not self._first_vote.is_settled:
            node_key = self._validators[own].node_key
            if self._first_vote.settle(self._validators, node_key, own_height):
                self._journal.append(0, self._first_vote.record())
            elif own_height == 0:
                return
        if self._started:
            return
        self._started = True
        self._feed(
            Start(
                now_ms=self._clock.now_ms(),
                records=records,
                tip=self._application.tip,
                validators=self._validators,
                params=self._application.params(),
                own_index=self._own_index(),
                genesis_hash=self._chain.genesis_hash,
                chain_id=self._chain.chain_id,
                seed=self._seed,
            )
        )
        for node_key in sorted(self._peers):
            self._feed_peer_up(node_key)
        if self._waiting:
            self._feed(TransactionsWaiting(waiting=True, now_ms=self._clock.now_ms()))

    def on_message(self, node_key: bytes, payload: bytes) -> None:
        """A consensus payload from an authenticated peer.

        Only validators have anything to say here. What others send is not even decoded.
        """
        if self._peer_index(node_key) is None:
            return
        try:
            if payload[:1] == _ENGINE_MESSAGE:
                self._handle_engine_message(node_key, payload[1:])
            elif payload[:1] == _CERTIFIED_BLOCK:
                self._handle_certified_block(node_key, payload[1:])
            else:
                raise InvalidMessage("unknown_payload")
        except (InvalidMessage, InvalidBlock, MalformedData) as error:
            self._refuse(node_key, error)

    def _refuse(
        self, node_key: bytes, error: InvalidMessage | InvalidBlock | MalformedData
    ) -> None:
        rule = error.reason if isinstance(error, MalformedData) else error.rule
        self._trace(MessageRefused(self._peer_index(node_key), rule))
        self._transport.charge(node_key, rule)

    def _recheck(self, effect: Recheck) -> None:
        """A message that was kept until its height takes the way of a message again."""
        try:
            self._hand_in(effect.peer, effect.message)
        except (InvalidMessage, InvalidBlock, MalformedData) as error:
            self._refuse(self._validators[effect.peer].node_key, error)

    def on_timer(self, timer_id: int) -> None:
        """A timer set through the Timers port fired."""
        self._feed(Timer(timer_id, self._clock.now_ms()))

    def on_durable(self, sequence: int) -> None:
        """The journal holds record `sequence` and all before it."""
        if sequence <= self._durable:
            return
        self._durable = sequence
        self._events.append(PersistDone(sequence))
        for k in sorted(k for k in self._held if k <= sequence):
            # Released before the engine sees PersistDone: these effects were decided earlier.
            for effect in self._held.pop(k):
                self._carry_out(effect)
        self._run()

    def on_built(self, request: int, proposal: Proposal | None) -> None:
        """Answer to Application.build."""
        self._feed(Candidate(request, proposal, self._clock.now_ms()))

    def on_validated(self, block_hash: bytes, *, ok: bool) -> None:
        """Answer to Application.validate."""
        self._feed(Validated(block_hash, ok, self._clock.now_ms()))

    def on_applied(self, tip: Tip) -> None:
        """Answer to Application.apply: the block is durable."""
        assert self._applying is not None and self._applying[0].height == tip.height
        _, how, round_number = self._applying
        self._applying = None
        self._validators = self._application.validators()
        self._trim_journal()
        self._trace(BlockApplied(tip.height, round_number, tip.block_hash, how))
        was_started = self._started
        self._try_start()
        if was_started:
            kind = Applied if how == "agreed" else Synced
            self._feed(
                kind(
                    tip=tip,
                    validators=self._validators,
                    params=self._application.params(),
                    own_index=self._own_index(),
                    now_ms=self._clock.now_ms(),
                )
            )
        self._advance_sync()

    def on_transactions_waiting(self, *, waiting: bool) -> None:
        """Whether the mempool holds something for a block."""
        if waiting != self._waiting:
            self._waiting = waiting
            if self._started:
                self._feed(TransactionsWaiting(waiting, self._clock.now_ms()))

    def on_peer_up(self, node_key: bytes, height: int) -> None:
        """A peer's status was accepted; it says that it has blocks up to `height`."""
        self._peers.add(node_key)
        if self._started:
            self._feed_peer_up(node_key)
        self.on_peer_height(node_key, height)
        self._advance_sync()

    def on_peer_down(self, node_key: bytes) -> None:
        """The peer's last link is gone."""
        self._peers.discard(node_key)
        self._sync.forget(node_key)
        index = self._peer_index(node_key)
        if index is not None and self._started:
            self._feed(PeerDown(index, self._clock.now_ms()))

    def on_blocks(
        self, node_key: bytes, request_id: int, blocks: list[CertifiedBlock] | None
    ) -> None:
        """Answer to Transport.request_blocks; None when the request failed."""
        if blocks is None and node_key not in self._peers:
            # There is no link. That is not the peer's conduct, and its claim is stale.
            self._sync.forget(node_key)
        elif not self._sync.answer(request_id, blocks or []):
            self._sync_failed(node_key, "no usable answer")
        self._advance_sync()

    def on_sync_tick(self) -> None:
        """Called about once a second: requests have deadlines and peers are retried."""
        self._advance_sync()

    def on_peer_height(self, node_key: bytes, height: int) -> None:
        """A peer that is up tells how far its chain goes now."""
        self._sync.claim(node_key, height)
        if self._first_vote is not None and self._peer_index(node_key) is not None:
            self._first_vote.report(node_key, height)
            self._try_start()

    def is_silent_at(self, height: int) -> bool:
        """Whether this node must not vote at `height` yet (consensus.first_vote)."""
        return self._first_vote is None or not self._first_vote.allows(height)

    @property
    def highest_claim(self) -> int:
        """The height that the chain has reached by the word of more than a third of the power.

        So at least one correct validator says so; 0 where too few reachable ones say anything.
        """
        power = 0
        claims = [
            (self._sync.claimed_by(each.node_key), each.power)
            for each in self._validators.validators
        ]
        for height, of_validator in sorted(claims, reverse=True):
            power += of_validator
            if self._validators.has_one_honest(power):
                return height
        return 0

    # ---- the engine ------------------------------------------------------------------------------

    def _feed_peer_up(self, node_key: bytes) -> None:
        index = self._peer_index(node_key)
        if index is not None:
            self._feed(PeerUp(index, self._clock.now_ms()))

    def _feed(self, event: Event) -> None:
        self._events.append(event)
        self._run()

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while self._events:
                for effect in self.engine.step(self._events.popleft()):
                    self._carry_out(effect)
        finally:
            self._running = False

    def _carry_out(self, effect: Effect) -> None:  # noqa: C901 - one line per effect
        match effect:
            case Send() | Commit() if effect.after > self._durable:
                self._held.setdefault(effect.after, []).append(effect)
            case Send():
                self._send(effect)
            case Commit():
                self._commit(effect)
            case Persist():
                self._persist(effect)
            case Sign():
                self._sign(effect)
            case Build():
                self._application.build(
                    effect.request, effect.parent, allow_empty=effect.allow_empty
                )
            case Validate():
                self._application.validate(effect.proposal, fresh=effect.fresh)
            case SetTimer():
                self._timers.set_timer(effect.timer_id, effect.delay_ms)
            case CancelTimer():
                self._timers.cancel_timer(effect.timer_id)
            case NeedSync():
                self._need_sync(effect)
            case ServeHeight():
                self._serve_height(effect)
            case PeerFault():
                self._charge(effect)
            case Recheck():
                self._recheck(effect)
            case Evidence():
                vote = effect.first[0]
                self._trace(
                    EquivocationSeen(effect.validator, effect.kind, vote.height, vote.round)
                )
            case Status():
                self.status = effect
                self._trace(RoundStatus(effect.height, effect.round, effect.leader, effect.phase))

    def _persist(self, effect: Persist) -> None:
        for signed in effect.votes:
            self._guard.remember(*signed)
        self._records.append((effect.k, effect.record))
        self._records_bytes += len(effect.record)
        self._journal.append(effect.k, effect.record)

    def _sign(self, effect: Sign) -> None:
        vote = effect.request.vote
        signature: bytes | None = None
        if self._signer is not None:
            try:
                signature = self._guard.admit(vote)
                if signature is None:
                    signature = self._signer.sign(vote.digest(self._chain.genesis_hash))
            except SigningForbidden:
                self._trace(SigningRefused(vote.height, vote.round, vote.type))
        self._events.append(Signed(effect.request, signature))

    def _send(self, effect: Send) -> None:
        payload = _ENGINE_MESSAGE + self.engine.encode(effect.message)
        if effect.to is not None:
            self._transport.send(self._validators[effect.to].node_key, payload, bulk=effect.bulk)
            return
        own = self._own_place()
        for index, validator in enumerate(self._validators.validators):
            if index != own:
                self._transport.send(validator.node_key, payload, bulk=effect.bulk)

    # ---- peers' messages -------------------------------------------------------------------------

    def _handle_engine_message(self, node_key: bytes, raw: bytes) -> None:
        message = self.engine.decode(raw)
        peer = self._peer_index(node_key)
        if message.height > self._application.tip.height + 1:
            # Unverified, and only ever a reason to ask for certified blocks.
            self._sync.claim(node_key, message.height - 1)
            self._advance_sync()
        if self._started:
            self._hand_in(peer, message)

    def _hand_in(self, peer: int | None, message: Message) -> None:
        """The way of a message (consensus.engine). Raises InvalidMessage and its kin."""
        wanted = self.engine.wants(peer, message)
        if wanted is Wanted.NO:
            return
        if wanted is Wanted.UNCHECKED:
            assert peer is not None
            self._feed(Overheard(peer, message, self._clock.now_ms()))
            return
        for index, digest, signature in self.engine.signatures_of(message):
            if not self._verify(self._validators[index].consensus_key, digest, signature):
                raise InvalidMessage("signature", f"that of validator {index} is wrong")
        proposal = None
        encoded = self.engine.block_of(message)
        if encoded is not None:
            block = decode_block(encoded)
            check_body(block)
            proposal = Proposal(block.header, block.header.hash(), encoded)
        self._feed(Received(peer, message, self._clock.now_ms(), proposal))

    def _handle_certified_block(self, node_key: bytes, raw: bytes) -> None:
        size = int.from_bytes(raw[:4], "big")
        certificate = decode_certificate(raw[4 : 4 + size])
        own_height = self._application.tip.height
        if certificate.height > own_height + 1:
            self._sync.claim(node_key, certificate.height)
            self._advance_sync()
        elif certificate.height == own_height + 1 and self._applying is None:
            self._apply_certified(CertifiedBlock(raw[4 + size :], raw[4 : 4 + size]), node_key)

    def _serve_height(self, effect: ServeHeight) -> None:
        block = self._application.encoded_block(effect.height)
        certificate = self._application.certificate(effect.height)
        if block is None or certificate is None:
            return
        encoded = certificate.encode()
        payload = _CERTIFIED_BLOCK + len(encoded).to_bytes(4, "big") + encoded + block
        self._transport.send(self._validators[effect.to].node_key, payload, bulk=True)

    def _charge(self, effect: PeerFault) -> None:
        self._trace(MessageRefused(effect.peer, effect.kind))
        if effect.peer is not None:
            self._transport.charge(self._validators[effect.peer].node_key, effect.kind)

    def _peer_index(self, node_key: bytes) -> int | None:
        return self._validators.index_of_node_key.get(node_key)

    def _own_place(self) -> int | None:
        """Where this node stands in the present set of validators."""
        if self._signer is None:
            return None
        return self._validators.index_of_consensus_key.get(self._signer.public_key)

    def _own_index(self) -> int | None:
        """As whom the engine may vote at the next height."""
        if self.is_silent_at(self._application.tip.height + 1):
            return None
        return self._own_place()

    # ---- applying blocks -------------------------------------------------------------------------

    def _commit(self, effect: Commit) -> None:
        self._apply(effect.proposal, effect.certificate, "agreed")

    def _apply(self, proposal: Proposal, certificate: CommitCertificate, how: str) -> bool:
        """Start applying; False when that height is not the next one or is under way."""
        height = proposal.header.height
        if self._applying is not None or height != self._application.tip.height + 1:
            return False
        tip = Tip(height, proposal.block_hash, proposal.header.time_ms, certificate)
        self._applying = (tip, how, certificate.round)
        self._application.apply(proposal, certificate)
        return True

    def _apply_certified(self, certified: CertifiedBlock, source: bytes) -> None:
        """Verify a peer's block under the set of its height and apply it."""
        try:
            certificate = decode_certificate(certified.certificate)
            if certificate.height <= self._application.tip.height:
                return  # applied meanwhile, which is nobody's fault
            block = decode_block(certified.block)
            check_body(block)
            block_hash = block.header.hash()
            if certificate.height != block.header.height or certificate.block_hash != block_hash:
                raise InvalidCertificate("block", "the certificate is for another block")
            if certificate.height != self._application.tip.height + 1:
                raise InvalidCertificate("height", "not the next height")
            verify_certificate(
                certificate,
                genesis_hash=self._chain.genesis_hash,
                chain_id=self._chain.chain_id,
                validators=self._validators,
                accept_crash_fault=self.engine.capabilities.mode == "raft",
                verify_signature=self._verify,
            )
        except (MalformedData, InvalidBlock, InvalidCertificate) as error:
            self._sync_failed(source, str(error))
            rule = error.reason if isinstance(error, MalformedData) else error.rule
            self._transport.charge(source, rule)
            return
        self._sync.delivered(source)
        self._apply(Proposal(block.header, block_hash, certified.block), certificate, "synced")

    # ---- block sync ------------------------------------------------------------------------------

    def _need_sync(self, effect: NeedSync) -> None:
        if effect.peer is not None:
            self._sync.claim(self._validators[effect.peer].node_key, effect.height)
        self._advance_sync()

    def _advance_sync(self) -> None:
        """Apply the next block that was fetched, or ask for more."""
        while self._applying is None:
            upcoming = self._sync.next_block()
            if upcoming is None:
                break
            certified, source = upcoming
            self._apply_certified(certified, source)
        if self._applying is not None:
            return
        own_height = self._application.tip.height
        ask = self._sync.next_request(
            own_height, self._clock.now_ms(), self._validators.index_of_node_key
        )
        if ask is not None:
            self._trace(SyncStarted(ask.from_height, self._sync.target_height))
            self._transport.request_blocks(ask.node_key, ask.request_id, ask.from_height)

    def _sync_failed(self, node_key: bytes, reason: str) -> None:
        self._sync.fail(node_key, self._clock.now_ms())
        self._trace(SyncPeerFailed(node_key, reason))

    # ---- the journal -----------------------------------------------------------------------------

    def _trim_journal(self) -> None:
        """Drop records of decided heights once they are many; never one that is not yet durable.

        The last record is kept: it carries the last vote, below which the guard never goes.
        """
        if self._records_bytes < self._journal_keep_bytes or self._records[-1][0] > self._durable:
            return
        last = self._records[-1]
        self._records = deque([last])
        self._records_bytes = len(last[1])
        self._journal.reset((last[1],))
