"""The p2p room's face: links to peers, messages to them, requests, and news of who is there.

Register protocols before `start`. All callbacks run in the event loop, synchronously, in the order
in which things happened; one that raises anything but `ledger.errors.InvalidData` is a bug and
fails the host, and `wait` (or `close`) raises HostFailed.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from ledger.crypto import PrivateKey
from ledger.errors import InvalidData
from ledger.trace import Tracer, no_trace
from p2p.clock import Clock, SystemClock
from p2p.connection import Connection
from p2p.dialing import DialState, PersistentDialer, PersistentPeer
from p2p.errors import (
    PENALTY_GARBAGE,
    HostFailed,
    LinkLost,
    PeerFault,
    PeerUnavailable,
    RequestError,
    RequestTimeout,
)
from p2p.identify import (
    IDENTIFY_PROTOCOL,
    PING_BYTES,
    PING_PROTOCOL,
    Identification,
    encode_identification,
    tcp_multiaddr,
)
from p2p.identify import PROTOCOL_VERSION as IDENTIFY_VERSION
from p2p.keys import secp256k1_key
from p2p.lanes import Lane
from p2p.limits import Limits
from p2p.links import Links
from p2p.messages import (
    QUEUE_MAX_COUNT,
    QUEUE_MIN_BYTES,
    MessageHandler,
    MessageProtocol,
    OutgoingMessages,
    Overflow,
    from_everybody,
)
from p2p.offenders import Offenders
from p2p.peers import Peer, PeerInfo
from p2p.protocols import ProtocolTable
from p2p.requests import (
    RequestHandler,
    RequestProtocol,
    RequestWindow,
    ask,
)
from p2p.services import IdentifyClient, PingClient
from p2p.status import ConnectionClass, StatusFacts
from p2p.stream import Stream
from p2p.trace import (
    Listening,
    MessagesDropped,
    PeerBanned,
    PeerCharged,
    PeerDown,
    PeerUp,
    RequestFailed,
    ResponseRefused,
)

PeerUpCallback = Callable[[str], None]
PeerDownCallback = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class HostConfig:
    """Where to listen (port 0: any), whom to dial for ever, and how much is allowed."""

    listen_host: str = "127.0.0.1"
    listen_port: int = 0
    persistent_peers: tuple[PersistentPeer, ...] = ()
    agent: str = "tally"
    limits: Limits = field(default_factory=Limits)


class Host:
    """One node on the network."""

    def __init__(
        self,
        config: HostConfig,
        key: PrivateKey,
        status: Callable[[], StatusFacts],
        *,
        rng: random.Random,
        trace: Tracer = no_trace,
        clock: Clock | None = None,
        has_reserved_place: Callable[[str], bool] = lambda _peer_id: False,
    ) -> None:
        """`has_reserved_place(peer_id)`: whom strangers cannot keep out by filling every place."""
        self._config = config
        self._key = key
        self._status = status
        self._rng = rng
        self._has_reserved_place = has_reserved_place
        self._trace = trace
        self._clock = clock if clock is not None else SystemClock()
        self._offenders = Offenders(config.limits)
        self._links = Links(
            self,
            key,
            limits=config.limits,
            offenders=self._offenders,
            trace=trace,
            rng=rng,
            clock=self._clock,
        )
        self._protocols = ProtocolTable()
        self._peers: dict[str, Peer] = {}
        self._agents: dict[Connection, str] = {}
        self._dialers: dict[str, list[tuple[PersistentDialer, asyncio.Task[None]]]] = {}
        self._up_callbacks: list[PeerUpCallback] = []
        self._down_callbacks: list[PeerDownCallback] = []
        self._main: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._failed = asyncio.Event()
        self.listen_port = config.listen_port
        self.peer_id = self._links.own_peer_id

    # -- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listens and begins to dial. Raises OSError when the address cannot be had."""
        assert self._main is None
        server = await asyncio.get_running_loop().create_server(
            self._links.inbound, self._config.listen_host, self._config.listen_port
        )
        self.listen_port = server.sockets[0].getsockname()[1]
        self._trace(Listening(self.peer_id, f"{self._config.listen_host}:{self.listen_port}"))
        running = asyncio.Event()
        self._main = asyncio.create_task(self._run(server, running), name="p2p host")
        await running.wait()

    async def close(self) -> None:
        """Closes every link and ends every task. Raises HostFailed if the host had failed."""
        self._stopping.set()
        await self.wait()

    async def wait(self) -> None:
        """Returns when the host was closed. Raises HostFailed when it died of itself."""
        if self._main is not None:
            await asyncio.shield(self._main)

    def fail(self, error: BaseException) -> None:
        """Ends the host with the reason `error`: a bug of ours, or of a callback."""
        if self._failure is None:
            self._failure = error
            self._failed.set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Runs `work` in the host's task group: if it dies, so does the host."""
        assert self._group is not None
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, server: asyncio.Server, running: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.spawn(self._watch_failure(), "failure")
                self.spawn(self._tick_for_ever(), "tick")
                for peer in self._config.persistent_peers:
                    self.add_persistent_peer(peer)
                running.set()
                await self._stopping.wait()
                server.close()
                for task in list(self._tasks):
                    task.cancel()
        except ExceptionGroup as failures:
            error = self._failure or failures.exceptions[0]
            raise HostFailed(f"{type(error).__name__}: {error}") from error
        finally:
            self._group = None
            server.close()
            await self._links.close_all(LinkLost("shutting down"))

    async def _watch_failure(self) -> None:
        await self._failed.wait()
        assert self._failure is not None
        raise self._failure

    async def _tick_for_ever(self) -> None:
        while True:
            await self._clock.sleep(self._config.limits.tick_s)
            self._links.tick()

    # -- registration ---------------------------------------------------------------------------

    def add_message_protocol(
        self,
        protocol_id: str,
        lane: Lane,
        max_size_bytes: int,
        handler: MessageHandler,
        *,
        overflow: Overflow = Overflow.DROP_OLDEST,
        queue_count: int = QUEUE_MAX_COUNT,
        queue_bytes: int | None = None,
        hears: Callable[[str], bool] = from_everybody,
    ) -> None:
        """Registers a one-way protocol; `handler(peer_id, payload)` is called in order.

        At most `queue_count` messages and `queue_bytes` (default: four of the largest, at least
        1 MiB) wait for one peer; `overflow` says which are dropped. Peers that `hears` does not
        want to hear are cut off before anything of theirs is buffered.
        """
        if queue_bytes is None:
            queue_bytes = max(4 * max_size_bytes, QUEUE_MIN_BYTES)
        self._protocols.add_messages(
            MessageProtocol(
                protocol_id,
                lane,
                max_size_bytes,
                handler,
                queue_count,
                queue_bytes,
                overflow,
                hears,
            )
        )

    def add_request_protocol(
        self,
        protocol_id: str,
        lane: Lane,
        max_request_bytes: int,
        max_response_bytes: int,
        handler: RequestHandler,
    ) -> None:
        """Registers a request protocol; `await handler(peer_id, payload)` gives the answer.

        The handler may raise `p2p.errors.refuse(reason)`.
        """
        self._protocols.add_requests(
            RequestProtocol(protocol_id, lane, max_request_bytes, max_response_bytes, handler)
        )

    def on_peer_up(self, callback: PeerUpCallback) -> None:
        """Calls `callback(peer_id)` when the first link of a peer is accepted."""
        self._up_callbacks.append(callback)

    def on_peer_down(self, callback: PeerDownCallback) -> None:
        """Calls `callback(peer_id, reason)` when the last link of a peer is gone."""
        self._down_callbacks.append(callback)

    # -- peers ----------------------------------------------------------------------------------

    def add_persistent_peer(self, peer: PersistentPeer) -> None:
        """Dials a peer for ever, with an urgent and a bulk link. Our own id is left out."""
        if peer.peer_id == self.peer_id or peer.peer_id in self._dialers:
            return
        dialers = []
        for connection_class in ConnectionClass:
            dialer = PersistentDialer(
                self._links,
                peer,
                connection_class,
                limits=self._config.limits,
                trace=self._trace,
                rng=self._rng,
                clock=self._clock,
                banned_for_s=self._banned_for_s,
            )
            task = self.spawn(dialer.run(), f"dial {peer.peer_id} {connection_class.value}")
            dialers.append((dialer, task))
        self._dialers[peer.peer_id] = dialers

    def remove_persistent_peer(self, peer_id: str) -> None:
        """Stops dialling a peer; standing links stay."""
        for _, task in self._dialers.pop(peer_id, []):
            task.cancel()

    def dial_states(self) -> list[DialState]:
        """How the dialling of every persistent link goes."""
        return [dialer.state for dialers in self._dialers.values() for dialer, _ in dialers]

    async def connect(
        self,
        peer_id: str,
        host: str,
        port: int,
        connection_class: ConnectionClass | None = ConnectionClass.BULK,
        *,
        direct_tls: bool = True,
    ) -> None:
        """Dials once. Without a class only the libp2p identity is wanted (a foreign peer).

        Raises P2PError leaves (WrongPeer, NetworkRefused, HandshakeTimeout, LinkLost) and OSError.
        """
        await self._links.dial(peer_id, host, port, connection_class, direct_tls=direct_tls)

    def peers(self) -> list[PeerInfo]:
        """Connected Tallystick peers, by id."""
        infos = []
        for _, peer in sorted(self._peers.items()):
            heights = [self._links.height_of(link) for link in peer.connections.values()]
            infos.append(peer.info(max(heights, default=0)))
        return infos

    @property
    def listening(self) -> str:
        """Where links are accepted, "host:port"."""
        return f"{self._config.listen_host}:{self.listen_port}"

    @property
    def agent(self) -> str:
        """What this program calls itself."""
        return self._config.agent

    @property
    def link_count(self) -> int:
        """Links of any kind and state, also those still closing."""
        return self._links.count

    def foreign_peers(self) -> list[tuple[str, str, str]]:
        """(peer id, address, agent) of connected foreign libp2p programs."""
        return [
            (link.peer_id, link.address, self._agents.get(link, ""))
            for link in self._links.foreign()
        ]

    def charge(self, peer_id: str, kind: str, points: float) -> None:
        """Charges a fault; a peer past the limit loses its links and is refused for a while."""
        now_s = self._clock.monotonic_s()
        total, ban_s = self._offenders.charge(peer_id, points, now_s)
        self._trace(PeerCharged(peer_id, kind, points, total))
        if ban_s > 0:
            self._trace(PeerBanned(peer_id, kind, ban_s))
            self.disconnect(peer_id, f"banned for {kind}")

    def disconnect(self, peer_id: str, reason: str) -> None:
        """Closes every link of a peer."""
        for connection in self._links.of_peer(peer_id):
            connection.close(LinkLost(reason))

    def _banned_for_s(self, peer_id: str) -> float:
        return self._offenders.banned_for_s(peer_id, self._clock.monotonic_s())

    # -- messages and requests ------------------------------------------------------------------

    def send(self, peer_id: str, protocol_id: str, payload: bytes) -> bool:
        """Queues a message; False when the peer is not up or the message was dropped."""
        peer = self._peers.get(peer_id)
        if peer is None:
            return False
        queue = peer.queues.get(protocol_id)
        if queue is None:
            queue = self._make_queue(peer, self._protocols.messages[protocol_id])
        return queue.put(payload)

    def broadcast(self, protocol_id: str, payload: bytes) -> int:
        """Queues a message for every peer that is up; how many took it."""
        return sum(self.send(peer_id, protocol_id, payload) for peer_id in list(self._peers))

    async def request(
        self, peer_id: str, protocol_id: str, payload: bytes, timeout_s: float
    ) -> bytes:
        """The peer's answer. Raises PeerUnavailable, RequestTimeout, RequestRefused or
        ResponseTooLarge; ValueError when the request is larger than the protocol allows."""
        protocol = self._protocols.requests[protocol_id]
        if len(payload) > protocol.max_request_bytes:
            raise ValueError(f"{protocol_id}: a request of {len(payload)} bytes")
        try:
            peer = self._peers.get(peer_id)
            if peer is None:
                raise PeerUnavailable(peer_id, protocol_id, "not connected")
            window = peer.windows.get(protocol_id)
            if window is None:
                window = peer.windows[protocol_id] = RequestWindow(protocol)
            choose = functools.partial(peer.route, protocol.lane)
            return await ask(choose, window, peer_id, payload, timeout_s)
        except RequestError as error:
            kind = type(error).__name__
            self._trace(RequestFailed(peer_id, protocol_id, kind, error.detail))
            raise

    async def ping(self, peer_id: str, timeout_s: float) -> float:
        """Round trip in milliseconds by libp2p ping, to any connected peer, foreign ones too.

        Raises PeerUnavailable and RequestTimeout.
        """
        link = next(iter(self._links.of_peer(peer_id)), None)
        if link is None:
            raise PeerUnavailable(peer_id, PING_PROTOCOL, "not connected")
        payload = self._rng.randbytes(PING_BYTES)
        client = PingClient(peer_id, payload)
        started_s = self._clock.monotonic_s()
        stream = link.open_stream(PING_PROTOCOL, Lane.L2, client)
        stream.write(payload)
        try:
            async with asyncio.timeout(timeout_s):
                await client.answer
        except TimeoutError as error:
            detail = f"no echo within {timeout_s:g} s"
            raise RequestTimeout(peer_id, PING_PROTOCOL, detail) from error
        finally:
            stream.reset()
        return (self._clock.monotonic_s() - started_s) * 1000

    def _make_queue(self, peer: Peer, protocol: MessageProtocol) -> OutgoingMessages:
        queue = OutgoingMessages(self, peer.peer_id, protocol)
        queue.bind(peer.route(protocol.lane))
        peer.queues[protocol.protocol_id] = queue
        return queue

    # -- LinkListener ---------------------------------------------------------------------------

    def status_facts(self) -> StatusFacts:
        """What our node says of itself now."""
        return self._status()

    def has_room(self, peer_id: str) -> bool:
        """Persistent, connected and reserved peers always fit; they are bounded elsewhere."""
        if peer_id in self._peers or peer_id in self._dialers:
            return True
        if self._has_reserved_place(peer_id):
            return True
        return len(self._peers) < self._config.limits.peers_max_count

    def link_secured(self, connection: Connection) -> None:
        """Asks every identified program who it is."""
        client = IdentifyClient(functools.partial(self._identified, connection))
        connection.open_stream(IDENTIFY_PROTOCOL, Lane.L2, client)

    def link_accepted(self, connection: Connection) -> None:
        """A link of a Tallystick peer stands."""
        connection_class = connection.connection_class
        assert connection_class is not None
        peer = self._peers.get(connection.peer_id)
        is_new = peer is None
        if peer is None:
            peer = Peer(connection.peer_id, self._clock.wall_s())
            self._peers[connection.peer_id] = peer
        peer.agent = self._agents.get(connection, peer.agent)
        peer.connections[connection_class] = connection
        peer.rebind()
        if is_new:
            self._trace(PeerUp(peer.peer_id))
            for callback in self._up_callbacks:
                self._call(callback, peer.peer_id)

    def link_closed(self, connection: Connection, *, accepted: bool) -> None:
        """A secured link is gone."""
        self._agents.pop(connection, None)
        for dialer, _ in self._dialers.get(connection.peer_id, []):
            dialer.wake()
        peer = self._peers.get(connection.peer_id)
        connection_class = connection.connection_class
        if not accepted or peer is None or connection_class is None:
            return
        if peer.connections.get(connection_class) is not connection:
            return
        del peer.connections[connection_class]
        peer.rebind()
        if not peer.connections:
            del self._peers[peer.peer_id]
            reason = str(connection.close_error)
            self._trace(PeerDown(peer.peer_id, reason))
            for callback in self._down_callbacks:
                self._call(callback, peer.peer_id, reason)

    def supports(self, protocol_id: str, *, accepted: bool) -> bool:
        """Everybody may identify and ping; the rest is for Tallystick peers."""
        return self._protocols.supports(protocol_id, accepted=accepted)

    def accept_stream(self, connection: Connection, stream: Stream) -> None:
        """Puts the protocol's handler on an inbound stream."""
        if stream.protocol_id in (IDENTIFY_PROTOCOL, PING_PROTOCOL):
            self._protocols.serve_everybody(stream, self._identification(connection))
        else:
            deadline_s = self._clock.monotonic_s() + self._config.limits.request_s
            peer = self._peers[connection.peer_id]
            self._protocols.serve_peer(stream, peer, self, deadline_s)

    def peer_fault(self, connection: Connection, fault: PeerFault) -> None:
        """A secured peer broke the rules of the wire."""
        self.charge(connection.peer_id, fault.kind, fault.penalty)

    def messages_dropped(self, peer_id: str, protocol_id: str, count: int, rule: str) -> None:
        """Outgoing messages were dropped."""
        peer = self._peers.get(peer_id)
        if peer is not None:
            peer.dropped_count += count
        self._trace(MessagesDropped(peer_id, protocol_id, count, rule))

    def invalid_message(self, peer_id: str, protocol_id: str, error: InvalidData) -> None:
        """A handler refused what a peer sent as invalid."""
        self.charge(peer_id, f"{protocol_id}: {type(error).__name__}", PENALTY_GARBAGE)

    def response_refused(self, peer_id: str, protocol_id: str, reason: str) -> None:
        """A request was answered with no."""
        self._trace(ResponseRefused(peer_id, protocol_id, reason))

    def _identified(self, connection: Connection, found: Identification) -> None:
        self._agents[connection] = found.agent
        peer = self._peers.get(connection.peer_id)
        if peer is not None:
            peer.agent = found.agent

    def _identification(self, connection: Connection) -> bytes:
        host, _, port = connection.address.rpartition(":")
        listen = tcp_multiaddr(self._config.listen_host, self.listen_port)
        return encode_identification(
            Identification(
                public_key=secp256k1_key(self._key.public_key).encode(),
                agent=self._config.agent,
                protocol_version=IDENTIFY_VERSION,
                protocols=self._protocols.ids,
                listen_addresses=(listen,) if listen else (),
                observed_address=tcp_multiaddr(host, int(port)) if port else b"",
            )
        )

    def _call(self, callback: Callable[..., None], *args: str) -> None:
        try:
            callback(*args)
        except Exception as error:  # noqa: BLE001 - a callback's bug ends the host, not the loop
            self.fail(error)
