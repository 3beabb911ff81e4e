"""How much an object holds, without asking it: the elements of every container it can reach.

An engine that counted its own buffers would forget exactly the one that leaks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

# Classes of these packages are looked into; everything else counts as one element.
_OWN_PACKAGES = ("consensus.", "ledger.", "node.", "tests.")

# More is a leak whatever the limit is; stop counting.
_STOP = 200_000


def held_elements(root: object) -> int:
    """Elements of all dicts, lists, tuples, sets and deques reachable from `root`, each once."""
    seen: set[int] = set()
    waiting: list[Any] = [root]
    count = 0
    while waiting and count < _STOP:
        each = waiting.pop()
        if isinstance(each, int | str | bytes | float | None) or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict):
            count += len(each)
            waiting.extend(each.keys())
            waiting.extend(each.values())
        elif isinstance(each, list | tuple | set | frozenset | deque):
            count += len(each)
            waiting.extend(each)
        elif type(each).__module__.startswith(_OWN_PACKAGES):
            waiting.extend(_attributes(each))
    return count


def _attributes(owner: object) -> Iterable[Any]:
    yield from getattr(owner, "__dict__", {}).values()
    names = list(getattr(owner, "__struct_fields__", ()))
    for kind in type(owner).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names += (slots,) if isinstance(slots, str) else slots
    for name in names:
        value = getattr(owner, name, None)
        if value is not None:
            yield value
