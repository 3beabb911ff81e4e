"""Every view against a live validator: it renders, stays within its screen, complains of nothing.

The `page` fixture fails a test on any console error, exception or violated policy.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from genesis.wellknown import account_address
from rpc.client import RpcClient
from tests.browser.devtools import Browser, Json, Page
from tests.browser.story import Story

ALICE = account_address("alice")
VALIDATOR = account_address("validator-1")

# Pixels that the page is wider than its screen.
EXCESS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

# Cumulative layout shift as browsers measure it. From 0.1 on people notice it (Web Vitals).
SHIFT = (
    "new Promise((done) => { new PerformanceObserver((list) => done("
    "list.getEntries().reduce((sum, each) => sum + each.value, 0)))"
    ".observe({type: 'layout-shift', buffered: true}); setTimeout(() => done(0), 100); })"
)
NOTICED_SHIFT = 0.1

VIEWS = [
    ("", "Overview", "Latest transactions"),
    ("blocks", "Blocks", "ago"),
    ("block/1", "Block 1", "network definition"),
    ("tx/{transfer}", "Transfer", "12.5 T"),
    ("tx/{register again}", "Register", "ALREADY_REGISTERED"),
    ("tx/{settle}", "Settle", "5 T"),
    (f"account/{ALICE}", "Account", "1,000,0"),
    ("reputation", "Reputation", "seed"),
    (f"reputation/{ALICE}", "Reputation", "+8"),
    (f"verify/{ALICE}", "Verify proof", "every step holds"),
    ("validators", "Validators", "validator-1"),
    ("consensus", "Consensus", "PBFT"),
    ("peers", "Peers", "No peer is connected"),
    ("mempool", "Mempool", "Waiting transactions"),
    ("parameters", "Parameters", "register_deposit"),
    ("console", "RPC console", "system_status"),
    ("nowhere", "Nothing here", "Back to the overview"),
]


def route_of(pattern: str, story: Story) -> str:
    for title, hexadecimal in story.hashes.items():
        pattern = pattern.replace("{" + title + "}", hexadecimal)
    return pattern


@pytest.mark.parametrize("width", [1280, 360])
async def test_every_view_renders_within_its_screen_and_does_not_jump(
    browser: Browser, story: Story, width: int
) -> None:
    opened = await browser.new_page(width=width, height=740, dark=width == 360)
    wide: dict[str, int] = {}
    jumps: dict[str, float] = {}
    for pattern, title, content in VIEWS:
        await opened.open("about:blank")
        await opened.open(f"{story.page}#/{route_of(pattern, story)}")
        await opened.until_text(title, "h1")
        await opened.until_text(content)
        excess, shift = await opened.evaluate(f"Promise.all([{EXCESS}, {SHIFT}])")
        if excess > 0:
            wide[pattern] = excess
        if shift >= NOTICED_SHIFT:
            jumps[pattern] = round(shift, 3)
    assert wide == {}
    assert jumps == {}
    assert opened.complaints == []
    hosts = {urlsplit(url).netloc for url in opened.requests} - {""}
    assert hosts == {urlsplit(story.url).netloc}
    await opened.close()


async def test_the_address_of_the_node_leads_to_the_page(page: Page, story: Story) -> None:
    await page.open(story.url)
    await page.until_text("Latest blocks")
    assert await page.evaluate("location.pathname") == "/explorer/"


def without_subscriptions(request: Json, result: Any) -> Any:
    """A node that does not offer them."""
    if request["method"] == "rpc.discover":
        kept = [each for each in result["methods"] if each["name"] != "subscribe"]
        return {**result, "methods": kept}
    return result


@pytest.mark.parametrize("way", ["socket", "polling"])
async def test_new_blocks_appear_by_themselves(page: Page, story: Story, way: str) -> None:
    if way == "polling":
        await page.tamper_with(without_subscriptions)
    await page.open(story.page)
    await page.until(f"document.querySelector('.live.{way}')?.innerText === 'live'")
    newest = "Number(document.querySelector('tbody a.figure')?.innerText)"
    before = await page.until(newest)
    await page.until(f"{newest} >= {before + 2}", "two more blocks are shown")
    assert await page.evaluate(f"document.querySelector('.live.{way}') !== null")


async def test_a_block_shows_who_signed(page: Page, story: Story) -> None:
    await page.open(f"{story.page}#/block/{story.heights['transfer']}")
    await page.until_text("signed", ".signers")
    assert "validator-1" in await page.text(".signers")
    await page.until_text("sends 12.5 T")


async def test_a_failed_transaction_says_why(page: Page, story: Story) -> None:
    await page.open(f"{story.page}#/tx/{story.hashes['register again']}")
    await page.until_text("ALREADY_REGISTERED")
    await page.until_text("the peer is registered")


async def test_a_reputation_shows_its_history_and_who_moves_it(page: Page, story: Story) -> None:
    await page.open(f"{story.page}#/reputation/{ALICE}")
    await page.until("document.querySelector('.chart canvas') !== null", "the chart is drawn")
    await page.until_text("Standing", ".u-legend")
    await page.until_text("What moves the quality")
    await page.until("document.querySelector('td .figure.good')?.innerText.includes('+')")
    # One paid, co-signed service and its rating.
    await page.until_text("paid 5 T")
    await page.until_text("+8")


async def test_a_locale_that_intl_refuses_does_not_stop_the_page(page: Page, story: Story) -> None:
    prepared = (
        "Object.defineProperty(Navigator.prototype, 'language',"
        " {configurable: true, get: () => 'en-US@posix'})"
    )
    await page.send("Page.addScriptToEvaluateOnNewDocument", source=prepared)
    await page.open(story.page)
    await page.until_text("Latest blocks")


async def test_search_finds_heights_hashes_peers_and_names(page: Page, story: Story) -> None:
    await page.open(story.page)
    await page.until_text("validator-1")
    async with RpcClient(story.url) as client:
        block_hash = (await client.call("chain_getHeader", {"block": 1}))["hash"]
    for wanted, route in (
        ("1", "#/block/1"),
        (block_hash, f"#/block/{block_hash}"),
        (story.hashes["transfer"], f"#/tx/{story.hashes['transfer']}"),
        (ALICE, f"#/account/{ALICE}"),
        ("Validator-1", f"#/account/{VALIDATOR}"),
    ):
        # With the keyboard alone.
        await page.evaluate("document.activeElement.blur()")
        await page.press("/", "Slash", 191, "/")
        await page.type(wanted)
        await page.press("Enter", "Enter", 13, "\r")
        await page.until(f"location.hash === {route!r}", f"{wanted} is found")
    await page.press("/", "Slash", 191, "/")
    await page.evaluate("document.querySelector('.search input').focus()")
    await page.type("nothing of the kind")
    await page.press("Enter", "Enter", 13, "\r")
    await page.until_text("is called that", ".search")


async def test_the_console_asks_what_was_typed(page: Page, story: Story) -> None:
    await page.open(f"{story.page}#/console/chain_getHeader")
    await page.until_text("Send")
    await page.evaluate("document.querySelector('input[name=block]').focus()")
    await page.type("1")
    await page.click("form:not(.search) button[type=submit]")
    await page.until_text('"height": 1', ".result")
    await page.type("000000")
    await page.click("form:not(.search) button[type=submit]")
    await page.until_text("BLOCK_NOT_FOUND")


async def test_colours_can_be_chosen_and_are_remembered(page: Page, story: Story) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    await page.open(story.page)
    await page.until_text("Overview")
    light = await page.evaluate(ground)
    await page.click(".theme")
    await page.click(".theme")
    await page.until("document.documentElement.dataset.theme === 'dark'")
    dark = await page.until(f"{ground} !== {light!r} && {ground}")
    await page.send("Page.reload")
    await page.until(f"{ground} === {dark!r}", "the choice outlives a reload")


async def test_a_node_that_is_gone_is_named_and_the_last_figures_stay(
    page: Page, story: Story
) -> None:
    await page.open(story.page)
    await page.until_text("validator-1")
    await page.send("Network.enable")
    await page.send(
        "Network.emulateNetworkConditions",
        offline=True,
        latency=0,
        downloadThroughput=-1,
        uploadThroughput=-1,
    )
    await page.until_text("unreachable", ".live")
    assert "validator-1" in await page.text()
    # That a request failed is what this test is about.
    page.complaints[:] = [each for each in page.complaints if "ERR_INTERNET_DISC" not in each]
