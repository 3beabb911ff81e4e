"""Merkle lists against the reference vectors, the recursive definition, and every small forgery."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ledger import merkle

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors/merkle/rfc6962.json").read_text()
)
LEAVES = [bytes.fromhex(leaf) for leaf in VECTORS["leaves"]]
ROOTS = [bytes.fromhex(root) for root in VECTORS["roots"]]

SIZES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 31, 33]


def recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as written."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(
        b"\x01" + recursive_root(leaves[:k]) + recursive_root(leaves[k:])
    ).digest()


def some_leaves(size: int) -> list[bytes]:
    return [b"leaf %d" % i for i in range(size)]


@pytest.mark.parametrize("size", range(9))
def test_roots_match_the_reference_vectors(size: int) -> None:
    assert merkle.root(LEAVES[:size]) == ROOTS[size]


@pytest.mark.parametrize("vector", VECTORS["inclusion"])
def test_inclusion_proofs_match_the_reference_vectors(vector: dict[str, Any]) -> None:
    index, size = vector["index"], vector["size"]
    path = merkle.inclusion_proof(LEAVES[:size], index)
    assert [node.hex() for node in path] == vector["path"]
    assert merkle.verify_inclusion(ROOTS[size], LEAVES[index], index, size, path)


@pytest.mark.parametrize("size", range(70))
def test_roots_match_the_recursive_definition(size: int) -> None:
    assert merkle.root(some_leaves(size)) == recursive_root(some_leaves(size))


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_is_provable_and_only_at_its_place(size: int) -> None:
    leaves = some_leaves(size)
    root = merkle.root(leaves)
    for index, leaf in enumerate(leaves):
        path = merkle.inclusion_proof(leaves, index)
        for place in range(size):
            assert merkle.verify_inclusion(root, leaf, place, size, path) == (place == index)
        assert not merkle.verify_inclusion(root, leaf + b"x", index, size, path)


@pytest.mark.parametrize("size", SIZES)
def test_damaged_paths_are_refused(size: int) -> None:
    leaves = some_leaves(size)
    root = merkle.root(leaves)
    index = size // 2
    path = merkle.inclusion_proof(leaves, index)
    check = merkle.verify_inclusion
    assert not check(bytes(32), leaves[index], index, size, path)
    assert not check(root, leaves[index], index, size, (*path, bytes(32)))
    for at, node in enumerate(path):
        assert not check(root, leaves[index], index, size, path[:at] + path[at + 1 :])
        assert not check(root, leaves[index], index, size, (*path[:at], node[1:], *path[at + 1 :]))
        for byte in range(32):
            flipped = bytearray(node)
            flipped[byte] ^= 1
            damaged = (*path[:at], bytes(flipped), *path[at + 1 :])
            assert not check(root, leaves[index], index, size, damaged)


def test_an_interior_node_does_not_pass_for_a_leaf() -> None:
    leaves = some_leaves(4)
    hashes = merkle.leaf_hashes(leaves)
    inner = hashes[0] + hashes[1]
    path = (merkle.node_hash(hashes[2], hashes[3]),)
    # In a tree of two leaves this path would be right if leaves and nodes hashed alike.
    assert not merkle.verify_inclusion(merkle.root(leaves), inner, 0, 2, path)
    # The hashed variant trusts its caller to have hashed a leaf: that is why the size is trusted.
    assert merkle.verify_inclusion_hashed(
        merkle.root(leaves), merkle.node_hash(hashes[0], hashes[1]), 0, 2, path
    )


def test_indexes_outside_the_list() -> None:
    leaves = some_leaves(3)
    for index in (-1, 3):
        with pytest.raises(IndexError):
            merkle.inclusion_proof(leaves, index)
        path = merkle.inclusion_proof(leaves, 2)
        assert not merkle.verify_inclusion(merkle.root(leaves), leaves[2], index, 3, path)
    assert not merkle.verify_inclusion(merkle.EMPTY_ROOT, b"", 0, 0, ())


def test_endless_paths_are_refused_before_any_hashing() -> None:
    path = (bytes(32),) * (merkle.PATH_MAX_LENGTH + 1)
    assert not merkle.verify_inclusion(bytes(32), b"", 0, 2**60, path)
    assert not merkle.verify_inclusion_hashed(bytes(32), b"short", 0, 1, ())


def test_hashed_variants_agree_with_the_plain_ones() -> None:
    leaves = some_leaves(11)
    hashes = merkle.leaf_hashes(leaves)
    assert merkle.root_hashed(hashes) == merkle.root(leaves)
    assert merkle.inclusion_proof_hashed(hashes, 7) == merkle.inclusion_proof(leaves, 7)
