"""How commands speak: facts on standard output, everything else on standard error.

A command builds one JSON value and a text for people, and shows one of them. Text that came from
elsewhere (a node's answers, files) passes `clean`, so that it cannot steer the terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any

import typer


class Exit(IntEnum):
    """Exit codes, a public contract."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REJECTED = 4
    PENDING = 5


class CliError(Exception):
    """A failure for the user: what happened, what to do next, and facts for programs."""

    def __init__(
        self,
        message: str,
        *,
        code: Exit = Exit.FAILED,
        reason: str = "FAILED",
        hint: str = "",
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.hint = hint
        self.facts = facts or {}

    def as_object(self) -> dict[str, Any]:
        """{error: {reason, message, hint?, …facts}}."""
        error: dict[str, Any] = {"reason": self.reason, "message": self.message}
        if self.hint:
            error["hint"] = self.hint
        return {"error": {**error, **self.facts}}


def usage(message: str, hint: str = "") -> CliError:
    """The user asked for something that makes no sense."""
    return CliError(message, code=Exit.USAGE, reason="USAGE", hint=hint)


def clean(text: object) -> str:
    """Text with every character that a terminal might obey made visible."""
    as_text = str(text)
    if as_text.isprintable():
        return as_text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in as_text
    )


def _as_json(value: Any) -> str:
    """One line for programs, which may read the last line only; indented for a reader."""
    return json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False)


def show(value: Any, text: str | Sequence[str], *, as_json: bool) -> None:
    """Print the value as JSON, or the text (lines) for people."""
    if as_json:
        typer.echo(_as_json(value))
    else:
        typer.echo(text if isinstance(text, str) else "\n".join(text))


def show_error(error: CliError, *, as_json: bool) -> None:
    """Print an error: for people on standard error, for programs on standard output."""
    if as_json:
        typer.echo(_as_json(error.as_object()))
        return
    typer.echo(typer.style("error: ", fg="red", bold=True) + clean_lines(error.message), err=True)
    if error.hint:
        typer.echo(typer.style("hint:  ", fg="cyan") + clean_lines(error.hint), err=True)


def note(text: str) -> None:
    """Something worth knowing that is not the answer."""
    typer.echo(text, err=True)


def warn(text: str) -> None:
    """Something to look at."""
    typer.echo(typer.style("warning: ", fg="yellow", bold=True) + clean_lines(text), err=True)


def clean_lines(text: str) -> str:
    """As `clean`, keeping line feeds that we put there."""
    return "\n".join(map(clean, text.split("\n")))


def bold(text: str) -> str:
    """For headings."""
    return typer.style(clean(text), bold=True)


def dim(text: str) -> str:
    """For what matters less."""
    return typer.style(clean(text), dim=True)


def pairs(facts: Iterable[tuple[str, object]], indent: str = "") -> list[str]:
    """`name   value` lines, aligned."""
    listed = [(name, clean(value)) for name, value in facts]
    width = max((len(name) for name, _ in listed), default=0)
    return [f"{indent}{dim(name.ljust(width))}  {value}" for name, value in listed]


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Aligned columns; numbers to the right. Lines are as long as they are: terminals wrap."""
    cells = [[clean(cell) for cell in row] for row in rows]
    listed = list(cells)
    widths = [
        max([len(heading), *(len(row[place]) for row in listed)])
        for place, heading in enumerate(headings)
    ]
    to_right = [
        bool(listed) and all(_is_number(row[place]) for row in listed)
        for place in range(len(headings))
    ]

    def line(row: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, to_right, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return [bold(line(headings)), *map(line, listed)]


def _is_number(text: str) -> bool:
    digits = text.replace(",", "").replace(".", "", 1).removeprefix("-").removesuffix(" T")
    return digits.isdigit() or text == "-"


def is_terminal() -> bool:
    """Whether a person is watching standard output."""
    return sys.stdout.isatty()


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if the user agrees; without a terminal only with --yes. Raises CliError."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise usage(f"{question} Say --yes to agree; there is no terminal to ask on.")
    if not typer.confirm(question, err=True):
        raise CliError("nothing was changed", reason="DECLINED")
