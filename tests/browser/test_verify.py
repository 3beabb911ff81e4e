"""Verify proof, as a person sees it: it holds, and a tampered answer is refused at its step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from genesis.wellknown import account_address
from tests.browser.devtools import Json, Page
from tests.browser.story import Story
from tests.kit.rpc_bending import flipped, set_at

ALICE = account_address("alice")
NEWCOMER = account_address("oscar")

Bend = Callable[[dict[str, Any]], None]

VERDICT = "document.querySelector('.verdict')?.dataset.verdict"


async def verdict(page: Page) -> str:
    """What the check came to: good or bad."""
    found: str = await page.until(f"['good', 'bad'].includes({VERDICT}) && {VERDICT}")
    return found


def bending(method: str, bend: Bend) -> Callable[[Json, Any], Any]:
    """A node that lies in one method's answers."""

    def tamper(request: Json, result: Any) -> Any:
        if request["method"] == method:
            bend(result)
        return result

    return tamper


@pytest.mark.parametrize("subject", [ALICE, NEWCOMER])
async def test_a_score_is_proven_from_the_definition(
    page: Page, story: Story, subject: str
) -> None:
    await page.open(f"{story.page}#/verify/{subject}")
    assert await verdict(page) == "good"
    held = "[...document.querySelectorAll('.proof li.held')].map((each) => each.dataset.step)"
    assert await page.evaluate(held) == [
        "definition",
        "validators",
        "certificate",
        "header",
        "state",
        "commitment",
        "score",
        "answer",
    ]
    assert story.definition_hash in await page.text(".proof")
    await page.until_text("Proven")


async def test_accounts_and_transactions_are_proven_too(page: Page, story: Story) -> None:
    await page.open(f"{story.page}#/verify/{ALICE}?kind=account")
    assert await verdict(page) == "good"
    await page.until_text("Balance")
    await page.open(f"{story.page}#/verify/{story.hashes['register again']}")
    await page.until_text("ALREADY_REGISTERED")
    assert await verdict(page) == "good"


@pytest.mark.parametrize(
    ("method", "bend", "step", "name"),
    [
        ("reputation_get", set_at("trust", "1"), "answer", "What the answer says"),
        ("reputation_get", set_at("scoreProof", flipped), "score", "Score proof"),
        ("reputation_get", set_at("proof.commitment.value", flipped), "commitment", "Score comm"),
        ("reputation_get", set_at("proof.epochState.proof", flipped), "state", "State proof"),
        ("reputation_get", set_at("proof.anchor.certificate", flipped), "certificate", "Commit"),
        ("reputation_get", set_at("epoch", 0), "state", "State proof"),
        ("system_genesis", set_at("document.chain_id", "other"), "definition", "Network def"),
    ],
)
async def test_a_tampered_answer_is_refused_at_its_step(
    page: Page, story: Story, method: str, bend: Bend, step: str, name: str
) -> None:
    await page.tamper_with(bending(method, bend))
    await page.open(f"{story.page}#/verify/{ALICE}")
    assert await verdict(page) == "bad"
    assert f"Refused at: {name}" in await page.text(".verdict")
    broken = "[...document.querySelectorAll('.proof li.broken')].map((each) => each.dataset.step)"
    assert await page.evaluate(broken) == [step]
    assert "Proven" not in await page.text()


async def test_the_pinned_network_outlives_the_visit(page: Page, story: Story) -> None:
    """A node that speaks for another network later is not believed because it says so."""
    await page.open(f"{story.page}#/verify/{ALICE}")
    assert await verdict(page) == "good"
    other = "0x" + "ab" * 32
    await page.evaluate(f"localStorage.setItem('tally.genesis', '{other}')")
    await page.send("Page.reload")
    await page.until(f"{VERDICT} === 'bad'")
    await page.until_text("which is not the pinned one")
    await page.click(".trouble button")
    await page.until(f"{VERDICT} === 'good'")
