"""What must never happen, checked while it happens.

The observer sees every signature that is made, every message that leaves, every block that becomes
durable and every acknowledgement to a client, on every machine and across every restart. Machines
of Byzantine validators are not held to anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from consensus.engine import Proposal
from consensus.trace import EquivocationSeen
from ledger.block import decode_block
from ledger.certificate import (
    VOTE_COMMIT,
    VOTE_VIEW_CHANGE,
    CommitCertificate,
    Vote,
)
from ledger.trace import TraceEvent
from ledger.validators import ValidatorSet
from node.simulation.keys import KeyRing
from node.simulation.ledger import Genesis, StoredBlock
from node.simulation.machine import Machine
from node.simulation.memory import held_elements

INVARIANTS: dict[str, str] = {
    "one-block-per-height": "every machine has the same block at a height, for ever",
    "one-vote": "an honest validator signs one thing per height, round and type, ever",
    "vote-order": "after VIEW-CHANGE(h, r) an honest validator signs no vote of a lower round",
    "no-amnesia": "an honest VIEW-CHANGE claims the highest round its validator committed in",
    "no-runaway": "a time-out ends a round above 0 only while a quorum is known to be in it",
    "durable-before-sent": "a vote that leaves stands in the durable journal of its machine",
    "quorum-decides": "once a quorum's COMMITs of one round were sent, nothing else is decided",
    "committed-is-chosen": "every honest vote of a round after the deciding one is for its block",
    "valid-certificate": "a block is applied with a valid certificate under the set of its height",
    "applied-once": "blocks are applied once and in order, each on its parent",
    "same-state": "a decided block executes to the roots in its header on every machine",
    "nothing-lost": "what a client was told is committed stays in the chain",
    "nothing-doubled": "no transaction stands twice in the chain",
    "conserved": "µT are neither made nor lost",
    "nobody-framed": "no evidence and no charge is raised against an honest validator",
    "bounded-memory": "an engine holds no more than a constant times the validators",
    "no-crash": "no exception leaves production code",
    "no-storm": "a run needs a bounded number of events",
    "progress": "once a quorum is healed, it commits within a bounded time",
    "inclusion": "once a quorum is healed, submitted transactions commit within a bounded time",
}
"""Name → meaning. The last two belong to the liveness phase."""

# Per validator an engine keeps a vote of each type for two heights, answers and rounds; prepared
# certificates inside the VIEW-CHANGEs of n validators have up to n signatures; the base covers what
# there is once. Runs without a leak stay below half of it.
HELD_PER_VALIDATOR_SQUARED = 6
HELD_PER_VALIDATOR = 40
HELD_BASE = 200

# The count walks the whole engine, so it is taken now and then.
MEMORY_CHECK_STEPS = 200


def is_quorum(power: int, validators: ValidatorSet) -> bool:
    """More than two thirds of the power, computed apart from production code."""
    return 3 * power > 2 * sum(each.power for each in validators.validators)


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        assert invariant in INVARIANTS
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail


@dataclass(slots=True)
class _HeightVotes:
    """What was seen of one height."""

    commits: dict[tuple[int, bytes], set[int]] = field(default_factory=dict)
    """(round, block hash) → validators whose COMMIT was sent, or may have been."""
    honest: dict[tuple[int, bytes], int] = field(default_factory=dict)
    """(round, block hash) → an honest validator that voted so."""
    rounds: dict[bytes, int] = field(default_factory=dict)
    """Consensus key → the highest round in which its validator sent something."""
    decided: tuple[int, bytes] | None = None
    """The lowest round with a quorum of COMMITs, and its block."""


@dataclass(slots=True)
class _SignerHistory:
    """What one honest validator signed and sent, per height."""

    sent: dict[tuple[int, int], tuple[Vote, int]] = field(default_factory=dict)
    """(round, type) → vote, and when it was signed."""


class Invariants:
    """See the module. `votes_in(payload)` lists the signed votes inside a consensus payload."""

    def __init__(
        self,
        genesis: Genesis,
        ring: KeyRing,
        votes_in: Callable[[bytes], list[tuple[bytes, Vote, bytes]]],
        on_acknowledged: Callable[[Machine, StoredBlock], list[bytes]],
    ) -> None:
        self.canonical: dict[int, bytes] = {}
        self.canonical_round: dict[int, int] = {}
        self.acknowledged: dict[bytes, int] = {}
        self._placed: dict[bytes, int] = {}
        self._genesis = genesis
        self._ring = ring
        self._votes_in = votes_in
        self._on_acknowledged = on_acknowledged
        self._heights: dict[int, _HeightVotes] = {}
        self._signers: dict[tuple[bytes, int], _SignerHistory] = {}
        self._durable: dict[int, set[bytes]] = {}
        self._signed_at: dict[tuple[bytes, bytes], int] = {}
        self._votes_by_signature: dict[tuple[bytes, bytes], Vote] = {}
        self._signatures_made = 0
        self._byzantine_keys: set[bytes] = set()
        self._honest_nodes: set[bytes] = set()
        self._asked: dict[tuple[int, int], int] = {}
        self._steps: dict[int, int] = {}

    @property
    def height(self) -> int:
        """The highest height any honest machine has applied."""
        return max(self.canonical, default=0)

    def add_machine(self, machine: Machine) -> None:
        """Know a machine; a Byzantine one counts as having sent every COMMIT to somebody."""
        if not machine.honest:
            self._byzantine_keys.add(machine.consensus_key.public_key)
        else:
            self._honest_nodes.add(machine.node_key)

    # ---- votes -----------------------------------------------------------------------------------

    def signed(self, machine: Machine, digest: bytes) -> None:
        """A vote's digest was signed; the order of signing matters, not that of sending."""
        self._signatures_made += 1
        self._signed_at[machine.consensus_key.public_key, digest] = self._signatures_made

    def message_sent(self, machine: Machine, payload: bytes) -> None:
        """A consensus payload leaves."""
        own_key = machine.consensus_key.public_key
        for key, vote, signature in self._votes_in(payload):
            if key == own_key:
                self._check_own_vote(machine, vote, signature)

    def _check_own_vote(self, machine: Machine, vote: Vote, signature: bytes) -> None:
        if not machine.honest:
            return
        key = machine.consensus_key.public_key
        self._votes_by_signature.setdefault((key, signature), vote)
        self._check_durable(machine, vote, signature)
        self._check_history(key, machine.validator, vote)
        validators = self._genesis.validators_at(vote.height)
        index = validators.index_of_consensus_key.get(key)
        seen = self._heights.setdefault(vote.height, _HeightVotes())
        if vote.type == VOTE_VIEW_CHANGE:
            self._check_runaway(key, vote, seen, validators)
        seen.rounds[key] = max(vote.round, seen.rounds.get(key, 0))
        if index is None or vote.type == VOTE_VIEW_CHANGE:
            return
        seen.honest.setdefault((vote.round, vote.block_hash), machine.validator)
        if vote.type == VOTE_COMMIT:
            senders = seen.commits.setdefault(
                (vote.round, vote.block_hash), self._byzantine_of(validators)
            )
            senders.add(index)
            if is_quorum(sum(validators[each].power for each in senders), validators):
                self._check_decided(vote.height, vote.round, vote.block_hash)
        self._check_chosen(vote.height, seen)

    def _check_runaway(
        self, key: bytes, vote: Vote, seen: _HeightVotes, validators: ValidatorSet
    ) -> None:
        """Castro and Liskov 1999, 4.5.2: in an outage rounds stand still."""
        if vote.round <= max(1, seen.rounds.get(key, 0)):
            return
        lately = followed = 0
        for each in validators.validators:
            other = each.consensus_key
            byzantine = other in self._byzantine_keys
            round_number = seen.rounds.get(other, -1)
            # Its own vote of the round before may have become durable without ever leaving.
            if byzantine or other == key or round_number >= vote.round - 1:
                lately += each.power
            if byzantine or round_number >= vote.round:
                followed += each.power
        if not is_quorum(lately, validators) and 3 * followed <= validators.total_power:
            raise Violation("no-runaway", f"{vote} without a quorum in round {vote.round - 1}")

    def _byzantine_of(self, validators: ValidatorSet) -> set[int]:
        indexes = validators.index_of_consensus_key
        return {indexes[key] for key in self._byzantine_keys if key in indexes}

    def _check_durable(self, machine: Machine, vote: Vote, signature: bytes) -> None:
        durable = self._durable.setdefault(machine.number, set())
        if signature in durable:
            return
        if signature not in machine.disk.durable:
            raise Violation("durable-before-sent", f"validator {machine.validator} sent {vote}")
        durable.add(signature)

    def _check_history(self, key: bytes, validator: int, vote: Vote) -> None:
        history = self._signers.setdefault((key, vote.height), _SignerHistory()).sent
        known = history.get((vote.round, vote.type))
        if known is not None:
            if known[0] != vote:
                raise Violation("one-vote", f"validator {validator}: {known[0]} and {vote}")
            return
        digest = vote.digest(self._genesis.chain.genesis_hash)
        signed_at = self._signed_at.get((key, digest), 0)
        history[vote.round, vote.type] = (vote, signed_at)
        for other, other_signed_at in history.values():
            first, second = (vote, other) if signed_at < other_signed_at else (other, vote)
            if first.type == VOTE_VIEW_CHANGE and second.round < first.round:
                raise Violation("vote-order", f"validator {validator}: {second} after {first}")
            if (
                first.type == VOTE_COMMIT
                and second.type == VOTE_VIEW_CHANGE
                and first.round < second.round
                and second.prepared_round < first.round
            ):
                raise Violation("no-amnesia", f"validator {validator}: {second} after {first}")

    def _check_decided(self, height: int, round_number: int, block_hash: bytes) -> None:
        seen = self._heights.setdefault(height, _HeightVotes())
        if seen.decided is not None and seen.decided[1] != block_hash:
            raise Violation("quorum-decides", f"height {height}: two blocks with a quorum")
        if self.canonical.get(height, block_hash) != block_hash:
            raise Violation("quorum-decides", f"height {height}: another block is applied")
        if seen.decided is None or round_number < seen.decided[0]:
            seen.decided = (round_number, block_hash)

    def _check_chosen(self, height: int, seen: _HeightVotes) -> None:
        if seen.decided is None:
            return
        decided_round, decided_hash = seen.decided
        for (round_number, block_hash), validator in seen.honest.items():
            if round_number > decided_round and block_hash != decided_hash:
                raise Violation(
                    "committed-is-chosen",
                    f"height {height}: validator {validator} voted for another block in round "
                    f"{round_number} than the one decided in round {decided_round}",
                )

    # ---- blocks ----------------------------------------------------------------------------------

    def apply_asked(
        self, machine: Machine, proposal: Proposal, certificate: CommitCertificate
    ) -> None:
        """The replica asks for a block to be written."""
        if not machine.honest:
            return
        height, tip = proposal.header.height, machine.store.tip
        if certificate.height != height or certificate.block_hash != proposal.block_hash:
            raise Violation("valid-certificate", f"height {height}: it is for another block")
        self._check_certificate(certificate)
        life = (machine.number, machine.lives)
        if self._asked.get(life, 0) >= height:
            raise Violation("applied-once", f"height {height} twice on machine {machine.number}")
        self._asked[life] = height
        if height != tip.height + 1 or proposal.header.parent_hash != tip.block_hash:
            raise Violation("applied-once", f"height {height} on a tip of height {tip.height}")

    def _check_certificate(self, certificate: CommitCertificate) -> None:
        """Checked here without production code, which may be the one at fault."""
        height = certificate.height
        validators = self._genesis.validators_at(height)
        digest = certificate.vote.digest(self._genesis.chain.genesis_hash)
        signers = certificate.signers()
        if len(set(signers)) != len(certificate.signatures) or signers[-1:] > [len(validators) - 1]:
            raise Violation("valid-certificate", f"height {height}: signers {signers}")
        for index, signature in zip(signers, certificate.signatures, strict=True):
            key = validators[index].consensus_key
            if not self._ring.verify(key, digest, signature):
                raise Violation("valid-certificate", f"height {height}: signature of {index}")
            cast = self._votes_by_signature.get((key, signature))
            if cast is not None and cast.type != VOTE_COMMIT:
                raise Violation("valid-certificate", f"height {height}: {cast} passes for a COMMIT")
        power = sum(validators[index].power for index in signers)
        if not is_quorum(power, validators):
            raise Violation("valid-certificate", f"height {height}: power {power}")

    def apply_failed(self, machine: Machine, detail: str) -> None:
        """A decided block did not execute to its header."""
        raise Violation("same-state", f"validator {machine.validator}: {detail}")

    def block_applied(self, machine: Machine, stored: StoredBlock) -> None:
        """A block became durable."""
        if not machine.honest:
            return
        height = stored.header.height
        self._check_decided(height, stored.certificate.round, stored.block_hash)
        known = self.canonical.get(height)
        if known is None:
            self.canonical[height] = stored.block_hash
            self._place_transactions(height, stored)
        elif known != stored.block_hash:
            raise Violation("one-block-per-height", f"height {height}: two blocks are applied")
        self._check_chosen(height, self._heights[height])
        if machine.store.tree.root != stored.header.state_root:
            raise Violation("same-state", f"validator {machine.validator} at height {height}")
        held = machine.store.money()
        if held != self._genesis.supply:
            raise Violation("conserved", f"height {height}: {held} of {self._genesis.supply} µT")
        for transaction_id in self._on_acknowledged(machine, stored):
            self.acknowledged.setdefault(transaction_id, height)

    def _place_transactions(self, height: int, stored: StoredBlock) -> None:
        for transaction_id in stored.transaction_ids:
            before = self._placed.setdefault(transaction_id, height)
            if before != height:
                raise Violation("nothing-doubled", f"a transaction in {before} and {height}")

    def check_chain(self, machine: Machine) -> None:
        """At the end: everything acknowledged stands in the whole chain that is on disk."""
        parent_hash = self._genesis.chain.genesis_hash
        stored_ids: set[bytes] = set()
        for height, stored in enumerate(machine.store.blocks, start=1):
            header = decode_block(stored.encoded).header
            if (header.height, header.parent_hash) != (height, parent_hash):
                raise Violation("applied-once", f"height {height} does not follow its parent")
            parent_hash = header.hash()
            if parent_hash != self.canonical[height]:
                raise Violation("one-block-per-height", f"height {height} differs on disk")
            stored_ids.update(stored.transaction_ids)
        tip_height = machine.store.tip.height
        for transaction_id, height in self.acknowledged.items():
            if height <= tip_height and transaction_id not in stored_ids:
                raise Violation("nothing-lost", f"one acknowledged at height {height}")

    # ---- accusations -----------------------------------------------------------------------------

    def charged(self, machine: Machine, node_key: bytes, kind: str) -> None:
        """A machine tells its p2p that a peer did what no correct peer does."""
        if machine.honest and node_key in self._honest_nodes:
            raise Violation("nobody-framed", f"{machine.validator} charges a peer with {kind!r}")

    def traced(self, machine: Machine, event: TraceEvent) -> None:
        """A trace event of production code."""
        if machine.honest and isinstance(event, EquivocationSeen):
            validators = self._genesis.validators_at(event.height)
            key = validators[event.validator].consensus_key
            if key not in self._byzantine_keys:
                raise Violation("nobody-framed", f"validator {machine.validator}: {event}")

    # ---- memory ----------------------------------------------------------------------------------

    def stepped(self, machine: Machine) -> None:
        """The process handled one thing."""
        steps = self._steps.get(machine.number, 0) + 1
        self._steps[machine.number] = steps
        if steps % MEMORY_CHECK_STEPS or machine.process is None or not machine.honest:
            return
        count = max(len(each) for each in self._genesis.sets)
        limit = HELD_BASE + HELD_PER_VALIDATOR * count + HELD_PER_VALIDATOR_SQUARED * count**2
        held = held_elements(machine.process.engine)
        if held > limit:
            raise Violation("bounded-memory", f"{held} elements in an engine, at most {limit}")
