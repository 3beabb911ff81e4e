"""Options of the commands that make transactions; apart, so that `--help` loads nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_TIMEOUT_S = 30.0
"""A devnet commits within a second, a slow network after a view change within ten."""

FromOption = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="KEY",
        help="Who signs and pays: a key of the home, a key store file, or a devnet account.",
    ),
]
WaitOption = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help="Wait until the transaction is in a block."),
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0, max=60, metavar="SECONDS", help="How long to wait.")
]
FeeOption = Annotated[
    str | None,
    typer.Option(
        "--fee", metavar="AMOUNT", help="Default: exactly what the bytes cost.", show_default=False
    ),
]
NonceOption = Annotated[
    int | None, typer.Option("--nonce", min=0, help="Default: the next one.", show_default=False)
]
OfflineOption = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Sign without a node and print the bytes (needs --genesis and --nonce).",
        show_default=False,
    ),
]
GenesisOption = Annotated[
    Path | None,
    typer.Option(
        "--genesis",
        metavar="FILE",
        help="Network definition, to work without a node.",
        show_default=False,
    ),
]
