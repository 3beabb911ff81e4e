"""tally peers add | rm, tally log-level, tally stop: commands to the node of a home.

They go through the node's own socket, which only its user can open.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from node.cli.common import HomeOption, JsonOption, existing_home, guarded
from node.cli.output import CliError, Exit, clean, show

# The host name stands in the request alone; the connection is the socket's.
_SOCKET_URL = "http://localhost/"


def add_to(app: typer.Typer, peers: typer.Typer) -> None:
    """Register the commands."""
    app.command("log-level")(log_level)
    app.command("stop")(stop)
    peers.command("add")(peers_add)
    peers.command("rm")(peers_rm)


@guarded
def peers_add(
    peer: Annotated[str, typer.Argument(metavar="PEERID@HOST:PORT")],
    *,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep links to a peer until the node stops."""
    said = _command(home, "admin_addPeer", peer=peer)
    show(said, f"dialling {clean(said['peerId'])}", as_json=as_json)


@guarded
def peers_rm(
    peer_id: Annotated[str, typer.Argument(metavar="PEERID")],
    *,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop dialling a peer and close its links."""
    said = _command(home, "admin_removePeer", peerId=peer_id)
    show(said, f"removed {clean(said['peerId'])}", as_json=as_json)


@guarded
def log_level(
    level: Annotated[str, typer.Argument(metavar="LEVEL", help="debug, info, warning, error.")],
    *,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Log from another level on until the node stops."""
    said = _command(home, "admin_setLogLevel", level=level)
    show(said, f"logging from {clean(said['level'])} on", as_json=as_json)


@guarded
def stop(*, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Stop the node of a home in order."""
    show(_command(home, "admin_stop"), "stopping", as_json=as_json)


def _command(home: str | None, method: str, **params: str) -> Any:
    place = existing_home(home)

    async def call() -> Any:
        from rpc.client import ConnectionFailed, RpcClient

        try:
            async with RpcClient(_SOCKET_URL, unix_path=place.admin_socket) as client:
                return await client.call(method, params)
        except ConnectionFailed as error:
            raise CliError(
                f"no node runs in {place.root}: nobody answers at {place.admin_socket}",
                code=Exit.UNREACHABLE,
                reason="UNREACHABLE",
                hint=f"start it with `tally start --home {place.root}`",
            ) from error

    return asyncio.run(call())
