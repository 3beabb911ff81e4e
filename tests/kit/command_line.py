"""Running `tally` in this process, as a user would type it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from node.cli.app import app


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON value it must be."""
        return json.loads(self.out)


def tally(*words: str, stdin: str | None = None) -> Ran:
    """Run a command. An exception that would show a user a traceback is raised."""
    result = CliRunner().invoke(app, list(words), input=stdin, catch_exceptions=False)
    return Ran(result.exit_code, result.stdout, result.stderr)
