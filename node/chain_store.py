"""The chain in the store: how it begins, what a block leaves, where the tip is.

Node-local facts that clients ask for: every validator set that was ever in force, by hash, the
heights whose block changed the set, and which block carries the scores of which epoch, both ways.
"""

from __future__ import annotations

import itertools

from consensus.engine import Proposal, Tip
from genesis.definition import NetworkDefinition
from ledger.block import Block, decode_header
from ledger.certificate import CommitCertificate, decode_certificate
from ledger.execution.block import Outcome
from ledger.genesis_state import genesis_writes
from ledger.state import EPOCH_KEY, decode_epoch_state
from ledger.state_tree import StateTree
from ledger.store import BlockRecord, LevelStore
from ledger.transactions import Rate, Register, Settle, Transaction, Transfer
from ledger.validators import ValidatorSet, decode_validator_set

SET_FACT = b"set/"
CHANGE_FACT = b"change/"
SCORED_EPOCH_FACT = b"scored/"
SCORED_HEIGHT_FACT = b"scores-at/"


def begin_chain(store: LevelStore, network: NetworkDefinition) -> StateTree:
    """The state tree at the tip; writes the genesis state where the store is empty."""
    if store.tip() is not None:
        return store.load_tree()
    writes: dict[bytes, bytes | None] = dict(
        genesis_writes(
            params=network.params,
            validators=network.validators,
            balances=network.balances,
            seeds=network.seeds,
        )
    )
    tree = StateTree()
    update = tree.update(writes)
    store.begin_chain(
        height=0,
        block_hash=network.genesis_hash,
        state_writes=writes,
        tree_update=update,
        extra={SET_FACT + network.validators.hash: network.validators.encode()},
    )
    tree.apply(update)
    return tree


def block_record(
    proposal: Proposal, certificate: CommitCertificate, block: Block, outcome: Outcome
) -> BlockRecord:
    """What the store keeps of a block."""
    header = proposal.header
    extra: dict[bytes, bytes | None] = {}
    if header.next_validators_hash != header.validators_hash:
        extra[SET_FACT + header.next_validators_hash] = outcome.next_validators.encode()
        extra[CHANGE_FACT + header.height.to_bytes(8, "big")] = b""
    epoch_state = outcome.writes.get(EPOCH_KEY)
    if epoch_state is not None:
        epoch = decode_epoch_state(epoch_state).last_scored.to_bytes(8, "big")
        height = header.height.to_bytes(8, "big")
        extra[SCORED_EPOCH_FACT + epoch] = height
        extra[SCORED_HEIGHT_FACT + height] = epoch
    topics: dict[bytes, list[int]] = {}
    for position, signed in enumerate(outcome.included):
        for address in parties_of(signed.transaction):
            positions = topics.setdefault(address, [])
            if not positions or positions[-1] != position:
                positions.append(position)
    return BlockRecord(
        height=header.height,
        block_hash=proposal.block_hash,
        header=header.encode(),
        block=proposal.block,
        certificate=certificate.encode(),
        transactions=block.transactions,
        transaction_ids=[signed.transaction_id for signed in outcome.included],
        receipts=outcome.receipts,
        state_writes=outcome.writes,
        tree_update=outcome.tree_update,
        topics=topics,
        extra=extra,
    )


def parties_of(transaction: Transaction) -> tuple[bytes, ...]:
    """The accounts under which a transaction is listed; the sender first."""
    match transaction:
        case Transfer():
            return (transaction.sender, transaction.to)
        case Settle():
            return (transaction.payer, transaction.payee)
        case Rate():
            return (transaction.sender, transaction.subject)
        case Register():
            return (transaction.sender, transaction.registrant)


def validator_set(store: LevelStore, validators_hash: bytes) -> ValidatorSet | None:
    """Any validator set that was ever in force, by its hash."""
    raw = store.meta_get(SET_FACT + validators_hash)
    return None if raw is None else decode_validator_set(raw)


def scored_height(store: LevelStore, epoch: int) -> int | None:
    """The height of the block that carries an epoch's scores."""
    raw = store.meta_get(SCORED_EPOCH_FACT + epoch.to_bytes(8, "big"))
    return None if raw is None else int.from_bytes(raw, "big")


def scored_epochs(store: LevelStore, from_height: int, limit: int) -> list[tuple[int, int]]:
    """(epoch, height) of the blocks from `from_height` >= 1 on that carry scores, ascending."""
    behind = SCORED_HEIGHT_FACT + (from_height - 1).to_bytes(8, "big")
    facts = itertools.islice(store.meta_items(SCORED_HEIGHT_FACT, behind), limit)
    return [
        (int.from_bytes(epoch, "big"), int.from_bytes(name[len(SCORED_HEIGHT_FACT) :], "big"))
        for name, epoch in facts
    ]


def read_tip(store: LevelStore, network: NetworkDefinition) -> Tip:
    stored = store.tip()
    assert stored is not None, "the chain has begun"
    height, block_hash = stored
    if height == 0:
        return Tip(0, network.genesis_hash, network.genesis_time_ms, None)
    header, certificate = store.header(height), store.certificate(height)
    assert header is not None and certificate is not None, "stored in the batch of the tip"
    return Tip(height, block_hash, decode_header(header).time_ms, decode_certificate(certificate))


def read_previous_validators(store: LevelStore, height: int) -> ValidatorSet | None:
    """The set that certified the tip, None at height 0."""
    raw = store.header(height)
    return None if raw is None else validator_set(store, decode_header(raw).validators_hash)
