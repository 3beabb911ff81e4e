"""Events as JSON, made once and shared by all subscribers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

# What live subscribers read again within one block: a full block of 10,000 transactions takes some
# 7 MiB. Whoever replays goes through it once and finds what others have just read.
ENCODINGS_BYTES = 16 * 1024 * 1024


class Encodings:
    """JSON by key; least recently used goes first."""

    __slots__ = ("_held", "_limit_bytes", "made_count", "size_bytes")

    def __init__(self, limit_bytes: int = ENCODINGS_BYTES) -> None:
        self._held: OrderedDict[Hashable, bytes] = OrderedDict()
        self._limit_bytes = limit_bytes
        self.size_bytes = 0
        self.made_count = 0

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The JSON under `key`, made by `make` the first time."""
        held = self._held.get(key)
        if held is not None:
            self._held.move_to_end(key)
            return held
        encoded = make()
        self.made_count += 1
        if len(encoded) <= self._limit_bytes:
            self._held[key] = encoded
            self.size_bytes += len(encoded)
            while self.size_bytes > self._limit_bytes:
                _, dropped = self._held.popitem(last=False)
                self.size_bytes -= len(dropped)
        return encoded
