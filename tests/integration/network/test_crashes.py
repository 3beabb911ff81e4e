"""Validators that are killed: what was acknowledged stays, and they come back and vote."""

from __future__ import annotations

import random

import pytest

from rpc.client import ClientError
from tests.integration.network.conftest import Network
from tests.integration.network.history import check

pytestmark = [pytest.mark.processes]

NAMES = ("alice", "bob", "carol", "dave")


async def test_four_validators_agree_under_load(network: Network) -> None:
    processes = network.processes
    before = min([await processes.height(index) for index in processes.indexes])

    async with network.load(*NAMES, seed=1) as load:
        await load.until_acknowledged(300)
        await load.finish()

    assert await processes.assert_same_chain() > before
    for index in processes.indexes:
        await check(network.processes, index, network.loads)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_one_is_killed_while_clients_submit_and_comes_back_to_vote(
    network: Network, seed: int
) -> None:
    processes = network.processes
    rng = random.Random(seed)
    victim = rng.choice(processes.indexes)
    others = [index for index in processes.indexes if index != victim]

    async with network.load(*NAMES, seed=seed) as load:
        await load.until_acknowledged(rng.randint(1, 60))
        processes.kill(victim)
        with pytest.raises(ClientError):
            await processes.height(victim)

        await load.until_acknowledged(60)

        processes.start(victim)
        await processes.until_ready(victim)
        back = await processes.height(others[0])
        await processes.until_height(back, victim)
        await processes.until_votes(victim, above=back, asked=others[0])
        await load.finish()

    await processes.until_height(await processes.height(others[0]), victim)
    await processes.assert_same_chain()
    await check(processes, victim, network.loads)
    assert not processes.orphans()


@pytest.mark.parametrize("seed", [1, 2])
async def test_all_are_killed_under_load_and_nothing_acknowledged_is_lost(
    network: Network, seed: int
) -> None:
    processes = network.processes
    rng = random.Random(seed)

    async with network.load(*NAMES, seed=seed + 10) as load:
        await load.until_acknowledged(rng.randint(1, 80))
        processes.kill(*processes.indexes)
        at_the_kill = load.acknowledged_count

        processes.start()
        await load.until_acknowledged(60)
        await load.finish()

    assert at_the_kill > 0
    await processes.until_ready()
    await processes.until_level()
    await processes.assert_same_chain()
    for index in processes.indexes:
        await check(processes, index, network.loads)
