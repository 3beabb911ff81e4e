"""The authenticated state: a map from keys to values under one root.

`ledger.state_proof` defines the root and the proofs. This module keeps the tree in memory: the
entries of each of the 2^16 buckets, packed and sorted, and the hashes of each level in one flat
array, so that the four children of a node lie side by side. At 10^6 keys that is 64 MB of entries
and 3 MB of hashes.

Updating is copy on write. `update(changes)` computes the new root and returns the changed buckets
and nodes as a `TreeUpdate`, without touching the tree: a block is executed before it is decided,
and dropping an update costs nothing. `update(changes, on=previous)` builds on an update that is not
yet applied, so that block h+1 can be executed while block h is being decided. `apply` moves the
tree on; the update must start at the tree's present root. Roots identify states: where an update
starts is told by its root alone, not by which object computed it.

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
from ledger.state_tree_log import BucketLog, BucketLogState, Record

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

_GROUP_BYTES = 4 * HASH_BYTES

# Up to this many changes in one bucket are spliced in one by one; more are merged by sorting, so
# that many changes in a bucket grown large do not cost its length each.
_SPLICE_MAX = 16

# In a bucket of usual size a plain search for the key hash beats bisection in Python. A hit that
# is not at the start of an entry proves nothing; bisection then decides.
_SCAN_MAX_BYTES = 2 * BUCKET_MAX * ENTRY_BYTES

ReadBucket = Callable[[int], Iterable[tuple[bytes, bytes]]]
"""The stored (key, value) pairs of a bucket, in any order."""

_Change = tuple[bytes, bytes, bytes | None]  # key, key hash, value hash or None

# For each level but the root's: the packed hashes of four siblings by the index of their parent.
_Groups = list[dict[int, bytearray]]


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
    `removed`: the keys that came into being and ceased to be. `buckets`: the new entries of the
    changed buckets, `bucket_hashes` their hashes.
    """

    __slots__ = (
        "_groups", "_log_after", "_log_before", "_parent", "_records", "_tree", "bucket_hashes",
        "buckets", "created", "key_hashes", "removed", "root", "root_before",
    )  # fmt: skip

    def __init__(self, tree: StateTree, parent: TreeUpdate | None, root_before: bytes) -> None:
        self._tree = tree
        self._parent = parent
        self._groups: _Groups = []
        self._records: list[Record] = []
        self._log_before: BucketLogState | None = None
        self._log_after: BucketLogState | None = None
        self.root_before = root_before
        self.root = root_before
        self.buckets: dict[int, bytes] = {}
        self.bucket_hashes: dict[int, bytes] = {}
        self.key_hashes: dict[bytes, bytes] = {}
        self.created: list[bytes] = []
        self.removed: list[bytes] = []

    def records(self) -> list[Record]:
        """What to persist for this update, in one batch with the state writes; None deletes.

        Only the update that is next to be applied has records: StaleTreeUpdate otherwise.
        """
        self._tree.log_update(self)
        return self._records


