"""The state tree against one built from scratch and a plain dict, over arbitrary histories."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ledger.state_tree import StateTree, TreeUpdate, bucket_prefix, verify_state_proof
from tests.kit.state_root import state_root_by_definition

# Few keys, so that histories meet themselves: some share a bucket, the rest are spread.
_TOGETHER = [
    key
    for key in (b"%d" % number for number in range(600_000))
    if hashlib.sha256(b"\x03" + key).digest()[:2] == b"\x12\x34"
]
KEYS = [b"", b"a", b"b", b"c", b"\x00", b"a" * 100, *_TOGETHER]
VALUES = st.one_of(st.none(), st.sampled_from([b"", b"0", b"1", b"2"]), st.binary(max_size=8))
CHANGES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=20)


def rebuilt(state: dict[bytes, bytes]) -> StateTree:
    tree = StateTree()
    tree.apply(tree.update(dict(state)))
    return tree


def changed(state: dict[bytes, bytes], changes: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    after = dict(state)
    for key, value in changes.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = value
    return after


class TreeMachine(RuleBasedStateMachine):
    """Executes ahead, drops branches, commits, restarts; the disk is a dict written per commit."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = StateTree()
        self.records: dict[bytes, bytes] = {}
        self.state: dict[bytes, bytes] = {}
        self.ahead: list[tuple[TreeUpdate, dict[bytes, bytes | None], dict[bytes, bytes]]] = []

    @rule(changes=CHANGES)
    def execute_ahead(self, changes: dict[bytes, bytes | None]) -> None:
        on, before = (self.ahead[-1][0], self.ahead[-1][2]) if self.ahead else (None, self.state)
        update = self.tree.update(changes, on=on)
        after = changed(before, changes)
        assert update.root == state_root_by_definition(after)
        assert sorted(update.created) == sorted(after.keys() - before.keys())
        assert sorted(update.removed) == sorted(before.keys() - after.keys())
        self.ahead.append((update, changes, after))

    @precondition(lambda self: self.ahead)
    @rule()
    def commit_the_next(self) -> None:
        update, _, after = self.ahead.pop(0)
        for key, value in update.records():
            if value is None:
                del self.records[key]
            else:
                self.records[key] = value
        self.state = after
        self.tree.apply(update)

    @precondition(lambda self: self.ahead)
    @rule(keep=st.integers(0, 2))
    def drop_a_branch(self, keep: int) -> None:
        del self.ahead[keep:]

    @rule()
    def restart(self) -> None:
        self.ahead.clear()
        stored = dict(self.state)

        def read_bucket(bucket: int) -> list[tuple[bytes, bytes]]:
            prefix = bucket.to_bytes(2)
            return [pair for pair in stored.items() if bucket_prefix(pair[0]) == prefix]

        self.tree = StateTree.load(sorted(self.records.items()), read_bucket)

    @invariant()
    def agrees_with_the_state(self) -> None:
        assert self.tree.root == state_root_by_definition(self.state)
        assert len(self.tree) == len(self.state)


TreeMachine.TestCase.settings = settings(max_examples=10, stateful_step_count=30, deadline=None)
TestTreeMachine = TreeMachine.TestCase


@settings(max_examples=40, deadline=None)
@given(state=st.dictionaries(st.sampled_from(KEYS), st.binary(max_size=4)), other=st.binary())
def test_proofs_tell_exactly_what_the_state_holds(state: dict[bytes, bytes], other: bytes) -> None:
    tree = rebuilt(state)
    for key in [*KEYS[:12], other]:
        proof = tree.prove(key)
        held = state.get(key)
        for claim in (None, b"", b"0", held):
            assert verify_state_proof(tree.root, key, claim, proof) == (claim == held)


@settings(max_examples=40, deadline=None)
@given(st.lists(CHANGES, max_size=6), st.randoms(use_true_random=False))
def test_the_root_depends_on_the_state_and_not_on_its_history(
    blocks: list[dict[bytes, bytes | None]], shuffler: object
) -> None:
    tree = StateTree()
    state: dict[bytes, bytes] = {}
    for changes in blocks:
        items = list(changes.items())
        shuffler.shuffle(items)  # type: ignore[attr-defined]
        tree.apply(tree.update(dict(items)))
        state = changed(state, changes)
    assert tree.root == state_root_by_definition(state)
