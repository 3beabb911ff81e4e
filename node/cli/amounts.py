"""Amounts as people write them: always with a unit, so that nobody sends a million times too much.

1 T = 1,000,000 µT; `µT` may be written `uT`.
"""

from __future__ import annotations

import re

from ledger.codec import LIMIT_53
from ledger.params import MICRO
from node.cli.output import usage

_AMOUNT = re.compile(r"([0-9][0-9_,]*)(?:\.([0-9]{1,6}))?\s*(T|µT|uT|μT)")


def parse_amount(text: str) -> int:
    """µT of "5T", "0.25T", "1,000 T" or "300uT". Raises CliError (usage)."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        digits = text.strip()
        hint = f"write {digits}T or {digits}uT" if digits.isdigit() else "write 5T, 0.25T or 300uT"
        raise usage(f"{text!r} is not an amount with a unit", hint)
    whole = int(re.sub("[_,]", "", found[1]))
    if found[3] == "T":
        amount = whole * MICRO + int((found[2] or "").ljust(6, "0"))
    elif found[2] is not None:
        raise usage(f"{text!r}: there is no part of a µT")
    else:
        amount = whole
    if amount >= LIMIT_53:
        raise usage(f"{text!r} is more than there can be")
    return amount


def format_amount(amount: int) -> str:
    """µT as "1,000.25 T"."""
    whole, part = divmod(amount, MICRO)
    decimals = f".{part:06}".rstrip("0") if part else ""
    return f"{whole:,}{decimals} T"
