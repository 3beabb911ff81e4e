"""A validator's application without consensus and network: real store, tree, mempool, execution.

The replica, the clock and the score keeper are stand-ins that record and obey. Several benches
with different indexes are several validators of one network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from consensus.engine import Proposal, Tip
from genesis.definition import NetworkDefinition, to_core
from genesis.devnet import devnet_document
from genesis.wellknown import account_key, validator_keys
from ledger.block import Block, BlockHeader, decode_block, last_commit_hash, transactions_root
from ledger.certificate import VOTE_COMMIT, CommitCertificate, Vote, make_certificate
from ledger.crypto import PrivateKey, sha256, verify
from ledger.mempool import Mempool, MempoolLimits
from ledger.params import DEVNET_PARAMS, ChainParams
from ledger.reputation.score_tree import ScoreCommitment
from ledger.state import ScoredEpoch, read_account
from ledger.store import LevelStore
from ledger.trace import TraceEvent
from ledger.transactions import SignedTransaction, Transaction, Transfer, sign_transaction
from ledger.verification import SignatureCache
from ledger.view import ReadView
from node.application import LedgerApplication
from node.chain_store import begin_chain
from node.scores import ScoreKeeper

GENESIS_MS = 1_700_000_000_000
FEE = 1_000
DEADLINE_S = 10.0

T = TypeVar("T")


def make_network(params: ChainParams = DEVNET_PARAMS) -> NetworkDefinition:
    """The devnet of four validators, with other parameters."""
    return to_core(devnet_document(genesis_time_ms=GENESIS_MS, params=params))


NETWORK = make_network()


def key_of(name: str) -> PrivateKey:
    """A well-known account's key."""
    key = account_key(name)
    assert key is not None
    return key


def sign(transaction: Transaction, name: str, network: NetworkDefinition) -> SignedTransaction:
    """Signed for the network."""
    return sign_transaction(transaction, key_of(name), network.genesis_hash)


def transfer(
    nonce: int,
    *,
    sender: str = "alice",
    to: str = "bob",
    amount: int = 5,
    fee: int = FEE,
    network: NetworkDefinition = NETWORK,
) -> SignedTransaction:
    """A signed transfer."""
    return sign(
        Transfer(
            network.chain_id,
            key_of(sender).public_key,
            nonce,
            fee,
            0,
            key_of(to).public_key,
            amount,
        ),
        sender,
        network,
    )


def certify(
    header: BlockHeader,
    signers: Iterable[int] = (0, 1, 2),
    network: NetworkDefinition = NETWORK,
    round_number: int = 0,
) -> CommitCertificate:
    """The COMMITs of these indexes of the validator set."""
    validators = network.validators
    keys = {each.public_key: each for each in (validator_keys(i).consensus for i in range(4))}
    vote = Vote(header.chain_id, "pbft", VOTE_COMMIT, header.height, round_number, header.hash())
    digest = vote.digest(network.genesis_hash)
    return make_certificate(
        mode="pbft",
        chain_id=header.chain_id,
        height=header.height,
        round=round_number,
        block_hash=header.hash(),
        validators=validators,
        signatures={index: keys[validators[index].consensus_key].sign(digest) for index in signers},
    )


def altered(proposal: Proposal, *, body: bool = True, **changes: Any) -> Proposal:
    """The block with other header fields, `transactions` or `last_commit`.

    The header's own commitments to the body follow unless `body` is false.
    """
    block = decode_block(proposal.block)
    transactions = tuple(changes.pop("transactions", block.transactions))
    last_commit = changes.pop("last_commit", block.last_commit)
    if body:
        changes.setdefault("tx_root", transactions_root([sha256(raw) for raw in transactions]))
        changes.setdefault("last_commit_hash", last_commit_hash(last_commit))
    header = msgspec.structs.replace(block.header, **changes)
    return Proposal(header, header.hash(), Block(header, last_commit, transactions).encode())


class ManualClock:
    """Wall time that stands still until it is moved."""

    def __init__(self, now_ms: int = GENESIS_MS + 1) -> None:
        self.time_ms = now_ms

    def now_ms(self) -> int:
        """Now."""
        return self.time_ms


class RecordingReplica:
    """Keeps the application's answers, in order."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, Any]] = []
        self._arrived = asyncio.Event()

    def on_built(self, request: int, proposal: Proposal | None) -> None:
        """As consensus.replica."""
        self._note("built", (request, proposal))

    def on_validated(self, block_hash: bytes, *, ok: bool) -> None:
        """As consensus.replica."""
        self._note("validated", (block_hash, ok))

    def on_applied(self, tip: Tip) -> None:
        """As consensus.replica."""
        self._note("applied", tip)

    def on_transactions_waiting(self, *, waiting: bool) -> None:
        """As consensus.replica."""
        self._note("waiting", waiting)

    def _note(self, kind: str, value: Any) -> None:
        self.answers.append((kind, value))
        self._arrived.set()

    def of(self, kind: str) -> list[Any]:
        """The answers of a kind."""
        return [value for name, value in self.answers if name == kind]

    async def next(self, kind: str, after: int) -> Any:
        """The answer of a kind that comes after so many of them."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.of(kind)) <= after:
                self._arrived.clear()
                await self._arrived.wait()
        return self.of(kind)[after]


