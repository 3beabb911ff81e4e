"""Text for people: exact figures, whole names, and nothing that steers the terminal."""

from io import StringIO

import pytest
from rich.console import Console, RenderableType

from explorer import show
from explorer.peer import QUALITY_ONE, TRUST_TOTAL, Ranking, Rating, Report, Service, Standing

PEER = "16Uiu2HAm" + "P" * 44
OTHER = "16Uiu2HAm" + "R" * 44


def standing(peer: str = PEER, **changes: object) -> Standing:
    facts = {
        "peer": peer,
        "newcomer": False,
        "trust": TRUST_TOTAL // 100,
        "quality": QUALITY_ONE * 9 // 10,
        "standing": TRUST_TOTAL // 200,
        "rank": 12,
        "raters": 3,
        "flags": (),
    }
    return Standing(**(facts | changes))  # type: ignore[arg-type]


def text_of(shown: RenderableType, width: int = 200) -> str:
    out = StringIO()
    Console(file=out, width=width, color_system=None).print(shown)
    return out.getvalue()


def report(**changes: object) -> Report:
    rating = Rating(OTHER, PEER, -4, 0, 1, 1_234, "0x00", ok=True)
    service = Service(OTHER, PEER, 0, 2, 2, 510_000, cosigned=True, height=1_233,
                      transaction="0x01", ok=True)  # fmt: skip
    facts = {
        "standing": standing(),
        "epoch": 7,
        "height": 4_321,
        "raters": (standing(OTHER),),
        "ratings": (rating,),
        "services": (service,),
        "proven": False,
    }
    return Report(**(facts | changes))  # type: ignore[arg-type]


def test_a_report_says_score_rank_and_evidence() -> None:
    shown = text_of(show.report(report()))
    for word in (PEER, OTHER, "0.5000 %", "1.0000 %", "0.9000", "12", "-4", "0.51 T", "given to"):
        assert word in shown
    assert "epoch 7" in shown
    assert "--verify" in shown


def test_what_is_proven_is_said_to_be() -> None:
    shown = text_of(show.report(report(proven=True)))
    assert "proven from the network definition" in shown
    assert "--verify" not in shown


def test_a_newcomer_is_called_one() -> None:
    newcomer = standing(newcomer=True, trust=0, standing=0, rank=None, raters=0)
    shown = text_of(show.report(report(standing=newcomer, raters=(), ratings=(), services=())))
    assert "newcomer" in shown
    assert "No paid service" in shown
    assert "none" in shown


def test_before_the_first_epoch() -> None:
    assert "no epoch has been scored yet" in text_of(show.report(report(epoch=None)))


def test_names_are_never_cut_short() -> None:
    found = Ranking(7, 4_321, (standing(), standing(OTHER, flags=("seed",))), proven=True)
    for width in (60, 80, 200):
        shown = text_of(show.ranking(found), width)
        letters = "".join(shown.split())
        assert letters.count("P") >= 44
        assert letters.count("R") >= 44
        assert "…" not in shown


def test_flags_are_explained() -> None:
    shown = text_of(show.report(report(standing=standing(flags=("seed", "cut")))))
    assert "a seed of trust" in shown
    assert "below 0.6" in shown


def test_hostile_text_stays_inert() -> None:
    hostile = "[red]\x1b[2J\x07evil[/]\u202e"
    found = report(
        standing=standing(hostile, flags=("\x1b[31m[bold]",)),
        ratings=(Rating(hostile, hostile, 1, 0, 1, 1, "0x", ok=True),),
        raters=(standing(hostile),),
        services=(Service(hostile, PEER, 0, 1, 1, 1, False, 1, "0x", False),),
    )
    shown = text_of(show.report(found))
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert "[red]" in shown, "markup is shown, not obeyed"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0"),
        (1, "< 0.0001 %"),
        (TRUST_TOTAL, "100.0000 %"),
        (TRUST_TOTAL // 3, "33.3333 %"),
    ],
)
def test_shares(amount: int, text: str) -> None:
    assert show.share(amount) == text


@pytest.mark.parametrize(
    ("micro", "text"),
    [(0, "0 T"), (1, "0.000001 T"), (1_500_000, "1.5 T"), (12_345_000_000, "12,345 T")],
)
def test_amounts(micro: int, text: str) -> None:
    assert show.amount(micro) == text
