"""How the node serves the page: headers, caching, and nothing but the files of the table."""

from __future__ import annotations

import posixpath
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from explorer.page import PREFIX, explorer_routes, load_assets
from ledger.params import PARAMETERS
from ledger.reasons import REASONS

ASSETS = load_assets()
MODULES = {path: asset.body.decode() for path, asset in ASSETS.items() if path.endswith(".js")}
OWN = {path: text for path, text in MODULES.items() if not path.startswith("vendor/")}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    app = web.Application()
    app.add_routes(explorer_routes())
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as asking:
        yield asking


async def test_every_answer_carries_the_whole_fence(session: aiohttp.ClientSession) -> None:
    for path in ("", *ASSETS, "nothing-of-the-kind"):
        async with session.get(PREFIX + path) as answer:
            policy = dict(
                part.strip().split(" ", 1)
                for part in answer.headers["Content-Security-Policy"].split(";")
            )
            assert policy == {
                "default-src": "'none'",
                "script-src": "'self'",
                "style-src": "'self'",
                "connect-src": "'self'",
                "img-src": "'self' data:",
                "base-uri": "'none'",
                "form-action": "'none'",
                "frame-ancestors": "'none'",
                "require-trusted-types-for": "'script'",
                "trusted-types": "'none'",
            }
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("", "text/html"),
        ("main.js", "text/javascript"),
        ("vendor/vendor.js", "text/javascript"),
        ("style.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ],
)
async def test_types_are_said(session: aiohttp.ClientSession, path: str, content_type: str) -> None:
    async with session.get(PREFIX + path) as answer:
        assert (answer.status, answer.content_type) == (200, content_type)
        assert await answer.read() == ASSETS[path].body


async def test_a_known_file_is_not_sent_twice(session: aiohttp.ClientSession) -> None:
    async with session.get(PREFIX + "main.js") as answer:
        etag = answer.headers["ETag"]
    async with session.get(PREFIX + "main.js", headers={"If-None-Match": etag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with session.get(PREFIX + "main.js", headers={"If-None-Match": '"old"'}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "path",
    ["page.py", "script.py", "vendor/build/entry.js", "vendor/SHA256SUMS", "%2e%2e/page.py",
     "..%2fpage.py", "index.html/", "views"],
)  # fmt: skip
async def test_nothing_else_is_served(session: aiohttp.ClientSession, path: str) -> None:
    async with session.get(PREFIX + path) as answer:
        assert answer.status == 404


@pytest.mark.parametrize("path", ["/", "/explorer"])
async def test_short_addresses_lead_to_the_page(session: aiohttp.ClientSession, path: str) -> None:
    async with session.get(path, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, PREFIX)


def test_every_import_is_a_file_that_is_served() -> None:
    for path, text in OWN.items():
        for wanted in re.findall(r'(?:from|import\()\s*"([^"]+)"', text):
            assert wanted.startswith("."), f"{path} imports {wanted}"
            assert posixpath.normpath(posixpath.join(posixpath.dirname(path), wanted)) in ASSETS


def test_the_page_itself_names_only_served_files_and_has_no_code_of_its_own() -> None:
    page = ASSETS[""].body.decode()
    for wanted in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert wanted in ASSETS
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page) == [""]
    assert " style=" not in page
    assert not re.search(r"\son\w+=", page)


def test_no_module_makes_markup_or_code_from_text() -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    for path, text in OWN.items():
        assert not re.search(forbidden, text), path


def test_the_ledgers_tables_reach_the_page() -> None:
    facts = ASSETS["facts.js"].body.decode()
    names = re.findall(r'"(\w+)"', facts.splitlines()[0])
    assert names == [each.name for each in PARAMETERS]
    assert all(f'"{reason}":' in facts for reason in REASONS)
