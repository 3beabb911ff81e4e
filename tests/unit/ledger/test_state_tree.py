"""The state tree: root, proofs, updates over updates, what it persists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ledger import state_proof, state_tree, state_tree_log
from ledger.state_proof import EMPTY, StateProof
from ledger.state_tree import (
    StaleTreeUpdate,
    StateTree,
    StateTreeCorrupt,
    TreeUpdate,
    bucket_prefix,
    verify_state_proof,
)
from tests.kit.state_root import state_root_by_definition

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors/merkle/state_tree.json").read_text()
)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def keys_in_one_bucket(count: int, prefix: bytes = b"k") -> list[bytes]:
    """Keys ground into the bucket of the first."""
    target = bucket_prefix(prefix + b"0")
    found: list[bytes] = []
    number = 0
    while len(found) < count:
        key = prefix + b"%d" % number
        if bucket_prefix(key) == target:
            found.append(key)
        number += 1
    return found


@pytest.fixture(scope="module")
def neighbours() -> list[bytes]:
    """43 keys of one bucket, found once: it takes 65,536 attempts a key."""
    return keys_in_one_bucket(43)


@pytest.fixture(scope="module")
def crowd(neighbours: list[bytes]) -> list[bytes]:
    """40 of them: more than an undivided bucket holds."""
    return neighbours[:40]


def filled(state: dict[bytes, bytes]) -> StateTree:
    tree = StateTree()
    tree.apply(tree.update(dict(state)))
    return tree


def some_state(count: int) -> dict[bytes, bytes]:
    return {b"key %d" % i: b"value %d" % i for i in range(count)}


class Disk:
    """Persists what a tree asks for, and the state itself, as the store does."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.state: dict[bytes, bytes] = {}
        self.read: list[int] = []

    def commit(self, update: TreeUpdate, changes: dict[bytes, bytes | None]) -> None:
        for target, writes in ((self.records, update.records()), (self.state, changes.items())):
            for key, value in writes:
                if value is None:
                    target.pop(key, None)
                else:
                    target[key] = value

    def read_bucket(self, bucket: int) -> Iterator[tuple[bytes, bytes]]:
        self.read.append(bucket)
        for key, value in self.state.items():
            if bucket_prefix(key) == bucket.to_bytes(2):
                yield key, value

    def load(self) -> StateTree:
        return StateTree.load(sorted(self.records.items()), self.read_bucket)


def test_the_empty_tree_has_the_empty_root_and_proves_absence() -> None:
    tree = StateTree()
    assert tree.root == EMPTY
    assert len(tree) == 0
    proof = tree.prove(b"nobody")
    assert proof == StateProof((), b"")
    assert verify_state_proof(tree.root, b"nobody", None, proof)
    assert not verify_state_proof(tree.root, b"nobody", b"", proof)


def test_the_root_is_what_the_definition_says(crowd: list[bytes]) -> None:
    for state in (
        {b"one": b"1"},
        some_state(500),
        dict.fromkeys(crowd, b"same"),
        dict.fromkeys(crowd[:32], b"same"),
        dict.fromkeys(crowd[:33], b"same"),
    ):
        assert filled(state).root == state_root_by_definition(state)


@pytest.mark.parametrize("vector", VECTORS["trees"], ids=lambda vector: vector["name"])
def test_roots_and_proofs_match_the_committed_vectors(vector: dict[str, Any]) -> None:
    # Root and proof are part of the protocol: they change only with its version.
    state = {bytes.fromhex(key): bytes.fromhex(value) for key, value in vector["state"].items()}
    tree = filled(state)
    assert tree.root.hex() == vector["root"] == state_root_by_definition(state).hex()
    for case in vector["proofs"]:
        key = bytes.fromhex(case["key"])
        proof = tree.prove(key)
        assert [node.hex() for node in proof.siblings] == case["siblings"]
        assert proof.entries.hex() == case["entries"]
        assert verify_state_proof(tree.root, key, state.get(key), proof)


