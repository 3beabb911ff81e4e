"""A network of real validator processes for tests: started, killed, paused, wiped, looked at.

Every process is ours by its `Popen`, has a session of its own, and is ended by its pid; on Linux
the kernel ends it when the tests are killed. A score worker outlives nobody: it ends with its
input, and `Processes.close` makes sure.
Waiting is always for a condition with a deadline, and a deadline that passes says what the
validators' logs said last.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from genesis.definition import NetworkDefinition, load_network
from genesis.devnet import devnet_document
from genesis.document import dump
from ledger.identity import peer_id
from ledger.params import DEVNET_PARAMS, ChainParams
from node.devnet import homes
from node.devnet.state import DevnetState, ValidatorFacts
from rpc.client import ClientError, RpcClient

# Generous: a machine that runs other things beside the tests must not fail them.
DEADLINE_S = 45.0
POLL_S = 0.02

# Below the kernel's range for outgoing connections, so that a port stays free while its validator
# is down.
_PORTS = range(20_000, 32_000)

T = TypeVar("T")


class GaveUp(AssertionError):
    """A condition did not come true before its deadline."""


async def until(
    condition: Callable[[], Awaitable[T | None]], what: str, deadline_s: float = DEADLINE_S
) -> T:
    """The condition's first true value. A validator that does not answer counts as not yet."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + deadline_s
    last: object = None
    while True:
        try:
            last = found = await condition()
            if found:
                return found
        except ClientError as error:
            last = error
        if loop.time() > end_s:
            raise GaveUp(f"gave up waiting until {what}; last: {last!r}")
        await asyncio.sleep(POLL_S)


