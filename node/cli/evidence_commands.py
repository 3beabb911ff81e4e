"""tally reputation history | explain: where a peer's score comes from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from node.cli.common import HomeOption, JsonOption, NodeOption, ask, guarded, reads_answers
from node.cli.output import bold, clean, show, table

_QUALITY_UNIT = 2**16
_TRUST_UNIT = 2**40

PeerArgument = Annotated[str, typer.Argument(metavar="PEER", help="PeerID or name.")]


def add_to(reputation: typer.Typer) -> None:
    """Register the commands in `tally reputation`."""
    reputation.command("history")(history)
    reputation.command("explain")(explain)


@guarded
@reads_answers
def history(
    name: PeerArgument,
    *,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many epochs.")] = 20,
    node: NodeOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List a peer's scores epoch by epoch, newest first."""
    said = _ask_about(name, "reputation_history", limit, node, home)
    rows = [
        (
            each["epoch"],
            "-" if each["height"] is None else each["height"],
            *(_score_cells(each) if each["held"] else ("not held here", "", "", "", "")),
        )
        for each in said["items"]
    ]
    lines = [f"{bold(said['subject'])} after block {said['height']:,}"]
    if rows:
        headings = ("EPOCH", "BLOCK", "RANK", "STANDING", "TRUST", "QUALITY", "RATERS")
        lines += table(headings, rows)
    else:
        lines.append("no epoch is scored yet")
    show(said, lines, as_json=as_json)


def _score_cells(score: dict[str, Any]) -> tuple[object, ...]:
    if score["newcomer"]:
        return ("-", "newcomer", "-", "-", "-")
    return (
        score["rank"],
        f"{int(score['standing']) / _TRUST_UNIT:.6f}",
        f"{int(score['trust']) / _TRUST_UNIT:.6f}",
        f"{int(score['quality']) / _QUALITY_UNIT:.3f}",
        score["raters"],
    )


@guarded
@reads_answers
def explain(
    name: PeerArgument,
    *,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many raters.")] = 20,
    node: NodeOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the raters that move a peer's quality, and by how much."""
    said = _ask_about(name, "reputation_explain", limit, node, home)
    score = said["score"]
    quality = "" if score is None else f", quality {int(score['quality']) / _QUALITY_UNIT:.3f}"
    lines = [f"{bold(said['subject'])} in epoch {said['epoch']:,}{quality}"]
    rows = [
        (
            each["rater"],
            f"{int(each['effect']) / _QUALITY_UNIT:+.4f}",
            f"{each['weight'] / 1_024:.3f}",
            each["pos"],
            each["neg"],
        )
        for each in said["items"]
    ]
    if rows:
        lines += table(("RATER", "EFFECT", "WEIGHT", "GOOD", "BAD"), rows)
        lines.append("EFFECT: the quality minus what it would be without this rater")
    else:
        lines.append("nobody has rated it")
    show(said, lines, as_json=as_json)


def _ask_about(
    name: str, method: str, limit: int, node: str | None, home: str | None
) -> dict[str, Any]:
    from ledger.identity import peer_id
    from node.cli.network import Network

    subject = peer_id(Network(node, home).ring.address(name))
    said: dict[str, Any] = ask(
        lambda client: client.call(method, {"subject": subject, "limit": limit}), node, home
    )
    return {"subject": clean(subject), **said}
