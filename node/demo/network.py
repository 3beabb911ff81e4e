"""A four-validator network of real processes in a folder of its own, gone when it is left.

The homes, settings and processes are those of `tally devnet`; only the network definition is the
caller's. Ports are taken from where a devnet's are not, so that both can run.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from genesis.definition import NetworkDefinition, to_core
from genesis.document import Document
from node.devnet import homes, processes
from node.devnet.network import Started, until_ready
from node.devnet.state import DevnetError, DevnetState

BASE_PORT = 18_700

# Imports, keys and links of four processes; a loaded machine takes longer.
UP_TIMEOUT_S = 90.0


class NotUp(Exception):
    """The validators did not come up. The message has the last lines of a log."""

    reason = "NOT_UP"


class TemporaryNetwork:
    """`async with TemporaryNetwork(document) as network:` — running and ready inside.

    `document` is a devnet definition whose validators have the well-known keys, in their order.
    `watched_by`: module that runs validator 1 in place of `node.cli`, a profiler for example.
    """

    def __init__(self, document: Document, watched_by: str | None = None) -> None:
        self._document = document
        self._watched_by = watched_by
        self.definition: NetworkDefinition = to_core(document)
        self._folder: Path | None = None
        self._started: Started | None = None

    @property
    def urls(self) -> list[str]:
        """RPC of every validator."""
        return [each.url for each in self._running.state.validators]

    @property
    def pids(self) -> list[int]:
        """The validators' processes."""
        return [each.popen.pid for each in self._running.processes.values()]

    @property
    def homes(self) -> list[Path]:
        """The validators' folders."""
        return [each.place.root for each in self._running.state.validators]

    @property
    def folder(self) -> Path:
        """Where the homes are."""
        return self._running.state.root

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin, and wait until every validator is ready. Raises NotUp."""
        self._folder = Path(tempfile.mkdtemp(prefix="tally-"))
        try:
            await self._start(self._folder)
        except BaseException:
            await self.stop()
            raise

    async def end_processes(self) -> None:
        """End the processes; what they wrote stays until `stop`."""
        if self._started is not None:
            await asyncio.to_thread(_end, list(self._started.processes.values()))

    async def stop(self) -> None:
        """End the processes and remove the folder."""
        await self.end_processes()
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    @property
    def _running(self) -> Started:
        assert self._started is not None
        return self._started

    async def _start(self, folder: Path) -> None:
        state = await asyncio.to_thread(self._prepare, folder)
        started = self._started = Started(state, is_new=True, processes={})
        for each in state.validators:
            module = self._watched_by if each.number == 1 else None
            started.processes[each.number] = processes.start(each, module or "node.cli")
        try:
            async with asyncio.timeout(UP_TIMEOUT_S):
                await until_ready(started)
        except TimeoutError:
            lines = "\n".join(processes.tail(state.validators[0].log))
            raise NotUp(
                f"the network is not ready after {UP_TIMEOUT_S:g} s; validator 1 said:\n{lines}"
            ) from None
        except DevnetError as error:
            # Its hint names a log that goes with the folder; the message has the end of it.
            raise NotUp(str(error)) from error

    def _prepare(self, folder: Path) -> DevnetState:
        document = self._document
        made = homes.create_of(document, folder, len(document.validators), BASE_PORT)
        state = homes.with_free_ports(made)
        homes.write_settings(state)
        return state


def _end(running: list[processes.Process]) -> None:
    """SIGTERM to all, SIGKILL to whoever stays."""
    for each in running:
        each.popen.terminate()
    deadline = time.monotonic() + processes.STOP_TIMEOUT_S
    for each in running:
        try:
            each.popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            each.popen.kill()
            each.popen.wait()
