"""The store: everything the node has committed, in one LevelDB.

One block is one atomic, synced batch: block, certificate, receipts, state writes, changes of the
state tree, indexes, node-local facts and the tip. A crash leaves the tip before or the tip after,
with all that belongs to it. The keys are in `ledger.store_schema`.

A commit has three steps, because LevelDB's Python binding lets go of the interpreter lock on each
call, also for each single put into a batch:

    prepared = store.prepare_block(record)     builds the batch; on the thread that owns the store
    prepared.write()                           one call, waits for the disk with the interpreter
                                               lock released: may run in a worker thread
    store.finish(prepared)                     makes it visible; on the owning thread

Building the batch in a worker would hand the lock back and forth thousands of times; writing it
there costs one hand-over. `commit_block` does the three in a row.

Everything but `write` belongs to one thread. Until `finish`, every reader of the store goes on
seeing the tip before, tip and state and all, whether or not the disk already has the batch: reads
go to a LevelDB snapshot that `finish` replaces.

A node-local fact is visible once it is stored, be it alone or with a block.

What this file guarantees and the caller need not: heights ascend by one, a failed write poisons the
store (nothing is committed after it, since LevelDB no longer knows what its log holds), one process
at a time, and that the database belongs to this genesis and this schema. What it leaves to the
caller: applying the tree update to the tree, and what any of the bytes mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from ledger import store_schema as schema
from ledger.errors import StorageError
from ledger.state_cache import MISSING, StateCache
from ledger.state_tree import TreeUpdate
from ledger.store_database import close_database, open_database
from ledger.store_errors import (
    SchemaVersionMismatch,
    StoreCorrupt,
    StoreFailed,
    StoreLocked,
    WrongGenesis,
    storage_errors,
)
from ledger.store_reader import StoreReader

__all__ = [
    "BlockRecord",
    "LevelStore",
    "PreparedCommit",
    "PrunedBlock",
    "SchemaVersionMismatch",
    "StoreCorrupt",
    "StoreFailed",
    "StoreLocked",
    "StoreReader",
    "StoreSnapshot",
    "WrongGenesis",
]

# Hot accounts: about 130,000 of them. A tenth of what a validator may use altogether.
STATE_CACHE_BYTES = 32 << 20

# Rows deleted in one batch while clearing: bounds the memory of the batch.
_CLEAR_BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """One decided block and all that follows from it.

    `transactions`: wire bytes in block order, each contained in `block`. `transaction_ids` and
    `receipts` run alongside. `topics`: for each index topic (an account is its 33 bytes) the
    ascending positions of its transactions. `extra`: node-local facts, None deletes.
    `tree_update` is the state tree's for `state_writes`.
    """

    height: int
    block_hash: bytes
    header: bytes
    block: bytes
    certificate: bytes
    transactions: Sequence[bytes]
    transaction_ids: Sequence[bytes]
    receipts: Sequence[bytes]
    state_writes: Mapping[bytes, bytes | None]
    tree_update: TreeUpdate
    topics: Mapping[bytes, Sequence[int]] = field(default_factory=dict)
    extra: Mapping[bytes, bytes | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PrunedBlock:
    """What a block left in the indexes, as the caller reads it from the block before pruning.

    `keep_header`: the header and certificate stay (those that change the validator set do).
    """

    height: int
    block_hash: bytes
    transaction_ids: Sequence[bytes]
    topics: Iterable[bytes]
    keep_header: bool


class PreparedCommit:
    """A batch that is built and not yet visible. `write` once, then `LevelStore.finish`."""

    __slots__ = ("_batch", "_path", "failed", "state_writes", "written")

    def __init__(self, path: str, batch: Any, state_writes: Mapping[bytes, bytes | None]) -> None:
        self._path = path
        self._batch = batch
        self.state_writes = state_writes
        self.written = False
        self.failed = False

    def write(self) -> None:
        """Write and sync. Safe in a worker thread. Raises StoreFailed or StoreCorrupt."""
        assert not self.written
        try:
            with storage_errors(self._path):
                self._batch.write()
        except StorageError:
            self.failed = True
            raise
        self.written = True


class StoreSnapshot(StoreReader):
    """The store as it was when the snapshot was taken, for long reads. Close it: it keeps files."""

    def close(self) -> None:
        """Let go."""
        self._source = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LevelStore(StoreReader):
    """The live store. See the module."""

    def __init__(
        self,
        path: str,
        genesis_hash: bytes,
        *,
        cache_bytes: int = STATE_CACHE_BYTES,
        create: bool = True,
    ) -> None:
        """Open, or create, the database in the folder `path`. Raises any error of the module."""
        self._db = open_database(path, create=create)
        super().__init__(path, self._db)
        self._cache = StateCache(cache_bytes)
        self._in_flight: PreparedCommit | None = None
        self._late_certificates: dict[int, bytes] = {}  # put beside a commit: at most a few
        self._failed = False
        try:
            self._check_identity(genesis_hash)
            self._refresh()
        except BaseException:
            self.close()
            raise

    def _check_identity(self, genesis_hash: bytes) -> None:
        raw = self._get(schema.SCHEMA_KEY)
        if raw is None:
            if next(self._iterate(), None) is not None:
                raise StoreCorrupt(self._path, "a database that no version of the store has made")
            batch = self._batch()
            batch.put(schema.SCHEMA_KEY, schema.HEIGHT.pack(schema.SCHEMA_VERSION))
            batch.put(schema.GENESIS_KEY, genesis_hash)
            with storage_errors(self._path):
                batch.write()
            return
        version = int.from_bytes(raw)
        if version != schema.SCHEMA_VERSION:
            raise SchemaVersionMismatch(self._path, schema.SCHEMA_VERSION, version)
        found = self._get(schema.GENESIS_KEY) or b""
        if found != genesis_hash:
            raise WrongGenesis(self._path, genesis_hash, found)

    def close(self) -> None:
        """Close the database, not while a write is under way. Snapshots and iterators of it end."""
        self._source = None
        close_database(self._path, self._db)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- reading, beyond StoreReader

    def tip(self) -> tuple[int, bytes] | None:
        """Height and block hash of the last finished block; None before the first state."""
        return self._tip

    def state_get(self, key: bytes) -> bytes | None:
        """The state value of a key, from the cache if it was used lately."""
        value = self._cache.get(key)
        if value is MISSING:
            value = super().state_get(key)
            self._cache.put(key, value)
        return value

    def certificate(self, height: int) -> bytes | None:
        """The encoded commit certificate, the latest one put."""
        return self._late_certificates.get(height) or super().certificate(height)

    def meta_get(self, name: bytes) -> bytes | None:
        """A node-local fact, as stored."""
        return self._stored().meta_get(name)

    def meta_items(
        self, prefix: bytes = b"", after: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """(name, value) of node-local facts, as stored, in the order of their names."""
        return self._stored().meta_items(prefix, after)

    def _stored(self) -> StoreReader:
        return StoreReader(self._path, self._db)

    def snapshot(self) -> StoreSnapshot:
        """The store at the last finished commit, for reads that take longer than a block."""
        return StoreSnapshot(self._path, self._source)

    def size_bytes(self) -> int:
        """About how much the table files take on disk."""
        size: int = self._db.approximate_size(b"\x00", b"\xff")
        return size

    # --- committing

    def prepare_block(self, record: BlockRecord) -> PreparedCommit:
        """Build the batch of the next block. Raises StaleTreeUpdate, or ValueError for a caller's
        mistake: the wrong height, lists of different lengths, a block without its transactions."""
        tip = self._require_idle()
        if tip is None or record.height != tip[0] + 1:
            raise ValueError(f"block {record.height} does not follow the tip {tip}")
        count = len(record.transactions)
        if len(record.transaction_ids) != count or len(record.receipts) != count:
            raise ValueError("one id and one receipt for each transaction")
        height = record.height
        at_height = schema.HEIGHT.pack(height)
        batch = self._batch()
        put = batch.put
        put(schema.HEADER + at_height, record.header)
        put(schema.CERTIFICATE + at_height, record.certificate)
        put(schema.HASH + record.block_hash, at_height)
        put(schema.OFFSETS + at_height, schema.pack_offsets(record.block, record.transactions))
        for key, piece in schema.block_pieces(height, record.block):
            put(key, piece)
        for key, piece in schema.receipt_pieces(height, record.receipts):
            put(key, piece)
        place = schema.PLACE.pack
        for position, transaction_id in enumerate(record.transaction_ids):
            put(schema.TXID + transaction_id, place(height, position))
        for topic, positions in record.topics.items():
            put(schema.topic_prefix(topic) + at_height, schema.pack_positions(positions))
        self._put_state(batch, record.state_writes, record.tree_update)
        _put_meta(batch, record.extra)
        put(schema.TIP_KEY, schema.TIP.pack(height, record.block_hash))
        return self._prepared(batch, record.state_writes)

    def finish(self, prepared: PreparedCommit) -> None:
        """Make a written commit what readers see."""
        assert prepared is self._in_flight
        assert prepared.written
        self._in_flight = None
        cache_put = self._cache.put
        for key, value in prepared.state_writes.items():
            cache_put(key, value)
        self._refresh()

    def commit_block(self, record: BlockRecord) -> None:
        """Prepare, write, finish. Raises what they raise."""
        self._run(self.prepare_block(record))

    def begin_chain(
        self,
        *,
        height: int,
        block_hash: bytes,
        state_writes: Mapping[bytes, bytes | None],
        tree_update: TreeUpdate,
        header: bytes | None = None,
        certificate: bytes | None = None,
        extra: Mapping[bytes, bytes | None] | None = None,
    ) -> None:
        """Set the first tip: the genesis state (height 0, the genesis hash, no header), or the
        last part of a restored state with the block that it is the state of."""
        if self._require_idle() is not None:
            raise ValueError("the chain has begun already")
        batch = self._batch()
        at_height = schema.HEIGHT.pack(height)
        if header is not None:
            batch.put(schema.HEADER + at_height, header)
        if certificate is not None:
            batch.put(schema.CERTIFICATE + at_height, certificate)
        batch.put(schema.HASH + block_hash, at_height)
        batch.put(schema.EARLIEST_KEY, schema.HEIGHT.pack(height + 1))
        batch.put(schema.TIP_KEY, schema.TIP.pack(height, block_hash))
        self._put_state(batch, state_writes, tree_update)
        _put_meta(batch, extra or {})
        self._run(self._prepared(batch, state_writes))

    def put_state(
        self,
        state_writes: Mapping[bytes, bytes | None],
        tree_update: TreeUpdate,
        extra: Mapping[bytes, bytes | None] | None = None,
    ) -> None:
        """Store a part of a state that is being restored, before the chain begins here.

        Each part is atomic and survives a crash; `extra` can note which parts are done, and
        `load_tree` gives the tree of what is there.
        """
        if self._require_idle() is not None:
            raise ValueError("only blocks change the state of a chain that has begun")
        batch = self._batch()
        self._put_state(batch, state_writes, tree_update)
        _put_meta(batch, extra or {})
        self._run(self._prepared(batch, state_writes))

    def put_certificate(self, height: int, certificate: bytes) -> None:
        """Add or replace the commit certificate of a stored block (as late votes come in)."""
        if self.header(height) is None:
            raise ValueError(f"no block {height} to certify")
        self._write_now(schema.by_height(schema.CERTIFICATE, height), certificate)
        if self._in_flight is not None:
            self._late_certificates[height] = certificate

    def meta_put(self, name: bytes, value: bytes | None) -> None:
        """Set or delete (None) a node-local fact, synced. Also while a commit is under way."""
        self._write_now(schema.META + name, value)

    # --- freeing space

    def prune(self, blocks: Sequence[PrunedBlock]) -> None:
        """Delete the lowest kept blocks, ascending without gap, with their index rows, in one
        batch. The disk is freed by LevelDB's compaction; `compact` forces it."""
        if not blocks:
            return
        tip = self._require_idle()
        batch = self._batch()
        expected = self.earliest_height()
        for block in blocks:
            if block.height != expected or tip is None or block.height >= tip[0]:
                raise ValueError(f"block {block.height} cannot be pruned, {expected} is the lowest")
            expected += 1
            self._delete_block(batch, block)
        batch.put(schema.EARLIEST_KEY, schema.HEIGHT.pack(expected))
        self._run(self._prepared(batch, {}))

    def _delete_block(self, batch: Any, block: PrunedBlock) -> None:
        height = block.height
        at_height = schema.HEIGHT.pack(height)
        offsets = self._offsets(height) or bytes(4)
        for piece in range(-(-schema.block_size(offsets) // schema.BLOCK_PIECE_BYTES)):
            batch.delete(schema.piece_key(schema.BLOCK, height, piece))
        for piece in range(-(-schema.transaction_count(offsets) // schema.RECEIPTS_PER_PIECE)):
            batch.delete(schema.piece_key(schema.RECEIPTS, height, piece))
        batch.delete(schema.OFFSETS + at_height)
        for transaction_id in block.transaction_ids:
            batch.delete(schema.TXID + transaction_id)
        for topic in block.topics:
            batch.delete(schema.topic_prefix(topic) + at_height)
        if not block.keep_header:
            batch.delete(schema.HEADER + at_height)
            batch.delete(schema.CERTIFICATE + at_height)
            batch.delete(schema.HASH + block.block_hash)

    def compact(self) -> None:
        """Rewrite all table files without what was deleted. Long; may run in a worker thread."""
        with storage_errors(self._path):
            self._db.compact_range(start=b"\x00", stop=b"\xff")

    def clear_state(self) -> None:
        """Forget a state that was only partly restored."""
        if self._require_idle() is not None:
            raise ValueError("the chain has begun already")
        for tag in (schema.TREE, schema.STATE, schema.KEY):
            while True:
                batch, rows = self._batch(), 0
                for row, _ in self._items(tag):
                    batch.delete(row)
                    rows += 1
                    if rows == _CLEAR_BATCH_ROWS:
                        break
                if not rows:
                    break
                self._run(self._prepared(batch, {}))
        self._cache.clear()

    # --- the batch

    def _batch(self) -> Any:
        return self._db.write_batch(sync=True)

    def _require_idle(self) -> tuple[int, bytes] | None:
        """The tip, where nothing is under way. Raises StoreFailed after a failed write."""
        self._require_sound()
        if self._in_flight is not None:
            raise ValueError("a commit is under way")
        return self._tip

    def _require_sound(self) -> None:
        if self._failed or (self._in_flight is not None and self._in_flight.failed):
            raise StoreFailed(self._path, "a write failed before; the store must be opened again")

    def _prepared(self, batch: Any, state_writes: Mapping[bytes, bytes | None]) -> PreparedCommit:
        self._in_flight = PreparedCommit(self._path, batch, state_writes)
        return self._in_flight

    def _run(self, prepared: PreparedCommit) -> None:
        prepared.write()
        self.finish(prepared)

    def _refresh(self) -> None:
        """Let readers see what is stored now."""
        self._late_certificates.clear()
        self._source = self._db.snapshot()
        self._tip = super().tip()

    def _write_now(self, key: bytes, value: bytes | None) -> None:
        """One synced row beside the commits."""
        self._require_sound()
        try:
            with storage_errors(self._path):
                if value is None:
                    self._db.delete(key, sync=True)
                else:
                    self._db.put(key, value, sync=True)
        except StorageError:
            self._failed = True
            raise
        if self._in_flight is None:
            self._refresh()

    def _put_state(
        self, batch: Any, writes: Mapping[bytes, bytes | None], update: TreeUpdate
    ) -> None:
        put, delete, key_hashes = batch.put, batch.delete, update.key_hashes
        for key, value in writes.items():
            row = schema.STATE + key_hashes[key][:2] + key
            if value is None:
                delete(row)
            else:
                put(row, value)
        for key in update.created:
            put(schema.KEY + key, b"")
        for key in update.removed:
            delete(schema.KEY + key)
        for record, value in update.records():
            if value is None:
                delete(schema.TREE + record)
            else:
                put(schema.TREE + record, value)


def _put_meta(batch: Any, facts: Mapping[bytes, bytes | None]) -> None:
    for name, value in facts.items():
        if value is None:
            batch.delete(schema.META + name)
        else:
            batch.put(schema.META + name, value)
