"""The ledger as consensus sees it: build, judge, apply blocks (consensus.ports.Application).

Data path. A block is executed once, speculatively: when we build it or judge it. The outcome
(writes, receipts, tree changes, roots) is kept by block hash, and applying the block is then one
atomic store batch plus an in-memory update of state tree and mempool. Only a block that comes by
sync is executed when it is applied.

Verdicts. `validate` answers "no" for a block that breaks a rule; it answers *later* when the
epoch's scores are not computed yet, or when a fresh proposal is early by the proposer's clock. A
block that has a commit certificate but does not execute to its header means that this machine
computes otherwise than more than two thirds of the validators: `StateDiverged` stops the node
before anything is written.

Everything runs on the event loop but the synced write, which runs in the store thread; state is
read there by nobody while the loop owns it, so no lock is needed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from consensus.engine import Proposal, Tip
from consensus.ports import Clock
from genesis.definition import NetworkDefinition
from ledger.block import (
    BLOCK_VERSION,
    Block,
    BlockHeader,
    check_block_shape,
    decode_block,
    last_commit_hash,
    transactions_root,
)
from ledger.certificate import (
    CommitCertificate,
    InvalidCertificate,
    decode_certificate,
    verify_certificate,
)
from ledger.crypto import sha256
from ledger.errors import InvalidBlock, MalformedData
from ledger.execution.block import Outcome, execute_block
from ledger.execution.context import BlockFacts, epoch_at
from ledger.execution.scores import due_epoch
from ledger.mempool import Mempool
from ledger.params import ChainParams
from ledger.reasons import TransactionRefused
from ledger.state import (
    ScoredEpoch,
    account_key,
    decode_account,
    read_account,
    read_epoch_state,
    read_params,
    read_validators,
)
from ledger.state_tree import StateTree
from ledger.store import LevelStore
from ledger.trace import TraceEvent, Tracer, no_trace
from ledger.transactions import (
    SignedTransaction,
    decode_transaction,
)
from ledger.validators import ValidatorSet
from ledger.verification import SignatureCache
from ledger.view import ReadView
from node.chain_store import block_record, read_previous_validators, read_tip, validator_set
from node.pace import ProposalPace
from node.scores import ScoreKeeper
from node.trace import BlockStored

# Outcomes of blocks that were executed but not applied: at one height there is one per round in
# which another block was proposed. The oldest is dropped; applying it would execute it again.
OUTCOMES_KEPT = 4

# Work between two turns of the event loop, so that votes are never kept waiting by a block full of
# transactions that gossip did not bring. In time, since a proof of work costs many signatures.
SLICE_S = 0.001

# The longest sleep of the watch for due scores: the wall clock may be set meanwhile.
SCORES_WATCH_MS = 60_000

# A proposal that is earlier than this beyond the drift is refused at once; waiting would outlast
# any round.
HOLD_LIMIT_MS = 120_000

VerifySignature = Callable[[bytes, bytes, bytes], bool]
Spawn = Callable[[Coroutine[Any, Any, None]], object]
BlockCallback = Callable[[Tip, list[SignedTransaction], Outcome], None]


class Answers(Protocol):
    """Who asked: the replica."""

    def on_built(self, request: int, proposal: Proposal | None) -> None:
        """Answer to build."""

    def on_validated(self, block_hash: bytes, *, ok: bool) -> None:
        """Answer to validate."""

    def on_applied(self, tip: Tip) -> None:
        """Answer to apply."""

    def on_transactions_waiting(self, *, waiting: bool) -> None:
        """Whether the mempool holds something for a block."""


class StateDiverged(Exception):
    """A certified block executes here to something else than its header says. Stop; nothing
    lost."""

    def __init__(self, height: int, detail: str) -> None:
        super().__init__(
            f"block {height} has a commit certificate, but executing it here gives another result "
            f"({detail}); stopped before writing it"
        )
        self.height = height
        self.detail = detail


class BlockRefused(TraceEvent, frozen=True):
    """A proposed block breaks a rule; this validator does not vote for it."""

    height: int
    block_hash: bytes
    detail: str


@dataclass(frozen=True, slots=True)
class Executed:
    """A block that was executed on the tip but is not applied."""

    block: Block
    outcome: Outcome


class LedgerApplication:
    """See the module. `operator` is the validator's own account, None for an observer."""

    def __init__(
        self,
        *,
        network: NetworkDefinition,
        store: LevelStore,
        tree: StateTree,
        mempool: Mempool,
        signatures: SignatureCache,
        scores: ScoreKeeper,
        clock: Clock,
        operator: bytes | None,
        spawn: Spawn,
        store_thread: ThreadPoolExecutor,
        verify_signature: VerifySignature,
        tracer: Tracer = no_trace,
    ) -> None:
        self.chain = network.identity
        self.tree = tree
        self.mempool = mempool
        self._genesis_time_ms = network.genesis_time_ms
        self._store = store
        self._signatures = signatures
        self._scores = scores
        self._clock = clock
        self._operator = operator
        self._spawn = spawn
        self._store_thread = store_thread
        self._verify = verify_signature
        self._trace = tracer
        self._replica: Answers | None = None
        self._executed: OrderedDict[bytes, Executed] = OrderedDict()
        self._writing = False
        self._on_block: list[BlockCallback] = []
        self._pace = ProposalPace()
        self._tip = read_tip(store, network)
        self._previous_validators = read_previous_validators(store, self._tip.height)

    def attach(self, replica: Answers) -> None:
        """Name the replica that is answered; before the first call of a port method."""
        self._replica = replica
        self._tell_whether_work_waits()

    def on_block(self, callback: BlockCallback) -> None:
        """Call back (tip, transactions, outcome) after every applied block, in this order."""
        self._on_block.append(callback)

    # ---- what stands -----------------------------------------------------------------------------

    @property
    def tip(self) -> Tip:
        """The last applied block."""
        return self._tip

    @property
    def view(self) -> ReadView:
        """The state at the tip; never between two blocks."""
        return self._store

    def validators(self) -> ValidatorSet:
        """The set of height tip + 1."""
        return read_validators(self._store)

    def is_validator(self, node_key: bytes) -> bool:
        """Whether the key is that of a validator of height tip + 1."""
        return node_key in self.validators().index_of_node_key

    def validator_node_keys(self) -> Iterable[bytes]:
        """The node keys of the validators of height tip + 1, in the order of the set."""
        return self.validators().index_of_node_key

    def params(self) -> ChainParams:
        """The parameters in force at tip + 1."""
        return read_params(self._store)

    def certified_block(self, height: int) -> tuple[bytes, bytes] | None:
        """Encoded block and certificate of a height, for another node."""
        block, certificate = self._store.block(height), self._store.certificate(height)
        return None if block is None or certificate is None else (block, certificate)

    def encoded_block(self, height: int) -> bytes | None:
        """A stored block's bytes."""
        return self._store.block(height)

    def certificate(self, height: int) -> CommitCertificate | None:
        """The certificate stored for a height."""
        raw = self._store.certificate(height)
        return None if raw is None else decode_certificate(raw)

    def active_key(self, address: bytes) -> bytes:
        """The key that signs for an account now: its founding key until rotated."""
        raw = self._store.get(account_key(address))
        return address if raw is None else decode_account(raw).active_key or address

    # ---- consensus.ports.Application -------------------------------------------------------------

    def build(self, request: int, parent: Tip, *, allow_empty: bool) -> None:
        """Make a block on the tip."""
        if not allow_empty and not self._work_waits:
            self._answers.on_built(request, None)
        else:
            self._spawn(self._build(request, parent, allow_empty=allow_empty))

    def validate(self, proposal: Proposal, *, fresh: bool) -> None:
        """Execute and judge a block."""
        self._spawn(self._validate(proposal, fresh=fresh))

    def apply(self, proposal: Proposal, certificate: CommitCertificate) -> None:
        """Write a decided block durably."""
        self._spawn(self._apply(proposal, certificate))

    def mempool_changed(self) -> None:
        """Admission added something."""
        self._tell_whether_work_waits()

    async def watch_scores(self) -> None:
        """Say when an epoch's scores become due, until cancelled.

        The block that carries them is work like any other. Were it left to heartbeats, an idle
        chain whose heartbeats fall between a boundary and its score delay would never score.
        """
        while True:
            await asyncio.sleep(min(self._until_scores_due_ms(), SCORES_WATCH_MS) / 1_000)
            self._tell_whether_work_waits()

    @property
    def _work_waits(self) -> bool:
        return self.mempool.waiting or self._epoch_due(self._clock.now_ms()) is not None

    def _tell_whether_work_waits(self) -> None:
        self._answers.on_transactions_waiting(waiting=self._work_waits)

    @property
    def _answers(self) -> Answers:
        assert self._replica is not None
        return self._replica

    # ---- building --------------------------------------------------------------------------------

    async def _build(self, request: int, parent: Tip, *, allow_empty: bool) -> None:
        time_ms = max(self._clock.now_ms(), parent.time_ms + 1)
        scored = await self._scores_due(time_ms)
        if not self._is_current(parent):
            return
        proposal = self._propose(parent, time_ms, scored, allow_empty=allow_empty)
        self._answers.on_built(request, proposal)

    def _propose(
        self, parent: Tip, time_ms: int, scored: ScoredEpoch | None, *, allow_empty: bool
    ) -> Proposal | None:
        """Select, execute, seal. None when nothing is left and an empty block is not wanted.

        One that carries scores is not empty.
        """
        assert self._operator is not None
        params = self.params()
        limit = self._pace.limit_count(params.block_max_txs)
        selected = self.mempool.select(limit, params.block_max_bytes)
        outcome = execute_block(
            self._store,
            self.tree,
            self._facts(parent.height + 1, time_ms, self._operator),
            selected,
            scores=scored,
            mode="build",
        )
        for signed, refusal in outcome.dropped:
            if refusal.reason == "NONCE_TOO_HIGH":
                continue  # its predecessor was dropped, which parks it
            self.mempool.remove(signed.transaction_id, refusal.reason)
        if not outcome.included and scored is None and not allow_empty:
            return None
        header = BlockHeader(
            version=BLOCK_VERSION,
            chain_id=self.chain.chain_id,
            height=parent.height + 1,
            time_ms=time_ms,
            parent_hash=parent.block_hash,
            last_commit_hash=last_commit_hash(parent.certificate),
            tx_root=transactions_root([signed.full_hash for signed in outcome.included]),
            receipts_root=outcome.receipts_root,
            state_root=outcome.state_root,
            validators_hash=self.validators().hash,
            next_validators_hash=outcome.next_validators.hash,
            params_hash=outcome.params_hash,
            next_mode="pbft",
            proposer=self._operator,
        )
        block = Block(header, parent.certificate, tuple(signed.raw for signed in outcome.included))
        block_hash = header.hash()
        self._keep(block_hash, Executed(block, outcome))
        return Proposal(header, block_hash, block.encode())

    # ---- judging ---------------------------------------------------------------------------------

    async def _validate(self, proposal: Proposal, *, fresh: bool) -> None:
        parent = self._tip
        if proposal.block_hash in self._executed:
            self._answers.on_validated(proposal.block_hash, ok=True)
            return
        try:
            if fresh:
                await self._until_acceptable(proposal.header.time_ms)
            executed = await self._execute(proposal, parent)
        except (InvalidBlock, InvalidCertificate, MalformedData, TransactionRefused) as error:
            self._trace(BlockRefused(proposal.header.height, proposal.block_hash, str(error)))
            self._answers.on_validated(proposal.block_hash, ok=False)
            return
        if executed is not None:
            self._keep(proposal.block_hash, executed)
            self._answers.on_validated(proposal.block_hash, ok=True)

    async def _until_acceptable(self, time_ms: int) -> None:
        """Hold a proposal that is early by the proposer's clock. Far too early is refused."""
        early_ms = time_ms - self._clock.now_ms() - self.params().max_clock_drift_ms
        if early_ms > HOLD_LIMIT_MS:
            raise InvalidBlock("time", f"{early_ms} ms ahead of this clock beyond the drift")
        if early_ms > 0:
            await asyncio.sleep(early_ms / 1_000)

    async def _execute(self, proposal: Proposal, parent: Tip) -> Executed | None:
        """Run a block on `parent`. None when the tip has moved meanwhile.

        Raises InvalidBlock, InvalidCertificate, MalformedData or TransactionRefused.
        """
        block = decode_block(proposal.block)
        header = block.header
        self._check_header(header, parent)
        params = self.params()
        check_block_shape(block, params.block_max_bytes, params.block_max_txs)
        self._check_last_commit(block, parent)
        transactions = await self._verified(block, params)
        scored = await self._scores_due(header.time_ms)
        if not self._is_current(parent):
            return None
        if transactions_root([signed.full_hash for signed in transactions]) != header.tx_root:
            raise InvalidBlock("tx_root", "does not match the transactions in the block")
        outcome = execute_block(
            self._store,
            self.tree,
            self._facts(header.height, header.time_ms, header.proposer),
            transactions,
            scores=scored,
        )
        for name, found, stated in (
            ("receipts_root", outcome.receipts_root, header.receipts_root),
            ("state_root", outcome.state_root, header.state_root),
            ("next_validators_hash", outcome.next_validators.hash, header.next_validators_hash),
            ("params_hash", outcome.params_hash, header.params_hash),
        ):
            if found != stated:
                raise InvalidBlock(name, f"executing gives {found.hex()}, not {stated.hex()}")
        return Executed(block, outcome)

    def _check_header(self, header: BlockHeader, parent: Tip) -> None:
        for name, holds in (
            ("version", header.version == BLOCK_VERSION),
            ("chain_id", header.chain_id == self.chain.chain_id),
            ("height", header.height == parent.height + 1),
            ("parent_hash", header.parent_hash == parent.block_hash),
            ("time", header.time_ms > parent.time_ms),
            ("validators_hash", header.validators_hash == self.validators().hash),
            ("next_mode", header.next_mode == "pbft"),
        ):
            if not holds:
                raise InvalidBlock(name, f"of block {header.height} does not follow")

    def _check_last_commit(self, block: Block, parent: Tip) -> None:
        certificate = block.last_commit
        if last_commit_hash(certificate) != block.header.last_commit_hash:
            raise InvalidBlock("last_commit_hash", "does not match the certificate in the block")
        if certificate is None:
            return
        if certificate.height != parent.height or certificate.block_hash != parent.block_hash:
            raise InvalidBlock("last_commit", "certifies another block than the parent")
        assert self._previous_validators is not None
        verify_certificate(
            certificate,
            genesis_hash=self.chain.genesis_hash,
            chain_id=self.chain.chain_id,
            validators=self._previous_validators,
            verify_signature=self._verify,
        )

    async def _verified(self, block: Block, params: ChainParams) -> list[SignedTransaction]:
        """Decoded transactions whose signatures hold; those of the mempool are known to."""
        transactions: list[SignedTransaction] = []
        known = self.mempool.get_by_full_hash
        now_s = asyncio.get_running_loop().time
        slice_ends_s = now_s() + SLICE_S
        for raw in block.transactions:
            signed = known(sha256(raw))
            if signed is None:
                signed = decode_transaction(raw, self.chain.genesis_hash, params.tx_max_bytes)
            self._signatures.check(signed, params, self.active_key)
            transactions.append(signed)
            if now_s() >= slice_ends_s:
                await asyncio.sleep(0)
                slice_ends_s = now_s() + SLICE_S
        return transactions

    # ---- applying --------------------------------------------------------------------------------

    async def _apply(self, proposal: Proposal, certificate: CommitCertificate) -> None:
        parent = self._tip
        executed = self._executed.get(proposal.block_hash)
        if executed is None:
            try:
                executed = await self._execute(proposal, parent)
            except (InvalidBlock, InvalidCertificate, MalformedData, TransactionRefused) as error:
                raise StateDiverged(proposal.header.height, str(error)) from error
        assert executed is not None, "only apply moves the tip"
        await self._write(proposal, certificate, executed)
        self._move_tip(proposal, certificate, executed)

    async def _write(
        self, proposal: Proposal, certificate: CommitCertificate, executed: Executed
    ) -> None:
        """One atomic synced batch. Readers stay at the old tip until it is finished."""
        prepared = self._store.prepare_block(
            block_record(proposal, certificate, executed.block, executed.outcome)
        )
        self._writing = True
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._store_thread, prepared.write)
        self._store.finish(prepared)
        self._writing = False

    def _move_tip(
        self, proposal: Proposal, certificate: CommitCertificate, executed: Executed
    ) -> None:
        outcome = executed.outcome
        header = proposal.header
        previous_time_ms = self._tip.time_ms
        self.tree.apply(outcome.tree_update)
        self._executed.clear()
        self._previous_validators = validator_set(self._store, header.validators_hash)
        self._tip = Tip(header.height, proposal.block_hash, header.time_ms, certificate)
        epoch = epoch_at(header.time_ms, self._genesis_time_ms, self.params())
        self._scores.feed(outcome.writes, epoch)
        self._prefetch_scores(previous_time_ms, header.time_ms)
        self.mempool.update(
            outcome.included,
            outcome.changed_accounts,
            lambda address: read_account(self._store, address),
            header.height + 1,
        )
        self._pace.block_applied(len(outcome.included), certificate.round, self._clock.now_ms())
        self._trace(_stored(header, executed))
        for callback in self._on_block:
            callback(self._tip, outcome.included, outcome)
        self._tell_whether_work_waits()
        self._answers.on_applied(self._tip)

    # ---- scores ----------------------------------------------------------------------------------

    async def _scores_due(self, time_ms: int) -> ScoredEpoch | None:
        """The scores that a block at `time_ms` on the tip must carry, when they are computed."""
        epoch = self._epoch_due(time_ms)
        if epoch is None:
            return None
        return await asyncio.shield(self._scores.request(self._store, epoch))

    def _epoch_due(self, time_ms: int) -> int | None:
        """The epoch whose scores a block at `time_ms` on the tip must carry, or None."""
        last_scored = read_epoch_state(self._store).last_scored
        return due_epoch(time_ms, self._genesis_time_ms, self.params(), last_scored)

    def _until_scores_due_ms(self) -> int:
        """From now to the next moment at which an epoch's scores become due, > 0."""
        params, now_ms = self.params(), self._clock.now_ms()
        since_ms = now_ms - self._genesis_time_ms - params.score_delay_ms
        return params.epoch_ms - since_ms % params.epoch_ms

    def _prefetch_scores(self, previous_time_ms: int, time_ms: int) -> None:
        """Begin computing an epoch as soon as a block of the next one stands.

        Not if that block carried the scores already: the seeds' new qualities, which stand in the
        state by now, belong to the next epoch and would replace the committed table by another.
        """
        params = self.params()
        epoch = epoch_at(time_ms, self._genesis_time_ms, params)
        if epoch > max(0, epoch_at(previous_time_ms, self._genesis_time_ms, params)):
            if read_epoch_state(self._store).last_scored < epoch - 1:
                self._scores.request(self._store, epoch - 1)
            self._scores.forget_before(epoch - 1 - params.score_history_epochs)

    # ---- small things ----------------------------------------------------------------------------

    def _facts(self, height: int, time_ms: int, proposer: bytes) -> BlockFacts:
        return BlockFacts(
            chain_id=self.chain.chain_id,
            genesis_time_ms=self._genesis_time_ms,
            height=height,
            time_ms=time_ms,
            proposer=proposer,
        )

    def _is_current(self, parent: Tip) -> bool:
        return not self._writing and self._tip.height == parent.height

    def _keep(self, block_hash: bytes, executed: Executed) -> None:
        self._executed[block_hash] = executed
        if len(self._executed) > OUTCOMES_KEPT:
            self._executed.popitem(last=False)


def _stored(header: BlockHeader, executed: Executed) -> BlockStored:
    return BlockStored(
        height=header.height,
        time_ms=header.time_ms,
        transactions=len(executed.outcome.included),
        failed=executed.outcome.failed_count,
        size_bytes=sum(map(len, executed.block.transactions)),
        state_root=executed.outcome.state_root,
    )
