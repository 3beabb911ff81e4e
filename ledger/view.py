"""Reading the state, and writing over it without touching it.

Execution sees the state through a `ReadView` and writes into an `OverlayView`, which keeps the
writes in memory over a base that never changes. Overlays stack: block h+1 executes on an overlay
over the writes of block h while those are still being committed.

A transaction that fails must leave no trace but its fee. Since a block runs thousands of them and
each touches two or three keys, the overlay does not nest once per transaction: it keeps an undo
journal. `checkpoint()` before a transaction, `rollback(mark)` if it fails. A mark stays valid until
a rollback to an earlier one; marks nest like a stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, Literal, Protocol


class ReadView(Protocol):
    """The state at one moment."""

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None where there is none."""
        ...


class _Mark(Enum):
    """Marks a key that the overlay has not written; None already means deleted."""

    UNWRITTEN = "unwritten"


_UNWRITTEN: Final = _Mark.UNWRITTEN


class EmptyView:
    """A state with nothing in it: what the genesis state is written over."""

    __slots__ = ()

    def get(self, key: bytes) -> bytes | None:  # noqa: ARG002 - the shape of a ReadView
        """None."""
        return None


class OverlayView:
    """Writes over a base. The base is only read, and must not change while the overlay lives."""

    __slots__ = ("_base", "_journal", "_writes")

    def __init__(self, base: ReadView, writes: Mapping[bytes, bytes | None] | None = None) -> None:
        self._base = base
        self._writes: dict[bytes, bytes | None] = {} if writes is None else {**writes}
        self._journal: list[tuple[bytes, bytes | Literal[_Mark.UNWRITTEN] | None]] = []

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`: the last one written here, else the base's."""
        value = self._writes.get(key, _UNWRITTEN)
        if value is _UNWRITTEN:
            return self._base.get(key)
        return value

    def set(self, key: bytes, value: bytes) -> None:
        """Give `key` a value."""
        writes = self._writes
        self._journal.append((key, writes.get(key, _UNWRITTEN)))
        writes[key] = value

    def delete(self, key: bytes) -> None:
        """Let `key` have no value; deleting what is not there is allowed and still a write."""
        writes = self._writes
        self._journal.append((key, writes.get(key, _UNWRITTEN)))
        writes[key] = None

    def checkpoint(self) -> int:
        """A mark to roll back to."""
        return len(self._journal)

    def rollback(self, mark: int) -> None:
        """Undo every write since `checkpoint` gave `mark`."""
        journal, writes = self._journal, self._writes
        assert mark <= len(journal), "a mark from before an earlier rollback"
        while len(journal) > mark:
            key, before = journal.pop()
            if before is _UNWRITTEN:
                del writes[key]
            else:
                writes[key] = before

    def changes(self) -> dict[bytes, bytes | None]:
        """Every key written and its last value, None for deleted. A copy, in no meaningful order.

        Each key appears once, also where its last value equals the base's; the state tree passes
        over such writes.
        """
        return dict(self._writes)
