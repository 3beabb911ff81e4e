"""Overlays against a plain dict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.view import EmptyView, OverlayView

KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
VALUES = st.one_of(st.none(), st.binary(max_size=2))


class Counting:
    """A base that counts how often it is asked."""

    def __init__(self, held: dict[bytes, bytes]) -> None:
        self.held = held
        self.reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return self.held.get(key)


def test_writes_hide_the_base_and_leave_it_alone() -> None:
    base = Counting({b"a": b"1", b"b": b"2"})
    overlay = OverlayView(base)
    overlay.set(b"a", b"new")
    overlay.delete(b"b")
    assert overlay.get(b"a") == b"new"
    assert overlay.get(b"b") is None
    assert base.reads == 0
    assert base.held == {b"a": b"1", b"b": b"2"}
    assert overlay.get(b"c") is None
    assert overlay.changes() == {b"a": b"new", b"b": None}


def test_the_empty_value_is_a_value() -> None:
    overlay = OverlayView(EmptyView())
    overlay.set(b"a", b"")
    assert overlay.get(b"a") == b""
    assert overlay.get(b"b") is None


def test_changes_are_a_copy_and_given_writes_are_copied() -> None:
    writes: dict[bytes, bytes | None] = {b"a": b"1"}
    overlay = OverlayView(EmptyView(), writes)
    changes = overlay.changes()
    overlay.set(b"b", b"2")
    assert changes == writes == {b"a": b"1"}


def test_a_failed_transaction_leaves_only_what_came_before() -> None:
    overlay = OverlayView(Counting({b"sender": b"10", b"receiver": b"0"}))
    overlay.set(b"sender", b"9")  # the fee
    mark = overlay.checkpoint()
    overlay.set(b"sender", b"4")
    overlay.set(b"receiver", b"5")
    overlay.delete(b"sender")
    overlay.rollback(mark)
    assert overlay.changes() == {b"sender": b"9"}
    assert overlay.get(b"receiver") == b"0"


def test_overlays_stack() -> None:
    lower = OverlayView(Counting({b"a": b"1"}), {b"b": b"2", b"c": None})
    upper = OverlayView(lower)
    upper.set(b"c", b"3")
    upper.delete(b"a")
    assert [upper.get(key) for key in (b"a", b"b", b"c", b"d")] == [None, b"2", b"3", None]
    assert lower.get(b"a") == b"1"
    assert lower.get(b"c") is None


@given(
    base=st.dictionaries(KEYS, st.binary(max_size=2)),
    steps=st.lists(st.one_of(st.tuples(KEYS, VALUES), st.integers(0, 3))),
)
def test_any_history_of_writes_and_rollbacks_agrees_with_copies_of_a_dict(
    base: dict[bytes, bytes], steps: list[tuple[bytes, bytes | None] | int]
) -> None:
    overlay = OverlayView(Counting(base))
    model: dict[bytes, bytes | None] = dict(base)
    marks: list[tuple[int, dict[bytes, bytes | None]]] = []
    for step in steps:
        if isinstance(step, tuple):
            key, value = step
            model[key] = value
            if value is None:
                overlay.delete(key)
            else:
                overlay.set(key, value)
        elif step < len(marks):
            mark, model = marks[step]
            model = dict(model)
            overlay.rollback(mark)
            del marks[step + 1 :]
        else:
            marks.append((overlay.checkpoint(), dict(model)))
        for key in (b"a", b"b", b"c", b"d"):
            assert overlay.get(key) == model.get(key)
        for key, value in overlay.changes().items():
            assert model.get(key) == value