def test_an_update_leaves_the_tree_as_it_was() -> None:
    tree = filled(some_state(100))
    before = tree.root
    update = tree.update({b"key 1": b"changed", b"key 2": None, b"new": b"value"})
    assert tree.root == before == update.root_before
    assert update.root != before
    assert update.created == [b"new"]
    assert update.removed == [b"key 2"]
    assert verify_state_proof(before, b"key 2", b"value 2", tree.prove(b"key 2"))
    tree.apply(update)
    assert tree.root == update.root
    assert len(tree) == 100


def test_writes_that_change_nothing_change_no_root_and_no_record() -> None:
    tree = filled(some_state(10))
    update = tree.update({b"key 3": b"value 3", b"absent": None})
    assert update.root == tree.root
    assert update.created == update.removed == []
    assert update.records() == []
    tree.apply(update)
    assert len(tree) == 10


def test_deleting_everything_gives_the_empty_root() -> None:
    state = some_state(300)
    tree = filled(state)
    tree.apply(tree.update(dict.fromkeys(state)))
    assert tree.root == EMPTY
    assert len(tree) == 0
    assert tree.prove(b"key 1") == StateProof((), b"")


def test_updates_stand_on_updates() -> None:
    tree = filled(some_state(50))
    first = tree.update({b"a": b"1", b"key 0": None})
    second = tree.update({b"b": b"2", b"a": None}, on=first)
    third = tree.update({b"c": b"3", b"key 1": b"x"}, on=second)
    state = some_state(50)
    del state[b"key 0"]
    state |= {b"b": b"2", b"c": b"3", b"key 1": b"x"}
    assert third.root == state_root_by_definition(state)
    assert second.removed == [b"a"]
    for update in (first, second, third):
        tree.apply(update)
    assert tree.root == third.root
    assert len(tree) == len(state)


def test_an_update_still_stands_on_one_that_was_applied_meanwhile() -> None:
    tree = filled(some_state(50))
    first = tree.update({b"a": b"1"})
    second = tree.update({b"b": b"2"}, on=first)
    tree.apply(first)
    third = tree.update({b"c": b"3"}, on=second)
    assert tree.update({b"d": b"4"}, on=first).root == tree.update({b"d": b"4"}).root
    tree.apply(second)
    tree.apply(third)
    assert tree.root == state_root_by_definition(
        some_state(50) | {b"a": b"1", b"b": b"2", b"c": b"3"}
    )


def test_a_state_that_was_computed_twice_is_one_state() -> None:
    # The tree moves on by another object than the one the next update was built on.
    tree = filled(some_state(50))
    kept, computed_again = tree.update({b"a": b"1"}), tree.update({b"a": b"1"})
    ahead = tree.update({b"b": b"2"}, on=kept)
    tree.apply(computed_again)
    assert tree.update({b"c": b"3"}, on=ahead).root_before == ahead.root
    tree.apply(ahead)
    assert tree.root == state_root_by_definition(some_state(50) | {b"a": b"1", b"b": b"2"})


def test_records_follow_the_log_and_not_the_time_of_their_making() -> None:
    tree, disk = StateTree(), Disk()
    nothing = tree.update({b"absent": None})
    assert nothing.records() == []
    there: dict[bytes, bytes | None] = {b"a": b"1"}
    back: dict[bytes, bytes | None] = {b"a": None}
    run_blocks(tree, disk, [there, back])
    tree.apply(nothing)  # starts at the empty root, where the tree is again
    run_blocks(tree, disk, [there, {b"b": b"2"}])
    assert disk.load().root == tree.root == state_root_by_definition({b"a": b"1", b"b": b"2"})


def test_updates_of_another_branch_are_refused() -> None:
    tree = filled(some_state(50))
    ours, theirs = tree.update({b"a": b"1"}), tree.update({b"a": b"2"})
    on_theirs = tree.update({b"b": b"1"}, on=theirs)
    with pytest.raises(StaleTreeUpdate):
        on_theirs.records()  # not yet its turn
    tree.apply(ours)
    for stale in (ours, theirs, on_theirs):
        with pytest.raises(StaleTreeUpdate):
            tree.apply(stale)
    with pytest.raises(StaleTreeUpdate):
        tree.update({b"c": b"1"}, on=theirs)
    with pytest.raises(StaleTreeUpdate):
        tree.update({b"c": b"1"}, on=on_theirs)
    with pytest.raises(StaleTreeUpdate):
        theirs.records()


