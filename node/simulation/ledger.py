"""What the simulated validators agree on: the production ledger over a store in memory.

Blocks, execution, state tree, claims and mempool are the production code; transactions carry real
signatures. Only the store is the simulator's: a dict of state and a list of blocks, which a block
enters whole. The set of validators may change with the height (`Genesis.sets`): the block before
writes the next set into the state, which is how a run gets validator changes in the middle of
everything else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from consensus.engine import Proposal, Tip
from ledger.block import (
    BLOCK_VERSION,
    Block,
    BlockHeader,
    check_block_shape,
    decode_block,
    last_commit_hash,
    transactions_root,
)
from ledger.certificate import CommitCertificate, VerifySignature, verify_certificate
from ledger.errors import InvalidBlock
from ledger.execution.block import check_conserved, check_proposer, run_transactions
from ledger.execution.context import BlockContext, BlockFacts
from ledger.execution.fees import pay_proposer
from ledger.execution.scores import commit_scores
from ledger.genesis_state import genesis_writes
from ledger.params import ChainParams
from ledger.receipt import receipts_root
from ledger.state import (
    ACCOUNT_PREFIX,
    VALIDATORS_KEY,
    Account,
    decode_account,
    read_account,
    read_totals,
)
from ledger.state_tree import StateTree, TreeUpdate
from ledger.transactions import ChainIdentity, SignedTransaction, decode_transaction
from ledger.validators import ValidatorSet
from ledger.verification import SignatureCache

# Blocks executed but not applied, per process: as many as a few rounds may propose.
EXECUTED_KEPT = 4


@dataclass(frozen=True)
class Genesis:
    """How a simulated chain begins.

    Height h is certified by `sets[h // set_period % len(sets)]`.
    """

    chain: ChainIdentity
    params: ChainParams
    time_ms: int
    sets: tuple[ValidatorSet, ...]
    set_period: int
    balances: Mapping[bytes, int]

    def validators_at(self, height: int) -> ValidatorSet:
        """The set that certifies `height`."""
        return self.sets[height // self.set_period % len(self.sets)]

    @property
    def supply(self) -> int:
        """µT in existence."""
        return sum(self.balances.values())


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block as stored."""

    encoded: bytes
    header: BlockHeader
    block_hash: bytes
    certificate: CommitCertificate
    transaction_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Executed:
    """The outcome of executing a block on a store's state."""

    tree_update: TreeUpdate
    receipts_root: bytes
    writes: dict[bytes, bytes | None]
    included: list[SignedTransaction]
    changed_accounts: tuple[bytes, ...]


@dataclass
class Store:
    """The chain on one machine's disk. `blocks[h - 1]` is the block of height h."""

    genesis: Genesis
    blocks: list[StoredBlock] = field(default_factory=list)
    state: dict[bytes, bytes] = field(default_factory=dict)
    tree: StateTree = field(default_factory=StateTree)

    def __post_init__(self) -> None:
        genesis = self.genesis
        self.state = genesis_writes(
            params=genesis.params,
            validators=genesis.validators_at(1),
            balances=genesis.balances.items(),
            seeds=[next(iter(genesis.balances))],
        )
        self.tree.apply(self.tree.update(self.state))

    @property
    def tip(self) -> Tip:
        """The last applied block."""
        if not self.blocks:
            genesis = self.genesis
            return Tip(0, genesis.chain.genesis_hash, genesis.time_ms, None)
        last = self.blocks[-1]
        return Tip(last.header.height, last.block_hash, last.header.time_ms, last.certificate)

    def get(self, key: bytes) -> bytes | None:
        """ledger.view.ReadView."""
        return self.state.get(key)

    def account(self, address: bytes) -> Account:
        """An account at the tip."""
        return read_account(self, address)

    def block(self, height: int) -> StoredBlock | None:
        """The stored block of `height`, if any."""
        return self.blocks[height - 1] if 1 <= height <= len(self.blocks) else None

    def money(self) -> int:
        """µT in balances, deposits, pool and burned: the supply, always."""
        totals = read_totals(self)
        held = totals.burned + totals.pool
        for key, value in self.state.items():
            if key[:1] == ACCOUNT_PREFIX:
                account = decode_account(value)
                held += account.balance + account.deposit
        return held

    def append(
        self, proposal: Proposal, certificate: CommitCertificate, executed: Executed
    ) -> StoredBlock:
        """Make a block the tip, at one instant."""
        stored = StoredBlock(
            proposal.block,
            proposal.header,
            proposal.block_hash,
            certificate,
            tuple(each.transaction_id for each in executed.included),
        )
        self.tree.apply(executed.tree_update)
        for key, value in executed.writes.items():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        self.blocks.append(stored)
        return stored


