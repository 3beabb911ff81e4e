"""The running node as the RPC room asks for it (rpc.ports.NodeApi)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from consensus.ports import Clock
from consensus.replica import Replica
from genesis.definition import NetworkDefinition
from ledger.codec import encode
from ledger.identity import public_key_of
from ledger.mempool import Mempool
from ledger.reasons import TransactionRefused
from ledger.reputation.score_tree import ScoreTable
from ledger.state import read_account, scores_key
from ledger.state_proof import StateProof
from ledger.store import LevelStore
from ledger.transactions import ChainIdentity, SignedTransaction
from ledger.validators import ValidatorSet
from ledger.view import ReadView
from node.admission import Admission, Finality
from node.application import LedgerApplication
from node.chain_store import CHANGE_FACT, scored_epochs, scored_height, validator_set
from node.dry_run import dry_run
from node.scores import ScoreKeeper, ScoreWorkerBusy
from p2p.host import Host
from rpc.guard import as_host
from rpc.ports import (
    ConsensusStatus,
    DialStatus,
    Explanation,
    MempoolStatus,
    NetworkStatus,
    NodeBusy,
    PeerStatus,
    Simulated,
    SyncStatus,
    Tip,
    TransactionState,
    Waiting,
)

# A node this far behind what its peers claim is syncing; less is the ordinary race with a block.
SYNCING_BEHIND_BLOCKS = 2


class RunningNode:
    """See the module."""

    def __init__(
        self,
        *,
        network: NetworkDefinition,
        document: bytes,
        version: str,
        application: LedgerApplication,
        store: LevelStore,
        mempool: Mempool,
        admission: Admission,
        finality: Finality,
        scores: ScoreKeeper,
        replica: Replica,
        host: Host,
        clock: Clock,
        own_consensus_key: bytes | None,
    ) -> None:
        self._network = network
        self._document = document
        self._version = version
        self._application = application
        self._store = store
        self._mempool = mempool
        self._admission = admission
        self._finality = finality
        self._scores = scores
        self._replica = replica
        self._host = host
        self._clock = clock
        self._own_consensus_key = own_consensus_key

    @property
    def chain(self) -> ChainIdentity:
        """Which chain this is."""
        return self._network.identity

    @property
    def version(self) -> str:
        """The program's version."""
        return self._version

    def genesis_document(self) -> bytes:
        """The network definition as JSON text."""
        return self._document

    def now_ms(self) -> int:
        """Wall time, ms since the Unix epoch."""
        return self._clock.now_ms()

    def sync_status(self) -> SyncStatus:
        """Whether the node is up with the chain and can reach a quorum's worth of peers."""
        claimed = self._replica.highest_claim
        if claimed >= self._application.tip.height + SYNCING_BEHIND_BLOCKS:
            behind = claimed - self._application.tip.height
            return SyncStatus(claimed, f"catching up: {behind} blocks behind")
        validators = self._application.validators()
        connected = {public_key_of(peer.peer_id) for peer in self._host.peers()}
        power = sum(
            each.power
            for each in validators.validators
            if each.node_key in connected or each.consensus_key == self._own_consensus_key
        )
        if not validators.has_quorum(power):
            names = dict(self._network.validator_names)
            missing = ", ".join(
                names.get(each.operator, each.operator.hex()[:12])
                for each in validators.validators
                if each.node_key not in connected and each.consensus_key != self._own_consensus_key
            )
            return SyncStatus(None, f"no quorum of validators is connected; missing: {missing}")
        return SyncStatus(None, None)

    # ---- transactions ----------------------------------------------------------------------------

    async def submit(self, raws: Sequence[bytes]) -> list[TransactionState | TransactionRefused]:
        """Check and take in wire bytes; one answer for each."""
        return await self._admission.submit(raws)

    def simulate(self, raw: bytes) -> Simulated | TransactionRefused:
        """What wire bytes would do in a block on the tip."""
        tip = self._application.tip
        return dry_run(
            raw,
            self._store,
            self._network.identity,
            genesis_time_ms=self._network.genesis_time_ms,
            height=tip.height + 1,
            time_ms=max(self._clock.now_ms(), tip.time_ms + 1),
        )

    def waiting(self, after: int, limit: int) -> Sequence[Waiting]:
        """Waiting transactions in the order of arrival, behind `after`."""
        arrived = self._mempool.arrived_after(after, limit)
        return [self._waiting(arrival, signed) for arrival, signed in arrived]

    def waiting_of(self, sender: bytes) -> Sequence[Waiting]:
        """A sender's waiting transactions by nonce."""
        return [self._waiting(-1, signed) for signed in self._mempool.of_sender(sender)]

    def _waiting(self, arrival: int, signed: SignedTransaction) -> Waiting:
        is_ready = self._mempool.status(signed.transaction_id) == "ready"
        return Waiting(arrival, signed, is_ready)

    async def wait_final(self, transaction_ids: Sequence[bytes]) -> None:
        """Until none of these waits in the mempool any more."""
        await self._finality.wait(each for each in transaction_ids if self._mempool.get(each))

    def transaction_state(self, transaction_id: bytes) -> TransactionState | None:
        """Where a transaction is."""
        return self._admission.standing(transaction_id)

    def next_nonce(self, address: bytes) -> int:
        """The first nonce that neither the state nor a waiting transaction has used."""
        waiting = self._mempool.next_nonce(address)
        return read_account(self._store, address).nonce if waiting is None else waiting

    def account_transactions(
        self, address: bytes, after: tuple[int, int] | None, limit: int, *, ascending: bool
    ) -> Sequence[tuple[int, int]]:
        """(height, index) of committed transactions that touch an account."""
        return self._store.topic_transactions(address, after, limit, ascending=ascending)

    # ---- blocks ----------------------------------------------------------------------------------

    def tip(self) -> Tip:
        """The last applied block."""
        tip = self._application.tip
        return Tip(tip.height, tip.block_hash, tip.time_ms)

    def earliest_height(self) -> int:
        """The lowest height whose block is kept."""
        return self._store.earliest_height()

    def height_of(self, block_hash: bytes) -> int | None:
        """The height of a block hash."""
        return self._store.height_of(block_hash)

    def header(self, height: int) -> bytes | None:
        """An encoded header."""
        return self._store.header(height)

    def block(self, height: int) -> bytes | None:
        """A whole encoded block."""
        return self._store.block(height)

    def transaction_count(self, height: int) -> int | None:
        """How many transactions a block has."""
        return self._store.transaction_count(height)

    def transaction(self, height: int, index: int) -> bytes | None:
        """The wire bytes of one transaction."""
        return self._store.transaction(height, index)

    def receipt(self, height: int, index: int) -> bytes | None:
        """The encoded execution receipt of one transaction."""
        return self._store.receipt(height, index)

    def receipts(self, height: int) -> Sequence[bytes] | None:
        """The encoded execution receipts of a block."""
        return self._store.receipts(height)

    def certificate(self, height: int) -> bytes | None:
        """The encoded commit certificate of a block."""
        return self._store.certificate(height)

    def validator_set(self, validators_hash: bytes) -> ValidatorSet | None:
        """Any set that ever was in force."""
        return validator_set(self._store, validators_hash)

    def validator_changes(self, after_height: int, limit: int) -> Sequence[int]:
        """Heights whose header names another set for the next height, ascending."""
        after = CHANGE_FACT + after_height.to_bytes(8, "big")
        heights: list[int] = []
        for name, _ in self._store.meta_items(CHANGE_FACT, after):
            if len(heights) >= limit:
                break
            heights.append(int.from_bytes(name[len(CHANGE_FACT) :], "big"))
        return heights

    # ---- state at the tip ------------------------------------------------------------------------

    def state(self) -> ReadView:
        """The state after the tip's block."""
        return self._application.view

    def prove(self, keys: Sequence[bytes]) -> list[StateProof]:
        """Proofs under the tip's state root."""
        return [self._application.tree.prove(key) for key in keys]

    def score_table(self, epoch: int) -> ScoreTable | None:
        """The score table of a closed epoch, if it is the one that the state commits to."""
        table = self._scores.table(epoch)
        if table is None or self._store.get(scores_key(epoch)) != encode(table.commitment):
            return None
        return table

    def state_items(
        self, prefix: bytes, after: bytes | None, limit: int
    ) -> Sequence[tuple[bytes, bytes]]:
        """(key, value) of the state keys with a prefix, in order, behind `after`."""
        return list(itertools.islice(self._store.state_items(prefix, after), limit))

    async def explain(self, subject: bytes, limit: int) -> Explanation | None:
        """What moves a subject's score."""
        try:
            explained = await self._scores.explain(self._store, subject, limit)
        except ScoreWorkerBusy as error:
            raise NodeBusy from error
        if explained.epoch is None:
            return None
        return Explanation(explained.epoch, explained.voices)

    async def raters_of(self, subject: bytes, after: bytes, limit: int) -> Sequence[bytes]:
        """Who has a pair object with the subject as its payee."""
        try:
            return await self._scores.raters_of(subject, after, limit)
        except ScoreWorkerBusy as error:
            raise NodeBusy from error

    def scored_epochs(self, from_height: int, limit: int) -> Sequence[tuple[int, int]]:
        """(epoch, height) of the blocks from `from_height` on that carry scores."""
        return scored_epochs(self._store, from_height, limit)

    def scored_height(self, epoch: int) -> int | None:
        """The height of the block that carries an epoch's scores."""
        return scored_height(self._store, epoch)

    # ---- the node itself -------------------------------------------------------------------------

    def consensus(self) -> ConsensusStatus:
        """The round."""
        status = self._replica.status
        capabilities = self._replica.engine.capabilities
        validators = self._application.validators()
        own = self._own_consensus_key
        return ConsensusStatus(
            mode=capabilities.mode,
            tolerates=capabilities.tolerates,
            quorum=capabilities.quorum,
            height=status.height,
            round=status.round,
            phase=status.phase,
            leader=validators[status.leader % len(validators)].operator,
            own_index=None if own is None else validators.index_of_consensus_key.get(own),
        )

    def peers(self) -> Sequence[PeerStatus]:
        """Connected peers."""
        validators = self._application.validators()
        peers = []
        for info in self._host.peers():
            node_key = public_key_of(info.peer_id)
            index = validators.index_of_node_key.get(node_key)
            peers.append(
                PeerStatus(
                    node_key=node_key,
                    address=info.address,
                    outbound=info.direction == "outbound",
                    connected_ms=int(info.since_s * 1_000),
                    round_trip_ms=None if info.rtt_ms is None else round(info.rtt_ms),
                    validator=None if index is None else validators[index].operator,
                )
            )
        return peers

    def network(self) -> NetworkStatus:
        """This node on the network."""
        host = self._host
        dialing = [
            DialStatus(
                node_key=public_key_of(state.peer.peer_id),
                address=f"{as_host(state.peer.host)}:{state.peer.port}",
                link=state.connection_class.value,
                failures=state.failures_count,
                last_failure=state.last_failure,
            )
            for state in host.dial_states()
        ]
        return NetworkStatus(
            node_key=public_key_of(host.peer_id),
            listening=host.listening,
            agent=host.agent,
            links=host.link_count,
            foreign=host.foreign_peers(),
            dialing=dialing,
        )

    def mempool(self) -> MempoolStatus:
        """The mempool."""
        limits = self._mempool.limits
        params = self._application.params()
        return MempoolStatus(
            count=len(self._mempool),
            size_bytes=self._mempool.size_bytes,
            limit_count=limits.max_txs,
            limit_bytes=limits.max_bytes,
            floor_fee=params.fee_base,
        )