class Processes:
    """`count` validators with the published devnet keys. Validators are named by index, from 0."""

    def __init__(self, root: Path, params: ChainParams = DEVNET_PARAMS, count: int = 4) -> None:
        state = homes.create(root, count, 0, now_ms=1)
        # Epochs are counted from the genesis time: now, and the same for all.
        document = devnet_document(
            validators=count, genesis_time_ms=time.time_ns() // 1_000_000, params=params
        )
        for each in state.validators:
            each.place.genesis_file.write_text(dump(document))
        self.state = _with_ports(state)
        homes.write_settings(self.state)
        self.definition: NetworkDefinition = load_network(self.state.genesis_file)
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._workers: set[int] = set()
        self._paused: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- facts -----------------------------------------------------------------------------------

    @property
    def indexes(self) -> range:
        """All validators."""
        return range(len(self.state.validators))

    @property
    def running(self) -> list[int]:
        """Those that were started and have not been killed."""
        return sorted(self._running)

    def facts(self, index: int) -> ValidatorFacts:
        """Home, ports, identities."""
        return self.state.validators[index]

    def url(self, index: int) -> str:
        """Where it answers."""
        return self.facts(index).url

    def client(self, index: int, timeout_ms: int = 10_000) -> RpcClient:
        """Asks validator `index`."""
        return RpcClient(self.url(index), timeout_ms=timeout_ms)

    def set_index(self, index: int) -> int:
        """Its place in the validator set, as certificates count."""
        validators = self.definition.validators.validators
        ids = [peer_id(each.node_key) for each in validators]
        return ids.index(self.facts(index).node_id)

    def log_tail(self, index: int, lines: int = 30) -> str:
        """What it said last."""
        log = self.facts(index).log
        return "\n".join(
            log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
        )

    # ---- acts ------------------------------------------------------------------------------------

    def start(self, *indexes: int) -> None:
        """Start these, all if none is named; those that run are left alone."""
        for index in indexes or self.indexes:
            if index not in self._running:
                self._running[index] = _spawn(self.facts(index))

    def kill(self, *indexes: int) -> None:
        """SIGKILL, all of them at once, and wait until they are gone."""
        for index in indexes:
            self._workers |= _children(self._running[index].pid)
            self._running[index].kill()
        for index in indexes:
            self._running.pop(index).wait()
            self._paused.discard(index)

    def terminate(self, index: int, deadline_s: float = DEADLINE_S) -> int:
        """SIGTERM, and its exit code."""
        self._running[index].terminate()
        return self.wait_ended(index, deadline_s)

    def wait_ended(self, index: int, deadline_s: float = DEADLINE_S) -> int:
        """The exit code of one that was told to stop."""
        process = self._running.pop(index)
        self._workers |= _children(process.pid)
        try:
            return process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise GaveUp(f"validator {index} did not stop\n{self.log_tail(index)}") from None

    def pause(self, index: int) -> None:
        """SIGSTOP."""
        self._running[index].send_signal(signal.SIGSTOP)
        self._paused.add(index)

    def resume(self, index: int) -> None:
        """SIGCONT."""
        self._running[index].send_signal(signal.SIGCONT)
        self._paused.discard(index)

    def wipe(self, index: int) -> None:
        """Throw its data away; configuration and keys stay. It must not run."""
        assert index not in self._running
        shutil.rmtree(self.facts(index).place.data)
        self.facts(index).place.data.mkdir(mode=0o700)

    def check_alive(self) -> None:
        """Fail if a validator ended that nobody ended."""
        for index, process in list(self._running.items()):
            code = process.poll()
            if code is not None:
                del self._running[index]
                raise AssertionError(
                    f"validator {index} ended by itself with {code}:\n{self.log_tail(index)}"
                )

    def orphans(self) -> set[int]:
        """Score workers whose validator is gone and which still run."""
        self._workers = {pid for pid in self._workers if _is_score_worker(pid)}
        return set(self._workers)

    def close(self) -> None:
        """End everything that was started here."""
        for process in self._running.values():
            self._workers |= _children(process.pid)
            process.kill()
        for process in self._running.values():
            process.wait()
        self._running.clear()
        for pid in self.orphans():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # ---- conditions ------------------------------------------------------------------------------

    async def until_ready(self, *indexes: int) -> None:
        """Until these (by default all that run) answer /readyz with 200."""
        wanted = indexes or tuple(self.running)
        async with aiohttp.ClientSession() as session:
            for index in wanted:
                await self.until(
                    lambda index=index: self._is_ready(session, index),  # type: ignore[misc]
                    f"validator {index} is ready",
                )

    async def _is_ready(self, session: aiohttp.ClientSession, index: int) -> bool:
        timeout = aiohttp.ClientTimeout(total=5.0)
        try:
            async with session.get(f"{self.url(index)}/readyz", timeout=timeout) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def until(
        self,
        condition: Callable[[], Awaitable[T | None]],
        what: str,
        deadline_s: float = DEADLINE_S,
    ) -> T:
        """As `until`; fails at once if a validator ends by itself, and shows the logs."""

        async def alive() -> T | None:
            self.check_alive()
            return await condition()

        try:
            return await until(alive, what, deadline_s)
        except GaveUp as error:
            logs = "\n".join(f"--- {index}\n{self.log_tail(index, 8)}" for index in self.indexes)
            raise GaveUp(f"{error}\n{logs}") from error

    async def height(self, index: int) -> int:
        """Its tip."""
        async with self.client(index) as client:
            return (await client.status()).height

    async def until_height(self, height: int, *indexes: int) -> None:
        """Until these (by default all that run) have this height."""
        for index in indexes or self.running:

            async def reached(index: int = index) -> bool:
                return await self.height(index) >= height

            await self.until(reached, f"validator {index} has height {height}")

    async def until_level(self) -> None:
        """Until all that run have what the highest has now."""
        await self.until_height(max([await self.height(index) for index in self.running]))

    async def commit_at(self, index: int, height: int) -> dict[str, Any]:
        """chain_getCommit of a height at a validator."""
        async with self.client(index) as client:
            commit: dict[str, Any] = await client.call("chain_getCommit", {"block": height})
            return commit

    async def until_votes(self, index: int, above: int, asked: int) -> int:
        """Until a block above `above` carries this validator's COMMIT; that block's height.

        The certificate that a node stores is of the COMMITs which it had when it decided, so the
        asked one is another validator.
        """
        voter = self.set_index(index)
        seen = above

        async def votes() -> int | None:
            nonlocal seen
            while seen < await self.height(asked):
                seen += 1
                if voter in (await self.commit_at(asked, seen))["signers"]:
                    return seen
            return None

        return await self.until(votes, f"validator {index} votes above height {above}")

    async def heal(self) -> None:
        """Everybody runs, is ready, and has what the highest has."""
        self.check_alive()
        for index in list(self._paused):
            self.resume(index)
        self.start()
        await self.until_ready()
        await self.until_level()

    async def headers(self, index: int, first: int = 1, last: int | None = None) -> list[Any]:
        """The headers of these heights, at a validator."""
        async with self.client(index) as client:
            if last is None:
                last = (await client.status()).height
            answers: list[Any] = []
            for start in range(first, last + 1, 100):
                answers += await client.batch(
                    [
                        ("chain_getHeader", {"block": height})
                        for height in range(start, min(start + 100, last + 1))
                    ]
                )
        for answer in answers:
            assert not isinstance(answer, ClientError), answer
        return answers

    async def assert_same_chain(self, *indexes: int) -> int:
        """The same blocks and state roots at all heights that these have; the common height."""
        wanted = indexes or tuple(self.running)
        common = min([await self.height(index) for index in wanted])
        chains = [await self.headers(index, 1, common) for index in wanted]
        for index, chain in zip(wanted[1:], chains[1:], strict=True):
            for one, other in zip(chains[0], chain, strict=True):
                assert one == other, f"{wanted[0]} and {index} differ at height {one['height']}"
        return common


def _with_ports(state: DevnetState) -> DevnetState:
    """Random free ports, all different."""
    rng = random.SystemRandom()
    taken: set[int] = set()

    def free() -> int:
        while True:
            port = rng.choice(_PORTS)
            with socket.socket() as listener:
                try:
                    listener.bind(("127.0.0.1", port))
                except OSError:
                    continue
            if port not in taken:
                taken.add(port)
                return port

    return replace(
        state,
        validators=tuple(
            replace(each, rpc_port=free(), p2p_port=free()) for each in state.validators
        ),
    )


def _spawn(validator: ValidatorFacts) -> subprocess.Popen[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TALLY")}
    source = str(Path(__file__).resolve().parents[2])
    with validator.log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "node.cli", "start", "--home", validator.home],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=validator.home,
            env={**kept, "PYTHONPATH": source, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=_die_with_the_tests if sys.platform == "linux" else None,
        )


_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _die_with_the_tests() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _children(pid: int) -> set[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return set()
    return {int(each) for each in text.split() if _is_score_worker(int(each))}


def _is_score_worker(pid: int) -> bool:
    try:
        return b"node.score_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
