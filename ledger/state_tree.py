"""The authenticated state: a map from keys to values under one root.

`ledger.state_proof` defines the root and the proofs. This module keeps the tree in memory: the
entries of each of the 2^16 buckets, packed and sorted, and the hashes of all nodes above in one
flat array (node 0 is the root, node n has the children 4n + 1 to 4n + 4, the buckets come last).
At 10^6 keys that is 64 MB of entries and 8 MB of hashes.

Updating is copy on write. `update(changes)` computes the new root and returns the changed buckets
and nodes as a `TreeUpdate`, without touching the tree: a block is executed before it is decided,
and dropping an update costs nothing. `update(changes, on=previous)` builds on an update that is not
yet applied, so that block h+1 can be executed while block h is being decided. `apply` moves the
tree on; the update must start at the tree's present root.

Cost of a changed key at 10^6 keys in batches of 2,000: two short hashes, one splice and one hash of
a bucket of 1 kB, and two to three nodes.

What is persisted (see `ledger.state_tree_log`) is the hash of every bucket, 34 bytes for each
change, and never the entries: they follow from the stored keys and values, and a bucket is read
back by hashing its own 15 or so values when it is first needed. It must then have the persisted
hash, so a value damaged on disk is noticed before it is built upon.

A bucket that was read stays in memory. The reader sees what is *stored*, which may be ahead of the
tree or behind it by a block whose commit is under way, and only a bucket which no such block has
touched is the same on both sides. Updates load every bucket they touch, which is this condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256

from ledger.errors import StorageError
from ledger.state_proof import (
    BUCKET_MAX,
    EMPTY,
    ENTRY_BYTES,
    HASH_BYTES,
    PREFIX_LEVELS,
    StateProof,
    bucket_hash,
    key_hash,
    make_proof,
    node_hash,
    value_hash,
    verify_state_proof,
)
from ledger.state_tree_log import BucketLog, BucketLogState

__all__ = [
    "BUCKET_COUNT",
    "StaleTreeUpdate",
    "StateProof",
    "StateTree",
    "StateTreeCorrupt",
    "TreeUpdate",
    "bucket_prefix",
    "key_hash",
    "value_hash",
    "verify_state_proof",
]

BUCKET_COUNT = 4**PREFIX_LEVELS

_FIRST_BUCKET = (BUCKET_COUNT - 1) // 3  # the nodes above: 1 + 4 + 16 + ...

# Up to this many changes in one bucket are spliced in one by one; more are merged by sorting, so
# that many changes in a bucket grown large do not cost its length each.
_SPLICE_MAX = 16

# In a bucket of usual size a plain search for the key hash beats bisection in Python. A hit that
# is not at the start of an entry proves nothing; bisection then decides.
_SCAN_MAX_BYTES = 2 * BUCKET_MAX * ENTRY_BYTES

ReadBucket = Callable[[int], Iterable[tuple[bytes, bytes]]]
"""The stored (key, value) pairs of a bucket, in any order."""

_Change = tuple[bytes, bytes, bytes | None]  # key, key hash, value hash or None


class StateTreeCorrupt(StorageError):
    """What is stored does not have the root, or the bucket hash, that was stored with it."""

    def __init__(self, what: str, expected: bytes, found: bytes) -> None:
        super().__init__(f"{what} has hash {found.hex()}, not {expected.hex()}")
        self.what = what
        self.expected = expected
        self.found = found


class StaleTreeUpdate(ValueError):
    """An update was used on a tree that has gone another way: a bug of the caller."""

    def __init__(self, expected: bytes, found: bytes) -> None:
        super().__init__(f"the update starts at {expected.hex()}, the tree is at {found.hex()}")
        self.expected = expected
        self.found = found


def bucket_prefix(key: bytes) -> bytes:
    """The bucket of `key` as two bytes, big-endian: a prefix of its key hash."""
    return key_hash(key)[:2]


class TreeUpdate:
    """A state tree after some changes, as the difference to the tree before them.

    `root_before`, `root`: 32 bytes. `key_hashes`: of every key in the changes. `created`,
    `removed`: the keys that came into being and ceased to be.
    """

    __slots__ = (
        "_applied", "_log_after", "_parent", "_records", "_tree",
        "buckets", "created", "key_hashes", "nodes", "removed", "root", "root_before",
    )  # fmt: skip

    def __init__(self, tree: StateTree, parent: TreeUpdate | None, root_before: bytes) -> None:
        self._tree = tree
        self._parent = parent
        self._applied = False
        self._records: list[tuple[bytes, bytes | None]] | None = None
        self._log_after: BucketLogState | None = None
        self.root_before = root_before
        self.root = root_before
        self.buckets: dict[int, bytes] = {}
        self.nodes: dict[int, bytes] = {}
        self.key_hashes: dict[bytes, bytes] = {}
        self.created: list[bytes] = []
        self.removed: list[bytes] = []

    def records(self) -> list[tuple[bytes, bytes | None]]:
        """What to persist for this update, in one batch with the state writes; None deletes.

        Only the update that is next to be applied has records: StaleTreeUpdate otherwise. They
        remain the same after it has been applied.
        """
        if self._records is None:
            self._records, self._log_after = self._tree.log_update(self)
        return self._records


class StateTree:
    """The tree at one state. See the module."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = [EMPTY] * (_FIRST_BUCKET + BUCKET_COUNT)
        self._buckets: list[bytes | None] = [b""] * BUCKET_COUNT
        self._read_bucket: ReadBucket | None = None
        self._log = BucketLog()
        self._key_count = 0

    @classmethod
    def load(cls, records: Iterable[tuple[bytes, bytes]], read_bucket: ReadBucket) -> StateTree:
        """The tree that was persisted. `records` in ascending order of their keys.

        Hashes the 65,535 nodes above the buckets, but no value: those are read with `read_bucket`
        when first needed. Raises StateTreeCorrupt.
        """
        tree = cls()
        tree._read_bucket = read_bucket
        nodes = tree._nodes
        root = tree._log.load(records, nodes, _FIRST_BUCKET)
        tree._key_count = tree._log.state.key_count
        for index in range(_FIRST_BUCKET - 1, -1, -1):
            first = 4 * index + 1
            nodes[index] = node_hash(b"".join(nodes[first : first + 4]))
        if nodes[0] != root:
            raise StateTreeCorrupt("the persisted state tree", root, nodes[0])
        for bucket in range(BUCKET_COUNT):
            if nodes[_FIRST_BUCKET + bucket] != EMPTY:
                tree._buckets[bucket] = None
        return tree

    @property
    def root(self) -> bytes:
        """The state root, 32 bytes."""
        return self._nodes[0]

    def __len__(self) -> int:
        """How many keys have a value."""
        return self._key_count

    def prove(self, key: bytes) -> StateProof:
        """Proof of the value of `key`, or of its absence, under `root`."""
        hashed_key = key_hash(key)
        bucket = int.from_bytes(hashed_key[:2])
        index = _FIRST_BUCKET + bucket
        levels = []
        while index:
            parent = (index - 1) >> 2
            quarters = self._nodes[4 * parent + 1 : 4 * parent + 5]
            del quarters[(index - 1) & 3]
            levels.append(quarters)
            index = parent
        above = [sibling for quarters in reversed(levels) for sibling in quarters]
        return make_proof(above, self._bucket(bucket), hashed_key)

    def update(
        self, changes: Mapping[bytes, bytes | None], on: TreeUpdate | None = None
    ) -> TreeUpdate:
        """The tree after `changes` (None deletes), built over `on`, else over the tree itself.

        Neither is changed. Raises StaleTreeUpdate where `on` does not lead on from this tree.
        """
        nodes, buckets = self._unapplied(on)
        result = TreeUpdate(self, on, self.root if on is None else on.root)
        groups: dict[int, list[_Change]] = {}
        hashes, hasher = result.key_hashes, sha256
        for key, value in changes.items():
            # key_hash and value_hash, without the calls: two in a transfer
            hashes[key] = hashed_key = hasher(b"\x03" + key).digest()
            hashed_value = None if value is None else hasher(b"\x00" + value).digest()
            groups.setdefault(hashed_key[0] << 8 | hashed_key[1], []).append(
                (key, hashed_key, hashed_value)
            )
        for bucket, group in groups.items():
            before = buckets.get(bucket)
            if before is None:
                before = self._bucket(bucket)
            after = _merged(before, group, result)
            if after != before:
                result.buckets[bucket] = after
                result.nodes[_FIRST_BUCKET + bucket] = bucket_hash(after)
        if result.buckets:
            self._fold(result.nodes, nodes)
            result.root = result.nodes[0]
        return result

    def apply(self, update: TreeUpdate) -> None:
        """Move the tree on to `update`. Raises StaleTreeUpdate unless it starts at this root."""
        if update.root_before != self.root or update._applied:
            raise StaleTreeUpdate(update.root_before, self.root)
        update.records()
        assert update._log_after is not None
        self._log.state = update._log_after
        for index, node in update.nodes.items():
            self._nodes[index] = node
        for bucket, entries in update.buckets.items():
            self._buckets[bucket] = entries
        self._key_count = self._log.state.key_count
        update._applied = True
        update._parent = None  # lets go of the chain behind it

    def log_update(
        self, update: TreeUpdate
    ) -> tuple[list[tuple[bytes, bytes | None]], BucketLogState]:
        """The records of `update`, and the log's state after it. Raises StaleTreeUpdate."""
        if update.root_before != self.root:
            raise StaleTreeUpdate(update.root_before, self.root)
        nodes = update.nodes
        changed = {bucket: nodes[_FIRST_BUCKET + bucket] for bucket in update.buckets}
        return self._log.records(
            update.root,
            self._key_count + len(update.created) - len(update.removed),
            changed,
            self._nodes,
            _FIRST_BUCKET,
        )

    def _unapplied(self, on: TreeUpdate | None) -> tuple[dict[int, bytes], dict[int, bytes]]:
        """Nodes and buckets of `on` and of what it stands on, down to this tree."""
        chain = []
        update = on
        while update is not None and not update._applied:
            chain.append(update)
            update = update._parent
        bottom = chain[-1].root_before if chain else self.root if on is None else on.root
        if bottom != self.root:
            raise StaleTreeUpdate(bottom, self.root)
        if not chain:
            return {}, {}
        if len(chain) == 1:
            return chain[0].nodes, chain[0].buckets
        nodes: dict[int, bytes] = {}
        buckets: dict[int, bytes] = {}
        for step in reversed(chain):
            nodes.update(step.nodes)
            buckets.update(step.buckets)
        return nodes, buckets

    def _fold(self, fresh: dict[int, bytes], unapplied: dict[int, bytes]) -> None:
        """Add to `fresh`, which holds changed buckets' hashes, all nodes above them."""
        base, hasher = self._nodes, sha256
        # Above a bucket with content no node is empty: only emptied buckets need that rule.
        emptied = EMPTY in fresh.values()
        seen = {**unapplied, **fresh}
        get = seen.get
        level = fresh
        for _ in range(PREFIX_LEVELS):
            above: dict[int, bytes] = {}
            for parent in {(index - 1) >> 2: None for index in level}:
                first = 4 * parent + 1
                a, b, c, d = base[first : first + 4]
                quarters = (
                    (get(first) or a)
                    + (get(first + 1) or b)
                    + (get(first + 2) or c)
                    + (get(first + 3) or d)
                )
                if emptied:
                    above[parent] = node_hash(quarters)
                else:
                    above[parent] = hasher(b"\x01" + quarters).digest()
            seen.update(above)
            fresh.update(above)
            level = above

    def _bucket(self, bucket: int) -> bytes:
        """The packed entries of a bucket of the tree itself, read back if need be."""
        entries = self._buckets[bucket]
        if entries is not None:
            return entries
        assert self._read_bucket is not None
        pairs = [(key_hash(key), value_hash(value)) for key, value in self._read_bucket(bucket)]
        pairs.sort()
        entries = b"".join([part for pair in pairs for part in pair])
        expected, found = self._nodes[_FIRST_BUCKET + bucket], bucket_hash(entries)
        if found != expected:
            raise StateTreeCorrupt(f"state bucket {bucket}", expected, found)
        self._buckets[bucket] = entries
        return entries


