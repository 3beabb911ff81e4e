"""The explorer's page: files of this package, served by the node beside its RPC.

    GET /explorer/            the page; every view is a fragment of it (#/block/12)
    GET /explorer/{file}      its modules, stylesheets and the vendored bundle
    GET /explorer, GET /      redirect there

The page asks the public JSON-RPC of the origin that it came from and nothing else. It shows text
that strangers wrote (endpoints, reasons, fragments of addresses), so it is fenced twice: views only
ever make text nodes, and the headers below forbid everything that would be needed to get around
that: inline scripts, foreign origins, markup from strings (Trusted Types), frames.
Sources: W3C Content Security Policy Level 3; W3C Trusted Types.

Files are read once, at import of the table, and named exhaustively: a path that is not in the table
does not exist, so nothing outside can be reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

import orjson
from aiohttp import web

from ledger.params import PARAMETERS
from ledger.reasons import REASONS

PREFIX = "/explorer/"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked for again each time and answered with 304: a page is never older than its node.
    "Cache-Control": "no-cache",
}

_CONTENT_TYPES = {
    "html": "text/html",
    "js": "text/javascript",
    "css": "text/css",
    "svg": "image/svg+xml",
}

_VENDORED = ("vendor.js", "uplot.css")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is served. `etag` is its SHA-256 in quotes."""

    body: bytes
    content_type: str
    etag: str


def load_assets() -> dict[str, Asset]:
    """Path below PREFIX → file. "" is the page itself."""
    package = files("explorer")
    found = dict(_walk(package.joinpath("web"), ""))
    for name in _VENDORED:
        found[f"vendor/{name}"] = _asset(package.joinpath("vendor", name))
    found["facts.js"] = _made(_facts().encode(), "facts.js")
    found[""] = found.pop("index.html")
    return found


def explorer_routes() -> list[web.AbstractRouteDef]:
    """The routes for RpcServer(routes=...)."""
    assets = load_assets()

    async def show(request: web.Request) -> web.StreamResponse:
        asset = assets.get(request.match_info.get("path", ""))
        if asset is None:
            return web.Response(status=404, text="There is no such file.\n", headers=HEADERS)
        headers = {**HEADERS, "ETag": asset.etag}
        if request.headers.get("If-None-Match") == asset.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=asset.body, content_type=asset.content_type, charset="utf-8", headers=headers
        )

    async def lead(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={**HEADERS, "Location": PREFIX})

    return [
        web.get("/", lead),
        web.get(PREFIX.rstrip("/"), lead),
        web.get(PREFIX, show),
        web.get(PREFIX + "{path:.+}", show),
    ]


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Asset]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.rpartition(".")[2] in _CONTENT_TYPES:
            yield prefix + entry.name, _asset(entry)


def _facts() -> str:
    """Tables of the ledger that the page needs, so that none is written down twice."""
    names = orjson.dumps([each.name for each in PARAMETERS]).decode()
    reasons = orjson.dumps(REASONS).decode()
    return f"export const PARAMETER_NAMES = {names};\nexport const REASONS = {reasons};\n"


def _asset(entry: Traversable) -> Asset:
    return _made(entry.read_bytes(), entry.name)


def _made(body: bytes, name: str) -> Asset:
    content_type = _CONTENT_TYPES[name.rpartition(".")[2]]
    return Asset(body, content_type, f'"{sha256(body).hexdigest()}"')
