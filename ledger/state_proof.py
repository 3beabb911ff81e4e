"""What the state root means, and how one key is proved against it.

The state is a set of entries (key hash, value hash), 32 bytes each:

    key hash     SHA-256(0x03 ‖ key)          says where the entry lives, two bits a level
    value hash   SHA-256(0x00 ‖ value)
    bucket       SHA-256(0x02 ‖ entries)      1 to BUCKET_MAX entries, ascending by key hash
    node         SHA-256(0x01 ‖ a ‖ b ‖ c ‖ d)  over four quarters
    empty        32 zero bytes                at any level; a node over four empty quarters too

The root is a function of the set alone, whatever the writes that led to it. `subtree(S, l)` is the
hash of the entries S that share their first l digits, a digit being two bits of the key hash:

    subtree({}, l)                            = empty
    subtree(S, l)   if l >= 8 and |S| <= 32   = bucket over S
    subtree(S, l)   otherwise                 = node(subtree(those of S whose digit l is 0, l + 1),
                                                     ... 1 ..., ... 2 ..., ... 3 ...)
    root                                      = subtree(everything, 0)

So the tree has 2^16 buckets at a fixed level, and a bucket that outgrows BUCKET_MAX goes on as a
tree below. At 10^6 keys a bucket holds 15 entries and a proof is about 1.8 kB. Somebody who grinds
keys into one bucket only deepens it by one level for each quadrupling of his effort: a proof never
exceeds one bucket and three siblings a level.

A proof is the siblings along the key's digits and the whole content of the bucket where they end.
The key is there, or it is not, which is the proof of absence. Where the path ends early in an
empty subtree there is no content at all.

Why a proof cannot lie, given a root made by the rules above:

- The first byte tells the kinds of hashed strings apart: a node cannot be opened as a bucket, a
  bucket as a node, nor a value which a stranger chose as either (second preimages). "Empty" is no
  SHA-256 value that anybody can exhibit, so nothing opens it.
- By collision resistance the siblings must then be the true ones and the content the true one of
  that place, so membership and absence are read off true content. A path that stops too early
  would need a bucket where there is a node, one that goes too deep a node where there is a bucket.
- What is left is other spellings of the same truth. They are refused too, so that a key has one
  proof: entries out of order or out of place, empty siblings spelled out, a path that goes on
  below the topmost empty subtree.

Work is bounded before any hashing: at most 128 levels and one bucket.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from typing import Annotated

import msgspec

PREFIX_LEVELS = 8
"""Level of the buckets: 4^8 = 65,536. Fewer make buckets, which are hashed and sent whole, longer;
more make the table of bucket hashes longer than its 2 MB."""

BUCKET_MAX = 32
"""Entries of an undivided bucket: twice the mean at 10^6 keys, so that nearly all buckets are
hashed in one call there, while a verifier never reads more than 2 kB of entries."""

HASH_BYTES = 32
ENTRY_BYTES = 2 * HASH_BYTES
LEVELS_MAX = 4 * HASH_BYTES
SIBLINGS = 3
EMPTY = bytes(HASH_BYTES)

_BUCKET_MAX_BYTES = BUCKET_MAX * ENTRY_BYTES

PathNode = Annotated[bytes, msgspec.Meta(max_length=HASH_BYTES)]


class StateProof(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Proof for one key.

    `siblings`: from the root down, the three other quarters of each level in order; 32 bytes each,
    or none for an empty subtree. `entries`: the bucket where they end, packed
    (key hash ‖ value hash)*, or nothing where they end in an empty subtree.
    """

    siblings: Annotated[tuple[PathNode, ...], msgspec.Meta(max_length=SIBLINGS * LEVELS_MAX)]
    entries: Annotated[bytes, msgspec.Meta(max_length=_BUCKET_MAX_BYTES)]


def key_hash(key: bytes) -> bytes:
    """Where `key` lives, 32 bytes."""
    return sha256(b"\x03" + key).digest()


def value_hash(value: bytes) -> bytes:
    """What the tree holds of `value`, 32 bytes."""
    return sha256(b"\x00" + value).digest()


def node_hash(quarters: bytes) -> bytes:
    """The node over four hashes, packed; 32 bytes."""
    if quarters == _ALL_EMPTY:
        return EMPTY
    return sha256(b"\x01" + quarters).digest()


_ALL_EMPTY = 4 * EMPTY


