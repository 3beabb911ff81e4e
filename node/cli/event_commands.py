"""tally events: what happens on a node's chain, as it happens."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.common import HomeOption, NodeOption, ask, guarded, reads_answers
from node.cli.output import CliError, Exit, clean, usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from node.cli.keyring import Keyring
    from rpc.client import RpcClient

# A node that was lost for this long is given up.
PATIENCE_S = 30.0

_LOGS = ("blocks", "tx", "reputation", "validators")
_STATES = ("account", "consensus", "peers")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(events)


@guarded
@reads_answers
def events(
    topic: Annotated[
        str, typer.Argument(metavar="TOPIC", help=", ".join((*_LOGS, *_STATES)) + ".")
    ],
    *,
    from_height: Annotated[
        int | None,
        typer.Option(
            "--from", min=1, metavar="HEIGHT", help="Replay from here.", show_default=False
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(metavar="ACCOUNT", help="For tx and account: PeerID or name."),
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(metavar="PEER", help="For reputation: PeerID or name; repeatable."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--type", help="For tx: Transfer, Settle, Rate or Register."),
    ] = None,
    pending: Annotated[
        bool, typer.Option("--pending", help="For tx: waiting and dropped ones too.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many.", show_default=False)
    ] = None,
    node: NodeOption = None,
    home: HomeOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON value a line.", show_default=False)
    ] = False,
) -> None:
    """Follow a topic until Ctrl-C, across broken connections and without a gap."""
    if topic not in (*_LOGS, *_STATES):
        raise usage(f"{topic} is no topic", "one of " + ", ".join((*_LOGS, *_STATES)))
    filters: dict[str, Any] = {}
    if account or subject:
        from node.cli.network import Network

        ring = Network(node, home).ring
        filters |= _people(ring, account, subject)
    if kind:
        filters["type"] = kind
    if pending:
        filters["pending"] = True
    # Says at once what is wrong with an address at which nobody answers.
    url = ask(_url_of, node, home)
    show = _as_json if as_json else _LINES[topic]
    asyncio.run(_follow(url, topic, from_height, filters, count, show))


async def _url_of(client: RpcClient) -> str:
    await client.call("system_version")
    return client.url


def _people(ring: Keyring, account: str | None, subjects: list[str] | None) -> dict[str, Any]:
    from ledger.identity import peer_id

    named: dict[str, Any] = {}
    if account:
        named["account"] = peer_id(ring.address(account))
    if subjects:
        named["subjects"] = [peer_id(ring.address(each)) for each in subjects]
    return named


async def _follow(
    url: str,
    topic: str,
    from_height: int | None,
    filters: Mapping[str, Any],
    count: int | None,
    show: Callable[[dict[str, Any]], str],
) -> None:
    from contextlib import aclosing

    from rpc.client import ConnectionFailed
    from rpc.events import follow

    following = follow(url, topic, from_height=from_height, filters=filters, patience_s=PATIENCE_S)
    try:
        async with aclosing(following) as found:
            async for event in found:
                typer.echo(show(event.data))
                if count is not None:
                    count -= 1
                    if not count:
                        return
    except ConnectionFailed as error:
        raise CliError(
            f"lost {url} for {PATIENCE_S:g} s: {error.__cause__}",
            code=Exit.UNREACHABLE,
            reason="UNREACHABLE",
            hint="look at the node, then go on with --from HEIGHT",
            facts={"url": url},
        ) from error


def _as_json(event: dict[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False)


def _block_line(event: dict[str, Any]) -> str:
    return clean(
        f"block {event['height']:,}  {event['hash']}  {event['transactionCount']} transactions"
    )


def _transaction_line(event: dict[str, Any]) -> str:
    where = f"{event['height']:,}.{event['index']}" if "height" in event else "-"
    word = event["status"]
    if word == "committed":
        receipt = event["receipt"]
        word = "ok" if receipt["ok"] else f"failed: {receipt['reason']}"
    elif word == "dropped":
        word = f"dropped: {event['reason']}"
    what = ""
    if "payload" in event:
        payload = event["payload"]
        what = f"  {payload['type']} by {payload['sender']}"
    return clean(f"{where}  {event['hash']}{what}  {word}")


def _account_line(event: dict[str, Any]) -> str:
    from node.cli.amounts import format_amount

    balance = format_amount(int(event["balance"]))
    return clean(f"after block {event['height']:,}  balance {balance}  nonce {event['nonce']}")


def _scores_line(event: dict[str, Any]) -> str:
    scores = "" if event["count"] is None else f"  {event['count']:,} scores"
    lines = [f"epoch {event['epoch']:,} in block {event['height']:,}{scores}"]
    for each in event.get("items") or ():
        quality = int(each["quality"]) / 2**16
        lines.append(f"  {each['subject']}  rank {each['rank'] or '-'}  quality {quality:.3f}")
    return "\n".join(map(clean, lines))


def _set_line(event: dict[str, Any]) -> str:
    many = len(event["items"])
    return clean(
        f"block {event['height']:,}  {many} validators from the next height on, "
        f"power {event['totalPower']:,}  {event['hash']}"
    )


def _round_line(event: dict[str, Any]) -> str:
    return clean(
        f"height {event['height']:,}  round {event['round']}  {event['phase']}  "
        f"led by {event['leader'] or '-'}"
    )


def _peers_line(event: dict[str, Any]) -> str:
    names = ", ".join(str(each["peerId"]) for each in event["items"])
    return clean(f"{len(event['items'])} peers: {names or '-'}")


_LINES: dict[str, Callable[[dict[str, Any]], str]] = {
    "blocks": _block_line,
    "tx": _transaction_line,
    "account": _account_line,
    "reputation": _scores_line,
    "validators": _set_line,
    "consensus": _round_line,
    "peers": _peers_line,
}
