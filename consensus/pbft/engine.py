"""PBFT: agreement on one block per height among validators of which less than a third may lie.

The protocol is Castro and Liskov's Practical Byzantine Fault Tolerance (OSDI 1999; TOCS 2002), one
block per height, with the justified round change of the Istanbul BFT line (Moniz, "The Istanbul BFT
Consensus Algorithm", arXiv 2002.03613; here QBFT). Power is weighted; a quorum is *more than two
thirds* of it. Any two quorums share more than one third, hence a correct validator; more than one
third holds a correct validator. Counting 2f+1 votes instead is wrong unless n = 3f+1.

A height
    PRE-PREPARE  The leader of round r, validator (height + r) mod n, proposes a block. It does so
                 when there is work or when the heartbeat is due, never by the clock alone.
    PREPARE      A validator that has executed the block and found its roots right says so. It
                 prepares one block per round.
    COMMIT       A validator that holds PREPAREs of a quorum for a block in its round (a *prepared
                 certificate*) writes certificate and block down and commits.
    decided      COMMITs of a quorum for one block in one round, whichever round the validator
                 itself is in. They are the block's certificate and travel in the next block.

A change of round
    When round r takes too long a validator leaves it: from its VIEW-CHANGE(h, r+1) on it casts no
    vote of a round ≤ r. The VIEW-CHANGE names the highest round in which the validator held a
    prepared certificate, and the block, and proves it. The leader of r+1 collects VIEW-CHANGEs of a
    quorum and proposes: the block of the highest claim, or, when nothing is claimed, any block. It
    attaches what it chose by, and receivers choose again (consensus.pbft.justification). An invalid
    attachment makes the message void and nothing else.

States of a validator in a round, as `phase` names them:

    waiting ──proposal─▶ preparing ──quorum of PREPAREs─▶ committing ──quorum of COMMITs─▶ decided
       │                    │                               │                              ▲
       └───────── time-out, or others are ahead ────────────┤      COMMITs of a quorum in any
                                 ▼                                 round decide from any phase
                             changing ──justified proposal─▶ preparing …

Why it is safe. Let block B be committed in round r: a quorum Q sent COMMIT(r, B), so it held a
prepared certificate for (r, B). Two quorums of PREPAREs of one round share a correct validator,
which prepares one block a round: in round r only B can have a certificate. Consider the first
round r' > r in which another block gets one. Some correct validator prepared it, so its proposal
carried VIEW-CHANGEs for r' of a quorum, which shares a correct validator v with Q. v sent its
COMMIT before its VIEW-CHANGE (after it, it votes in no round below r'), so v claims a certificate
of a round p with r ≤ p < r'. By choice of r' every certificate of the rounds r … r'−1 is for B,
hence the highest claim is for B, and B is what must be proposed: a contradiction. What v says must
survive its crashes, which is why a vote, the certificate it rests on and the round stand in one
durable record before the vote leaves, and why signing passes a guard. Nothing here depends on time.

IBFT 1 is neither safe nor live because its validators lock on a block and justify by the lock
(Saltini and Hyland-Wood, arXiv 1901.07160). Here nothing is locked: a claim is proved, the highest
one rules, and a validator prepares what is justified even when it once prepared something else.

Why it is live, once messages arrive within some unknown time. Rounds grow longer (timers.py). The
timer of a round r > 0 runs only while a quorum is known to be in rounds ≥ r, because only then can
its leader act; so during an outage rounds stand still, and the first moments after it are not spent
on rounds so long that they look dead. Validators in a lower round follow as soon as more than a
third is ahead, so correct validators meet in a round; in the first such round with a correct
leader and enough time, all of them prepare what it proposes. Votes are repeated every
REBROADCAST_MS while a height lasts, so lost messages only cost time. A block whose bytes are
missing is asked of those who voted for it. Whoever has decided tells those who have not.

Castro and Liskov's terms: a height is a sequence number, a round is a view within it, and NEW-VIEW
is a PRE-PREPARE with justification. A commit certificate over a header with its state root is a
stable checkpoint: watermarks shrink to "this height, and a buffer for the next", and garbage
collection to "forget the height when it is applied". Clients' requests are the mempool's business.

What is bounded. Per validator and type, the vote of the highest round (COMMITs: of the two highest)
at this height and the next; one proof per VIEW-CHANGE; at most agreement.KEPT_BLOCKS blocks; one
block of the next height. `wants` refuses in O(1), before any signature is checked: strangers,
senders that are not the author, rounds past MAX_ROUND, what is already known, and what cannot
matter any more.

How the code is cut. An event enters facts; then the rules of RULES run until none of them has
anything to add. Rules are functions of the facts, so it does not matter which event completed them,
and a restarted validator goes on from the facts that its journal gives back. The parts: messages
and records (messages.py), what they must prove (justification.py), tallies (votes.py), own votes
(casting.py), the normal case (agreement.py), rounds and leading (round_change.py, timers.py),
peers ahead and behind (catch_up.py), the journal's fold (recovery.py).
"""

