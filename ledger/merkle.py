"""Merkle trees over lists of byte strings, as in RFC 6962 section 2.1.

    leaf hash      SHA-256(0x00 ‖ leaf)
    node hash      SHA-256(0x01 ‖ left ‖ right)
    empty list     SHA-256("")

RFC 6962 splits a list of n leaves at the largest power of two below n. Pairing neighbours level by
level and carrying a last node without neighbour upwards unchanged gives the same tree, needs no
recursion, and is what is done here. The different prefixes of leaves and nodes keep an interior
node from passing for a leaf; the size is part of what a verifier is told, because the root alone
does not commit to it (an index is only meaningful together with a trusted size).

Transactions, receipts and scores are committed to this way. Every function takes the leaves
themselves; the `_hashed` variants take leaf hashes that the caller already has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()

# A path is as long as the tree is deep. 2^53 leaves is the largest count the ledger can name.
PATH_MAX_LENGTH = 53

_HASH_BYTES = 32


def leaf_hash(leaf: bytes) -> bytes:
    """The 32-byte hash of one leaf."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The 32-byte hash of an interior node over its two children."""
    return sha256(b"\x01" + left + right).digest()


def leaf_hashes(leaves: Iterable[bytes]) -> list[bytes]:
    """`leaf_hash` of each leaf, in order."""
    hasher = sha256
    return [hasher(b"\x00" + leaf).digest() for leaf in leaves]


def parents(level: Sequence[bytes]) -> list[bytes]:
    """The next level up; a last node without neighbour moves up unchanged."""
    hasher = sha256
    above = [
        hasher(b"\x01" + left + right).digest()
        for left, right in zip(level[::2], level[1::2], strict=False)
    ]
    if len(level) & 1:
        above.append(level[-1])
    return above


def root_hashed(hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes, 32 bytes."""
    if not hashes:
        return EMPTY_ROOT
    level = hashes
    while len(level) > 1:
        level = parents(level)
    return level[0]


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaves, 32 bytes; SHA-256 of nothing for an empty list."""
    return root_hashed(leaf_hashes(leaves))


def inclusion_proof_hashed(hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The audit path of leaf `index`, from the leaf's neighbour up. Raises IndexError."""
    if not 0 <= index < len(hashes):
        raise IndexError(f"leaf {index} of {len(hashes)}")
    path = []
    level = hashes
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        level = parents(level)
        index >>= 1
    return tuple(path)


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The audit path of leaf `index`, from the leaf's neighbour up. Raises IndexError."""
    return inclusion_proof_hashed(leaf_hashes(leaves), index)


def verify_inclusion_hashed(
    root: bytes, hashed_leaf: bytes, index: int, size: int, path: Sequence[bytes]
) -> bool:
    """Whether `path` leads from `hashed_leaf` at `index` of `size` leaves to `root`.

    RFC 9162 section 2.1.3.2. Nothing about the arguments is trusted but `root` and `size`; work is
    bounded by PATH_MAX_LENGTH hashes.
    """
    if not 0 <= index < size or len(path) > PATH_MAX_LENGTH or len(hashed_leaf) != _HASH_BYTES:
        return False
    node = hashed_leaf
    last = size - 1
    for sibling in path:
        if last == 0 or len(sibling) != _HASH_BYTES:
            return False
        if index & 1 or index == last:
            node = node_hash(sibling, node)
            # A node carried upwards skips the levels at which it has no neighbour.
            while index and not index & 1:
                index >>= 1
                last >>= 1
        else:
            node = node_hash(node, sibling)
        index >>= 1
        last >>= 1
    return last == 0 and node == root


def verify_inclusion(
    root: bytes, leaf: bytes, index: int, size: int, path: Sequence[bytes]
) -> bool:
    """Whether `path` proves that `leaf` is leaf `index` of the `size` leaves under `root`."""
    return verify_inclusion_hashed(root, leaf_hash(leaf), index, size, path)
