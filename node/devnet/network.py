"""`up` as steps: homes, ports, processes, readiness, a first commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from genesis.wellknown import ACCOUNT_NAMES, TREASURY, account_key, well_known_key
from ledger.crypto import PrivateKey
from ledger.identity import peer_id
from ledger.params import ChainParams
from ledger.transactions import ChainIdentity, Register
from node.devnet import homes, processes
from node.devnet.state import DevnetError, DevnetState, ValidatorFacts, load_state
from node.registration import registration
from rpc.client import CallFailed, ClientError, RpcClient, Wait
from rpc.session import Account

# From the first process to the first commit. Usually three seconds; a loaded machine takes longer.
UP_TIMEOUT_S = 60.0
COMMIT_TIMEOUT_MS = 30_000
_POLL_S = 0.1

Say = Callable[[str], None]


@dataclass(slots=True)
class Started:
    """What `up` did. `processes` are those it started itself."""

    state: DevnetState
    is_new: bool
    processes: dict[int, processes.Process]
    height: int = 0


def prepare(root: Path, validators: int | None, base_port: int | None, now_ms: int) -> Started:
    """The network in a folder, made if there is none. Raises DevnetError, ValueError."""
    state = load_state(root)
    is_new = state is None
    if state is None:
        count = validators or 4
        state = homes.create(root, count, base_port or homes.BASE_PORT, now_ms)
    elif validators not in (None, len(state.validators)):
        raise DevnetError(
            f"the devnet in {root} has {len(state.validators)} validators, not {validators}",
            "`tally devnet reset` throws it away",
        )
    state = homes.with_free_ports(state)
    homes.write_settings(state)
    state.save()
    return Started(state, is_new, {})


def start_stopped(started: Started) -> None:
    """Start every validator that does not run."""
    for each in started.state.validators:
        if each.pid is None:
            started.processes[each.number] = processes.start(each)


async def until_committing(started: Started, say: Say) -> None:
    """Wait until all are ready and a transaction of ours is in a block. Raises DevnetError."""
    try:
        async with asyncio.timeout(UP_TIMEOUT_S):
            await until_ready(started)
            say("all validators are ready; committing the first block")
            started.height = await _first_commit(started)
    except TimeoutError:
        raise DevnetError(
            f"the network does not commit after {UP_TIMEOUT_S:g} s",
            "`tally devnet status` and `tally devnet logs 1` show more",
        ) from None


async def until_ready(started: Started) -> None:
    """Wait until every validator answers /readyz with 200. Raises DevnetError if one ends."""
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for each in started.state.validators:
            group.create_task(_until_ready(session, each, started.processes.get(each.number)))


async def _until_ready(
    session: aiohttp.ClientSession,
    validator: ValidatorFacts,
    process: processes.Process | None,
) -> None:
    timeout = aiohttp.ClientTimeout(total=2.0)
    while True:
        if process is not None:
            process.check()
        try:
            async with session.get(f"{validator.url}/readyz", timeout=timeout) as answer:
                if answer.status == 200:
                    return
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        await asyncio.sleep(_POLL_S)


async def _first_commit(started: Started) -> int:
    """A new network registers its people, so that they can serve and rate each other at once; an
    old one moves a µT. The height at which it happened."""
    state = started.state
    chain = ChainIdentity(state.chain_id, bytes.fromhex(state.genesis_hash[2:]))
    async with RpcClient(state.validators[0].url) as client:
        treasury = Account(well_known_key(TREASURY), chain, client=client)
        if started.is_new:
            return await _retrying(lambda: _register_people(state, treasury, client))
        alice = well_known_key(ACCOUNT_NAMES[0])
        return await _retrying(lambda: _probe(treasury, alice))


async def _probe(treasury: Account, alice: PrivateKey) -> int:
    status = await treasury.transfer(
        alice.public_key, 1, wait="committed", timeout_ms=COMMIT_TIMEOUT_MS
    )
    if not status.is_committed:
        raise DevnetError("a transaction is still pending after 30 s")
    return status.height or 0


async def _register_people(state: DevnetState, treasury: Account, client: RpcClient) -> int:
    params = ChainParams(**await client.parameters())
    height = 0
    # The operators are the seeds of trust: what they pay for and praise shows in the scores.
    names = [*ACCOUNT_NAMES, *(each.name for each in state.validators)]
    for name in names:
        key = account_key(name)
        assert key is not None
        if (await client.account(peer_id(key.public_key))).is_registered:
            continue
        fields = registration(key, treasury.address, treasury.chain, params, service_mask=1)
        is_last = name == names[-1]
        until: Wait = "committed" if is_last else "accepted"
        status = await treasury.send(Register, wait=until, timeout_ms=COMMIT_TIMEOUT_MS, **fields)
        height = status.height or height
    return height


async def _retrying(act: Callable[[], Awaitable[int]]) -> int:
    """Nodes that have just started may still refuse; the caller bounds the time."""
    while True:
        try:
            return await act()
        except CallFailed as error:
            if not error.retryable:
                raise
        except ClientError:
            pass
        await asyncio.sleep(_POLL_S)
