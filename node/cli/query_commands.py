"""Asking a node: status, validators, peers, accounts, reputation, any method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.common import (
    HomeOption,
    JsonOption,
    NodeOption,
    ask,
    group,
    guarded,
    parse_json,
    reads_answers,
)
from node.cli.output import bold, clean, dim, note, pairs, show, table, usage

if TYPE_CHECKING:
    from rpc.client import RpcClient

# Parts in which reputation is told (rpc.forms.score_form).
_TRUST_UNIT = 2**40
_QUALITY_UNIT = 2**16

_PAGE = 200

reputation = group("reputation", "Trust, quality and standing of peers.")
peers = group("peers", "Whom a node is connected to.")

VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Check proofs against the network definition instead of believing the node.",
        show_default=False,
    ),
]
GenesisFileOption = Annotated[
    Path | None,
    typer.Option(
        "--genesis", metavar="FILE", help="For --verify: the definition.", show_default=False
    ),
]
GenesisHashOption = Annotated[
    str | None,
    typer.Option(
        "--genesis-hash", metavar="0x…", help="For --verify: its hash.", show_default=False
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(status)
    app.command()(validators)
    app.command()(account)
    app.command("rpc")(rpc_)
    app.add_typer(peers)
    app.add_typer(reputation)


@guarded
@reads_answers
def status(
    *, node: NodeOption = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show a node, its chain and the round in progress."""

    async def question(client: RpcClient) -> tuple[str, list[Any]]:
        calls = ("system_status", "system_health", "consensus_status", "mempool_status")
        answers = await client.batch([(each, None) for each in calls])
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return client.url, answers

    url, (said, health, consensus, mempool) = ask(question, node, home)
    facts = {"url": url, **said, "health": health, "consensus": consensus, "mempool": mempool}
    age_s = health["tipAgeMs"] / 1000
    state = health["status"] + (f": {health['reason']}" if health["reason"] else "")
    if health["targetHeight"] is not None:
        state += f", {health['targetHeight'] - said['height']:,} blocks behind"
    own, phase = consensus["ownIndex"], consensus["phase"]
    fill = max(
        mempool["count"] / mempool["limitCount"], mempool["sizeBytes"] / mempool["limitBytes"]
    )
    lines = [
        f"{bold(said['chainId'])} at {clean(url)}",
        *pairs(
            [
                ("state", state),
                ("height", f"{said['height']:,}, {age_s:.1f} s ago"),
                ("block", said["blockHash"]),
                ("genesis", said["genesisHash"]),
                ("round", f"{consensus['round']} of height {consensus['height']:,}, {phase}"),
                ("consensus", f"{consensus['mode']}, tolerates {consensus['tolerates']}"),
                ("role", "observer" if own is None else f"validator {own}"),
                ("peers", said["peers"]),
                ("mempool", f"{mempool['count']:,} transactions, {fill:.1%} full"),
                ("version", said["version"]),
            ],
            "  ",
        ),
    ]
    show(facts, lines, as_json=as_json)