from __future__ import annotations

from collections.abc import Callable

from consensus.engine import (
    Applied,
    CancelTimer,
    Candidate,
    Capabilities,
    Effect,
    Event,
    NeedSync,
    Overheard,
    PeerDown,
    PeerUp,
    PersistDone,
    Received,
    Signed,
    Start,
    Status,
    Synced,
    Timer,
    TransactionsWaiting,
    Validated,
    Wanted,
)
from consensus.pbft import agreement, casting, catch_up, justification, recovery, round_change
from consensus.pbft.messages import (
    MODE,
    AnyMessage,
    BlockReply,
    CommitVote,
    Decided,
    Prepare,
    PrePrepare,
    ViewChange,
    decode_message,
    encode_message,
)
from consensus.pbft.state import MAX_ROUND, Core, HeightState, Verdict
from consensus.pbft.trace import VoteCast
from ledger.certificate import Vote
from ledger.trace import Tracer, no_trace

CAPABILITIES = Capabilities(
    mode=MODE,
    tolerates="Byzantine faults of less than one third of the voting power",
    quorum="more than two thirds of the voting power",
    supports_transfer=False,
)

RULES: tuple[Callable[[Core], bool], ...] = (
    agreement.decide,
    round_change.follow,
    agreement.judge,
    agreement.prepare,
    agreement.commit,
    round_change.lead,
    catch_up.fetch,
)
"""Asked in this order until none adds anything; each returns whether it did."""

# A rule fires at most once for a round and type; following moves to the highest round at once.
RULE_TURNS = 64


