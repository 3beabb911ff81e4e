"""A node without consensus and network behind the RPC: real store, state, mempool and execution.

Blocks are made on demand, certified with the test validators' keys, and written to a LevelDB.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ledger.block import BLOCK_VERSION, Block, BlockHeader, last_commit_hash, transactions_root
from ledger.certificate import (
    VOTE_COMMIT,
    CommitCertificate,
    Vote,
    decode_certificate,
    make_certificate,
)
from ledger.crypto import PrivateKey
from ledger.errors import MalformedData
from ledger.genesis_state import genesis_writes
from ledger.mempool import Mempool
from ledger.params import MICRO
from ledger.reasons import TransactionRefused
from ledger.reputation.edge_table import EdgeTable
from ledger.reputation.epoch import ReputationParams
from ledger.reputation.score_tree import Score, ScoreTable, build
from ledger.state import (
    PAIR_PREFIX,
    VALIDATORS_KEY,
    ScoredEpoch,
    read_account,
    read_epoch_state,
    read_params,
    read_seeds,
    read_validators,
)
from ledger.state_proof import StateProof
from ledger.state_tree import StateTree
from ledger.store import BlockRecord, LevelStore
from ledger.transactions import ChainIdentity, SignedTransaction, decode_transaction
from ledger.validators import ValidatorSet
from ledger.verification import SignatureCache, check_stateless
from ledger.view import ReadView
from node.dry_run import dry_run
from rpc.feed import BlockStands, FeedEvent, Listener, TransactionLeft, TransactionsWait
from rpc.ports import (
    Committed,
    ConsensusStatus,
    Explanation,
    MempoolStatus,
    NetworkStatus,
    NodeBusy,
    PeerStatus,
    Pending,
    Simulated,
    SyncStatus,
    Tip,
    TransactionState,
    Waiting,
)
from tests.kit.chain import CHAIN, GENESIS_HASH, GENESIS_TIME_MS, SmallChain, address_of, key_of

VALIDATOR_NAMES = ("val-0", "val-1", "val-2", "val-3", "val-4", "val-5", "val-6", "val-7")


def consensus_keys() -> dict[bytes, PrivateKey]:
    """Consensus public key → private key, of every validator a test may use."""
    keys = [key_of(f"{name} consensus") for name in VALIDATOR_NAMES]
    return {key.public_key: key for key in keys}


def certify(
    header: BlockHeader,
    validators: ValidatorSet,
    signers: Iterable[int] | None = None,
    *,
    genesis_hash: bytes = GENESIS_HASH,
) -> CommitCertificate:
    """A certificate of round 0 by these indexes, all unless said otherwise."""
    keys = consensus_keys()
    vote = Vote(header.chain_id, "pbft", VOTE_COMMIT, header.height, 0, header.hash())
    digest = vote.digest(genesis_hash)
    indexes = range(len(validators)) if signers is None else signers
    return make_certificate(
        mode="pbft",
        chain_id=header.chain_id,
        height=header.height,
        round=0,
        block_hash=header.hash(),
        validators=validators,
        signatures={index: keys[validators[index].consensus_key].sign(digest) for index in indexes},
    )


class RpcNode(SmallChain):
    """Implements rpc.ports.NodeApi and rpc.feed.Feed. Make blocks with `make_block`."""

    version = "0.0-test"
    chain: ChainIdentity = CHAIN

    def __init__(self, home: Path, balances: dict[str, int] | None = None) -> None:
        self.store = LevelStore(str(home / "db"), GENESIS_HASH)
        self.mempool_ = Mempool()
        self.signatures = SignatureCache(GENESIS_HASH)
        self.tables: dict[int, ScoreTable] = {}
        self.sets: dict[bytes, ValidatorSet] = {}
        self.changes: list[int] = []
        self.scored: list[tuple[int, int]] = []
        self.not_ready: str | None = None
        self.target_height: int | None = None
        self.peer_list: list[PeerStatus] = []
        self.document = b'{"chain_id":"tally-test"}'
        self.waits: list[tuple[set[bytes], asyncio.Future[None]]] = []
        self.on_submit: Callable[[], None] = lambda: None
        self.listeners: list[Listener] = []
        self.is_busy = False
        self.network_status = NetworkStatus(
            address_of("val-0 node"), "127.0.0.1:26656", "tally/0.0-test", 0, (), ()
        )
        people = balances or dict.fromkeys(("alice", "bob", "carol"), 1000 * MICRO)
        super().__init__(balances=people)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sets[self.validators.hash] = self.validators
        # The base class has put the genesis state into memory; here it goes to disk instead.
        writes = genesis_writes(
            params=self.params,
            validators=self.validators,
            balances=[(address_of(name), amount) for name, amount in self.balances.items()],
            seeds=[each.operator for each in self.validators.validators],
        )
        self.tree = StateTree()
        update = self.tree.update(writes)
        self.store.begin_chain(
            height=0, block_hash=GENESIS_HASH, state_writes=writes, tree_update=update
        )
        self.tree.apply(update)
        self.view = self.store  # type: ignore[assignment] # a ReadView, which is all that is used

    def close(self) -> None:
        """Closes the database."""
        self.store.close()

    # ---- blocks ----------------------------------------------------------------------------------

    def make_block(
        self,
        *more: SignedTransaction,
        time_ms: int | None = None,
        scores: ScoredEpoch | None = None,
        next_validators: ValidatorSet | None = None,
        signers: Iterable[int] | None = None,
    ) -> BlockHeader:
        """A block of what waits in the mempool and of `more`, committed."""
        validators = read_validators(self.view)
        self.proposer = validators[0].operator
        facts = self.facts(time_ms)
        waiting = self.mempool_.select(10_000, 4 << 20)
        outcome = self.execute(*waiting, *more, mode="build", time_ms=facts.time_ms, scores=scores)
        writes, update = outcome.writes, outcome.tree_update
        if next_validators is not None:
            self.sets[next_validators.hash] = next_validators
            self.changes.append(facts.height)
            writes = {**writes, VALIDATORS_KEY: next_validators.encode()}
            update = self.tree.update(writes)
        parent = self.tip()
        raw_parent = self.store.certificate(parent.height) if parent.height else None
        last_commit = None if raw_parent is None else decode_certificate(raw_parent)
        header = BlockHeader(
            version=BLOCK_VERSION,
            chain_id=CHAIN.chain_id,
            height=facts.height,
            time_ms=facts.time_ms,
            parent_hash=parent.block_hash,
            last_commit_hash=last_commit_hash(last_commit),
            tx_root=transactions_root([each.full_hash for each in outcome.included]),
            receipts_root=outcome.receipts_root,
            state_root=update.root,
            validators_hash=validators.hash,
            next_validators_hash=(next_validators or validators).hash,
            params_hash=outcome.params_hash,
            next_mode="pbft",
            proposer=facts.proposer,
        )
        raws = [each.raw for each in outcome.included]
        topics: dict[bytes, list[int]] = {}
        for position, signed in enumerate(outcome.included):
            for address in {signed.transaction.sender, getattr(signed.transaction, "to", b"")}:
                topics.setdefault(address, []).append(position)
        topics.pop(b"", None)
        self.store.commit_block(
            BlockRecord(
                height=facts.height,
                block_hash=header.hash(),
                header=header.encode(),
                block=Block(header, last_commit, tuple(raws)).encode(),
                certificate=certify(header, validators, signers).encode(),
                transactions=raws,
                transaction_ids=[each.transaction_id for each in outcome.included],
                receipts=outcome.receipts,
                state_writes=writes,
                tree_update=update,
                topics=topics,
            )
        )
        self.tree.apply(update)
        self.height, self.time_ms = facts.height, facts.time_ms
        self.mempool_.update(
            outcome.included,
            outcome.changed_accounts,
            lambda address: read_account(self.view, address),
            self.height + 1,
        )
        self._wake()
        if scores is not None:
            self.scored.append((scores.commitment.epoch, facts.height))
        self.tell(
            BlockStands(
                facts.height,
                outcome.changed_accounts,
                None if scores is None else scores.commitment.epoch,
                next_validators is not None,
            )
        )
        return header

    def listen(self, listener: Listener) -> None:
        self.listeners.append(listener)

    def tell(self, event: FeedEvent) -> None:
        """What a running node's feed would say."""
        for listener in self.listeners:
            listener(event)

    def drop(self, transaction_id: bytes, reason: str) -> None:
        """The mempool lets go of a transaction."""
        self.mempool_.remove(transaction_id, reason)
        self.tell(TransactionLeft(transaction_id, reason))

    def score_block(self, epoch: int, scores: Sequence[Score]) -> BlockHeader:
        """The block that carries the scores of `epoch`; `scores` ascend by address."""
        table = ScoreTable(build(epoch, scores))
        self.tables[epoch] = table
        time_ms = GENESIS_TIME_MS + (epoch + 1) * self.params.epoch_ms + self.params.score_delay_ms
        return self.make_block(time_ms=time_ms, scores=ScoredEpoch(table.commitment, ()))

    def _wake(self) -> None:
        for ids, future in self.waits:
            if not future.done() and not any(self.mempool_.get(each) for each in ids):
                future.set_result(None)

    # ---- NodeApi ---------------------------------------------------------------------------------

    def genesis_document(self) -> bytes:
        return self.document

    def now_ms(self) -> int:
        return self.time_ms + 500

    def sync_status(self) -> SyncStatus:
        return SyncStatus(self.target_height, self.not_ready)

    async def submit(self, raws: Sequence[bytes]) -> list[TransactionState | TransactionRefused]:
        self.on_submit()
        return [self._submit(raw) for raw in raws]

    def _submit(self, raw: bytes) -> TransactionState | TransactionRefused:
        try:
            signed = decode_transaction(raw, GENESIS_HASH)
        except MalformedData as error:
            return TransactionRefused(error.reason)
        known = self.transaction_state(signed.transaction_id)
        if known is not None:
            return known
        account = read_account(self.view, signed.transaction.sender)
        params = read_params(self.view)
        try:
            check_stateless(signed, CHAIN.chain_id, params)
            self.mempool_.check(signed, account, self.height + 1)
            self.signatures.check(
                signed,
                params,
                lambda address: read_account(self.view, address).active_key or address,
            )
            self.mempool_.add(signed, account, self.height + 1)
        except TransactionRefused as refused:
            return refused
        self.tell(TransactionsWait([raw]))
        return Pending(signed.transaction_id, signed.raw)

    def simulate(self, raw: bytes) -> Simulated | TransactionRefused:
        return dry_run(
            raw,
            self.view,
            CHAIN,
            genesis_time_ms=GENESIS_TIME_MS,
            height=self.height + 1,
            time_ms=self.time_ms + 1,
        )

    def waiting(self, after: int, limit: int) -> Sequence[Waiting]:
        arrived = self.mempool_.arrived_after(after, limit)
        return [self._waiting(arrival, signed) for arrival, signed in arrived]

    def waiting_of(self, sender: bytes) -> Sequence[Waiting]:
        return [self._waiting(-1, signed) for signed in self.mempool_.of_sender(sender)]

    def _waiting(self, arrival: int, signed: SignedTransaction) -> Waiting:
        return Waiting(arrival, signed, self.mempool_.status(signed.transaction_id) == "ready")

    def network(self) -> NetworkStatus:
        return self.network_status

    async def wait_final(self, transaction_ids: Sequence[bytes]) -> None:
        entry = (set(transaction_ids), asyncio.get_running_loop().create_future())
        self.waits.append(entry)
        self._wake()
        try:
            await entry[1]
        finally:
            self.waits.remove(entry)

    def transaction_state(self, transaction_id: bytes) -> TransactionState | None:
        place = self.store.transaction_place(transaction_id)
        if place is not None:
            return Committed(transaction_id, *place)
        waiting = self.mempool_.get(transaction_id)
        return None if waiting is None else Pending(transaction_id, waiting.raw)

    def next_nonce(self, address: bytes) -> int:
        waiting = self.mempool_.next_nonce(address)
        return read_account(self.view, address).nonce if waiting is None else waiting

    def account_transactions(
        self, address: bytes, after: tuple[int, int] | None, limit: int, *, ascending: bool
    ) -> Sequence[tuple[int, int]]:
        return self.store.topic_transactions(address, after, limit, ascending=ascending)

    def tip(self) -> Tip:
        stored = self.store.tip()
        assert stored is not None
        return Tip(stored[0], stored[1], self.time_ms)

    def earliest_height(self) -> int:
        return self.store.earliest_height()

    def height_of(self, block_hash: bytes) -> int | None:
        return self.store.height_of(block_hash)

    def header(self, height: int) -> bytes | None:
        return self.store.header(height)

    def block(self, height: int) -> bytes | None:
        return self.store.block(height)

    def transaction_count(self, height: int) -> int | None:
        return self.store.transaction_count(height)

    def transaction(self, height: int, index: int) -> bytes | None:
        return self.store.transaction(height, index)

    def receipt(self, height: int, index: int) -> bytes | None:
        return self.store.receipt(height, index)

    def receipts(self, height: int) -> Sequence[bytes] | None:
        return self.store.receipts(height)

    def certificate(self, height: int) -> bytes | None:
        return self.store.certificate(height)

    def validator_set(self, validators_hash: bytes) -> ValidatorSet | None:
        return self.sets.get(validators_hash)

    def validator_changes(self, after_height: int, limit: int) -> Sequence[int]:
        return [height for height in self.changes if height > after_height][:limit]

    def state(self) -> ReadView:
        return self.store

    def prove(self, keys: Sequence[bytes]) -> list[StateProof]:
        return [self.tree.prove(key) for key in keys]

    def score_table(self, epoch: int) -> ScoreTable | None:
        return self.tables.get(epoch)

    def state_items(
        self, prefix: bytes, after: bytes | None, limit: int
    ) -> Sequence[tuple[bytes, bytes]]:
        return list(itertools.islice(self.store.state_items(prefix, after), limit))

    def edge_table(self) -> EdgeTable:
        """What the score worker of a running node holds."""
        table = EdgeTable()
        table.apply(self.store.state_items(PAIR_PREFIX))
        return table

    async def explain(self, subject: bytes, limit: int) -> Explanation | None:
        if self.is_busy:
            raise NodeBusy
        epoch = read_epoch_state(self.view).last_scored
        if epoch < 0:
            return None
        table = self.edge_table()
        params = ReputationParams(
            p_min=self.params.reputation_p_min,
            n0=self.params.reputation_n0,
            n_ref=self.params.reputation_n_ref,
        )
        table.compute(read_seeds(self.view).addresses, params, epoch, {})
        return Explanation(epoch, table.explain(subject, limit))

    async def raters_of(self, subject: bytes, after: bytes, limit: int) -> Sequence[bytes]:
        if self.is_busy:
            raise NodeBusy
        return self.edge_table().raters_of(subject, after, limit)

    def scored_epochs(self, from_height: int, limit: int) -> Sequence[tuple[int, int]]:
        return [each for each in self.scored if each[1] >= from_height][:limit]

    def scored_height(self, epoch: int) -> int | None:
        return dict(self.scored).get(epoch)

    def consensus(self) -> ConsensusStatus:
        return ConsensusStatus(
            mode="pbft",
            tolerates="less than one third Byzantine",
            quorum="more than two thirds of power",
            height=self.height + 1,
            round=0,
            phase="idle",
            leader=self.proposer,
            own_index=0,
        )

    def peers(self) -> Sequence[PeerStatus]:
        return self.peer_list

    def mempool(self) -> MempoolStatus:
        limits = self.mempool_.limits
        return MempoolStatus(
            len(self.mempool_), self.mempool_.size_bytes, limits.max_txs, limits.max_bytes, 0
        )


def score(name: str, epoch: int, rank: int, *, trust: int = 2**30, flags: int = 0) -> Score:
    """A score of a name; only trust and rank matter to the tests."""
    return Score(address_of(name), epoch, trust, 60_000, trust - 7, rank, 3, flags)


def ascending(*scores: Score) -> list[Score]:
    """As a table wants them."""
    return sorted(scores, key=lambda each: each.address)
