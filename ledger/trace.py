"""One mechanism for seeing: cores call an injected tracer with typed events.

The default drops them. The node turns them into log lines and figures, the simulator hashes the
same stream, tests assert that an event fired.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class TraceEvent(msgspec.Struct, frozen=True):
    """Base of every trace event; each room defines its own in its `trace.py`."""


Tracer = Callable[[TraceEvent], None]


def no_trace(_event: TraceEvent) -> None:
    """The default tracer: drops everything."""
