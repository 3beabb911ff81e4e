"""What reaches a terminal: amounts with units, aligned tables, nobody's control characters."""

from __future__ import annotations

import pytest

from node.cli.amounts import format_amount, parse_amount
from node.cli.output import CliError, Exit, clean, pairs, table


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("5T", 5_000_000),
        ("0.25T", 250_000),
        ("1,000.000001 T", 1_000_000_001),
        ("1_000T", 1_000_000_000),
        ("300uT", 300),
        ("300 µT", 300),
        ("0T", 0),
        ("9007199254.740991T", 2**53 - 1),
    ],
)
def test_amounts(text: str, amount: int) -> None:
    assert parse_amount(text) == amount
    assert parse_amount(format_amount(amount)) == amount


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "T",
        "-5T",
        "+5T",
        "5.T",
        ".5T",
        "5e3T",
        "1.0000001T",
        "1.5uT",
        "9007199254.740992T",
        "5t",
    ],
)
def test_no_amounts(text: str) -> None:
    with pytest.raises(CliError) as caught:
        parse_amount(text)
    assert caught.value.code == Exit.USAGE


def test_amounts_for_people() -> None:
    assert format_amount(1_000_250_000) == "1,000.25 T"
    assert format_amount(1) == "0.000001 T"
    assert format_amount(0) == "0 T"


def test_nothing_steers_the_terminal() -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07\r\u202e\x9b"
    for line in (*table(("A",), [(hostile,)]), *pairs([("a", hostile)])):
        assert "\x1b[2J" not in line
        assert "\x07" not in line
        assert "\u202e" not in line
    assert clean("plain ünïcode 漢字") == "plain ünïcode 漢字"


def test_tables_line_up() -> None:
    lines = table(("NAME", "HEIGHT"), [("a", "1,000"), ("long name", "-")])
    assert [line.rstrip() for line in lines[1:]] == ["a           1,000", "long name       -"]
