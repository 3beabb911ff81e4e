"""The tree of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli import (
    config_commands,
    devnet_commands,
    event_commands,
    evidence_commands,
    genesis_commands,
    keys_commands,
    node_commands,
    operator_commands,
    query_commands,
    receipt_commands,
    tx_commands,
)
from node.demo import command as demo_commands
from node.simulation import command as simulation_command

app = typer.Typer(
    name="tally",
    help="Tallystick: a ledger of service, paid for and rated.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(*, wanted: bool) -> None:
    if wanted:
        from node.version import version

        typer.echo(f"tally {version()}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and stop.",
            is_eager=True,
            callback=lambda value: _version(wanted=value),
            show_default=False,
        ),
    ] = False,
) -> None:
    """Tallystick: a ledger of service, paid for and rated."""


node_commands.add_to(app)
query_commands.add_to(app)
event_commands.add_to(app)
evidence_commands.add_to(query_commands.reputation)
operator_commands.add_to(app, query_commands.peers)
app.add_typer(devnet_commands.app)
app.add_typer(keys_commands.app)
app.add_typer(genesis_commands.app)
app.add_typer(tx_commands.app)
app.add_typer(receipt_commands.app)
app.add_typer(config_commands.app)
app.add_typer(demo_commands.app)
simulation_command.add_to(app)