def test_many_changes_in_one_bucket_agree_with_few(crowd: list[bytes]) -> None:
    at_once, one_by_one = StateTree(), StateTree()
    at_once.apply(at_once.update(dict.fromkeys(crowd, b"v")))
    for key in crowd:
        one_by_one.apply(one_by_one.update({key: b"v"}))
    assert at_once.root == one_by_one.root
    mixed: dict[bytes, bytes | None] = dict.fromkeys(crowd[:20], b"w")
    mixed |= dict.fromkeys(crowd[20:38])
    update = at_once.update(mixed)
    assert sorted(update.removed) == sorted(crowd[20:38])
    at_once.apply(update)
    assert at_once.root == state_root_by_definition(
        dict.fromkeys(crowd[:20], b"w") | dict.fromkeys(crowd[38:], b"v")
    )


def test_a_bucket_grown_large_still_proves_in_little(
    crowd: list[bytes], neighbours: list[bytes]
) -> None:
    tree = filled(some_state(200) | dict.fromkeys(crowd, b"v"))
    for key in crowd:
        proof = tree.prove(key)
        assert len(proof.siblings) > 24
        assert len(proof.entries) <= 32 * 64
        assert verify_state_proof(tree.root, key, b"v", proof)
    for key in neighbours[40:]:
        assert verify_state_proof(tree.root, key, None, tree.prove(key))


# --- forged proofs


def damaged(proof: StateProof) -> Iterator[StateProof]:
    """Every single flipped byte, and every sibling left out, emptied or doubled."""
    for at, node in enumerate(proof.siblings):
        for byte in range(len(node)):
            flipped = bytearray(node)
            flipped[byte] ^= 0x10
            yield msgspec.structs.replace(
                proof, siblings=(*proof.siblings[:at], bytes(flipped), *proof.siblings[at + 1 :])
            )
        rest = proof.siblings[at + 1 :]
        other = EMPTY if node == b"" else b""
        yield msgspec.structs.replace(proof, siblings=(*proof.siblings[:at], *rest))
        yield msgspec.structs.replace(proof, siblings=(*proof.siblings[:at], other, *rest))
        yield msgspec.structs.replace(proof, siblings=(*proof.siblings[:at], node, node, *rest))
    for byte in range(len(proof.entries)):
        changed = bytearray(proof.entries)
        changed[byte] ^= 0x10
        yield msgspec.structs.replace(proof, entries=bytes(changed))
    for end in range(0, len(proof.entries), 64):
        yield msgspec.structs.replace(proof, entries=proof.entries[:end])
    if proof.entries:
        yield msgspec.structs.replace(proof, entries=proof.entries + proof.entries[-64:])
    yield msgspec.structs.replace(proof, siblings=proof.siblings + (b"",) * 3)
    yield msgspec.structs.replace(proof, siblings=())


@pytest.fixture(scope="module")
def forest(crowd: list[bytes]) -> tuple[StateTree, dict[bytes, bytes]]:
    state = some_state(2000) | dict.fromkeys(crowd, b"v")
    return filled(state), state


def test_no_damaged_proof_is_accepted(
    forest: tuple[StateTree, dict[bytes, bytes]], crowd: list[bytes]
) -> None:
    tree, state = forest
    for key in (b"key 7", crowd[3], b"absent", b"also absent"):
        value = state.get(key)
        proof = tree.prove(key)
        assert verify_state_proof(tree.root, key, value, proof)
        for forged in damaged(proof):
            assert not verify_state_proof(tree.root, key, value, forged)
            assert not verify_state_proof(tree.root, key, b"forged", forged)
            if value is not None:
                assert not verify_state_proof(tree.root, key, None, forged)


def test_presence_does_not_pass_for_absence_nor_one_key_for_another(
    forest: tuple[StateTree, dict[bytes, bytes]],
) -> None:
    tree, state = forest
    for key in list(state)[:200]:
        proof = tree.prove(key)
        assert verify_state_proof(tree.root, key, state[key], proof)
        assert not verify_state_proof(tree.root, key, None, proof)
        assert not verify_state_proof(tree.root, key, state[key] + b"x", proof)
        assert not verify_state_proof(tree.root, key + b"x", state[key], proof)
        assert not verify_state_proof(bytes(31) + b"\x01", key, state[key], proof)


