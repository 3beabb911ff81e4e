"""Figures: what is measured, what is aimed at, and how a figure is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Goal:
    """`least` goals are reached from above, others from below."""

    value: float
    least: bool = False

    def is_met(self, value: float) -> bool:
        """Whether a figure reaches it."""
        return value >= self.value if self.least else value <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.least else '≤'} {self.value:g}"


GOALS = {
    "cpu_per_transfer": Goal(3.0),
    "cpu_per_settle": Goal(2.2),
    "throughput_over_bound": Goal(0.25, least=True),
    "latency_p50_ms": Goal(30.0),
    "latency_p99_ms": Goal(60.0),
}
"""The next goals; the last ones stand in docs/decisions/0091."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. `facts` are what it was made of."""

    name: str
    ratio: float
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def goal(self) -> Goal | None:
        """What is aimed at, None for figures that only inform."""
        return GOALS.get(self.name)

    def as_object(self) -> dict[str, Any]:
        """{figure, ratio, goal, met, …facts}."""
        goal = self.goal
        return {
            "figure": self.name,
            "ratio": round(self.ratio, 4),
            "goal": None if goal is None else goal.value,
            "met": None if goal is None else goal.is_met(self.ratio),
            **self.facts,
        }

    def as_line(self) -> str:
        """The JSON line."""
        return orjson.dumps(self.as_object()).decode()


def table(figures: Sequence[Figure]) -> Table:
    """For people."""
    made = Table(title="Figures", title_justify="left")
    for heading in ("figure", "measured", "goal", ""):
        made.add_column(heading, justify="right" if heading in ("measured", "goal") else "left")
    for each in figures:
        goal = each.goal
        if goal is None:
            word = ""
        else:
            word = "[green]reached[/]" if goal.is_met(each.ratio) else "[yellow]not yet[/]"
        made.add_row(each.name, f"{each.ratio:.3f}", "" if goal is None else str(goal), word)
    return made


def show(figures: Sequence[Figure]) -> None:
    """A JSON line each, then the table."""
    for each in figures:
        print(each.as_line(), flush=True)
    Console(stderr=True).print(table(figures))
