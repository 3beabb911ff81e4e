"""A validator's ledger without its network: application, store, mempool and admission, one process.

Blocks are made by hand, certified with the test validators' keys, and given to the application
through the port that the replica uses, so a test can play any proposer and any peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from consensus.engine import Proposal, Tip
from genesis.definition import NetworkDefinition
from ledger.block import (
    BLOCK_VERSION,
    Block,
    BlockHeader,
    last_commit_hash,
    transactions_root,
)
from ledger.certificate import CommitCertificate
from ledger.crypto import verify
from ledger.execution.block import execute_block
from ledger.execution.context import BlockFacts
from ledger.mempool import Mempool, MempoolLimits
from ledger.params import DEVNET_PARAMS, MICRO, ChainParams
from ledger.reputation.score_tree import ScoreCommitment, ScoreTable
from ledger.state import ScoredEpoch
from ledger.store import LevelStore
from ledger.trace import TraceEvent
from ledger.transactions import SignedTransaction
from ledger.validators import ValidatorSet
from ledger.verification import SignatureCache
from ledger.view import ReadView
from node.admission import Admission, Finality, dropping_tracer
from node.application import LedgerApplication
from node.chain_store import begin_chain
from node.scores import ScoreKeeper
from tests.kit.chain import CHAIN, GENESIS_HASH, GENESIS_TIME_MS, address_of, make_validators
from tests.kit.rpc_node import certify

PEOPLE = ("alice", "bob", "carol", "mallory")


def network(
    *,
    params: ChainParams = DEVNET_PARAMS,
    validators: ValidatorSet | None = None,
    seeds: Sequence[str] = ("val-0",),
    balances: dict[str, int] | None = None,
) -> NetworkDefinition:
    """The test chain's definition, as a node would read it from its file."""
    held = balances or dict.fromkeys(PEOPLE, 1_000 * MICRO)
    return NetworkDefinition(
        identity=CHAIN,
        mode="pbft",
        is_devnet=True,
        genesis_time_ms=GENESIS_TIME_MS,
        params=params,
        validators=validators or make_validators(),
        validator_names=(),
        balances=tuple(sorted((address_of(name), amount) for name, amount in held.items())),
        seeds=tuple(sorted(map(address_of, seeds))),
    )


class HandClock:
    """Wall time that a test moves."""

    def __init__(self) -> None:
        self.time_ms = GENESIS_TIME_MS + 1_000

    def now_ms(self) -> int:
        return self.time_ms


class NoScores:
    """Stands where the score worker stands; every epoch has no scores."""

    def request(self, _view: ReadView, epoch: int) -> asyncio.Future[ScoredEpoch]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(ScoredEpoch(ScoreCommitment(epoch, bytes(32), 0), ()))
        return future

    def feed(self, *_: object) -> None:
        """Nothing to follow."""

    def forget_before(self, _epoch: int) -> None:
        """Nothing held."""

    def table(self, _epoch: int) -> ScoreTable | None:
        return None


class Answers:
    """What the application told its replica."""

    def __init__(self) -> None:
        self.built: list[Proposal | None] = []
        self.verdicts: dict[bytes, bool] = {}
        self.applied: list[Tip] = []
        self.waiting = False

    def on_built(self, _request: int, proposal: Proposal | None) -> None:
        self.built.append(proposal)

    def on_validated(self, block_hash: bytes, *, ok: bool) -> None:
        self.verdicts[block_hash] = ok

    def on_applied(self, tip: Tip) -> None:
        self.applied.append(tip)

    def on_transactions_waiting(self, *, waiting: bool) -> None:
        self.waiting = waiting