def test_a_proof_from_elsewhere_does_not_show_absence(
    forest: tuple[StateTree, dict[bytes, bytes]],
) -> None:
    tree, state = forest
    keys = list(state)[:60]
    for key in keys:
        for other in keys:
            if key != other:
                assert not verify_state_proof(tree.root, key, None, tree.prove(other))


def test_a_node_does_not_open_as_a_bucket() -> None:
    # Two node hashes side by side look like an entry; the kinds are told apart by the first byte.
    # A value chosen by a stranger spells the packed content of a bucket that was never there.
    forged = state_proof.key_hash(b"victim") + state_proof.value_hash(b"million")
    tree = filled(some_state(2000) | {b"mine": b"\x02" + forged, b"other": forged})
    for key in (b"mine", b"other", b"victim"):
        above = tree.prove(key).siblings
        for levels in range(0, len(above) + 1, 3):
            proof = StateProof(above[:levels], forged)
            assert not verify_state_proof(tree.root, b"victim", b"million", proof)
    # Four quarters of a node, taken for two entries, do not prove anything absent.
    above = tree.prove(b"victim").siblings
    level = [*above[:3]]
    for place in range(4):
        for last in (EMPTY, state_proof.node_hash(b"".join([*level, EMPTY]))):
            packed = b"".join([*level[:place], last, *level[place:]])
            proof = StateProof((), packed)
            assert not verify_state_proof(tree.root, b"victim", None, proof)


def test_oversized_proofs_are_refused_when_decoded_and_when_built() -> None:
    limit = state_proof.SIBLINGS * state_proof.LEVELS_MAX
    for proof in (
        StateProof((b"\x01" * 32,) * (limit + 3), b""),
        StateProof((b"\x01" * 33,) * 3, b""),
        StateProof((), bytes(33 * 64)),
    ):
        assert not verify_state_proof(bytes(32), b"key", None, proof)
        with pytest.raises(msgspec.ValidationError):
            msgspec.msgpack.decode(msgspec.msgpack.encode(proof), type=StateProof)
    for proof in (
        StateProof((b"\x01" * 32,), b""),
        StateProof((b"\x01" * 7,) * 3, b""),
        StateProof((), bytes(63)),
        StateProof((), bytes(64)),
        StateProof((b"\x01" * 32,) * limit, bytes(64)),
    ):
        assert not verify_state_proof(bytes(32), b"key", None, proof)


def test_proofs_survive_encoding() -> None:
    tree = filled(some_state(2000))
    proof = tree.prove(b"key 12")
    raw = msgspec.msgpack.encode(proof)
    decoded = msgspec.msgpack.decode(raw, type=StateProof)
    assert verify_state_proof(tree.root, b"key 12", b"value 12", decoded)


# --- persistence


def run_blocks(tree: StateTree, disk: Disk, blocks: Iterable[dict[bytes, bytes | None]]) -> None:
    for changes in blocks:
        update = tree.update(changes)
        disk.commit(update, changes)
        tree.apply(update)


def test_a_loaded_tree_equals_the_one_that_was_persisted() -> None:
    tree, disk = StateTree(), Disk()
    assert disk.load().root == EMPTY
    blocks: list[dict[bytes, bytes | None]] = [
        {b"k%d" % i: b"%d" % block for i in range(block * 7, block * 7 + 40)} for block in range(30)
    ]
    blocks.append(dict.fromkeys([b"k%d" % i for i in range(20)]))
    for changes in blocks:
        run_blocks(tree, disk, [changes])
        loaded = disk.load()
        assert loaded.root == tree.root
        assert len(loaded) == len(tree)
    loaded = disk.load()
    assert disk.read == []
    assert loaded.root == state_root_by_definition(disk.state)
    for key in (b"k0", b"k50", b"k100"):
        assert verify_state_proof(loaded.root, key, disk.state.get(key), loaded.prove(key))
    both: dict[bytes, bytes | None] = {b"k51": None, b"k52": b"w", b"fresh": b"v"}
    assert loaded.update(both).root == tree.update(both).root


