"""Figures as the page writes them, computed by its own module in the browser."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.browser.devtools import Page
from tests.browser.story import Story

CASES: list[tuple[str, list[Any], str]] = [
    ("tokens", ["0"], "0 T"),
    ("tokens", ["1"], "0.000001 T"),
    ("tokens", ["12500000"], "12.5 T"),
    ("tokens", ["1000000000000"], "1,000,000 T"),
    ("tokens", ["9007199254740991"], "9,007,199,254.740991 T"),
    ("tokens", ["-1500000"], "−1.5 T"),
    ("number", ["18446744073709551615"], "18,446,744,073,709,551,615"),
    ("number", [1234567], "1,234,567"),
    ("percent", [str(2**40), 2**40], "100.00 %"),
    ("percent", [str(2**38), 2**40], "25.00 %"),
    ("percent", ["0", 2**40], "0.00 %"),
    # Something is not nothing.
    ("percent", ["1", 2**40], "< 0.01 %"),
    ("percent", ["39321", 2**16, 1], "59.9 %"),
    ("short", ["16Uiu2HAmMt5CGmCqtUYZKE2GassD38CRRrA26JoedZ7rqtdbdcpm"], "16Uiu2HAmM…dbdcpm"),
    ("short", ["0x12"], "0x12"),
    ("duration", [999], "999 ms"),
    ("duration", [61_000], "1 min"),
    ("duration", [26 * 3_600_000], "1 d"),
    ("ago", [-3_000], "just now"),
    ("ago", [59_999], "59 s ago"),
    ("byteSize", [1023], "1023 B"),
    ("byteSize", [1536], "1.5 KiB"),
    ("byteSize", [128 << 20], "128 MiB"),
    ("label", ["receiptSeq"], "Receipt seq"),
    ("label", ["timeMs"], "Time"),
]


async def test_figures_are_exact_and_have_units(page: Page, story: Story) -> None:
    await page.open(story.page)
    await page.until_text("Overview")
    asked = json.dumps([case[:2] for case in CASES])
    made = await page.evaluate(
        "import('/explorer/format.js').then((format) => "
        f"{asked}.map(([name, given]) => format[name](...given)))"
    )
    assert made == [wanted for *_, wanted in CASES]


@pytest.mark.parametrize(
    ("fragment", "parts"),
    [
        ("#/block/12", ["block", "12"]),
        ("#/", []),
        ("", []),
        ("#block/12/", ["block", "12"]),
        ("#/account/%3Cb%3E?x=1", ["account", "<b>"]),
        ("#/account/%E0%A4%A", ["account", "%E0%A4%A"]),
    ],
)
async def test_fragments_are_routes(
    page: Page, story: Story, fragment: str, parts: list[str]
) -> None:
    await page.open(story.page + fragment)
    await page.until("document.querySelector('h1') !== null")
    read = "import('/explorer/route.js').then(({ route }) => route.value.parts)"
    assert await page.evaluate(read) == parts
