"""Planted bugs: each breaks one rule of the production code, and the simulator must find it.

A mutant replaces a function or method for the time of a run. `expected` are the invariants that may
be the first to notice; which one does depends on the seed. `kinds`, `validators` and `behaviour`
point the simulator at the part of the fault space where the bug shows, as a campaign does that runs
long enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import msgspec

from consensus.engine import Proposal, Send, Tip, Wanted
from consensus.errors import InvalidMessage
from consensus.first_vote import FirstVote
from consensus.journal import DoubleSignGuard
from consensus.pbft import (
    agreement,
    casting,
    catch_up,
    engine,
    justification,
    recovery,
    round_change,
)
from consensus.pbft.messages import (
    NO_HASH,
    NO_ROUND,
    UNSIGNED,
    CommitVote,
    Prepare,
    ViewChange,
)
from consensus.pbft.state import Core
from consensus.pbft.timers import round_timeout_ms
from consensus.pbft.votes import Entry, RoundWatch, VoteBook
from consensus.replica import Replica
from consensus.sync import BlockSync, CertifiedBlock
from ledger.block import decode_block
from ledger.certificate import VOTE_COMMIT, VOTE_PREPARE, Vote, decode_certificate
from ledger.execution.fees import pay_proposer
from ledger.state_tree import StateTree
from ledger.validators import Validator, ValidatorSet
from node.simulation.campaign import PRODUCTION
from node.simulation.faults import FAULT_KINDS
from node.simulation.run import draw_run, run
from node.simulation.setup import SLOW_NETWORK_MS, Behaviour, Setup, faulty_is_tolerable

Plant = Callable[[], Any]


@dataclass(frozen=True)
class Mutant:
    """See the module. `plant` gives a context manager in which the bug is there."""

    name: str
    expected: tuple[str, ...]
    plant: Plant
    kinds: tuple[str, ...] = FAULT_KINDS
    validators: int | None = None
    behaviour: Behaviour | None = None
    is_slow: bool = False
    """On a network that is slower than the time-outs' cap."""


MUTANTS: list[Mutant] = []


