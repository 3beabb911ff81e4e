"""What an engine knows: `Core` for its life, `HeightState` for the height being decided.

Rules (consensus.pbft.agreement, round_change, catch_up) are functions over a `Core`. They read
facts and add effects to `core.effects`, in the order in which the driver carries them out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from consensus.engine import Effect, Proposal, SetTimer, Status, Tip
from consensus.pbft.messages import (
    AnyMessage,
    PreparedCertificate,
    SignedMessage,
    ViewChange,
)
from consensus.pbft.trace import RoundEntered
from consensus.pbft.votes import RoundWatch, VoteBook
from ledger.certificate import CommitCertificate, Vote
from ledger.params import ChainParams
from ledger.trace import Tracer
from ledger.validators import ValidatorSet

# COMMITs are kept for the two highest rounds of each validator: a quorum of any round decides, and
# a validator that committed once may come to commit again in a later round.
COMMITS_KEPT = 2

# A round takes at least pbft_base_timeout_ms and rounds stand still without a quorum; the doubling
# cap makes even years of failing rounds a few hundred. Anything above is made up.
MAX_ROUND = 1 << 14

Claimed = tuple[int, bytes]
"""(prepared round or −1, prepared hash or zeros) of a VIEW-CHANGE."""


@dataclass(slots=True)
class OwnVote:
    """A vote this validator casts in its present life or found in the journal.

    `stage`: "signing" until the record is written, "writing" until it is durable, then "cast";
    "refused" when the guard or the key store did not sign.
    """

    message: SignedMessage
    stage: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the application said of a block. `fresh`: it judged the block's time, too."""

    ok: bool
    fresh: bool


@dataclass(slots=True)
class CastGroup:
    """Votes that are signed together and written in one record."""

    height: int
    round: int
    messages: tuple[SignedMessage, ...]
    signatures: dict[Vote, bytes] = field(default_factory=dict)
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """The last answer to a peer that is behind: its height, when, and how often at that height."""

    height: int
    at_ms: int
    times: int


@dataclass(slots=True)
class HeightState:
    """One height. Memory: a constant number of entries per validator, and at most one block for
    each hash in use (see agreement.forget_blocks)."""

    prepares: VoteBook[bytes]
    commits: VoteBook[bytes]
    pre_prepares: VoteBook[bytes]
    view_changes: VoteBook[Claimed]
    watch: RoundWatch
    round: int = 0
    proofs: dict[int, ViewChange] = field(default_factory=dict)
    """Each validator's highest VIEW-CHANGE as it sent it, with the certificate it claims by."""
    accepted: bytes | None = None
    """The block proposed in this round, or the one PREPAREd in it before a restart."""
    accepted_fresh: bool = True
    proposals: dict[bytes, Proposal] = field(default_factory=dict)
    verdicts: dict[bytes, Verdict] = field(default_factory=dict)
    validating: dict[bytes, bool] = field(default_factory=dict)
    """Blocks whose verdict is awaited, and whether as fresh ones."""
    candidate: Proposal | None = None
    building: int | None = None
    building_empty: bool = False
    built_none: bool = False
    """The last Build gave nothing; tried again at the next tick or sign of work."""
    own: dict[int, OwnVote] = field(default_factory=dict)
    """Own latest vote of each type."""
    prepared: PreparedCertificate | None = None
    decided: CommitCertificate | None = None
    committed: bool = False
    heard: bool = False
    heartbeat_due: bool = False
    round_timer: int | None = None
    tick_timer: int | None = None
    heartbeat_timer: int | None = None
    requested: bytes | None = None
    """The block asked of peers last, and the round in which it was first asked."""
    requested_in: int = 0
    requests_sent: int = 0
    journaled: set[bytes] = field(default_factory=set)
    """Blocks that a record of this height carries."""
    accused: set[tuple[int, str]] = field(default_factory=set)
    sync_height: int = 0
    """The highest height whose certificate was verified although we have not decided it."""

    @classmethod
    def fresh(cls, validators: ValidatorSet) -> HeightState:
        """Nothing known."""
        return cls(
            prepares=VoteBook(validators, kept=1),
            commits=VoteBook(validators, kept=COMMITS_KEPT),
            pre_prepares=VoteBook(validators, kept=1),
            view_changes=VoteBook(validators, kept=1),
            watch=RoundWatch(validators),
        )


@dataclass(slots=True)
class Core:
    """An engine's whole state; `h` is that of `height`, which is tip + 1."""

    genesis_hash: bytes
    chain_id: str
    tip: Tip
    validators: ValidatorSet
    params: ChainParams
    own_index: int | None
    trace: Tracer
    now_ms: int
    h: HeightState
    waiting: bool = False
    effects: list[Effect] = field(default_factory=list)
    signing: dict[Vote, CastGroup] = field(default_factory=dict)
    writing: deque[tuple[int, int, tuple[SignedMessage, ...]]] = field(default_factory=deque)
    """(k, height, messages) of records that are not durable yet."""
    early: dict[tuple[int, int], AnyMessage] = field(default_factory=dict)
    """(peer, type) → message of the next height, unchecked. Four types per validator."""
    answered: dict[int, Answered] = field(default_factory=dict)
    served: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    """peer → (block hash, when) of the last BLOCK-REPLY."""
    last_timer: int = 0
    last_request: int = 0
    last_record: int = 0
    status: Status | None = None

    @property
    def height(self) -> int:
        """The height being decided."""
        return self.tip.height + 1

    def leader(self, round_: int) -> int:
        """Who proposes in this round of the present height."""
        return (self.height + round_) % len(self.validators)

    def is_valid(self, block_hash: bytes) -> bool:
        """Whether the application found the block good."""
        verdict = self.h.verdicts.get(block_hash)
        return verdict is not None and verdict.ok

    def own_vote(self, kind: int) -> OwnVote | None:
        """This validator's vote of a type in the present round."""
        own = self.h.own.get(kind)
        return own if own is not None and own.message.round == self.h.round else None

    def set_timer(self, delay_ms: int) -> int:
        """Start a timer and return its id."""
        self.last_timer += 1
        self.effects.append(SetTimer(self.last_timer, delay_ms))
        return self.last_timer

    def next_request(self) -> int:
        """An id for a Build."""
        self.last_request += 1
        return self.last_request

    def move_to(self, round_: int) -> None:
        """Forget what belonged to the round before.

        Refusals, too: what was wrong may have passed, as a clock that was behind.
        """
        self.h.round = round_
        self.h.accepted = None
        self.h.accepted_fresh = True
        self.h.verdicts = {key: each for key, each in self.h.verdicts.items() if each.ok}
        self.h.candidate = None
        self.h.building = None
        self.h.building_empty = False
        self.h.built_none = False
        self.trace(RoundEntered(self.height, round_, self.leader(round_)))
