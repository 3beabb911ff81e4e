"""The script's text: tables for people. Whatever came from a node is made harmless first."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from explorer.peer import QUALITY_ONE, TRUST_TOTAL, Ranking, Rating, Report, Service, Standing
from ledger.params import MICRO

_PEER_HEADINGS = frozenset({"peer", "rated by", "with"})

_NOT_SCORED = "no epoch has been scored yet"


def report(found: Report) -> RenderableType:
    """One peer: score, who rated it, latest ratings and services."""
    standing = found.standing
    parts: list[RenderableType] = [
        Text(clean(standing.peer).plain, style="bold"),
        clean(_what(standing) + "; " + _when(found.epoch, found.height)),
        _score(standing),
    ]
    if found.raters:
        parts += [Text(), _raters(found)]
    if found.services:
        parts += [Text(), _services(found.services, standing.peer)]
    if not found.ratings and not found.services:
        parts += [Text(), Text("No paid service and no rating of this peer was found.")]
    return Group(*parts, Text(), _proof(proven=found.proven))


def ranking(found: Ranking) -> RenderableType:
    """The best peers."""
    parts: list[RenderableType] = [Text(_when(found.epoch, found.height), style="bold")]
    if found.standings:
        table = _table("rank", "peer", "standing", "trust", "quality", "raters", "")
        for each in found.standings:
            rank = "-" if each.rank is None else str(each.rank)
            table.add_row(
                rank,
                clean(each.peer),
                *_figures(each),
                str(each.raters),
                clean(", ".join(each.flags)),
            )
        parts.append(table)
    return Group(*parts, Text(), _proof(proven=found.proven))


def clean(text: object) -> Text:
    """Text of somebody else's making: no markup, and control characters made visible."""
    shown = str(text)
    if not shown.isprintable():
        shown = "".join(
            each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown
        )
    return Text(shown)


def share(amount: int, total: int = TRUST_TOTAL) -> str:
    """A part of the whole trust, with as many digits as say something."""
    if amount == 0:
        return "0"
    percent = 100 * amount / total
    return f"{percent:.4f} %" if percent >= 0.0001 else "< 0.0001 %"


def quality(value: int) -> str:
    """1 is unrated or flawless; below 0.6 nothing stands."""
    return f"{value / QUALITY_ONE:.4f}"


def amount(micro: int) -> str:
    """µT as T."""
    whole, rest = divmod(micro, MICRO)
    digits = f"{rest:06d}".rstrip("0")
    return f"{whole:,}.{digits} T" if digits else f"{whole:,} T"


def _what(standing: Standing) -> str:
    if standing.newcomer:
        return "a newcomer: nobody with a voice has rated it"
    flags = {
        "seed": "a seed of trust",
        "suspended": "a seed that rests for its quality",
        "cut": "cut off: its quality is below 0.6",
    }
    said = [flags.get(flag, flag) for flag in standing.flags]
    return ", ".join(["a known peer", *said])


def _when(epoch: int | None, height: int) -> str:
    scored = _NOT_SCORED if epoch is None else f"scores of epoch {epoch:,}"
    return f"{scored}, as of block {height:,}"


def _score(standing: Standing) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    standing_share, trust_share, quality_text = _figures(standing)
    rank = "none" if standing.rank is None else f"{standing.rank:,}"
    for name, value, meaning in (
        ("standing", standing_share, "trust times quality: what selection and rewards follow"),
        ("trust", trust_share, "of all trust, from the seeds along paid service"),
        ("quality", quality_text, "1 is unrated or flawless"),
        ("rank", rank, ""),
        ("raters", f"{standing.raters:,}", "who had a voice"),
    ):
        table.add_row(name, value, Text(meaning, style="dim"))
    return table


def _figures(standing: Standing) -> tuple[str, str, str]:
    return share(standing.standing), share(standing.trust), quality(standing.quality)


def _raters(found: Report) -> Table:
    given: dict[str, list[Rating]] = {}
    for rating in found.ratings:
        given.setdefault(rating.rater, []).append(rating)
    table = _table("rated by", "score", "times", "its trust", "its quality", "last in block")
    for rater in found.raters:
        theirs = given[rater.peer]
        table.add_row(
            clean(rater.peer),
            _score_text(theirs[0]),
            str(len(theirs)),
            share(rater.trust),
            quality(rater.quality),
            f"{theirs[0].height:,}",
        )
    return table


def _score_text(rating: Rating) -> Text:
    style = "green" if rating.score > 0 else "red"
    return Text(f"{rating.score:+d}" + ("" if rating.ok else " (refused)"), style=style)


def _services(services: tuple[Service, ...], peer: str) -> Table:
    table = _table("service", "with", "receipt", "units", "paid so far", "", "block")
    for each in services:
        gave = each.payee == peer
        word = "given to" if gave else "taken from"
        note = "" if each.cosigned else "not co-signed"
        table.add_row(
            word,
            clean(each.payer if gave else each.payee),
            str(each.seq),
            f"{each.units:,}",
            amount(each.paid),
            note if each.ok else "refused",
            f"{each.height:,}",
        )
    return table


def _proof(*, proven: bool) -> Text:
    if proven:
        return Text("✓ every figure is proven from the network definition", style="green")
    return Text("as the node says; --verify checks proofs", style="dim")


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        # A peer's name is broken rather than cut short on a narrow terminal.
        named = heading in _PEER_HEADINGS
        table.add_column(heading, no_wrap=not named, overflow="fold" if named else "ellipsis")
    return table
