"""tally genesis: the ceremony that makes a network definition (genesis.ceremony)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.common import HomeOption, JsonOption, PassphraseOption, group, guarded
from node.cli.output import CliError, bold, note, pairs, show, usage

if TYPE_CHECKING:
    from genesis.document import Document, ValidatorEntry

app = group("genesis", "Make, extend and check a network definition.")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The network definition.")]


@app.command()
@guarded
def new(
    file: FileArgument,
    *,
    chain_id: Annotated[
        str, typer.Option("--chain-id", help="The network's name: a-z, 0-9 and -.")
    ],
    account: Annotated[
        list[str] | None,
        typer.Option(
            "--account", metavar="PEERID=AMOUNT", help="An opening balance, for example …=100T."
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="When epoch 0 begins: 2026-01-31T12:00:00Z or ms since 1970. Default: now.",
            show_default=False,
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", metavar="NAME=VALUE", help="A parameter other than default."),
    ] = None,
    devnet: Annotated[
        bool,
        typer.Option(
            "--devnet",
            help="For play: fast parameters, published keys allowed.",
            show_default=False,
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Begin a definition: parameters and accounts, no validators yet."""
    from genesis.ceremony import new_draft
    from genesis.document import dump
    from ledger.params import DEFAULT_PARAMS, DEVNET_PARAMS
    from node.cli.amounts import format_amount, parse_amount
    from node.home import write_file

    accounts: dict[str, int] = {}
    for text in account or ():
        name, equals, amount = text.partition("=")
        if not equals:
            raise usage(f"--account {text}: write PEERID=AMOUNT")
        accounts[name] = accounts.get(name, 0) + parse_amount(amount)
    params = _with_parameters(DEVNET_PARAMS if devnet else DEFAULT_PARAMS, parameter or [])
    document = new_draft(chain_id, _time_ms(time), params=params, accounts=accounts, devnet=devnet)
    if file.exists():
        raise CliError(f"{file} exists; nothing was changed", reason="EXISTS")
    write_file(file, dump(document).encode())
    facts = {
        "file": str(file),
        "chainId": chain_id,
        "genesisTimeMs": document.genesis_time_ms,
        "accounts": len(accounts),
        "supply": str(sum(accounts.values())),
    }
    held = f"{len(accounts)} accounts with {format_amount(sum(accounts.values()))}"
    lines = [
        f"{bold('Begun')} {file}: {chain_id}, {held}, no validators yet",
        "",
        bold("Next"),
        f"  each operator   tally genesis add-validator {file} --print --name NAME > NAME.json",
        f"  coordinator     tally genesis add-validator {file} --entry NAME.json",
        f"  everybody       tally genesis validate {file}",
    ]
    show(facts, lines, as_json=as_json)