def digit_at(hashed_key: bytes, level: int) -> int:
    """Digit `level` of a key hash, two bits, counted from the most significant."""
    return hashed_key[level >> 2] >> (6 - 2 * (level & 3)) & 3


def bucket_hash(entries: bytes, level: int = PREFIX_LEVELS) -> bytes:
    """subtree(entries, level) for a level of at least 8; `entries` packed in ascending order.

    The recursion ends where at most BUCKET_MAX entries share their digits, at the latest at
    LEVELS_MAX since key hashes differ.
    """
    if not entries:
        return EMPTY
    if len(entries) <= _BUCKET_MAX_BYTES:
        return sha256(b"\x02" + entries).digest()
    return node_hash(b"".join([bucket_hash(q, level + 1) for q in _quarters(entries, level)]))


def _quarters(entries: bytes, level: int) -> list[bytes]:
    """The entries by their digit `level`; all share the digits above."""
    bounds = [0, *(_lower_bound(entries, level, digit) for digit in (1, 2, 3)), len(entries)]
    return [entries[start:end] for start, end in pairwise(bounds)]


def _lower_bound(entries: bytes, level: int, digit: int) -> int:
    """Offset of the first entry whose digit `level` is at least `digit`."""
    low, high = 0, len(entries) // ENTRY_BYTES
    while low < high:
        middle = (low + high) // 2
        at = middle * ENTRY_BYTES
        if digit_at(entries[at : at + HASH_BYTES], level) < digit:
            low = middle + 1
        else:
            high = middle
    return low * ENTRY_BYTES


def make_proof(above: list[bytes], entries: bytes, hashed_key: bytes) -> StateProof:
    """The proof for a key from the 24 siblings above its bucket, from the root down, and the
    entries of the bucket."""
    siblings = list(above)
    level = PREFIX_LEVELS
    while len(entries) > _BUCKET_MAX_BYTES:
        quarters = _quarters(entries, level)
        entries = quarters.pop(digit_at(hashed_key, level))
        level += 1
        siblings.extend(bucket_hash(quarter, level) for quarter in quarters)
    if not entries:
        while siblings and not any(map(any, siblings[-SIBLINGS:])):
            del siblings[-SIBLINGS:]
    return StateProof(tuple(b"" if node == EMPTY else node for node in siblings), entries)


def _well_formed(hashed_key: bytes, proof: StateProof) -> bool:
    """Whether the proof is the one spelling for this key; bounds all work that follows."""
    siblings, entries = proof.siblings, proof.entries
    if len(siblings) > SIBLINGS * LEVELS_MAX or len(siblings) % SIBLINGS:
        return False
    if len(entries) > _BUCKET_MAX_BYTES or len(entries) % ENTRY_BYTES:
        return False
    if any(len(node) not in (0, HASH_BYTES) or node == EMPTY for node in siblings):
        return False
    if not entries:
        return not siblings or any(siblings[-SIBLINGS:])
    levels = len(siblings) // SIBLINGS
    if levels < PREFIX_LEVELS:
        return False
    hashes = [entries[at : at + HASH_BYTES] for at in range(0, len(entries), ENTRY_BYTES)]
    if any(left >= right for left, right in pairwise(hashes)):
        return False
    own, apart = int.from_bytes(hashed_key), 2 * (LEVELS_MAX - levels)
    return all((int.from_bytes(other) ^ own) >> apart == 0 for other in (hashes[0], hashes[-1]))


def verify_state_proof(root: bytes, key: bytes, value: bytes | None, proof: StateProof) -> bool:
    """Whether `proof` shows that `key` has `value` under `root`; None: that it has no value.

    Nothing but `root` is trusted. Never raises, whatever a StateProof contains.
    """
    hashed_key = key_hash(key)
    if not _well_formed(hashed_key, proof):
        return False
    entries = proof.entries
    node = sha256(b"\x02" + entries).digest() if entries else EMPTY
    for level in range(len(proof.siblings) // SIBLINGS - 1, -1, -1):
        at = level * SIBLINGS
        quarters = [sibling or EMPTY for sibling in proof.siblings[at : at + SIBLINGS]]
        quarters.insert(digit_at(hashed_key, level), node)
        node = node_hash(b"".join(quarters))
    if node != root:
        return False
    held = None
    for at in range(0, len(entries), ENTRY_BYTES):
        if entries[at : at + HASH_BYTES] == hashed_key:
            held = entries[at + HASH_BYTES : at + ENTRY_BYTES]
    return held == (None if value is None else value_hash(value))