class StateTree:
    """The tree at one state. See the module."""

    def __init__(self) -> None:
        self._levels = [bytearray(HASH_BYTES * 4**level) for level in range(PREFIX_LEVELS + 1)]
        self._buckets: list[bytes | None] = [b""] * BUCKET_COUNT
        self._read_bucket: ReadBucket | None = None
        self._log = BucketLog()

    @classmethod
    def load(cls, records: Iterable[tuple[bytes, bytes]], read_bucket: ReadBucket) -> StateTree:
        """The tree that was persisted. `records` in ascending order of their keys.

        Hashes the 21,845 nodes above the buckets, but no value: those are read with `read_bucket`
        when first needed. Raises StateTreeCorrupt.
        """
        tree = cls()
        tree._read_bucket = read_bucket
        table = tree._levels[PREFIX_LEVELS]
        persisted = tree._log.load(records, table)
        for below in range(PREFIX_LEVELS, 0, -1):
            children = bytes(tree._levels[below])
            tree._levels[below - 1][:] = b"".join(
                [
                    node_hash(children[at : at + _GROUP_BYTES])
                    for at in range(0, len(children), _GROUP_BYTES)
                ]
            )
        if tree.root != persisted:
            raise StateTreeCorrupt("the persisted state tree", persisted, tree.root)
        for bucket in range(BUCKET_COUNT):
            if tree._node(PREFIX_LEVELS, bucket) != EMPTY:
                tree._buckets[bucket] = None
        return tree

    @property
    def root(self) -> bytes:
        """The state root, 32 bytes."""
        return bytes(self._levels[0])

    def __len__(self) -> int:
        """How many keys have a value."""
        return self._log.state.key_count

    def prove(self, key: bytes) -> StateProof:
        """Proof of the value of `key`, or of its absence, under `root`."""
        hashed_key = key_hash(key)
        bucket = int.from_bytes(hashed_key[:2])
        above = []
        for level in range(1, PREFIX_LEVELS + 1):
            index = bucket >> 2 * (PREFIX_LEVELS - level)
            first = index & ~3
            above += [self._node(level, at) for at in range(first, first + 4) if at != index]
        return make_proof(above, self._bucket(bucket), hashed_key)

    def update(
        self, changes: Mapping[bytes, bytes | None], on: TreeUpdate | None = None
    ) -> TreeUpdate:
        """The tree after `changes` (None deletes), built over `on`, else over the tree itself.

        Neither is changed. Raises StaleTreeUpdate where `on` does not lead on from this tree.
        """
        unapplied, buckets = self._unapplied(on)
        result = TreeUpdate(self, on, self.root if on is None else on.root)
        grouped: dict[int, list[_Change]] = {}
        hashes, hasher = result.key_hashes, sha256
        for key, value in changes.items():
            # key_hash and value_hash, without the calls: this and the loops below are the hot path
            hashes[key] = hashed_key = hasher(b"\x03" + key).digest()
            hashed_value = None if value is None else hasher(b"\x00" + value).digest()
            grouped.setdefault(hashed_key[0] << 8 | hashed_key[1], []).append(
                (key, hashed_key, hashed_value)
            )
        for bucket, group in grouped.items():
            before = buckets.get(bucket)
            if before is None:
                before = self._bucket(bucket)
            after = _merged(before, group, result)
            if after != before:
                result.buckets[bucket] = after
                result.bucket_hashes[bucket] = bucket_hash(after)
        if result.buckets:
            result._groups, result.root = self._fold(result.bucket_hashes, unapplied)
        return result

    def apply(self, update: TreeUpdate) -> None:
        """Move the tree on to `update`. Raises StaleTreeUpdate unless it starts at this root."""
        self.log_update(update)
        assert update._log_after is not None
        self._log.state = update._log_after
        self._levels[0][:] = update.root
        for level, groups in zip(self._levels[1:], update._groups, strict=False):
            for parent, group in groups.items():
                at = parent * _GROUP_BYTES
                level[at : at + _GROUP_BYTES] = group
        for bucket, entries in update.buckets.items():
            self._buckets[bucket] = entries
        update._parent = None  # lets go of the chain behind it

    def log_update(self, update: TreeUpdate) -> None:
        """Give `update` its records and the log's state after it. Raises StaleTreeUpdate."""
        if update.root_before != self.root:
            raise StaleTreeUpdate(update.root_before, self.root)
        state = self._log.state
        if update._log_before is state:
            return
        update._log_before = state
        update._records, update._log_after = self._log.records(
            update.root,
            state.key_count + len(update.created) - len(update.removed),
            update.bucket_hashes,
            self._levels[PREFIX_LEVELS],
        )

    def _unapplied(self, on: TreeUpdate | None) -> tuple[_Groups, dict[int, bytes]]:
        """Nodes and buckets of `on` and of what it stands on, down to this tree's root."""
        chain = []
        update, bottom = on, self.root if on is None else on.root
        while update is not None and bottom != self.root:
            chain.append(update)
            bottom = update.root_before
            update = update._parent
        if bottom != self.root:
            raise StaleTreeUpdate(bottom, self.root)
        groups: _Groups = [{} for _ in range(PREFIX_LEVELS)]
        buckets: dict[int, bytes] = {}
        for step in reversed(chain):
            buckets.update(step.buckets)
            for merged, own in zip(groups, step._groups, strict=False):
                merged.update(own)
        return groups, buckets

    def _fold(self, hashes: dict[int, bytes], unapplied: _Groups) -> tuple[_Groups, bytes]:
        """The changed groups of every level above changed buckets, and the root."""
        # Above a bucket with content no node is empty: only emptied buckets need that rule.
        emptied = EMPTY in hashes.values()
        hasher = sha256
        result: _Groups = []
        changed = sorted(hashes.items())
        for level in range(PREFIX_LEVELS, 0, -1):
            flat, pending = self._levels[level], unapplied[level - 1]
            groups: dict[int, bytearray] = {}
            last = -1
            for index, node in changed:
                parent = index >> 2
                if parent != last:
                    last = parent
                    held = pending.get(parent)
                    start = parent << 7  # of _GROUP_BYTES
                    group = flat[start : start + 128] if held is None else held[:]
                    groups[parent] = group
                at = (index & 3) << 5
                group[at : at + 32] = node
            result.append(groups)
            if emptied:
                changed = [(parent, node_hash(bytes(group))) for parent, group in groups.items()]
            else:
                changed = [
                    (parent, hasher(b"\x01" + group).digest()) for parent, group in groups.items()
                ]
        result.reverse()
        return result, changed[0][1]

    def _node(self, level: int, index: int) -> bytes:
        at = index * HASH_BYTES
        return bytes(self._levels[level][at : at + HASH_BYTES])

    def _bucket(self, bucket: int) -> bytes:
        """The packed entries of a bucket of the tree itself, read back if need be."""
        entries = self._buckets[bucket]
        if entries is not None:
            return entries
        assert self._read_bucket is not None
        pairs = [(key_hash(key), value_hash(value)) for key, value in self._read_bucket(bucket)]
        pairs.sort()
        entries = b"".join([part for pair in pairs for part in pair])
        expected, found = self._node(PREFIX_LEVELS, bucket), bucket_hash(entries)
        if found != expected:
            raise StateTreeCorrupt(f"state bucket {bucket}", expected, found)
        self._buckets[bucket] = entries
        return entries


def _find(entries: bytes, hashed_key: bytes) -> tuple[int, bool]:
    """Offset of the entry, or where it belongs, and whether it is there."""
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
    if len(changes) == 1 and len(entries) <= _SCAN_MAX_BYTES:
        # The usual case at any size of the state, a new value for a key that is there.
        _, hashed_key, hashed_value = changes[0]
        at = entries.find(hashed_key)
        if hashed_value is not None and at >= 0 and at % ENTRY_BYTES == 0:
            at += HASH_BYTES
            return b"".join((entries[:at], hashed_value, entries[at + HASH_BYTES :]))
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
