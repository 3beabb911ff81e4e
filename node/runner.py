"""The composition root: one running node, wired from every room.

Order of the start: store and state tree, score worker, replica with its journal, p2p, RPC. The node
says that it is ready (`/readyz`) only when it is up with the chain. All work runs in one TaskGroup;
a task that dies ends the node with its reason. On a stop everything is closed in the reverse order,
and a crash at any point loses nothing that was acknowledged: the store's batch and the journal's
records are durable before anything depends on them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from consensus.driver import LoopTimers, SystemClock, sync_ticks
from consensus.errors import JournalDamaged
from consensus.journal import JournalTag
from consensus.journal_file import JournalFile, put_aside
from consensus.pbft.engine import PbftEngine
from consensus.replica import Replica, SignatureMemory
from explorer.page import explorer_routes
from genesis.definition import NetworkDefinition
from ledger.identity import public_key_of
from ledger.mempool import Mempool, MempoolLimits
from ledger.state import PAIR_PREFIX
from ledger.store import LevelStore
from ledger.verification import SignatureCache
from node.admin import NodeAdmin
from node.admission import Admission, Finality, dropping_tracer
from node.api import RunningNode
from node.application import LedgerApplication
from node.chain_store import begin_chain
from node.config import Config, parse_peer_address
from node.feed import NodeFeed
from node.home import Home, write_secret
from node.keys import NodeKeys, load_node_keys
from node.keystore import terminal_prompt
from node.network import NodeNetwork
from node.scores import ScoreKeeper
from node.telemetry import Telemetry, make_logger
from node.version import version
from p2p.dialing import PersistentPeer
from p2p.host import Host, HostConfig
from p2p.status import StatusFacts
from rpc.context import Call, Desk
from rpc.dispatcher import Dispatcher
from rpc.limits import RateLimiter
from rpc.methods import all_methods
from rpc.openrpc import encoded_document
from rpc.server import Pages, RpcServer, ServerSettings
from rpc.subscriptions.hub import Hub
from rpc.subscriptions.routes import EventRoutes

# Allocations between collections of the youngest generation, and turns between those of the older.
GARBAGE_THRESHOLDS = (50_000, 20, 100)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a started node is reached."""

    rpc_url: str
    p2p_port: int
    node_id: str


@dataclass(frozen=True, slots=True)
class _Setup:
    home: Home
    config: Config
    network: NetworkDefinition
    keys: NodeKeys
    telemetry: Telemetry


async def run_node(
    config: Config,
    home: Home,
    network: NetworkDefinition,
    on_listening: Callable[[Listening], None] = lambda _: None,
) -> None:
    """Run until cancelled, which is the orderly way to stop.

    Raises what ended the node, in an ExceptionGroup; KeystoreError and the like before it starts.
    """
    keys = load_node_keys(home, config, network, os.environ, terminal_prompt())
    telemetry = Telemetry(
        make_logger(config.log.level, config.log.format),
        node=config.node.name,
        version=version(),
        chain_id=network.chain_id,
    )
    setup = _Setup(home, config, network, keys, telemetry)
    async with AsyncExitStack() as closing, asyncio.TaskGroup() as group:
        node = await _Node.open(setup, group, closing)
        _settle_memory()
        try:
            listening = await node.start()
            telemetry.log.info("node started", rpc=listening.rpc_url, node_id=listening.node_id)
            on_listening(listening)
            await asyncio.Event().wait()
        finally:
            await node.stop()
            telemetry.log.info("node stopped")