class PbftEngine:
    """See the module, and consensus.engine.Engine for the contract."""

    capabilities = CAPABILITIES

    def __init__(self, tracer: Tracer = no_trace) -> None:
        self._tracer = tracer
        self._core: Core | None = None
        self._folded = recovery.Folded()

    # ---- the contract ----------------------------------------------------------------------------

    def step(self, event: Event) -> list[Effect]:
        """Advance by one event."""
        if isinstance(event, Start):
            self._start(event)
        core = self._running
        core.effects = core.effects if isinstance(event, Start) else []
        now_ms = getattr(event, "now_ms", None)
        if now_ms is not None:
            core.now_ms = now_ms
        self._handle(core, event)
        self._settle(core)
        return core.effects

    def encode(self, message: AnyMessage) -> bytes:
        """Canonical bytes of a message."""
        return encode_message(message)

    def decode(self, raw: bytes) -> AnyMessage:
        """The message in canonical bytes. Raises MalformedData."""
        message: AnyMessage = decode_message(raw)
        return message

    def votes_of(self, record: bytes) -> tuple[tuple[Vote, bytes], ...]:
        """The votes and signatures that a journal record carries. Raises MalformedData."""
        return recovery.votes_of(record)

    def wants(self, peer: int | None, message: AnyMessage) -> Wanted:
        """What to do with a message; pure and O(1)."""
        return catch_up.wants(self._running, peer, message)

    def block_of(self, message: AnyMessage) -> bytes | None:
        """The encoded block in a message."""
        return message.block if isinstance(message, PrePrepare | BlockReply) else None

    def signatures_of(self, message: AnyMessage) -> list[tuple[int, bytes, bytes]]:
        """The signatures to be checked. Raises InvalidMessage."""
        return justification.signatures_of(self._running, message)

    # ---- events ----------------------------------------------------------------------------------

    @property
    def _running(self) -> Core:
        assert self._core is not None, "the first event is Start"
        return self._core

    def _start(self, event: Start) -> None:
        assert self._core is None, "Start comes once"
        self._core = Core(
            genesis_hash=event.genesis_hash,
            chain_id=event.chain_id,
            tip=event.tip,
            validators=event.validators,
            params=event.params,
            own_index=event.own_index,
            trace=self._tracer,
            now_ms=event.now_ms,
            h=HeightState.fresh(event.validators),
        )
        self._folded = recovery.fold(event.records)
        self._begin_height(self._core)

    def _handle(self, core: Core, event: Event) -> None:  # noqa: C901 - one line per event
        match event:
            case Timer():
                self._timer(core, event.timer_id)
            case PersistDone():
                for message in casting.durable(core, event.k):
                    vote = message.vote(core.chain_id)
                    core.trace(VoteCast(vote.height, vote.round, vote.type, vote.block_hash))
                    agreement.note(core, message)
            case Received():
                self._receive(core, event)
            case Overheard():
                catch_up.overhear(core, event)
            case Candidate():
                self._candidate(core, event)
            case Validated():
                if event.block_hash in core.h.validating:
                    fresh = core.h.validating.pop(event.block_hash)
                    core.h.verdicts[event.block_hash] = Verdict(event.ok, fresh)
            case Signed():
                casting.signed(core, event)
            case Applied() | Synced():
                self._advance(core, event)
            case PeerUp():
                catch_up.repeat_votes(core, event.peer)
            case TransactionsWaiting():
                core.waiting = event.waiting
                core.h.built_none = False
            case Start():
                catch_up.repeat_votes(core, None)
            case PeerDown():
                pass

    def _receive(self, core: Core, event: Received) -> None:
        """A checked message; what it was wanted for may have passed meanwhile."""
        message: AnyMessage = event.message  # type: ignore[assignment]
        if catch_up.wants(core, event.peer, message) is not Wanted.NOW:
            return
        if message.height > core.height:
            certificate = message.last_commit if isinstance(message, ViewChange) else None
            if isinstance(message, Decided):
                certificate = message.certificate
            assert certificate is not None
            catch_up.receive_certificate(core, event, certificate)
            return
        match message:
            case PrePrepare():
                agreement.receive_pre_prepare(core, message, event)
            case Prepare() | CommitVote() | ViewChange():
                agreement.note(core, message)
            case BlockReply():
                catch_up.receive_block(core, message, event)
            case Decided():
                catch_up.receive_certificate(core, event, message.certificate)
        core.h.heard = True

    def _candidate(self, core: Core, event: Candidate) -> None:
        h = core.h
        if event.request != h.building:
            return
        h.building = None
        h.candidate = event.proposal
        h.built_none = event.proposal is None

    def _timer(self, core: Core, timer_id: int) -> None:
        h = core.h
        if timer_id == h.round_timer:
            h.round_timer = None
            if h.round < MAX_ROUND:
                round_change.enter_round(core, h.round + 1, announce=True)
        elif timer_id == h.heartbeat_timer:
            h.heartbeat_timer = None
            h.heartbeat_due = True
        elif timer_id == h.tick_timer:
            h.tick_timer = None
            h.built_none = False
            casting.retry_refused(core)
            catch_up.repeat_votes(core, None)
            catch_up.request_block(core)
            if h.decided is not None and not h.committed:
                core.effects.append(NeedSync(core.height, None))

    def _advance(self, core: Core, event: Applied | Synced) -> None:
        if event.tip.height < core.height:
            return
        before = core.validators
        for timer in (core.h.round_timer, core.h.tick_timer, core.h.heartbeat_timer):
            if timer is not None:
                core.effects.append(CancelTimer(timer))
        core.tip = event.tip
        core.validators = event.validators
        core.params = event.params
        core.own_index = event.own_index
        core.signing.clear()
        if before.hash != event.validators.hash:
            core.answered.clear()
            core.served.clear()
        core.h = HeightState.fresh(event.validators)
        self._begin_height(core)
        catch_up.recheck_early(core, before)

    def _begin_height(self, core: Core) -> None:
        delay_ms = core.tip.time_ms + core.params.heartbeat_block_ms - core.now_ms
        # Never longer than the interval: a clock that was set back must not silence the chain.
        delay_ms = min(max(delay_ms, 0), core.params.heartbeat_block_ms)
        core.h.heartbeat_timer = core.set_timer(delay_ms)
        if self._folded.height == core.height:
            recovery.take_up(core, self._folded)
        if self._folded.height <= core.height:
            self._folded = recovery.Folded()

    def _settle(self, core: Core) -> None:
        """Run the rules, then bring timers, memory and status in line with the facts."""
        turns = 0
        while not core.h.committed and any(rule(core) for rule in RULES):
            turns += 1
            assert turns < RULE_TURNS, "the rules do not come to rest"
        round_change.run_timers(core)
        agreement.forget_blocks(core)
        status = Status(core.height, core.h.round, core.leader(core.h.round), agreement.phase(core))
        if status != core.status:
            core.status = status
            core.effects.append(status)
