"""A campaign of random faults against four real validators, for as long as one likes:

    python -m tests.integration.network.campaign SEED SECONDS

Clients keep a history all the while; at the end everybody is healed and every validator's chain is
held to it. Epochs are short, so boundaries fall into every kind of trouble. The seed draws the
faults; what the machine does in between it cannot repeat.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from ledger.params import DEVNET_PARAMS
from tests.integration.network.history import Load, check
from tests.kit.processes import Processes

PARAMS = msgspec.structs.replace(
    DEVNET_PARAMS, heartbeat_block_ms=2_000, epoch_ms=1_500, score_delay_ms=300
)

NAMES = ("alice", "bob", "carol", "dave")


class Campaign:
    """Faults by name. Each leaves all four started, though perhaps not yet ready."""

    def __init__(self, processes: Processes, load: Load, rng: random.Random) -> None:
        self._processes = processes
        self._load = load
        self._rng = rng
        self.faults: dict[str, Callable[[], Awaitable[None]]] = {
            "kill one": self.kill_one,
            "kill two": self.kill_two,
            "kill all": self.kill_all,
            "pause one": self.pause_one,
            "stop one": self.stop_one,
            "wipe one": self.wipe_one,
        }

    async def _progress(self) -> None:
        await self._load.until_acknowledged(self._rng.randint(1, 60))

    async def kill_one(self) -> None:
        """SIGKILL; the others go on."""
        victim = self._rng.choice(self._processes.indexes)
        self._processes.kill(victim)
        await self._progress()
        self._processes.start(victim)

    async def kill_two(self) -> None:
        """No quorum for a moment."""
        victims = self._rng.sample(self._processes.indexes, 2)
        self._processes.kill(*victims)
        self._processes.start(*victims)
        await self._settle()

    async def kill_all(self) -> None:
        """A power cut."""
        self._processes.kill(*self._processes.indexes)
        self._processes.start()
        await self._settle()

    async def pause_one(self) -> None:
        """SIGSTOP; the others go on."""
        victim = self._rng.choice(self._processes.indexes)
        self._processes.pause(victim)
        await self._progress()
        self._processes.resume(victim)

    async def stop_one(self) -> None:
        """SIGTERM must end in order."""
        victim = self._rng.choice(self._processes.indexes)
        assert self._processes.terminate(victim) == 0
        await self._progress()
        self._processes.start(victim)

    async def wipe_one(self) -> None:
        """Its disk is replaced; it gets everything again and votes."""
        await self._settle()
        victim = self._rng.choice(self._processes.indexes)
        assert self._processes.terminate(victim) == 0
        self._processes.wipe(victim)
        await self._progress()
        self._processes.start(victim)
        await self._settle()
        asked = (victim + 1) % len(self._processes.indexes)
        height = await self._processes.height(asked)
        await self._processes.until_votes(victim, above=height, asked=asked)

    async def _settle(self) -> None:
        await self._processes.until_ready()
        await self._processes.until_level()


async def run(seed: int, seconds: float) -> None:
    """The campaign. Raises AssertionError for whatever went wrong."""
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    with (
        tempfile.TemporaryDirectory(prefix="tally-campaign-") as folder,
        Processes(Path(folder), PARAMS) as processes,
    ):
        processes.start()
        await processes.until_ready()
        end_s = loop.time() + seconds
        async with Load(processes, NAMES, seed) as load:
            campaign = Campaign(processes, load, rng)
            while loop.time() < end_s:
                name = rng.choice(list(campaign.faults))
                print(f"{end_s - loop.time():6.0f} s left, {load.acknowledged_count}: {name}")
                await campaign.faults[name]()
                await load.until_acknowledged(rng.randint(1, 40))
            await load.finish()
        await processes.heal()
        height = await processes.assert_same_chain()
        for index in processes.indexes:
            await check(processes, index, [load])
        print(f"{load.acknowledged_count} transactions in {height} blocks, none lost, none twice")


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), float(sys.argv[2])))
