"""tally devnet: a network of real validator processes on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.common import JsonOption, YesOption, group, guarded
from node.cli.output import CliError, bold, confirm, dim, is_terminal, note, pairs, show, table

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from node.devnet.network import Started
    from node.devnet.state import DevnetState

app = group("devnet", "A network of real validators on this machine, with published keys.")

RootOption = Annotated[
    str | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="The devnet's folder. Else TALLY_DEVNET_HOME, ~/.tally-devnet.",
        show_default=False,
    ),
]
NumberArgument = Annotated[int, typer.Argument(metavar="N", min=1, help="Which, from 1.")]


@app.command()
@guarded
def up(
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once it runs.", show_default=False)
    ] = False,
    validators: Annotated[
        int | None, typer.Option(min=1, max=16, help="How many. Default: 4.", show_default=False)
    ] = None,
    base_port: Annotated[
        int | None,
        typer.Option(
            min=1024, max=60_000, help="RPC port of validator 1. Default: 8700.", show_default=False
        ),
    ] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start the network (again). Without -d it is shown until Ctrl-C, which stops it."""
    import asyncio
    import time

    from node.devnet import network
    from node.devnet.state import resolve_root

    place = resolve_root(root)
    try:
        started = network.prepare(place, validators, base_port, time.time_ns() // 1_000_000)
    except ValueError as error:
        raise CliError(str(error), reason="DEVNET") from error
    if not as_json:
        verb = "making" if started.is_new else "starting"
        note(dim(f"{verb} {len(started.state.validators)} validators in {place}"))
    asyncio.run(_up(started, detach=detach, as_json=as_json))


async def _up(started: Started, *, detach: bool, as_json: bool) -> None:
    """Start, tell, show until told to stop. Whatever was started here is stopped on the way out,
    unless it is to be left running."""
    import asyncio
    import signal
    import time

    from node.devnet import network, processes

    told = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(each, told.set)
    began = time.monotonic()
    leave = False
    network.start_stopped(started)
    mine = [started.state.validator(number) for number in started.processes]
    try:
        say = (lambda _: None) if as_json else (lambda text: note(dim(text)))
        if not await _unless(told, network.until_committing(started, say)):
            return
        facts = _facts(started)
        if as_json:
            typer.echo(json.dumps(facts))
        else:
            typer.echo("\n".join(_up_text(started, facts, time.monotonic() - began)))
        leave = detach or not mine
        if not detach:
            if not mine:
                note(dim("it was running already: Ctrl-C only leaves this view"))
            await _unless(told, _foreground(started.state, as_json=as_json))
    finally:
        if not leave:
            if not as_json:
                note("stopping…")
            await asyncio.to_thread(processes.stop, mine)
    if not leave and not as_json:
        note("stopped; `tally devnet up` goes on where it was")


async def _unless(told: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work; whether it ended before the user said stop."""
    import asyncio

    task = asyncio.create_task(work)
    stop = asyncio.create_task(told.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.wait({task})
    return False


async def _foreground(state: DevnetState, *, as_json: bool) -> None:
    import asyncio

    from node.devnet.watch import watch

    if is_terminal() and not as_json:
        await watch(state)
    else:
        await asyncio.Event().wait()


@app.command()
@guarded
def down(*, root: RootOption = None, as_json: JsonOption = False) -> None:
    """Stop the network; its data stays."""
    from node.devnet import processes
    from node.devnet.state import require_state, resolve_root

    state = require_state(resolve_root(root))
    running = [each.number for each in state.validators if each.pid is not None]
    killed = processes.stop(state.validators)
    text = f"stopped {len(running)} validators" if running else "nothing was running"
    if killed:
        text += f"; {', '.join(map(str, killed))} had to be killed"
    show({"stopped": running, "killed": killed}, text, as_json=as_json)


@app.command()
@guarded
def status(*, root: RootOption = None, as_json: JsonOption = False) -> None:
    """Show every validator once."""
    import asyncio

    from node.devnet.state import require_state, resolve_root
    from node.devnet.watch import look, rows_text

    state = require_state(resolve_root(root))
    rows = asyncio.run(look(state))
    facts = {
        "root": str(state.root),
        "chainId": state.chain_id,
        "genesisHash": state.genesis_hash,
        "running": sum(row.pid is not None for row in rows),
        "validators": [row.as_object() for row in rows],
    }
    show(facts, table(*rows_text(rows)), as_json=as_json)


@app.command()
@guarded
def logs(
    number: NumberArgument,
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as they come.", show_default=False)
    ] = False,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the last lines of a validator's log."""
    import time

    from node.devnet.processes import tail
    from node.devnet.state import require_state, resolve_root

    validator = require_state(resolve_root(root)).validator(number)
    found = tail(validator.log, lines)
    show({"log": str(validator.log), "lines": found}, found, as_json=as_json)
    if not follow or as_json:
        return
    with validator.log.open(encoding="utf-8", errors="replace") as file:
        file.seek(0, 2)
        while True:
            line = file.readline()
            if line:
                typer.echo(line, nl=False)
            else:
                time.sleep(_FOLLOW_S)


# Between two looks at a log.
_FOLLOW_S = 0.2


@app.command()
@guarded
def kill(number: NumberArgument, *, root: RootOption = None, as_json: JsonOption = False) -> None:
    """Kill a validator as a crash would (SIGKILL)."""
    from node.devnet import processes
    from node.devnet.state import require_state, resolve_root

    validator = require_state(resolve_root(root)).validator(number)
    pid = validator.pid
    if not processes.kill(validator):
        raise CliError(f"validator {number} does not run", reason="NOT_RUNNING")
    text = f"killed validator {number} (pid {pid}); `tally devnet restart {number}` brings it back"
    show({"number": number, "pid": pid}, text, as_json=as_json)


@app.command()
@guarded
def restart(
    number: NumberArgument, *, root: RootOption = None, as_json: JsonOption = False
) -> None:
    """Stop a validator if it runs, and start it again."""
    import asyncio
    from dataclasses import replace

    from node.devnet import network, processes
    from node.devnet.state import require_state, resolve_root

    state = require_state(resolve_root(root))
    validator = state.validator(number)
    processes.stop([validator])
    process = processes.start(validator)
    only = network.Started(
        replace(state, validators=(validator,)), is_new=False, processes={number: process}
    )
    asyncio.run(network.until_ready(only))
    text = f"validator {number} is ready (pid {process.popen.pid})"
    show({"number": number, "pid": process.popen.pid, "url": validator.url}, text, as_json=as_json)


@app.command()
@guarded
def reset(*, yes: YesOption = False, root: RootOption = None, as_json: JsonOption = False) -> None:
    """Stop the network and throw its data away."""
    import shutil

    from node.devnet import processes
    from node.devnet.state import STATE_FILE, require_state, resolve_root

    state = require_state(resolve_root(root))
    confirm(f"Throw away the devnet in {state.root}?", yes=yes)
    processes.stop(state.validators)
    for each in state.validators:
        shutil.rmtree(each.home)
    (state.root / STATE_FILE).unlink()
    text = f"removed the devnet in {state.root}; `tally devnet up` makes a new one"
    show({"root": str(state.root), "removed": True}, text, as_json=as_json)


def _facts(started: Started) -> dict[str, Any]:
    from genesis.wellknown import ACCOUNT_NAMES, TREASURY, account_address, account_key

    state = started.state
    accounts = []
    for name in (*ACCOUNT_NAMES, TREASURY):
        key = account_key(name)
        assert key is not None
        secret = "0x" + key.secret.hex()
        accounts.append({"name": name, "peerId": account_address(name), "secret": secret})
    return {
        "root": str(state.root),
        "chainId": state.chain_id,
        "genesisHash": state.genesis_hash,
        "genesisFile": str(state.genesis_file),
        "height": started.height,
        "validators": [
            {
                "number": each.number,
                "name": each.name,
                "url": each.url,
                "p2pPort": each.p2p_port,
                "pid": each.pid,
                "home": each.home,
                "log": str(each.log),
                "nodeId": each.node_id,
                "operator": each.operator,
            }
            for each in state.validators
        ],
        "accounts": accounts,
    }


def _up_text(started: Started, facts: dict[str, Any], seconds: float) -> list[str]:
    from node.devnet.state import resolve_root

    usual = started.state.root == resolve_root(None)
    where = "" if usual else f" --node {facts['validators'][0]['url']}"
    here = "" if usual else f" --home {started.state.root}"
    return [
        "",
        f"{bold('The network commits')}: block {started.height}, {seconds:.1f} s after the start",
        *pairs(
            [
                ("network", facts["chainId"]),
                ("genesis", facts["genesisHash"]),
                ("explorer", f"{facts['validators'][0]['url']}/explorer/"),
            ],
            "  ",
        ),
        "",
        *table(
            ("VALIDATOR", "RPC", "P2P", "PID", "LOG"),
            [(v["name"], v["url"], v["p2pPort"], v["pid"], v["log"]) for v in facts["validators"]],
        ),
        "",
        *table(
            ("ACCOUNT", "PEERID", "SECRET KEY (published, worthless)"),
            [(a["name"], a["peerId"], a["secret"]) for a in facts["accounts"]],
        ),
        "",
        bold("Try"),
        f"  tally tx settle --payer validator-1 --payee alice --amount 5T --units 10{where}",
        f"  tally tx rate alice --score 8 --from validator-1{where}",
        f"  tally reputation get alice{where}    (an epoch takes 10 s)",
        dim(f"  stop it with: tally devnet down{here}"),
        "",
    ]
