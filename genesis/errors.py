"""What can be wrong with a network definition.

InvalidData
  InvalidDefinition      the document must not start a network; carries every problem found
    MalformedDefinition  not JSON, too large, or a name given twice
  InvalidEntry           one validator's entry of the ceremony is wrong
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger.errors import InvalidData


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: where (`validators.2.power`, "" for the whole), what, and what to do about it.

    `rule` is a stable name for programs; `hint` is "" where there is nothing better to say.
    """

    where: str
    rule: str
    detail: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" — {self.hint}" if self.hint else ""
        return f"{place}{self.detail}{hint}"


class InvalidDefinition(InvalidData):
    """`problems` has at least one entry, in the document's order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        assert problems
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


class MalformedDefinition(InvalidDefinition):
    """The text is no JSON object with unique names."""

    def __init__(self, rule: str, detail: str, hint: str = "") -> None:
        super().__init__((Problem("", rule, detail, hint),))


class InvalidEntry(InvalidDefinition):
    """One validator's entry does not stand on its own."""
