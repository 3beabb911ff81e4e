"""tally simulate: run seeds of the deterministic simulator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.common import JsonOption, guarded
from node.cli.output import Exit, note, pairs, show, usage

if TYPE_CHECKING:
    from node.simulation.campaign import Failure, Report
    from node.simulation.run import Outcome

# How many seeds pass between two signs of life.
PROGRESS_EVERY = 100

# Lines of a failing run's end that people are shown; --json has more.
SHOWN_TRACE_LINES = 40


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(simulate)


@guarded
def simulate(
    *,
    seeds: Annotated[int, typer.Option(min=1, help="How many runs.")] = 100,
    from_seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    engine: Annotated[str, typer.Option(help="The engine under test: pbft.")] = "pbft",
    validators: Annotated[
        int | None,
        typer.Option(min=1, max=16, help="How many. Default: the seed draws.", show_default=False),
    ] = None,
    faults: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,…", help="Kinds of faults. Default: all; see below.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run whole networks in virtual time, broken at random, and check what must never happen.

    A seed is one run and always the same run; --seeds 1 --from-seed N repeats run N. Kinds of
    faults: crash, blackout, pause, partition, outage, one_way, isolated_leader, bridge, bad_links,
    replay, slow_disk, clock, signer, execution, byzantine. Exits with 1 when an invariant breaks.
    """
    from node.simulation.campaign import simulate as run_seeds

    if engine != "pbft":
        raise usage(f"there is no simulation of engine {engine!r}", "--engine pbft")
    kinds = None if faults is None else [each for each in faults.split(",") if each]

    def on_seed(outcome: Outcome) -> None:
        done = outcome.setup.seed - from_seed + 1
        if done % PROGRESS_EVERY == 0 and not as_json:
            note(f"{done} of {seeds} seeds")

    try:
        report = run_seeds(seeds, from_seed, validators=validators, faults=kinds, on_seed=on_seed)
    except ValueError as error:
        raise usage(str(error)) from error
    show(as_object(report), as_text(report), as_json=as_json)
    if report.violations:
        raise typer.Exit(Exit.FAILED)


def as_object(report: Report) -> dict[str, Any]:
    """The report for programs."""
    return {
        "seeds": report.seeds,
        "from_seed": report.from_seed,
        "violations": [
            {
                "seed": each.seed,
                "invariant": each.invariant,
                "detail": each.detail,
                "setup": each.setup,
                "faults": list(each.faults),
                "trace": list(each.trace),
            }
            for each in report.violations
        ],
        "events": report.events,
        "heights": report.heights,
        "acknowledged": report.acknowledged,
        "slowest_heal_ms": report.slowest_heal_ms,
        "seconds": report.seconds,
        "trace_hash": report.trace_hash,
    }


def as_text(report: Report) -> list[str]:
    """The report for people."""
    lines = pairs(
        [
            ("seeds", f"{report.from_seed}…{report.from_seed + report.seeds - 1}"),
            ("violations", len(report.violations)),
            ("events", f"{report.events:,}"),
            ("blocks decided", f"{report.heights:,}"),
            ("transactions acknowledged", f"{report.acknowledged:,}"),
            ("slowest recovery", f"{report.slowest_heal_ms} ms of virtual time"),
            ("seconds", report.seconds),
            ("trace hash", report.trace_hash),
        ]
    )
    for failure in report.violations:
        lines += _failure_lines(failure)
    return lines


def _failure_lines(failure: Failure) -> list[str]:
    return [
        "",
        f"seed {failure.seed} breaks {failure.invariant}: {failure.detail}",
        f"  {failure.setup}",
        *(f"  {fault}" for fault in failure.faults),
        *(f"  {line}" for line in failure.trace[-SHOWN_TRACE_LINES:]),
    ]