def _find(entries: bytes, hashed_key: bytes) -> tuple[int, bool]:
    """Offset of the entry, or where it belongs, and whether it is there."""
    if len(entries) <= _SCAN_MAX_BYTES:
        at = entries.find(hashed_key)
        if at >= 0 and at % ENTRY_BYTES == 0:
            return at, True
    low, high = 0, len(entries) // ENTRY_BYTES
    while low < high:
        middle = (low + high) // 2
        at = middle * ENTRY_BYTES
        if entries[at : at + HASH_BYTES] < hashed_key:
            low = middle + 1
        else:
            high = middle
    at = low * ENTRY_BYTES
    return at, entries[at : at + HASH_BYTES] == hashed_key


def _merged(entries: bytes, changes: list[_Change], result: TreeUpdate) -> bytes:
    """`entries` with `changes`; notes in `result` which keys were created and removed."""
    if len(changes) > _SPLICE_MAX:
        return _merged_by_sorting(entries, changes, result)
    for key, hashed_key, hashed_value in changes:
        at, there = _find(entries, hashed_key)
        if hashed_value is not None:
            end = at + ENTRY_BYTES if there else at
            entries = b"".join((entries[:at], hashed_key, hashed_value, entries[end:]))
            if not there:
                result.created.append(key)
        elif there:
            entries = entries[:at] + entries[at + ENTRY_BYTES :]
            result.removed.append(key)
    return entries


def _merged_by_sorting(entries: bytes, changes: list[_Change], result: TreeUpdate) -> bytes:
    """The same as `_merged`, in time that does not multiply the changes by the entries."""
    held = {
        entries[at : at + HASH_BYTES]: entries[at + HASH_BYTES : at + ENTRY_BYTES]
        for at in range(0, len(entries), ENTRY_BYTES)
    }
    for key, hashed_key, hashed_value in changes:
        if hashed_value is not None:
            if hashed_key not in held:
                result.created.append(key)
            held[hashed_key] = hashed_value
        elif held.pop(hashed_key, None) is not None:
            result.removed.append(key)
    return b"".join([part for pair in sorted(held.items()) for part in pair])