@guarded
@reads_answers
def validators(
    *, node: NodeOption = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """List the validators of the next height."""

    async def question(client: RpcClient) -> tuple[dict[str, Any], dict[str, str]]:
        said = await _pages(client, "validator_list")
        try:
            definition = (await client.call("system_genesis"))["document"]
            names = {each["operator"]: str(each["name"]) for each in definition["validators"]}
        except (KeyError, TypeError):
            names = {}
        return said, names

    said, names = ask(question, node, home)
    for each in said["items"]:
        each["name"] = names.get(each["operator"], "")
    total = said["totalPower"]
    rows = [
        (
            each["index"],
            each["name"] or "-",
            each["operator"],
            each["power"],
            f"{each['power'] / total:.1%}",
        )
        for each in said["items"]
    ]
    lines = [
        f"{said['count']} validators after block {said['height']:,}; quorum: > 2/3 of {total:,}",
        *table(("INDEX", "NAME", "OPERATOR", "POWER", "SHARE"), rows),
    ]
    show(said, lines, as_json=as_json)


@peers.command("ls")
@guarded
@reads_answers
def peers_ls(
    *, node: NodeOption = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """List a node's connections."""

    async def question(client: RpcClient) -> tuple[dict[str, Any], int]:
        now_ms = int((await client.call("system_status"))["timeMs"])
        return await _pages(client, "net_peers"), now_ms

    said, now_ms = ask(question, node, home)
    rows = [
        (
            each["peerId"],
            each["address"],
            "out" if each["direction"] == "outbound" else "in",
            "-" if each["roundTripMs"] is None else each["roundTripMs"],
            _duration(max(0, now_ms - each["connectedMs"])),
            "yes" if each["validator"] else "no",
        )
        for each in said["items"]
    ]
    lines = table(("PEERID", "ADDRESS", "DIR", "RTT MS", "SINCE", "VALIDATOR"), rows)
    show(said, lines if rows else "no peers", as_json=as_json)


@guarded
@reads_answers
def account(
    name: Annotated[str, typer.Argument(metavar="ACCOUNT", help="PeerID or name.")],
    *,
    verify: VerifyOption = False,
    genesis: GenesisFileOption = None,
    genesis_hash: GenesisHashOption = None,
    node: NodeOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an account: balance, nonce, registration."""
    from ledger.identity import peer_id
    from node.cli.amounts import format_amount
    from node.cli.network import Network, trust_root

    address = peer_id(Network(node, home).ring.address(name))
    if verify:
        trust = trust_root(node, home, genesis, genesis_hash)

        async def proven(client: RpcClient) -> Any:
            from rpc.forms import account_form
            from rpc.light_client import LightClient

            found = await LightClient(client, trust).account(address)
            return {"height": found.header.height, **account_form(found.address, found.account)}

        said = ask(proven, node, home)
        said["proven"] = True
    else:
        said = ask(lambda client: client.call("account_get", {"address": address}), node, home)
    registered = (
        f"since block {said['registeredHeight']:,}, deposit {format_amount(int(said['deposit']))}"
        if said["isRegistered"]
        else "no"
    )
    lines = [
        f"{bold(said['address'])} after block {said['height']:,}" + _proven_mark(said),
        *pairs(
            [
                ("balance", format_amount(int(said["balance"]))),
                ("nonce", said["nonce"]),
                ("registered", registered),
            ],
            "  ",
        ),
    ]
    show(said, lines, as_json=as_json)


@reputation.command("get")
@guarded
@reads_answers
def reputation_get(
    name: Annotated[str, typer.Argument(metavar="PEER", help="PeerID or name.")],
    *,
    verify: VerifyOption = False,
    genesis: GenesisFileOption = None,
    genesis_hash: GenesisHashOption = None,
    node: NodeOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a peer's score in the last closed epoch."""
    from ledger.identity import peer_id
    from node.cli.network import Network

    subject = peer_id(Network(node, home).ring.address(name))
    if verify:
        said = _proven_scores([subject], node, home, genesis, genesis_hash)[0]
    else:
        said = ask(lambda client: client.call("reputation_get", {"subject": subject}), node, home)
    flags = f", {', '.join(said['flags'])}" if said["flags"] else ""
    facts: list[tuple[str, object]] = [
        ("standing", _share(said["standing"])),
        ("trust", _share(said["trust"])),
        ("quality", f"{int(said['quality']) / _QUALITY_UNIT:.3f}"),
        ("rank", "-" if said["rank"] is None else said["rank"]),
        ("raters", said["raters"]),
    ]
    epoch = "no epoch is scored yet" if said["epoch"] is None else f"epoch {said['epoch']:,}"
    kind = "newcomer: nobody trusted has rated it" if said["newcomer"] else "known peer"
    lines = [
        f"{bold(said['subject'])}{_proven_mark(said)}",
        clean(f"  {kind}{flags}; {epoch}"),
        *pairs(facts, "  "),
    ]
    show(said, lines, as_json=as_json)


@reputation.command("top")
@guarded
@reads_answers
def reputation_top(
    *,
    limit: Annotated[int, typer.Option(min=1, max=_PAGE, help="How many.")] = 20,
    verify: VerifyOption = False,
    genesis: GenesisFileOption = None,
    genesis_hash: GenesisHashOption = None,
    node: NodeOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the peers with the highest standing."""
    said = ask(lambda client: client.call("reputation_leaderboard", {"limit": limit}), node, home)
    items = said["items"]
    if verify and items:
        # Each score is proven; that nobody with a higher one is left out cannot be.
        subjects = [each["subject"] for each in items]
        items = _proven_scores(subjects, node, home, genesis, genesis_hash)
        said = {**said, "items": items, "proven": True}
    rows = [
        (
            "-" if each["rank"] is None else each["rank"],
            each["subject"],
            _share(each["standing"]),
            _share(each["trust"]),
            f"{int(each['quality']) / _QUALITY_UNIT:.3f}",
            each["raters"],
            ",".join(each["flags"]) or "-",
        )
        for each in items
    ]
    heading = "no epoch is scored yet" if said["epoch"] is None else f"epoch {said['epoch']:,}"
    lines = [heading + _proven_mark(said)]
    if rows:
        lines += table(("RANK", "PEER", "STANDING", "TRUST", "QUALITY", "RATERS", "FLAGS"), rows)
    show(said, lines, as_json=as_json)


@guarded
def rpc_(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="For example system_status.")],
    params: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]…", help="Parameters; values are JSON or text.", show_default=False
        ),
    ] = None,
    *,
    node: NodeOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,  # noqa: ARG001 - the answer is JSON in any case
) -> None:
    """Call any JSON-RPC method and print its result."""
    named: dict[str, Any] = {}
    for text in params or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise usage(f"{text}: write NAME=VALUE, for example height=1")
        named[name] = parse_json(value)
    said = ask(lambda client: client.call(method, named or None), node, home)
    show(said, "", as_json=True)


async def _pages(client: RpcClient, method: str) -> dict[str, Any]:
    """All pages of a list as one."""
    said: dict[str, Any] = await client.call(method, {"limit": _PAGE})
    items, cursor = list(said["items"]), said["nextCursor"]
    while cursor:
        page = await client.call(method, {"limit": _PAGE, "cursor": cursor})
        items += page["items"]
        cursor = page["nextCursor"]
    return {**said, "items": items, "nextCursor": None}


def _proven_scores(
    subjects: list[str],
    node: str | None,
    home: str | None,
    genesis: Path | None,
    genesis_hash: str | None,
) -> list[dict[str, Any]]:
    from node.cli.network import trust_root

    trust = trust_root(node, home, genesis, genesis_hash)

    async def proven(client: RpcClient) -> list[dict[str, Any]]:
        from rpc.forms import score_form
        from rpc.light_client import LightClient

        found = await LightClient(client, trust).scores(subjects)
        return [
            {
                "height": each.header.height,
                "epoch": each.epoch,
                **score_form(each.address, each.score),
                "proven": True,
            }
            for each in found
        ]

    scores = ask(proven, node, home)
    note(dim(f"proven against genesis 0x{trust.chain.genesis_hash.hex()}"))
    return scores


def _proven_mark(said: dict[str, Any]) -> str:
    return ", proven" if said.get("proven") else ""


def _share(text: str) -> str:
    return f"{int(text) / _TRUST_UNIT:.4%}"


def _duration(ms: int) -> str:
    seconds = ms // 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
