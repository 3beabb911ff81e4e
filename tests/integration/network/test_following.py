"""Following real validators: through their restarts, and from the mempool into blocks."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from rpc.client import CallFailed, RpcClient
from rpc.events import follow
from tests.integration.network.conftest import Network
from tests.kit.processes import DEADLINE_S

pytestmark = [pytest.mark.processes]


async def test_a_follower_sees_every_block_through_a_restart_of_its_node(
    network: Network,
) -> None:
    processes = network.processes
    seen: list[tuple[int, str]] = []
    async with (
        asyncio.timeout(DEADLINE_S),
        network.load("alice", seed=7) as load,
        aclosing(follow(processes.url(1), "blocks", from_height=1)) as events,
    ):
        await load.until_acknowledged(5)
        restarted = False
        async for event in events:
            assert event.height is not None
            seen.append((event.height, event.data["hash"]))
            if not restarted and event.height >= await processes.height(0):
                processes.terminate(1)
                processes.start(1)
                restarted = True
                stop = event.height + 5
            elif restarted and event.height >= stop:
                break
        await load.finish()
    headers = await processes.headers(0, 1, len(seen))
    assert seen == [(header["height"], header["hash"]) for header in headers]
    await processes.until_ready(1)


async def test_the_own_operator_commands_a_validator_and_nobody_else(network: Network) -> None:
    processes = network.processes
    home = processes.facts(2).place
    token = home.admin_token_file.read_text()
    assert home.admin_token_file.stat().st_mode & 0o077 == 0
    async with processes.client(2) as client:
        with pytest.raises(CallFailed) as failed:
            await client.call("admin_stop")
        assert failed.value.reason == "UNAUTHORIZED"
        said = await client.call("net_info")
        assert (said["inbound"] + said["outbound"], said["validators"]) == (3, 3)
        assert sorted(each["link"] for each in said["dialing"]) == ["bulk"] * 3 + ["urgent"] * 3
    async with RpcClient(processes.url(2), token=token) as client:
        assert await client.call("admin_setLogLevel", {"level": "debug"}) == {"level": "debug"}
        assert await client.call("admin_setLogLevel", {"level": "info"}) == {"level": "info"}
    async with RpcClient("http://localhost/", unix_path=home.admin_socket) as client:
        assert await client.call("admin_stop") == {"stopping": True}
    assert await asyncio.to_thread(processes.wait_ended, 2) == 0
    processes.start(2)
    await processes.until_ready(2)
    assert home.admin_token_file.read_text() != token
