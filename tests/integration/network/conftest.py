"""One network of real validators for the tests that leave it as they found it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from ledger.params import DEVNET_PARAMS
from tests.integration.network.history import Load
from tests.kit.processes import Processes

# Blocks of an idle chain often enough to count them; epochs too long to matter here.
PARAMS = msgspec.structs.replace(DEVNET_PARAMS, heartbeat_block_ms=2_000, epoch_ms=600_000)


@dataclasses.dataclass
class Network:
    """The validators, and every load they ever saw: the checker needs all of it."""

    processes: Processes
    loads: list[Load] = dataclasses.field(default_factory=list)

    def load(self, *names: str, seed: int = 0) -> Load:
        """A further load."""
        load = Load(self.processes, names, seed)
        self.loads.append(load)
        return load


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Processes(tmp_path_factory.mktemp("network"), PARAMS) as processes:
        yield Network(processes)


@pytest.fixture
async def network(shared: Network) -> AsyncIterator[Network]:
    """Four validators, all running and at one height; none may end by itself during the test."""
    await shared.processes.heal()
    yield shared
    shared.processes.check_alive()
