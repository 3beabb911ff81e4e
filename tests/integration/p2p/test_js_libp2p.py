"""A live js-libp2p peer, in both directions: TLS, multistream-select, yamux, identify, ping.

Needs node and the packages of js/package.json (`npm install` in that folder); skipped without.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.p2p.harness import Node, quick, until

FOLDER = Path(__file__).parent / "js"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules").exists(),
    reason="node or the packages of tests/integration/p2p/js are not installed",
)


@contextlib.asynccontextmanager
async def js_peer(*arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """Starts the peer; ends it by the end of its standard input."""
    process = await asyncio.create_subprocess_exec(
        "node",
        "peer.mjs",
        *arguments,
        cwd=FOLDER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process.stdout
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


async def next_fact(lines: asyncio.StreamReader) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await asyncio.wait_for(lines.readline(), 20))
    return found


@pytest.mark.parametrize("key_type", ["Ed25519", "secp256k1", "RSA"])
async def test_it_dials_us(key_type: str) -> None:
    async with Node(1, limits=quick(status_s=0.3)) as a:
        address = f"/ip4/127.0.0.1/tcp/{a.host.listen_port}/p2p/{a.peer_id}"
        async with js_peer(key_type, address) as lines:
            peer = (await next_fact(lines))["peer"]
            facts = [await next_fact(lines), await next_fact(lines)]
            identified = next(fact for fact in facts if "identified" in fact)
            assert identified["identified"] == a.peer_id
            assert identified["agent"] == "node 1"
            assert "/ipfs/ping/1.0.0" in identified["protocols"]
            assert any("ping" in fact for fact in facts)
            await until(lambda: a.host.foreign_peers(), "it counts as foreign")
            assert a.host.foreign_peers()[0][0] == peer
            assert a.host.foreign_peers()[0][2].startswith("js-libp2p/")
            assert a.ups == []


@pytest.mark.parametrize("key_type", ["Ed25519", "secp256k1", "RSA"])
async def test_we_dial_it(key_type: str) -> None:
    async with Node(1) as a, js_peer(key_type) as lines:
        fact = await next_fact(lines)
        await a.host.connect(fact["peer"], "127.0.0.1", fact["port"], None, direct_tls=False)
        assert await a.host.ping(fact["peer"], 5.0) > 0
        assert (await next_fact(lines))["identified"] == a.peer_id
        await until(lambda: a.host.foreign_peers()[0][2], "identify has run")
        assert a.host.foreign_peers()[0][2].startswith("js-libp2p/")