def mutant(
    *expected: str,
    kinds: tuple[str, ...] = FAULT_KINDS,
    validators: int | None = None,
    behaviour: Behaviour | None = None,
    is_slow: bool = False,
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register the decorated function, which returns the patches, as a mutant."""

    def register(patches: Callable[[], Any]) -> Callable[[], Any]:
        @contextmanager
        def plant() -> Iterator[None]:
            with ExitStack() as stack:
                planted = patches()
                for each in planted if isinstance(planted, tuple) else (planted,):
                    stack.enter_context(each)
                yield

        MUTANTS.append(
            Mutant(patches.__name__, expected, plant, kinds, validators, behaviour, is_slow)
        )
        return patches

    return register


# ---- durability ---------------------------------------------------------------------------------


@mutant("durable-before-sent")
def sends_without_waiting_for_the_journal() -> Any:
    """`Send(after=k)` leaves at once."""
    carry_out = Replica._carry_out

    def hasty(self: Replica, effect: Any) -> None:
        if isinstance(effect, Send):
            effect = Send(effect.to, effect.message, 0, effect.bulk)
        carry_out(self, effect)

    return patch.object(Replica, "_carry_out", hasty)


@mutant("durable-before-sent")
def takes_an_append_for_an_fsync() -> Any:
    """A record counts as durable once it is written to the page cache."""
    persist = Replica._persist

    def hasty(self: Replica, effect: Any) -> None:
        persist(self, effect)
        self.on_durable(effect.k)

    return patch.object(Replica, "_persist", hasty)


@mutant("one-vote", "vote-order", "no-amnesia")
def forgets_its_votes_in_a_restart() -> Any:
    """The journal is not read back, only that there is one."""
    start = Replica.start
    return patch.object(Replica, "start", lambda self, records: start(self, records[:1]))


@mutant("one-vote", "vote-order", "no-amnesia", kinds=("lost_disk", "isolated_leader", "bad_links"))
def votes_at_once_with_an_empty_journal() -> Any:
    """A validator that has lost its journal goes on as if it had never voted."""

    def restore(self: FirstVote, records: tuple[bytes, ...]) -> tuple[bytes, ...]:
        self._from_height = 0
        return records

    return patch.object(FirstVote, "restore", restore)


@mutant("no-amnesia", "one-vote", "vote-order", kinds=("blackout", "signer"))
def forgets_the_prepared_block_in_a_restart() -> Any:
    """Recovery drops the prepared certificate."""
    take_up = recovery.take_up

    def forgetful(core: Core, folded: Any) -> None:
        folded.prepared = None
        take_up(core, folded)

    return patch.object(recovery, "take_up", forgetful)


@mutant("one-vote", "vote-order", "no-amnesia", "no-crash")
def trims_records_it_still_needs() -> Any:
    """The journal is cut to its first record whenever all of it is durable."""
    on_durable = Replica.on_durable

    def eager(self: Replica, sequence: int) -> None:
        on_durable(self, sequence)
        if self._records and self._records[-1][0] == self._durable:
            first = self._records[0]
            self._records.clear()
            self._journal.reset((first[1],))

    return patch.object(Replica, "on_durable", eager)


# ---- votes and quorums --------------------------------------------------------------------------


@mutant("valid-certificate", "quorum-decides", validators=6)
def counts_2f_plus_1_votes_as_a_quorum() -> Any:
    """Right for n = 3f + 1 only."""

    def has_quorum(self: ValidatorSet, power: int) -> bool:
        return power >= 2 * ((self.total_power - 1) // 3) + 1

    return patch.object(ValidatorSet, "has_quorum", has_quorum)


@mutant("progress", "inclusion", "valid-certificate")
def counts_heads_instead_of_power() -> Any:
    """Every validator's vote weighs the same."""
    count = VoteBook._count
    same = Validator(bytes(33), bytes(33), bytes(33), 1)

    def heads(self: VoteBook[Any], validator: int, entry: Entry[Any], sign: int) -> None:
        weighted, self._validators = self._validators, ValidatorSet((same,) * 100)
        count(self, validator, entry, sign)
        self._validators = weighted

    return patch.object(VoteBook, "_count", heads)


@mutant("valid-certificate", behaviour="sync_liar")
def checks_no_signatures() -> Any:
    """Every signature passes."""
    init = Replica.__init__

    def trusting(self: Replica, **arguments: Any) -> None:
        init(self, **{**arguments, "verify_signature": lambda *_: True})

    return patch.object(Replica, "__init__", trusting)


@mutant("nobody-framed")
def takes_a_repeated_vote_for_a_second_one() -> Any:
    """Two votes of one place are equivocation even when they are the same vote."""
    add = VoteBook.add

    def suspicious(
        self: VoteBook[Any], validator: int, round_: int, content: Any, signature: bytes
    ) -> Entry[Any] | None:
        known = self.entry(validator, round_)
        return known if known is not None else add(self, validator, round_, content, signature)

    return (
        patch.object(VoteBook, "add", suspicious),
        patch.object(VoteBook, "wants", lambda *_: True),
    )


@mutant("valid-certificate")
def lets_commit_sign_the_bytes_of_prepare() -> Any:
    """The type of a vote is not in the signed bytes."""
    digest = Vote.digest

    def careless(self: Vote, genesis_hash: bytes) -> bytes:
        if self.type == VOTE_COMMIT:
            self = msgspec.structs.replace(self, type=VOTE_PREPARE)
        return digest(self, genesis_hash)

    return patch.object(Vote, "digest", careless)


@mutant("valid-certificate", "nobody-framed", "progress", "no-crash")
def counts_a_repeated_vote_again() -> Any:
    """Votes are not de-duplicated by validator."""
    add = VoteBook.add

    def generous(
        self: VoteBook[Any], validator: int, round_: int, content: Any, signature: bytes
    ) -> Entry[Any] | None:
        known = self.entry(validator, round_)
        if known is not None and known.content == content:
            self._count(validator, known, 1)
        return add(self, validator, round_, content, signature)

    return (
        patch.object(VoteBook, "add", generous),
        patch.object(VoteBook, "wants", lambda *_: True),
    )


@mutant("vote-order", "no-amnesia")
def commits_in_a_round_it_has_left() -> Any:
    """PREPAREs of the round before the present one still lead to a COMMIT."""
    wants_now = catch_up._wants_now

    def wants(core: Core, message: Any) -> Wanted:
        if isinstance(message, Prepare) and message.round == core.h.round - 1:
            return Wanted.NOW
        return wants_now(core, message)

    def commit(core: Core) -> bool:
        h = core.h
        block_hash = h.prepares.quorum_in(h.round - 1)
        own = h.own.get(VOTE_COMMIT)
        late = own is None or own.message.round < h.round - 1
        if block_hash is not None and late and core.own_index is not None:
            vote = CommitVote(core.height, core.own_index, h.round - 1, block_hash, UNSIGNED)
            casting.cast(core, vote)
            return True
        return agreement.commit(core)

    return (
        patch.object(catch_up, "_wants_now", wants),
        _rule(agreement.commit, commit),
        patch.object(DoubleSignGuard, "admit", lambda *_: None),
    )


@mutant("one-vote", "quorum-decides", behaviour="forger", kinds=("pause",))
def prepares_every_block_a_leader_proposes() -> Any:
    """The second of two PRE-PREPAREs of one round is prepared too, and no guard stands before."""
    receive = agreement.receive_pre_prepare

    def receive_any(core: Core, message: Any, event: Any) -> None:
        if core.h.accepted not in (None, message.block_hash):
            core.h.accepted = None
            core.h.own.pop(VOTE_PREPARE, None)
        receive(core, message, event)

    return (
        patch.object(agreement, "receive_pre_prepare", receive_any),
        patch.object(DoubleSignGuard, "admit", lambda *_: None),
    )


@mutant("same-state", behaviour="forger", validators=4)
def votes_for_blocks_without_executing_them() -> Any:
    """Every verdict counts as good."""
    validated = Replica.on_validated

    def on_validated(self: Replica, block_hash: bytes, *, ok: bool) -> None:
        validated(self, block_hash, ok=True)

    return patch.object(Replica, "on_validated", on_validated)


# ---- the change of rounds -----------------------------------------------------------------------


@mutant("no-amnesia", "committed-is-chosen", "quorum-decides")
def forgets_the_prepared_block_in_a_view_change() -> Any:
    """VIEW-CHANGE claims that nothing was prepared."""
    cast = casting.cast

    def forgetful(core: Core, *messages: Any) -> None:
        cast(
            core,
            *(
                msgspec.structs.replace(
                    each, prepared_round=NO_ROUND, prepared_hash=NO_HASH, prepared=None
                )
                if isinstance(each, ViewChange)
                else each
                for each in messages
            ),
        )

    return patch.object(round_change, "cast", forgetful)


@mutant("committed-is-chosen", "quorum-decides", "one-block-per-height", behaviour="forger")
def believes_any_new_view() -> Any:
    """A NEW-VIEW's choice is not computed again from its claims."""
    triples = justification._pre_prepare_triples

    def credulous(core: Core, message: Any) -> Any:
        try:
            return triples(core, message)
        except InvalidMessage as error:
            if error.rule in ("choice", "prepared", "justification"):
                return []
            raise

    return patch.object(justification, "_pre_prepare_triples", credulous)


@mutant("progress", "inclusion")
def says_everything_once() -> Any:
    """Votes are not repeated."""
    return patch.object(catch_up, "repeat_votes", lambda *_: None)


@mutant("no-runaway", kinds=("partition", "one_way", "outage"))
def lets_rounds_run_away_in_an_outage() -> Any:
    """The timer of a round runs although no quorum is there to act in it."""
    return (patch.object(RoundWatch, "quorum_reached", lambda *_: True),)


@mutant("progress", "inclusion", is_slow=True)
def caps_time_outs_for_good() -> Any:
    """A round never gets longer than the cap, however many have failed."""

    def capped(round_: int, base_ms: int, cap_ms: int) -> int:
        return min(round_timeout_ms(min(round_, 4), base_ms, cap_ms), cap_ms)

    return patch.object(round_change, "round_timeout_ms", capped)


# ---- catching up --------------------------------------------------------------------------------


@mutant("valid-certificate", behaviour="sync_liar")
def believes_the_certificates_of_synced_blocks() -> Any:
    """Block sync does not verify the certificate."""
    return patch("consensus.replica.verify_certificate", lambda *_, **__: None)


@mutant("applied-once", "no-crash", kinds=("slow_disk", "pause", "partition"))
def applies_whatever_comes() -> Any:
    """A synced block is applied although its height was, or is being, applied."""

    def apply(self: Replica, proposal: Any, certificate: Any, how: str) -> bool:
        tip = Tip(proposal.header.height, proposal.block_hash, proposal.header.time_ms, certificate)
        self._applying = (tip, how, certificate.round)
        self._application.apply(proposal, certificate)
        return True

    def apply_certified(self: Replica, certified: CertifiedBlock, source: bytes) -> None:
        header = decode_block(certified.block).header
        proposal = Proposal(header, header.hash(), certified.block)
        self._apply(proposal, decode_certificate(certified.certificate), "synced")

    return (
        patch.object(Replica, "_apply", apply),
        patch.object(Replica, "_apply_certified", apply_certified),
    )


@mutant("progress", "inclusion", kinds=("crash", "pause", "partition"))
def does_not_listen_to_claims_of_heights() -> Any:
    """A peer that says how high its chain is is not asked for blocks."""
    return patch.object(BlockSync, "claim", lambda *_: None)


@mutant("nobody-framed", "progress", "inclusion", "valid-certificate", kinds=("crash",))
def keeps_the_validators_of_the_height_before() -> Any:
    """A change of the validator set is not noticed."""
    advance = engine.PbftEngine._advance

    def stubborn(self: engine.PbftEngine, core: Core, event: Any) -> None:
        advance(self, core, replace(event, validators=core.validators))

    return patch.object(engine.PbftEngine, "_advance", stubborn)


# ---- bounds -------------------------------------------------------------------------------------


@mutant("bounded-memory", behaviour="flooder", validators=4, kinds=("partition", "bad_links"))
def keeps_every_vote() -> Any:
    """The book of votes has no bound."""
    init = VoteBook.__init__

    def unbounded(self: VoteBook[Any], validators: ValidatorSet, kept: int) -> None:
        init(self, validators, 1_000_000)

    return patch.object(VoteBook, "__init__", unbounded)


@mutant("bounded-memory", behaviour="flooder", validators=4, kinds=("crash", "one_way"))
def keeps_every_early_message() -> Any:
    """Messages of the next height are kept, however many a peer sends."""

    def keep(core: Core, peer: int, message: Any) -> None:
        core.early[(peer, 10 + len(core.early))] = message

    def is_early(core: Core, _: int, message: Any) -> bool:
        return bool(message.height == core.height + 1)

    return (
        patch.object(catch_up, "_keep_early", keep),
        patch.object(catch_up, "_is_early", is_early),
    )


# ---- the ledger ---------------------------------------------------------------------------------


@mutant("nothing-doubled")
def forgets_nonces() -> Any:
    """A transaction may be used again."""
    return (
        patch("ledger.execution.fees.check_nonce_unused", lambda *_: None),
        patch("ledger.execution.fees.check_nonce_next", lambda *_: None),
        patch("ledger.mempool.Mempool.update", lambda *_: None),
    )


@mutant("conserved")
def pays_the_proposer_twice() -> Any:
    """Fees come out twice, and nothing adds up."""

    def pay(context: Any) -> None:
        context.credit(context.proposer, context.proposer_income)
        pay_proposer(context)

    return (
        patch("node.simulation.ledger.pay_proposer", pay),
        patch("node.simulation.ledger.check_conserved", lambda *_: None),
    )


@mutant("same-state", "no-crash", "progress")
def leaves_the_state_tree_behind() -> Any:
    """A block's update of the tree is not applied when its state is."""
    apply = StateTree.apply

    def lazy(self: StateTree, update: Any) -> None:
        if len(self) == 0:
            apply(self, update)

    return patch.object(StateTree, "apply", lazy)


def _rule(original: Callable[[Core], bool], changed: Callable[[Core], bool]) -> Any:
    rules = tuple(changed if rule is original else rule for rule in engine.RULES)
    return patch.object(engine, "RULES", rules)


# ---- hunting ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kill:
    """Which seed found a mutant, and by which invariant."""

    seed: int
    invariant: str
    detail: str


def hunt(hunted: Mutant, seeds: int) -> Kill | None:
    """Run seeds until one finds the mutant."""
    for seed in range(seeds):
        setup, plan = draw_run(seed, validators=hunted.validators, kinds=hunted.kinds)
        if hunted.behaviour is not None:
            setup = _with_liar(setup, hunted.behaviour)
        if hunted.is_slow:
            setup = msgspec.structs.replace(setup, latency_ms=SLOW_NETWORK_MS)
        with hunted.plant():
            outcome = run(setup, plan, PRODUCTION)
        if outcome.violation is not None:
            return Kill(seed, *outcome.violation)
    return None


def _with_liar(setup: Setup, behaviour: Behaviour) -> Setup:
    """The same setup, whose only Byzantine validator behaves so."""
    for liar in range(setup.validators):
        if faulty_is_tolerable(setup.powers, {liar}):
            return msgspec.structs.replace(setup, byzantine=((liar, behaviour),))
    return setup