class ScriptedScores(ScoreKeeper):
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.requests: list[int] = []
        self.fed: list[tuple[dict[bytes, bytes | None], int]] = []
        self.forgotten: list[int] = []
        self.pending: dict[int, asyncio.Future[ScoredEpoch]] = {}
        self.answers_at_once = True

    def feed(self, writes: dict[bytes, bytes | None], epoch: int) -> None:
        """As node.scores."""
        self.fed.append((writes, epoch))

    def request(self, view: ReadView, epoch: int) -> asyncio.Future[ScoredEpoch]:
        """As node.scores."""
        self.requests.append(epoch)
        future = self.pending.get(epoch)
        if future is None:
            future = self.pending[epoch] = asyncio.get_running_loop().create_future()
            if self.answers_at_once:
                self.answer(epoch)
        return future

    def answer(self, epoch: int, root: bytes = bytes(32)) -> None:
        """The computation is done."""
        future = self.pending.setdefault(epoch, asyncio.get_running_loop().create_future())
        future.set_result(scored(epoch, root))

    def forget_before(self, epoch: int) -> None:
        """As node.scores."""
        self.forgotten.append(epoch)


def scored(epoch: int, root: bytes = bytes(32)) -> ScoredEpoch:
    """Some scores of an epoch; different roots are different scores."""
    return ScoredEpoch(ScoreCommitment(epoch, root, 0), ())


class Bench:
    """One validator's application. Its tasks' exceptions are raised by `failure`."""

    def __init__(self, folder: Path, index: int = 0, network: NetworkDefinition = NETWORK) -> None:
        self.network = network
        self.folder = folder
        self.events: list[TraceEvent] = []
        self.replica = RecordingReplica()
        self.clock = ManualClock()
        self.scores = ScriptedScores()
        self.tasks: list[asyncio.Task[None]] = []
        self.thread = ThreadPoolExecutor(1)
        self.store = LevelStore(str(folder / f"store-{index}"), network.genesis_hash)
        self.mempool = Mempool(MempoolLimits(), self.events.append)
        self.signatures = SignatureCache(network.genesis_hash)
        self.application = LedgerApplication(
            network=network,
            store=self.store,
            tree=begin_chain(self.store, network),
            mempool=self.mempool,
            signatures=self.signatures,
            scores=self.scores,
            clock=self.clock,
            operator=validator_keys(index).operator.public_key,
            spawn=self._spawn,
            store_thread=self.thread,
            verify_signature=verify,
            tracer=self.events.append,
        )
        self.application.attach(self.replica)
        self._requests = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        self.thread.shutdown()
        self.store.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    # ---- acts ------------------------------------------------------------------------------------

    def add(self, *transactions: SignedTransaction) -> None:
        """Into the mempool, as admission does."""
        for signed in transactions:
            sender = signed.transaction.sender
            self.signatures.check(signed, self.application.params(), self.application.active_key)
            self.mempool.add(
                signed, read_account(self.store, sender), self.application.tip.height + 1
            )

    async def build(self, *, allow_empty: bool = True) -> Proposal | None:
        """What it would propose now."""
        self._requests += 1
        before = len(self.replica.of("built"))
        self.application.build(self._requests, self.application.tip, allow_empty=allow_empty)
        request, proposal = await self.replica.next("built", before)
        assert request == self._requests
        assert proposal is None or isinstance(proposal, Proposal)
        return proposal

    async def built(self) -> Proposal:
        """As `build`, and it must be a block."""
        proposal = await self.build()
        assert proposal is not None
        return proposal

    async def validate(self, proposal: Proposal, *, fresh: bool = True) -> bool:
        """Its verdict."""
        before = len(self.replica.of("validated"))
        self.application.validate(proposal, fresh=fresh)
        block_hash, ok = await self.replica.next("validated", before)
        assert block_hash == proposal.block_hash
        assert isinstance(ok, bool)
        return ok

    async def apply(self, proposal: Proposal, certificate: CommitCertificate | None = None) -> Tip:
        """Until it is durable."""
        before = len(self.replica.of("applied"))
        certificate = certificate or certify(proposal.header, network=self.network)
        self.application.apply(proposal, certificate)
        tip = await self.replica.next("applied", before)
        assert isinstance(tip, Tip)
        return tip

    async def failure(self) -> BaseException:
        """What one of its tasks dies of."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for task in self.tasks:
                    if task.done() and not task.cancelled() and task.exception() is not None:
                        error = task.exception()
                        assert error is not None
                        return error
                await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
                self.tasks = [each for each in self.tasks if not each.done() or each.exception()]

    def seen(self, kind: type[T]) -> list[T]:
        """Trace events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


async def turns(count: int = 20) -> None:
    """Let everything happen that needs no waiting."""
    for _ in range(count):
        await asyncio.sleep(0)
