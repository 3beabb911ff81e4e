"""The stream of what happened in a run: hashed whole, its end kept for the report.

Two runs are equal when their trace hashes are; the hash covers every packet sent and delivered,
every crash, and every trace event of the production code.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Any

import msgspec

from ledger.trace import TraceEvent
from node.simulation.schedule import MS

# The end of a failing run that a report shows.
KEPT_LINES = 300

_encode = msgspec.msgpack.Encoder().encode


class TraceLog:
    """See the module. `note` is called for everything; it must be cheap."""

    __slots__ = ("_hash", "_kept")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._kept: deque[tuple[int, int, str, tuple[Any, ...]]] = deque(maxlen=KEPT_LINES)

    def note(self, now_us: int, machine: int, kind: str, *facts: Any) -> None:
        """`machine` −1 stands for the world."""
        self._hash.update(_encode((now_us, machine, kind, facts)))
        self._kept.append((now_us, machine, kind, facts))

    def event(self, now_us: int, machine: int, event: TraceEvent) -> None:
        """A trace event of production code."""
        self.note(now_us, machine, type(event).__name__, *msgspec.structs.astuple(event))

    def digest(self) -> str:
        """Hex of the hash so far."""
        return self._hash.hexdigest()

    def lines(self) -> list[str]:
        """The kept end, one line each: time in ms, machine, what, facts."""
        return [
            f"{now_us // MS:>8} ms  {'world' if machine < 0 else f'm{machine}':<6} {kind} "
            + " ".join(map(_brief, facts))
            for now_us, machine, kind, facts in self._kept
        ]


def _brief(fact: Any) -> str:
    if isinstance(fact, bytes):
        return fact[:4].hex()
    return str(fact)
