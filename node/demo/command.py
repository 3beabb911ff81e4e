"""tally demo otc: replay a real trust network through a live one, and judge the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.common import JsonOption, group, guarded
from node.cli.output import CliError, Exit, is_terminal, usage

if TYPE_CHECKING:
    from node.demo.dataset import Dataset
    from node.demo.outcome import Outcome
    from node.demo.replay import Stages

app = group("demo", "Demonstrations on a live network.")

SYBILS_MAX_COUNT = 20_000
"""Each is an account and some ninety transactions."""

_FILE_WIDTH = 120


@app.callback()
def _demo() -> None:
    """Keeps `otc` a subcommand while it is the only one."""


@app.command()
@guarded
def otc(
    *,
    ratings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Rows of rater,ratee,rating,time (plain or .gz). Default: a part of Bitcoin-OTC.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Rows of person,+1 (trusted) or −1 (fraudulent). Goes with --ratings.",
            show_default=False,
        ),
    ] = None,
    sybils: Annotated[
        int,
        typer.Option(
            min=0,
            max=SYBILS_MAX_COUNT,
            help="Accounts of an attack that praises frauds and slanders the trusted.",
        ),
    ] = 0,
    exclude_raters: Annotated[
        str,
        typer.Option(
            metavar="N,N",
            help="Leave out the ratings that these people gave; 1,35 are those behind the labels.",
            show_default=False,
        ),
    ] = "",
    node: Annotated[
        list[str] | None,
        typer.Option(
            "--node",
            metavar="URL",
            help="Use a running devnet, not a network of our own; repeat for more validators.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay the Bitcoin-OTC ratings as paid services through four validators; judge the scores.

    Every person gets an account and a key, every rating becomes a co-signed settlement and a rating
    of it. Then the scores are read back with proofs and compared with the labels: who was a fraud?
    """
    import asyncio

    from node.demo import dataset, submit
    from node.demo.network import NotUp
    from node.demo.replay import CannotReplay
    from rpc.client import AnswerTimeout, ConnectionFailed

    excluded = _people(exclude_raters)
    try:
        data = dataset.load(ratings, labels)
        data = dataset.with_attack(dataset.without_raters(data, excluded), sybils)
    except dataset.InvalidDataset as error:
        raise usage(str(error)) from error
    except OSError as error:
        raise usage(f"{error.filename}: {error.strerror}") from error
    stages = _Progress()
    stages.say(f"{len(data.ratings):,} ratings between {len(data.people):,} people ({data.source})")
    urls = [url.rstrip("/") if "://" in url else f"http://{url}" for url in node or []]
    try:
        outcome = _unwrapped(lambda: asyncio.run(_run(data, urls, stages)))
    except (submit.Stalled, CannotReplay, NotUp) as error:
        raise CliError(str(error), reason=error.reason) from error
    except (ConnectionFailed, AnswerTimeout) as error:
        raise CliError(
            str(error),
            code=Exit.UNREACHABLE,
            reason="UNREACHABLE",
            hint="leave --node out to use a network of its own",
            facts={"url": error.url},
        ) from error
    _show(outcome, as_json=as_json)


async def _run(data: Dataset, urls: list[str], stages: _Progress) -> Outcome:
    import time

    from node.demo import replay
    from node.demo.definition import REPLAY, document_for
    from node.demo.network import TemporaryNetwork
    from node.demo.plan import Chain

    if urls:
        return await _run_on(data, urls, stages)
    document = document_for(
        data, replay.transactions_of(data), genesis_time_ms=time.time_ns() // 1_000_000
    )
    own = TemporaryNetwork(document)
    chain = Chain(own.definition.identity, own.definition.params)
    lanes = len(document.validators)
    signed = replay.sign_all(data, chain, REPLAY, replay.own_sponsors(chain), [], lanes, stages)
    with stages.stage("starting four validators", None):
        await own.start()
    try:
        network = replay.Network(own.definition, own.urls)
        try:
            return await network.replay(data, signed, REPLAY, stages)
        finally:
            await network.close()
    finally:
        await own.stop()


async def _run_on(data: Dataset, urls: list[str], stages: Stages) -> Outcome:
    """The replay on a running devnet."""
    from node.demo import plan, replay

    network = await replay.connect(urls)
    try:
        chain = network.chain
        needs = plan.needs_of(chain, data.ratings, data.people)
        sponsors = await replay.find_sponsors(network, plan.opening_cost(chain, needs))
        operators = await replay.find_operators(network)
        name = await replay.free_replay(network, data)
        signed = replay.sign_all(data, chain, name, sponsors, operators, len(urls), stages)
        return await network.replay(data, signed, name, stages)
    finally:
        await network.close()


def _show(outcome: Outcome, *, as_json: bool) -> None:
    import json

    from rich.console import Console

    if as_json:
        typer.echo(json.dumps(outcome.as_object()))
    else:
        # Files and pipes get lines that are not cut to eighty characters.
        console = Console() if is_terminal() else Console(width=_FILE_WIDTH)
        console.print(outcome.as_text())
    if not outcome.is_sound:
        raise typer.Exit(Exit.FAILED)


def _people(text: str) -> set[int]:
    try:
        return {int(part) for part in text.split(",") if part.strip()}
    except ValueError:
        raise usage(f"--exclude-raters {text}: write numbers, for example 1,35") from None


def _unwrapped(run: Callable[[], Outcome]) -> Outcome:
    """What failed first, out of the groups that task groups make of it."""
    try:
        return run()
    except BaseExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from errors


class _Progress:
    """Progress on standard error: bars on a terminal, otherwise a line when a stage is done."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """See node.demo.replay.Stages."""
        import time

        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        began = time.monotonic()
        columns = [SpinnerColumn(), TextColumn("{task.description}")]
        if total is not None:
            columns += [BarColumn(), MofNCompleteColumn()]
        with Progress(
            *columns,
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        ) as progress:
            task = progress.add_task(title, total=total)
            yield lambda done: progress.advance(task, done)
        count = "" if total is None else f"  {total:,}"
        self.say(f"[green]✓[/] {title}{count}  {time.monotonic() - began:.1f} s")
