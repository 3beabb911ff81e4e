"""Validators that are paused, that come back with nothing, and a chain that has nothing to do."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from consensus.first_vote import SILENT_HEIGHTS
from genesis.wellknown import well_known_key
from rpc.session import Account
from tests.integration.network.conftest import PARAMS, Network
from tests.integration.network.history import check

pytestmark = [pytest.mark.processes]


async def test_a_pause_beyond_the_round_time_out_is_caught_up_with(network: Network) -> None:
    processes = network.processes
    paused, asked = 2, 0
    leaders = processes.definition.validators

    async with network.load("alice", "bob", "carol", seed=21) as load:
        await load.until_acknowledged(20)
        processes.pause(paused)
        before = await processes.height(asked)

        # Its turn to lead comes every fourth height: at least one round has to be changed.
        async def led_without_it() -> bool:
            height = await processes.height(asked)
            return height >= before + len(leaders) + 1

        await processes.until(led_without_it, "blocks go on without the paused validator")
        rounds = [
            (await processes.commit_at(asked, height))["round"]
            for height in range(before + 1, await processes.height(asked) + 1)
        ]
        assert max(rounds) > 0

        processes.resume(paused)
        back = await processes.height(asked)
        await processes.until_height(back, paused)
        await processes.until_votes(paused, above=back, asked=asked)
        await load.finish()

    await processes.until_level()
    await processes.assert_same_chain()
    await check(processes, paused, network.loads)


async def test_two_paused_stop_the_chain_and_its_end_loses_nothing(network: Network) -> None:
    processes = network.processes

    async with network.load("alice", "bob", seed=22) as load:
        await load.until_acknowledged(10)
        processes.pause(1)
        processes.pause(3)
        # Two of four are no quorum: what one of them could still decide is one block.
        stood = max([await processes.height(index) for index in (0, 2)])
        async with processes.client(0) as client:
            account = Account(well_known_key("erin"), processes.definition.identity, client=client)
            status = await account.transfer(
                well_known_key("frank").public_key,
                1,
                wait="committed",
                timeout_ms=2 * PARAMS.pbft_base_timeout_ms,
            )
        assert not status.is_committed
        assert max([await processes.height(index) for index in (0, 2)]) <= stood + 1

        processes.resume(1)
        processes.resume(3)
        await load.until_acknowledged(20)
        await load.finish()

    await processes.until_level()
    await processes.assert_same_chain()
    for index in processes.indexes:
        await check(processes, index, network.loads)


async def test_a_validator_whose_data_is_gone_gets_every_block_again_and_then_votes(
    network: Network,
) -> None:
    processes = network.processes
    wiped, asked = 3, 0
    async with network.load("dave", seed=23) as load:
        await load.until_acknowledged(20)
        await load.finish()
    assert processes.terminate(wiped) == 0
    processes.wipe(wiped)

    processes.start(wiped)
    await processes.until_ready(wiped)
    back = await processes.height(asked)
    await processes.until_height(back, wiped)

    async with processes.client(wiped) as client:
        blocks = await client.call("chain_listBlocks", {"order": "asc", "limit": 1})
        assert blocks["items"][0]["height"] == 1
    await processes.assert_same_chain(asked, wiped)
    await check(processes, wiped, network.loads)
    # What it voted before is gone with the rest: it keeps out of the heights it may have voted at.
    async with network.load("dave", seed=24) as load:
        voted = await processes.until_votes(wiped, above=back, asked=asked)
        await load.finish()
    assert voted >= back + SILENT_HEIGHTS


async def test_an_idle_chain_beats_slowly_and_wakes_at_once(network: Network) -> None:
    processes = network.processes
    heartbeat_s = PARAMS.heartbeat_block_ms / 1_000
    beats = 3
    first = await processes.height(0)

    # Waiting for the beats rather than for a time: a busy machine may only make them rarer.
    await processes.until_height(first + 1, 0)
    began_s = asyncio.get_running_loop().time()
    await processes.until_height(first + 1 + beats, 0)
    took_s = asyncio.get_running_loop().time() - began_s

    headers = await processes.headers(0, first + 1, first + 1 + beats)
    times = [each["timeMs"] for each in headers]
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert min(gaps) >= PARAMS.heartbeat_block_ms * 0.9
    assert took_s >= (beats - 1) * heartbeat_s

    for index in processes.indexes:
        async with processes.client(index) as client:
            account = Account(well_known_key("erin"), processes.definition.identity, client=client)
            tip = await client.status()
            status = await account.transfer(
                well_known_key("frank").public_key, 1, wait="committed", timeout_ms=30_000
            )
            assert status.height is not None
            header = await client.call("chain_getHeader", {"block": status.height})
            assert header["height"] <= tip.height + 2
            # Far sooner than the next beat would have come.
            assert header["timeMs"] - tip.block_time_ms < PARAMS.heartbeat_block_ms