def test_the_log_stays_bounded_and_correct_over_many_rotations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Pages of 16 buckets and 8 of them would not cover the table, so keys are kept in its start.
    monkeypatch.setattr(state_tree_log, "PAGE_BUCKETS", 16)
    monkeypatch.setattr(state_tree_log, "PAGE_COUNT", 4)
    keys = [k for k in (b"%d" % i for i in range(80_000)) if bucket_prefix(k) < b"\x00\x40"]
    assert len(keys) > 50
    tree, disk = StateTree(), Disk()
    deltas = 0
    for block in range(400):
        width = 1 + block * 7 % 23
        changed = [keys[(block * 5 + n * 3) % len(keys)] for n in range(width)]
        run_blocks(tree, disk, [dict.fromkeys(changed, b"%d" % block)])
        if block % 9 == 0 or block > 390:
            loaded = disk.load()
            assert loaded.root == tree.root
            assert loaded._log.state == tree._log.state
        kept = [key for key in disk.records if key[0] == 2]
        deltas = max(deltas, sum(len(disk.records[key]) // 34 for key in kept))
    # Each page is written again after at most 4 pages' worth of changes and one block more.
    assert deltas <= 4 * 16 + 16 + 23


def test_an_update_of_the_whole_table_leaves_pages_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_tree_log, "PAGE_BUCKETS", 16)
    monkeypatch.setattr(state_tree_log, "PAGE_COUNT", 4)
    keys = {bucket_prefix(key): key for key in (b"%d" % i for i in range(400_000))}
    table = [keys[bucket.to_bytes(2)] for bucket in range(64)]
    tree, disk = StateTree(), Disk()
    run_blocks(tree, disk, [{table[5]: b"early"}, {table[6]: b"early"}])
    run_blocks(tree, disk, [dict.fromkeys(table, b"v")])
    assert [key[0] for key in sorted(disk.records)] == [0, 1, 1, 1, 1]
    assert disk.load().root == tree.root
    run_blocks(tree, disk, [{table[7]: b"w"}, {table[8]: None}])
    loaded = disk.load()
    assert loaded.root == tree.root == state_root_by_definition(disk.state)
    assert loaded._log.state == tree._log.state


def test_damaged_records_and_values_are_noticed() -> None:
    tree, disk = StateTree(), Disk()
    run_blocks(tree, disk, [dict(some_state(40)), {b"key 1": b"x"}])
    delta = b"\x02" + bytes(8) + (1).to_bytes(4)
    for key, value in (
        (b"\x00", disk.records[b"\x00"][:-1]),
        (delta, disk.records[delta][:-1]),
        (b"\x01\xff", bytes(16384)),
        (b"\x07", b""),
        (b"\x02" + bytes(8) + (5).to_bytes(4), b""),
        (b"\x02" + (9).to_bytes(8) + bytes(4), b""),
    ):
        kept = dict(disk.records)
        disk.records[key] = value
        with pytest.raises(state_tree_log.TreeRecordInvalid):
            disk.load()
        disk.records = kept
    flipped = bytearray(disk.records[delta])
    flipped[9] ^= 1
    kept = dict(disk.records)
    disk.records[delta] = bytes(flipped)
    with pytest.raises(StateTreeCorrupt):
        disk.load()
    disk.records = kept
    loaded = disk.load()
    disk.state[b"key 1"] = b"y"
    with pytest.raises(StateTreeCorrupt):
        loaded.update({b"key 1": b"z"})
    with pytest.raises(StateTreeCorrupt):
        loaded.prove(b"key 1")
    del disk.state[b"key 2"]
    with pytest.raises(StateTreeCorrupt):
        loaded.prove(b"key 2")


def test_a_key_hash_that_straddles_two_entries_is_not_found() -> None:
    # A plain search may hit between entries; the answer must come from an entry's start.
    low, high = bytes(31) + b"\x01", bytes(31) + b"\x02"
    straddling = high[16:] + b"\xaa" * 16
    entries = low + b"\xbb" * 32 + high + b"\xaa" * 32
    assert entries.find(straddling) == 80
    assert state_tree._find(entries, straddling) == (128, False)
    assert state_tree._find(entries, high) == (64, True)