class QuietNetwork:
    """Stands where NodeNetwork stands for admission: batches are handed in, charges noted."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[tuple[str, list[bytes]]] = asyncio.Queue()
        self.idle = asyncio.Event()
        self.spread_raws: list[bytes] = []
        self.charges: list[tuple[str, str]] = []

    async def next_batch(self) -> tuple[str, list[bytes]]:
        if self.batches.empty():
            self.idle.set()
        return await self.batches.get()

    def hand_in(self, peer: str, *raws: bytes) -> None:
        """A batch from a peer; `idle` is set when it and all before it were dealt with."""
        self.idle.clear()
        self.batches.put_nowait((peer, list(raws)))

    def spread(self, raws: Sequence[bytes]) -> None:
        self.spread_raws.extend(raws)

    def forget_batches(self, _peer: str) -> None:
        """Batches are handed in one by one here."""

    def charge_peer(self, peer: str, kind: str, _points: int) -> None:
        self.charges.append((peer, kind))


class Ledger(AbstractAsyncContextManager["Ledger"]):
    """See the module. Use as a context manager in a running loop."""

    def __init__(
        self,
        home: Path,
        definition: NetworkDefinition | None = None,
        *,
        scores: Any = None,
        limits: MempoolLimits | None = None,
    ) -> None:
        home.mkdir(exist_ok=True)
        self.network = definition or network()
        self.clock = HandClock()
        self.events: list[TraceEvent] = []
        self.answers = Answers()
        self.tasks: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []
        self.store = LevelStore(str(home / "db"), GENESIS_HASH)
        self.tree = begin_chain(self.store, self.network)
        self.finality = Finality()
        self.mempool = Mempool(limits, dropping_tracer(self.finality, self.events.append))
        self.signatures = SignatureCache(GENESIS_HASH)
        self.scores = scores or NoScores()
        self.thread = ThreadPoolExecutor(1)
        self.application = LedgerApplication(
            network=self.network,
            store=self.store,
            tree=self.tree,
            mempool=self.mempool,
            signatures=self.signatures,
            scores=self.scores,
            clock=self.clock,
            operator=self.network.validators[0].operator,
            spawn=self._spawn,
            store_thread=self.thread,
            verify_signature=verify,
            tracer=self.events.append,
        )
        self.application.attach(self.answers)
        self.quiet = QuietNetwork()
        self.admission = Admission(
            self.application,
            self.store,
            self.mempool,
            self.signatures,
            self.quiet,  # type: ignore[arg-type]
            self.finality,
            self.events.append,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failures.append(task.exception())  # type: ignore[arg-type]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.thread.shutdown()
        self.store.close()

    async def __aenter__(self) -> Self:
        return self

    # ---- blocks ----------------------------------------------------------------------------------

    async def seal(
        self,
        *transactions: SignedTransaction,
        time_ms: int | None = None,
        proposer: bytes | None = None,
        scores: ScoredEpoch | None = None,
        **lies: Any,
    ) -> Proposal:
        """A proposal on the tip, true but for the header fields named in `lies`."""
        tip = self.application.tip
        time_ms = tip.time_ms + 1_000 if time_ms is None else time_ms
        proposer = proposer or self.network.validators[0].operator
        facts = BlockFacts(CHAIN.chain_id, GENESIS_TIME_MS, tip.height + 1, time_ms, proposer)
        if scores is None:
            scores = await self.application._scores_due(time_ms)
        outcome = execute_block(
            self.store, self.tree, facts, transactions, scores=scores, mode="build"
        )
        fields = {
            "version": BLOCK_VERSION,
            "chain_id": CHAIN.chain_id,
            "height": tip.height + 1,
            "time_ms": time_ms,
            "parent_hash": tip.block_hash,
            "last_commit_hash": last_commit_hash(tip.certificate),
            "tx_root": transactions_root([each.full_hash for each in transactions]),
            "receipts_root": outcome.receipts_root,
            "state_root": outcome.state_root,
            "validators_hash": self.application.validators().hash,
            "next_validators_hash": outcome.next_validators.hash,
            "params_hash": outcome.params_hash,
            "next_mode": "pbft",
            "proposer": proposer,
        }
        header = BlockHeader(**{**fields, **lies})  # type: ignore[arg-type]
        return proposal_of(header, tip.certificate, transactions)

    async def judge(self, proposal: Proposal, *, fresh: bool = True) -> bool:
        """Whether this validator would vote for it."""
        self.answers.verdicts.pop(proposal.block_hash, None)
        self.application.validate(proposal, fresh=fresh)
        await self.settle()
        return self.answers.verdicts[proposal.block_hash]

    async def commit(self, proposal: Proposal) -> None:
        """Apply it as decided by all validators."""
        certificate = certify(proposal.header, self.application.validators())
        self.application.apply(proposal, certificate)
        await self.settle()
        assert not self.failures, self.failures

    async def block(self, *transactions: SignedTransaction, time_ms: int | None = None) -> Proposal:
        """Seal and commit."""
        proposal = await self.seal(*transactions, time_ms=time_ms)
        await self.commit(proposal)
        return proposal

    async def settle(self) -> None:
        """Until every task of the application has ended."""
        async with asyncio.timeout(20):
            while self.tasks:
                await asyncio.wait(list(self.tasks))


def proposal_of(
    header: BlockHeader,
    last_commit: CommitCertificate | None,
    transactions: Sequence[SignedTransaction],
) -> Proposal:
    """The proposal of exactly these."""
    raws = tuple(each.raw for each in transactions)
    return Proposal(header, header.hash(), Block(header, last_commit, raws).encode())


async def keeper(folder: Path) -> tuple[ScoreKeeper, asyncio.Task[None]]:
    """A score keeper with its worker process, running."""
    scores = ScoreKeeper(folder)
    await scores.start(())
    return scores, asyncio.get_running_loop().create_task(scores.run())
