"""One validator process and one browser for all tests here; a fresh page for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.browser.devtools import Browser, Page, chromium
from tests.browser.story import PARAMS, Story, make_story
from tests.kit.processes import Processes

shared = pytest_asyncio.fixture(scope="session", loop_scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The browser's connection belongs to one event loop, so these tests share it."""
    for item in items:
        if item.path.parent.name == "browser":
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.processes)


@pytest.fixture(scope="session")
def binary() -> str:
    found = chromium()
    if found is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="session")
def validator(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with Processes(tmp_path_factory.mktemp("explorer"), PARAMS, count=1) as processes:
        yield processes


@shared
async def story(validator: Processes) -> Story:
    return await make_story(validator)


@shared
async def browser(binary: str) -> AsyncIterator[Browser]:
    async with Browser(binary) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page; whatever it complains about fails the test, unless the test expects complaints."""
    opened = await browser.new_page()
    yield opened
    await opened.close()
    assert opened.complaints == []
