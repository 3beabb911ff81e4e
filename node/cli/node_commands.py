"""tally init, start, version: a node's own life."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.common import HomeOption, JsonOption, PassphraseOption, existing_home, guarded
from node.cli.output import CliError, bold, dim, note, pairs, show, usage, warn

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from genesis.definition import NetworkDefinition
    from node.home import Home


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(init)
    app.command()(start)
    app.command("version")(version_)


@guarded
def init(
    *,
    home: HomeOption = None,
    name: Annotated[str, typer.Option(help="The node's name, for people.")] = "tally",
    genesis: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Network definition to copy into the home.", show_default=False
        ),
    ] = None,
    passphrase_file: PassphraseOption = None,
    generate_passphrase: Annotated[
        bool,
        typer.Option(
            "--generate-passphrase",
            help="Make a random passphrase and keep it in config/passphrase (0600).",
            show_default=False,
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a home: folders, settings, and the three keys of a validator."""
    from genesis.definition import load_network
    from ledger.identity import peer_id
    from node.cli.keyring import new_passphrase, store_key
    from node.config_file import render
    from node.home import HomeExists, resolve_home, write_file, write_secret
    from node.keys import NODE_KEY_NAMES

    place = resolve_home(home)
    for key_name in NODE_KEY_NAMES:
        if place.key_file(key_name).exists():
            raise HomeExists(place.root, f"keys ({place.key_file(key_name).name})")
    network = load_network(genesis) if genesis is not None else None
    if network is not None and place.genesis_file.exists():
        raise HomeExists(place.root, "a network definition")
    _check_name(name)
    place.create()
    passphrase = new_passphrase(
        None if passphrase_file is None else Path(passphrase_file), generate=generate_passphrase
    )
    if not as_json:
        note(dim("encrypting three keys, a second each…"))
    keys = {each: store_key(place, each, passphrase) for each in NODE_KEY_NAMES}
    if generate_passphrase:
        write_secret(place.passphrase_file, passphrase.encode() + b"\n", replace=True)
    if not place.config_file.exists():
        write_file(place.config_file, render({"node.name": name}).encode())
    if genesis is not None:
        write_file(place.genesis_file, genesis.read_bytes())
    facts = {
        "home": str(place.root),
        "name": name,
        "operator": peer_id(keys["operator"].public_key),
        "consensusKey": "0x" + keys["consensus"].public_key.hex(),
        "nodeId": peer_id(keys["node"].public_key),
        "genesisHash": None if network is None else "0x" + network.genesis_hash.hex(),
    }
    show(facts, _init_text(place, facts, network), as_json=as_json)


def _init_text(home: Home, facts: dict[str, Any], network: NetworkDefinition | None) -> list[str]:
    lines = [
        f"{bold('Made')} {home.root}",
        "",
        *pairs(
            [
                ("operator", facts["operator"]),
                ("node", facts["nodeId"]),
                ("consensus key", facts["consensusKey"]),
            ],
            "  ",
        ),
        "",
        "Keep the passphrase and a copy of config/keys where a fire in here does not reach them.",
        "",
        bold("Next"),
    ]
    if network is None:
        lines += [
            "  join a new network    tally genesis add-validator FILE --print --name NAME",
            f"  join a running one    copy its definition to {home.genesis_file}",
        ]
    lines.append(f"  run the node          tally start --home {home.root}")
    return lines


def _check_name(name: str) -> None:
    from node.config import load_config

    load_config(None, {}, {"node.name": name})


@guarded
def start(
    *,
    home: HomeOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Override a setting, for example rpc.port=8701."
        ),
    ] = None,
    rpc_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="rpc.port", show_default=False)
    ] = None,
    p2p_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="p2p.port", show_default=False)
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="log.level", show_default=False)] = None,
    observe: Annotated[
        bool,
        typer.Option(
            "--observe",
            help="Follow the chain without voting (consensus.vote=false).",
            show_default=False,
        ),
    ] = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Run the node until it is told to stop (Ctrl-C, SIGTERM)."""
    import os

    from node.config import load_config
    from node.home import HomeLock

    place = existing_home(home)
    overrides = _overrides(settings or [])
    for name, value in (
        ("rpc.port", rpc_port),
        ("p2p.port", p2p_port),
        ("log.level", log_level),
        ("consensus.vote", "false" if observe else None),
        ("keys.passphrase_file", passphrase_file and str(Path(passphrase_file).absolute())),
    ):
        if value is not None:
            overrides[name] = str(value)
    config = load_config(place.config_file, os.environ, overrides).config
    network = _network_of(place)
    with HomeLock(place):
        from node.runner import run_node

        _run(run_node(config, place, network))


def _network_of(home: Home) -> NetworkDefinition:
    from genesis.definition import load_network

    if not home.genesis_file.exists():
        raise CliError(
            f"{home.genesis_file} does not exist: the node does not know its network",
            reason="NO_GENESIS",
            hint="copy the network's definition there, or make one with `tally genesis new`",
        )
    network = load_network(home.genesis_file)
    if network.is_devnet and not home.passphrase_file.exists():
        warn("this network is a devnet: private keys of it may be public")
    return network


def _overrides(settings: list[str]) -> dict[str, str]:
    overrides = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise usage(f"--set {text}: write NAME=VALUE, for example rpc.port=8701")
        overrides[name.strip()] = value.strip()
    return overrides


def _run(node: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or until SIGTERM or SIGINT cancels it; a second signal changes nothing."""
    import asyncio
    import signal

    import uvloop

    async def supervised() -> None:
        task = asyncio.create_task(node)
        loop = asyncio.get_running_loop()
        stopping = False

        def stop() -> None:
            nonlocal stopping
            if not stopping:
                stopping = True
                task.cancel()

        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, stop)
        try:
            await task
        except asyncio.CancelledError:
            if not stopping:
                raise

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(supervised())


@guarded
def version_(*, as_json: JsonOption = False) -> None:
    """Print the version."""
    import platform

    from genesis.document import FORMAT_VERSION
    from ledger.block import BLOCK_VERSION
    from node.version import version

    facts = {
        "version": version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "genesisFormat": FORMAT_VERSION,
        "blockVersion": BLOCK_VERSION,
    }
    lines = [
        bold(f"tally {version()}"),
        *pairs((name, value) for name, value in facts.items() if name != "version"),
    ]
    show(facts, lines, as_json=as_json)
