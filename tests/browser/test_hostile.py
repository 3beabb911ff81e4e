"""Text that strangers wrote stays text."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from genesis.wellknown import account_address
from tests.browser.devtools import Json, Page
from tests.browser.story import Story

ALICE = account_address("alice")

MARKUP = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>\'"&amp;javascript:hit'

# Members whose text comes from other peers or from transactions, or is made from it.
STRANGERS_WORDS = frozenset(
    {"address", "reason", "endpointHash", "evidenceHash", "raw", "message", "version", "tolerates",
     "chainId", "phase", "type", "name", "summary", "description"}
)  # fmt: skip


def poisoned(_request: Json, result: Any) -> Any:
    """Every such word of an answer is markup."""
    if isinstance(result, dict):
        return {
            name: MARKUP
            if name in STRANGERS_WORDS and isinstance(value, str)
            else poisoned(_request, value)
            for name, value in result.items()
        }
    if isinstance(result, list):
        return [poisoned(_request, each) for each in result]
    return result


def peers(request: Json, result: Any) -> Any:
    """A peer that calls itself markup."""
    if request["method"] != "net_peers":
        return result
    peer = {
        "peerId": MARKUP,
        "address": MARKUP,
        "direction": "inbound",
        "connectedMs": 1,
        "roundTripMs": 3,
        "validator": MARKUP,
    }
    return {"items": [peer], "nextCursor": None}


async def assert_inert(page: Page) -> None:
    """No script ran, and no element came from text."""
    assert await page.evaluate("window.hit") is None
    made = "document.querySelectorAll('main img, main script, main iframe, [onerror]').length"
    assert await page.evaluate(made) == 0


@pytest.mark.parametrize(
    "route",
    ["", "tx/{register again}", f"account/{ALICE}", "consensus", "parameters", "block/1"],
)
async def test_words_of_strangers_stay_words(page: Page, story: Story, route: str) -> None:
    for title, text in story.hashes.items():
        route = route.replace("{" + title + "}", text)
    await page.tamper_with(poisoned)
    await page.open(f"{story.page}#/{route}")
    await page.until_text("onerror")
    await assert_inert(page)


async def test_the_names_and_addresses_of_peers_stay_text(page: Page, story: Story) -> None:
    await page.tamper_with(peers)
    await page.open(f"{story.page}#/peers")
    await page.until_text("onerror")
    await assert_inert(page)


@pytest.mark.parametrize("view", ["block", "tx", "account", "reputation", "verify", "console", ""])
async def test_a_fragment_with_markup_is_a_name_like_any_other(
    page: Page, story: Story, view: str
) -> None:
    await page.open(f"{story.page}#/{view}/{quote(MARKUP, safe='')}")
    await page.until("document.querySelector('h1') !== null")
    await page.until("document.querySelector('.trouble, main form, main a') !== null")
    await assert_inert(page)
    await page.open(f"{story.page}#/{view}/%E0%A4%A?{quote(MARKUP)}")
    await page.until("document.querySelector('h1') !== null")
    await assert_inert(page)


async def test_the_policy_forbids_what_the_views_never_do(page: Page, story: Story) -> None:
    """The second fence, should a view ever have a hole."""
    await page.open(story.page)
    await page.until_text("Overview")
    refused = """(() => {
      const tries = [
        () => { document.body.innerHTML = '<b>x</b>'; },
        () => { document.createElement('script').text = 'window.hit = 1'; },
        () => { new Function('window.hit = 1')(); },
        () => { eval('window.hit = 1'); },
      ];
      return tries.map((attempt) => {
        try { attempt(); return 'done'; } catch { return 'refused'; }
      });
    })()"""
    assert await page.evaluate(refused) == ["refused"] * 4
    foreign = "fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')"
    assert await page.evaluate(foreign) == "refused"
    assert await page.evaluate("window.hit") is None
    # These complaints are what was asked for.
    assert any("Content Security Policy" in each for each in page.complaints)
    page.complaints.clear()
