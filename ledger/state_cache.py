"""A bounded cache of state values: what was used lately, within a number of bytes.

Accounts are hot: senders recur, and each transaction reads what the one before wrote. Exact
least-recently-used order would cost a list operation on every hit. Instead there are two
generations: a hit in the old one moves the entry to the young one, and when the young one has half
the limit it becomes the old one, and what was not used since is gone. An entry thus survives at
least half the limit's worth of other entries, and a hit on a hot key is one dict lookup.

Absence is cached too: None is a value here.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

# What CPython spends on an entry beside its bytes: two bytes objects (33 each) and a dict slot at
# the usual load.
ENTRY_OVERHEAD_BYTES = 180


class Missing(Enum):
    """Not in the cache."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


class StateCache:
    """See the module. Holds at most `limit_bytes`, entry overhead included."""

    __slots__ = ("_half_bytes", "_old", "_young", "_young_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._half_bytes = limit_bytes // 2
        self._young: dict[bytes, bytes | None] = {}
        self._old: dict[bytes, bytes | None] = {}
        self._young_bytes = 0

    def __len__(self) -> int:
        """How many keys are cached."""
        return len(self._young.keys() | self._old.keys())

    def get(self, key: bytes) -> bytes | Literal[Missing.MISSING] | None:
        """The value (None: known to be absent), or MISSING."""
        value = self._young.get(key, MISSING)
        if value is MISSING:
            value = self._old.get(key, MISSING)
            if value is not MISSING:
                self.put(key, value)
        return value

    def put(self, key: bytes, value: bytes | None) -> None:
        """Remember a value, in place of any other for this key."""
        young = self._young
        size = len(key) + ENTRY_OVERHEAD_BYTES + (len(value) if value is not None else 0)
        if size > self._half_bytes:
            self.drop(key)
            return
        if key in young:
            before = young[key]
            self._young_bytes -= len(key) + ENTRY_OVERHEAD_BYTES
            self._young_bytes -= len(before) if before is not None else 0
        elif self._young_bytes + size > self._half_bytes:
            self._old = young
            self._young = young = {}
            self._young_bytes = 0
        young[key] = value
        self._young_bytes += size
        # A value in the old generation is now hidden and goes with it.

    def drop(self, key: bytes) -> None:
        """Forget a key."""
        self._old.pop(key, None)
        if key in self._young:
            value = self._young.pop(key)
            self._young_bytes -= len(key) + ENTRY_OVERHEAD_BYTES
            self._young_bytes -= len(value) if value is not None else 0

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._young_bytes = {}, {}, 0
