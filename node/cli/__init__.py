"""The `tally` command. Everything heavy is imported inside the commands that need it.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 node unreachable, 4 rejected by the ledger, 5 still
pending after the time-out. With --json, standard output carries one JSON value, also for errors.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process."""
    if not __debug__:
        print(  # noqa: T201 - before anything that could print is loaded
            "error: tally does not run under python -O (or PYTHONOPTIMIZE): its asserts guard "
            "consensus and money",
            file=sys.stderr,
        )
        raise SystemExit(1)
    from node.cli.app import app

    app(prog_name="tally")