@app.command("add-validator")
@guarded
def add_validator_(
    file: FileArgument,
    *,
    name: Annotated[
        str | None, typer.Option(help="The validator's name, for people.", show_default=False)
    ] = None,
    entry: Annotated[
        Path | None,
        typer.Option(
            metavar="ENTRY",
            help="An entry that its operator made with --print.",
            show_default=False,
        ),
    ] = None,
    power: Annotated[int, typer.Option(min=1, help="Voting power.")] = 1,
    operator: Annotated[
        str | None,
        typer.Option(
            metavar="PEERID",
            help="The operator's account. Default: the home's operator key.",
            show_default=False,
        ),
    ] = None,
    balance: Annotated[
        str, typer.Option(metavar="AMOUNT", help="Opening balance added to the operator's account.")
    ] = "0T",
    only_print: Annotated[
        bool,
        typer.Option(
            "--print", help="Print this home's entry instead of adding it.", show_default=False
        ),
    ] = False,
    home: HomeOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a validator: this home's keys (which sign), or an entry that another operator sent."""
    from genesis.ceremony import add_validator
    from genesis.definition import genesis_hash
    from genesis.document import dump, parse_entry, read_document
    from node.cli.amounts import parse_amount
    from node.home import write_file

    document = read_document(file)
    if entry is not None:
        if only_print or name is not None:
            raise usage("--entry is another operator's: it goes without --print and --name")
        made = parse_entry(entry.read_bytes())
    elif name is None:
        raise usage("a validator needs --name, or an --entry with one")
    else:
        made = _own_entry(document, name, power, operator, home, passphrase_file)
    if only_print:
        typer.echo(dump(made), nl=False)
        note(f"signed for {document.chain_id!r}; send it to whoever keeps {file.name}")
        return
    extended = add_validator(document, made, balance=parse_amount(balance))
    write_file(file, dump(extended).encode(), replace=True)
    facts = {
        "file": str(file),
        "name": made.name,
        "validators": len(extended.validators),
        "genesisHash": "0x" + genesis_hash(extended).hex(),
    }
    text = f"{made.name} is validator {len(extended.validators)} of {document.chain_id} in {file}"
    show(facts, text, as_json=as_json)


def _own_entry(
    document: Document,
    name: str,
    power: int,
    operator: str | None,
    home: str | None,
    passphrase_file: str | None,
) -> ValidatorEntry:
    from genesis.ceremony import make_entry
    from ledger.identity import peer_id
    from node.cli.common import existing_home
    from node.cli.keyring import Keyring
    from node.keys import CONSENSUS, NODE, OPERATOR

    existing_home(home)
    ring = Keyring(home, passphrase_file, is_devnet=lambda: document.devnet)
    return make_entry(
        document.chain_id,
        name=name,
        operator=operator or peer_id(ring.address(OPERATOR)),
        consensus_key=ring.key(CONSENSUS),
        node_key=ring.key(NODE),
        power=power,
    )


@app.command()
@guarded
def validate(file: FileArgument, *, as_json: JsonOption = False) -> None:
    """Check a definition against every rule and show what it defines."""
    from datetime import UTC, datetime

    from genesis.definition import load_network
    from node.cli.amounts import format_amount

    network = load_network(file)
    begins = datetime.fromtimestamp(network.genesis_time_ms / 1000, UTC)
    facts: dict[str, Any] = {
        "valid": True,
        "chainId": network.chain_id,
        "genesisHash": "0x" + network.genesis_hash.hex(),
        "devnet": network.is_devnet,
        "mode": network.mode,
        "genesisTimeMs": network.genesis_time_ms,
        "validators": [name for _, name in network.validator_names],
        "totalPower": network.validators.total_power,
        "accounts": len(network.balances),
        "supply": str(network.supply),
        "seeds": len(network.seeds),
    }
    count = len(network.validators)
    lines = [
        bold("valid"),
        *pairs(
            [
                ("chain id", network.chain_id + (" (devnet)" if network.is_devnet else "")),
                ("genesis hash", facts["genesisHash"]),
                ("begins", begins.strftime("%Y-%m-%d %H:%M:%S UTC")),
                ("engine", network.mode),
                (
                    "validators",
                    f"{count}: {', '.join(facts['validators'][:8])}" + (" …" if count > 8 else ""),
                ),
                ("power", f"{network.validators.total_power:,} in all, a quorum is more than 2/3"),
                ("accounts", f"{len(network.balances)} with {format_amount(network.supply)}"),
                ("seeds", str(len(network.seeds))),
            ],
            "  ",
        ),
    ]
    show(facts, lines, as_json=as_json)


@app.command("hash")
@guarded
def hash_(file: FileArgument, *, as_json: JsonOption = False) -> None:
    """Print a definition's hash, which names the network."""
    from genesis.definition import load_network

    network = load_network(file)
    hashed = "0x" + network.genesis_hash.hex()
    show({"genesisHash": hashed, "chainId": network.chain_id}, hashed, as_json=as_json)


def _with_parameters(params: Any, settings: list[str]) -> Any:
    import msgspec

    from genesis.problems import suggestion
    from ledger.params import PARAMETERS

    names = [each.name for each in PARAMETERS]
    changes: dict[str, int] = {}
    for text in settings:
        name, _, value = text.partition("=")
        if name not in names:
            raise usage(f"there is no parameter {name!r}", suggestion(name, names))
        try:
            changes[name] = int(value)
        except ValueError:
            raise usage(f"--parameter {text}: the value must be an integer") from None
    return msgspec.structs.replace(params, **changes)


def _time_ms(text: str | None) -> int:
    import time
    from datetime import UTC, datetime

    if text is None:
        return time.time_ns() // 1_000_000
    if text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise usage(f"{text!r} is no time; write 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