class _Node:
    """The parts, and how they begin and end."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        replica: Replica,
        journal: JournalFile,
        timers: LoopTimers,
        host: Host,
        server: RpcServer[Call],
        background: list[Callable[[], Coroutine[Any, Any, None]]],
    ) -> None:
        self._group = group
        self._replica = replica
        self._journal = journal
        self._timers = timers
        self._host = host
        self._server = server
        self._background = background
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, setup: _Setup, group: asyncio.TaskGroup, closing: AsyncExitStack) -> _Node:
        """Open files, build every part, connect them."""
        feed = NodeFeed()
        network, config, trace = setup.network, setup.config, feed.watching(setup.telemetry.trace)
        clock = SystemClock()
        store = LevelStore(str(setup.home.data / "ledger"), network.genesis_hash)
        closing.callback(store.close)
        tree = begin_chain(store, network)
        store_thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        closing.callback(store_thread.shutdown)
        finality = Finality()
        mempool = Mempool(_limits(config), dropping_tracer(finality, trace))
        signatures = SignatureCache(network.genesis_hash)
        scores = ScoreKeeper(setup.home.data / "scores", trace)
        closing.push_async_callback(scores.close)
        # One pass over all state beats a look-up a pair.
        await scores.start(item for item in store.state_scan() if item[0].startswith(PAIR_PREFIX))
        consensus_key = None if setup.keys.consensus is None else setup.keys.consensus.public_key
        remembered = SignatureMemory()
        application = LedgerApplication(
            network=network,
            store=store,
            tree=tree,
            mempool=mempool,
            signatures=signatures,
            scores=scores,
            clock=clock,
            operator=_operator_of(network, consensus_key),
            spawn=group.create_task,
            store_thread=store_thread,
            verify_signature=remembered,
            tracer=trace,
        )
        host = Host(
            _host_config(config, version()),
            setup.keys.node,
            lambda: StatusFacts(network.chain_id, network.genesis_hash, application.tip.height),
            rng=secrets.SystemRandom(),
            trace=trace,
            has_reserved_place=lambda peer: application.is_validator(public_key_of(peer)),
        )
        carrier = NodeNetwork(host, application, group.create_task)
        admission = Admission(application, store, mempool, signatures, carrier, finality, trace)
        journal = _open_journal(setup)
        closing.push_async_callback(journal.close)
        engine = PbftEngine(trace)
        timers = LoopTimers(lambda timer_id: replica.on_timer(timer_id))
        replica = Replica(
            engine=engine,
            chain=network.identity,
            application=application,
            transport=carrier,
            journal=journal,
            timers=timers,
            clock=clock,
            signer=setup.keys.consensus,
            seed=secrets.randbits(32),
            verify_signature=remembered,
            tracer=trace,
        )
        api = RunningNode(
            network=network,
            document=setup.home.genesis_file.read_bytes(),
            version=version(),
            application=application,
            store=store,
            mempool=mempool,
            admission=admission,
            finality=finality,
            scores=scores,
            replica=replica,
            host=host,
            clock=clock,
            own_consensus_key=consensus_key,
        )
        carrier.attach(replica, lambda: [each.raw for each in mempool.transactions()])
        application.attach(replica)
        application.on_block(feed.on_block)
        admission.on_admitted(feed.on_admitted)
        server = _server(setup, api, feed, NodeAdmin(host, setup.telemetry, _terminate))
        closing.callback(setup.home.admin_token_file.unlink, missing_ok=True)
        _watch(setup.telemetry, mempool)
        background = [
            scores.run,
            admission.take_from_peers,
            host.wait,
            lambda: sync_ticks(carrier.on_tick),
            application.watch_scores,
        ]
        return cls(group, replica, journal, timers, host, server, background)

    async def start(self) -> Listening:
        """Begin to work; where to reach the node."""
        self._journal.start(on_durable=self._replica.on_durable, on_failure=self._fail)
        for work in self._background[:2]:
            self._tasks.append(self._group.create_task(work()))
        await self._host.start()
        for work in self._background[2:]:
            self._tasks.append(self._group.create_task(work()))
        self._replica.start(self._journal.records)
        await self._server.start()
        return Listening(self._server.url, self._host.listen_port, self._host.peer_id)

    def _fail(self, error: Exception) -> None:
        """End the node: a task of its group dies of this."""

        async def die() -> None:
            raise error

        self._group.create_task(die())

    async def stop(self) -> None:
        """Stop asking and answering, then working."""
        await self._server.stop()
        self._timers.cancel_all()
        for task in self._tasks:
            task.cancel()
        await self._host.close()


def _settle_memory() -> None:
    """Take what stands now out of garbage collection, and collect less often.

    The mempool holds hundreds of thousands of small objects without cycles; the default thresholds
    walk them over and over, a tenth of the time that admitting and executing takes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _limits(config: Config) -> MempoolLimits:
    section = config.mempool
    return MempoolLimits(section.max_txs, section.max_bytes, section.max_per_sender)


def _operator_of(network: NetworkDefinition, consensus_key: bytes | None) -> bytes | None:
    if consensus_key is None:
        return None
    index = network.validators.index_of_consensus_key.get(consensus_key)
    return None if index is None else network.validators[index].operator


def _host_config(config: Config, version: str) -> HostConfig:
    peers = []
    for text in config.p2p.persistent_peers:
        address = parse_peer_address(text)
        peers.append(PersistentPeer(address.peer_id, address.host, address.port))
    return HostConfig(
        listen_host=config.p2p.host,
        listen_port=config.p2p.port,
        persistent_peers=tuple(peers),
        agent=f"tally/{version}",
    )


def _server(setup: _Setup, api: RunningNode, feed: NodeFeed, admin: NodeAdmin) -> RpcServer[Call]:
    log = setup.telemetry.log

    def failed(method: str, error: Exception) -> None:
        log.error("an RPC method failed", method=method, exc_info=error)

    desk = Desk(
        api,
        limiter=RateLimiter(),
        monotonic_ms=lambda: time.monotonic_ns() // 1_000_000,
        admin=admin,
    )
    dispatcher = Dispatcher(all_methods(), on_failure=failed)
    events = EventRoutes(Hub(api, feed), dispatcher, desk.context, on_failure=failed)
    section = setup.config.rpc
    return RpcServer(
        ServerSettings(
            host=section.host,
            port=section.port,
            unix_path=setup.home.admin_socket,
            allowed_hosts=frozenset(section.allowed_hosts),
            allowed_origins=frozenset(section.allowed_origins),
            admin_token=_new_token(setup.home),
        ),
        dispatcher,
        desk.context,
        Pages(
            not_ready=lambda: api.sync_status().not_ready,
            openrpc=encoded_document(all_methods()),
            metrics=setup.telemetry.metrics_text if setup.config.metrics.enabled else bytes,
        ),
        routes=[*events.routes(), *explorer_routes()],
        closing=(events.close,),
    )


def _open_journal(setup: _Setup) -> JournalFile:
    """The journal; a damaged one is put aside, and the validator listens before it votes again."""
    path = setup.home.data / "journal"
    tag = JournalTag("pbft", setup.network.genesis_hash)
    try:
        return JournalFile(path, tag)
    except JournalDamaged as error:
        aside = put_aside(path)
        setup.telemetry.log.warning("journal damaged", detail=str(error), put_aside=str(aside))
        return JournalFile(path, tag)


def _new_token(home: Home) -> str:
    """The operator's token of this start, where the operator can read it."""
    token = secrets.token_hex(32)
    write_secret(home.admin_token_file, token.encode(), replace=True)
    return token


def _terminate() -> None:
    """The stop that SIGTERM asks for, so that there is one way to stop."""
    os.kill(os.getpid(), signal.SIGTERM)


def _watch(telemetry: Telemetry, mempool: Mempool) -> None:
    telemetry.watch("tally_mempool_transactions", "Transactions waiting", lambda: len(mempool))
    telemetry.watch("tally_mempool_bytes", "Their bytes", lambda: mempool.size_bytes)