class Ledger:
    """Builds and judges blocks on one store: the memory of a process. See the module.

    `verify_signature` checks the votes in certificates, in the world's scheme.
    """

    def __init__(self, store: Store, verify_signature: VerifySignature) -> None:
        self.genesis = store.genesis
        self._store = store
        self._verify = verify_signature
        self._claims = SignatureCache(self.genesis.chain.genesis_hash)
        self._executed: OrderedDict[bytes, Executed] = OrderedDict()

    def decode(self, raw: bytes) -> SignedTransaction:
        """The transaction in wire bytes, its claims checked. Raises InvalidData."""
        signed = decode_transaction(raw, self.genesis.chain.genesis_hash)
        self._claims.check(signed, self.genesis.params, lambda address: address)
        return signed

    def build(
        self, transactions: list[SignedTransaction], proposer: bytes, time_ms: int
    ) -> Proposal:
        """The block of these transactions on the store's tip."""
        tip, genesis = self._store.tip, self.genesis
        height = tip.height + 1
        time_ms = max(time_ms, tip.time_ms + 1)
        executed = self._execute(height, time_ms, proposer, transactions, is_own=True)
        header = BlockHeader(
            version=BLOCK_VERSION,
            chain_id=genesis.chain.chain_id,
            height=height,
            time_ms=time_ms,
            parent_hash=tip.block_hash,
            last_commit_hash=last_commit_hash(tip.certificate),
            tx_root=transactions_root([each.full_hash for each in executed.included]),
            receipts_root=executed.receipts_root,
            state_root=executed.tree_update.root,
            validators_hash=genesis.validators_at(height).hash,
            next_validators_hash=genesis.validators_at(height + 1).hash,
            params_hash=genesis.params.hash(),
            next_mode="pbft",
            proposer=proposer,
        )
        block = Block(header, tip.certificate, tuple(each.raw for each in executed.included))
        block_hash = header.hash()
        self._keep(block_hash, executed)
        return Proposal(header, block_hash, block.encode())

    def judge(self, proposal: Proposal) -> Executed:
        """Execute a block on the store's tip. Raises InvalidData where it breaks a rule."""
        known = self._executed.get(proposal.block_hash)
        if known is not None and known.tree_update.root_before == self._store.tree.root:
            return known
        block = decode_block(proposal.block)
        header, genesis = block.header, self.genesis
        if header.hash() != proposal.block_hash or header != proposal.header:
            raise InvalidBlock("hash", "the block is not the one proposed")
        check_block_shape(block, genesis.params.block_max_bytes, genesis.params.block_max_txs)
        self._check_follows(block)
        transactions = [self.decode(raw) for raw in block.transactions]
        if transactions_root([each.full_hash for each in transactions]) != header.tx_root:
            raise InvalidBlock("tx_root", "other transactions than the header's")
        executed = self._execute(
            header.height, header.time_ms, header.proposer, transactions, is_own=False
        )
        if (executed.tree_update.root, executed.receipts_root) != (
            header.state_root,
            header.receipts_root,
        ):
            raise InvalidBlock("roots", "executing gives others")
        self._keep(proposal.block_hash, executed)
        return executed

    def _check_follows(self, block: Block) -> None:
        header, genesis, tip = block.header, self.genesis, self._store.tip
        height = tip.height + 1
        named = (header.version, header.chain_id, header.height, header.parent_hash)
        if named != (BLOCK_VERSION, genesis.chain.chain_id, height, tip.block_hash):
            raise InvalidBlock("parent", "the block does not follow from the tip")
        sets = (genesis.validators_at(height).hash, genesis.validators_at(height + 1).hash)
        if (header.validators_hash, header.next_validators_hash) != sets:
            raise InvalidBlock("validators", "other sets than the state's")
        if header.params_hash != genesis.params.hash() or header.time_ms <= tip.time_ms:
            raise InvalidBlock("header", "other parameters, or a time before the parent's")
        certificate = block.last_commit
        if certificate is not None:
            if (certificate.height, certificate.block_hash) != (tip.height, tip.block_hash):
                raise InvalidBlock("last_commit", "does not certify the parent")
            verify_certificate(
                certificate,
                genesis_hash=genesis.chain.genesis_hash,
                chain_id=genesis.chain.chain_id,
                validators=genesis.validators_at(tip.height),
                verify_signature=self._verify,
            )

    def _execute(
        self,
        height: int,
        time_ms: int,
        proposer: bytes,
        transactions: list[SignedTransaction],
        *,
        is_own: bool,
    ) -> Executed:
        """As ledger.execution.block.execute_block, with the next set of validators written."""
        genesis = self.genesis
        facts = BlockFacts(genesis.chain.chain_id, genesis.time_ms, height, time_ms, proposer)
        context = BlockContext(self._store, facts)
        check_proposer(facts, genesis.validators_at(height))
        commit_scores(context, genesis.time_ms, None)
        included, receipts, _ = run_transactions(
            context, transactions, "build" if is_own else "validate"
        )
        pay_proposer(context)
        check_conserved(context)
        writes = context.writes()
        writes[VALIDATORS_KEY] = genesis.validators_at(height + 1).encode()
        return Executed(
            tree_update=self._store.tree.update(writes),
            receipts_root=receipts_root(receipts),
            writes=writes,
            included=included,
            changed_accounts=context.changed_accounts(),
        )

    def _keep(self, block_hash: bytes, executed: Executed) -> None:
        self._executed[block_hash] = executed
        if len(self._executed) > EXECUTED_KEPT:
            self._executed.popitem(last=False)
