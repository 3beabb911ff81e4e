"""From TCP connections to accepted links: who is on the other side, and is it one of ours?

pending    TCP, TLS, and the status exchange; bounded in count and time
accepted   a Tallystick peer of our network; one link per peer and class (p2p.settlement)
foreign    a libp2p program that does not speak our status protocol: identify and ping only
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ledger.crypto import PrivateKey
from ledger.identity import peer_id as peer_id_of
from ledger.trace import Tracer
from p2p.clock import Clock
from p2p.connection import Connection
from p2p.errors import HandshakeTimeout, LinkLost, NetworkRefused, P2PError, PeerFault
from p2p.keys import KeyType
from p2p.lanes import Lane
from p2p.limits import Limits
from p2p.link import SecureLink
from p2p.offenders import Offenders
from p2p.services import StatusHandler
from p2p.settlement import Settlement
from p2p.status import (
    PROTOCOL_VERSION,
    STATUS_PROTOCOL,
    ConnectionClass,
    Hello,
    Phase,
    Refusal,
    StatusExchange,
    StatusFacts,
)
from p2p.stream import Stream
from p2p.tls import TlsIdentity
from p2p.trace import (
    ForeignPeer,
    LinkClosed,
    LinkRefused,
    LinkSecured,
    StatusAccepted,
    StatusRefused,
)

REFUSED_BANNED = "banned"
REFUSED_CLASS = "class"
REFUSED_FULL = "full"
REFUSED_IDENTITY = "identity"
REFUSED_SELF = "self"


class LinkState(Enum):
    """See the module's table."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    FOREIGN = "foreign"


@dataclass(slots=True, eq=False)
class _Record:
    connection: Connection
    # What a link of ours is for; None on a dial that looks only for a libp2p identity.
    wanted_class: ConnectionClass | None = None
    settled: asyncio.Future[None] | None = None
    state: LinkState = LinkState.PENDING
    status: StatusHandler | None = None
    status_deadline_s: float | None = None


class LinkListener(Protocol):
    """The host above: told of accepted links, asked about protocols."""

    def status_facts(self) -> StatusFacts:
        """What our node says of itself now."""

    def has_room(self, peer_id: str) -> bool:
        """Whether one more Tallystick peer fits."""

    def link_secured(self, connection: Connection) -> None:
        """A link of any kind proved its identity."""

    def link_accepted(self, connection: Connection) -> None:
        """A Tallystick link stands; `connection_class` is set."""

    def link_closed(self, connection: Connection, *, accepted: bool) -> None:
        """A secured link is of no more use."""

    def supports(self, protocol_id: str, *, accepted: bool) -> bool:
        """Whether the peer may open streams of the protocol."""

    def accept_stream(self, connection: Connection, stream: Stream) -> None:
        """Sets handler and lane of an inbound stream of an agreed protocol."""

    def peer_fault(self, connection: Connection, fault: PeerFault) -> None:
        """A secured peer broke the rules."""

    def fail(self, error: BaseException) -> None:
        """Our own bug."""


class Links:
    """All links of one host."""

    def __init__(
        self,
        listener: LinkListener,
        key: PrivateKey,
        *,
        limits: Limits,
        offenders: Offenders,
        trace: Tracer,
        rng: random.Random,
        clock: Clock,
    ) -> None:
        self._listener = listener
        self._tls = TlsIdentity(key)
        self._trace = trace
        self._offenders = offenders
        self._instance = rng.randbytes(8)
        self._records: dict[Connection, _Record] = {}
        self._transports_gone = asyncio.Event()
        self.own_peer_id = peer_id_of(key.public_key)
        self.settlement: Settlement[Connection] = Settlement(self.own_peer_id)
        self.limits = limits
        self.clock = clock
        self.accepting = True

    # -- making links ---------------------------------------------------------------------------

    def inbound(self) -> Connection:
        """Protocol factory of the listening socket."""
        link = SecureLink(self._tls.context(self.clock.wall_s()), dialer=False)
        return Connection(self, link, dialed=False)

    async def dial(
        self,
        peer_id: str,
        host: str,
        port: int,
        connection_class: ConnectionClass | None,
        *,
        direct_tls: bool,
    ) -> Connection:
        """Dials and waits until the link is accepted (or, without a class, its identity proved).

        Raises P2PError leaves and OSError.
        """
        link = SecureLink(
            self._tls.context(self.clock.wall_s()),
            dialer=True,
            expected_peer_id=peer_id,
            direct_tls=direct_tls,
        )
        connection = Connection(self, link, dialed=True)
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[None] = loop.create_future()
        record = _Record(connection, wanted_class=connection_class, settled=settled)
        self._records[connection] = record
        try:
            async with asyncio.timeout(self.limits.handshake_s):
                await loop.create_connection(lambda: connection, host, port)
            await settled
        except TimeoutError as error:
            raise HandshakeTimeout("TCP connection", self.limits.handshake_s) from error
        finally:
            record.settled = None
            if record.state is LinkState.PENDING and not connection.closed:
                connection.abort(LinkLost("dial given up"))
            if not connection.attached:
                self._records.pop(connection, None)
        if connection.close_error is not None:
            raise connection.close_error
        return connection

    # -- looking --------------------------------------------------------------------------------

    def state_of(self, connection: Connection) -> LinkState | None:
        """The state of a link, None when it is gone."""
        record = self._records.get(connection)
        return None if record is None else record.state

    @property
    def count(self) -> int:
        """Links of any state, also those still closing."""
        return len(self._records)

    def foreign(self) -> list[Connection]:
        """Links of foreign libp2p programs."""
        return [r.connection for r in self._records.values() if r.state is LinkState.FOREIGN]

    def of_peer(self, peer_id: str) -> list[Connection]:
        """Open links of a peer, of any kind, whose identity is proved."""
        found = [r.connection for r in self._records.values()]
        return [link for link in found if link.peer_id == peer_id and not link.closed]

    def height_of(self, connection: Connection) -> int:
        """The ledger height that the peer of an accepted link told last."""
        record = self._records.get(connection)
        return 0 if record is None or record.status is None else record.status.exchange.peer_height

    # -- time -----------------------------------------------------------------------------------

    def tick(self) -> None:
        """Checks every deadline and tells peers a new height."""
        now_s = self.clock.monotonic_s()
        height = self._listener.status_facts().height
        for record in list(self._records.values()):
            connection = record.connection
            connection.tick(now_s)
            deadline_s = record.status_deadline_s
            if record.status is not None:
                record.status.tell_height(height)
            if deadline_s is None or now_s < deadline_s or connection.closed:
                continue
            if record.status is None:
                self._become_foreign(record)
            else:
                connection.close(HandshakeTimeout("status exchange", self.limits.status_s))

    async def close_all(self, error: P2PError) -> None:
        """Closes every link and waits, within the linger time, until the transports are gone."""
        self.accepting = False
        for record in list(self._records.values()):
            record.connection.close(error)
        if not await self._wait_until_gone():
            for record in list(self._records.values()):
                record.connection.abort(error)
            await self._wait_until_gone()

    async def _wait_until_gone(self) -> bool:
        """Whether every transport went within the linger time."""
        try:
            async with asyncio.timeout(self.limits.linger_s):
                while self._records:
                    self._transports_gone.clear()
                    await self._transports_gone.wait()
        except TimeoutError:
            return False
        return True

    # -- ConnectionOwner ------------------------------------------------------------------------

    def connection_made(self, connection: Connection) -> None:
        """Bounds the links that have not proved anything yet."""
        self._records.setdefault(connection, _Record(connection))
        origin = _host_of(connection.address)
        pending = [
            _host_of(record.connection.address) == origin
            for record in self._records.values()
            if record.state is LinkState.PENDING and not record.connection.dialed
        ]
        if not connection.dialed and (
            len(pending) > self.limits.pending_max_count
            or sum(pending) > self.limits.pending_per_host_max_count
        ):
            connection.abort(LinkLost("too many pending links"))
        elif not self.accepting:
            connection.abort(LinkLost("closing"))

    def connection_secured(self, connection: Connection) -> None:
        """The identity is proved: refuse ourselves and the banned, then exchange statuses."""
        record = self._records[connection]
        peer_id = connection.peer_id
        self._trace(LinkSecured(peer_id, connection.address, connection.dialed))
        if peer_id == self.own_peer_id:
            self._refuse(connection, Refusal(REFUSED_SELF, "that is this node itself"))
            return
        banned_s = self._offenders.banned_for_s(peer_id, self.clock.monotonic_s())
        if banned_s > 0 and not connection.dialed:
            # Told in the status exchange, so that the peer sees why.
            record.status_deadline_s = self.clock.monotonic_s() + self.limits.status_s
            return
        self._listener.link_secured(connection)
        if not connection.dialed:
            record.status_deadline_s = self.clock.monotonic_s() + self.limits.status_s
        elif record.wanted_class is None:
            self._become_foreign(record)
        else:
            self._greet(record, record.wanted_class)

    def connection_closed(self, connection: Connection) -> None:
        """Forgets the link everywhere but in the list of transports."""
        record = self._records.get(connection)
        error = connection.close_error
        assert error is not None
        if record is None:
            return
        accepted = record.state is LinkState.ACCEPTED
        if connection.connection_class is not None:
            self.settlement.forget((connection.peer_id, connection.connection_class), connection)
        if not connection.attached:
            pass  # Never connected: the dialer reports it.
        elif connection.peer_key is None:
            kind = error.kind if isinstance(error, PeerFault) else _kind(error)
            self._trace(LinkRefused(connection.address, connection.dialed, kind, str(error)))
        else:
            self._trace(
                LinkClosed(
                    connection.peer_id,
                    connection.address,
                    connection.dialed,
                    str(error),
                    connection.bytes_in,
                    connection.bytes_out,
                )
            )
            self._listener.link_closed(connection, accepted=accepted)
        self._settle(record)

    def connection_gone(self, connection: Connection) -> None:
        """The transport is gone too."""
        self._records.pop(connection, None)
        self._transports_gone.set()

    def supports(self, connection: Connection, protocol_id: str) -> bool:
        """Status once on a link that the peer dialled; the rest by the host's tables."""
        record = self._records[connection]
        if protocol_id == STATUS_PROTOCOL:
            return not connection.dialed and record.status is None
        accepted = record.state is LinkState.ACCEPTED
        return self._listener.supports(protocol_id, accepted=accepted)

    def accept_stream(self, connection: Connection, stream: Stream) -> None:
        """Puts the handler of the agreed protocol on a stream."""
        if stream.protocol_id != STATUS_PROTOCOL:
            self._listener.accept_stream(connection, stream)
            return
        record = self._records[connection]
        stream.lane = Lane.L0
        exchange = StatusExchange(
            self._hello(ConnectionClass.BULK),
            dialer=False,
            judge=lambda hello: self._judge_inbound(record, hello),
        )
        record.status = StatusHandler(self, connection, exchange)
        record.status.attach(stream)
        stream.handler = record.status

    def peer_fault(self, connection: Connection, fault: PeerFault) -> None:
        """A secured peer broke the rules."""
        self._listener.peer_fault(connection, fault)

    def fail(self, error: BaseException) -> None:
        """Our own bug."""
        self._listener.fail(error)

    # -- StatusOwner ----------------------------------------------------------------------------

    def status_step(self, connection: Connection) -> None:
        """Acts on the phase that the exchange has reached."""
        record = self._records[connection]
        assert record.status is not None
        exchange = record.status.exchange
        if record.state is LinkState.ACCEPTED or connection.closed:
            return
        if exchange.phase is Phase.REFUSED:
            assert exchange.refusal is not None
            self._refuse(connection, exchange.refusal, by_peer=exchange.refused_by_peer)
        elif exchange.phase is Phase.ACCEPTED:
            self._accept(record, exchange)

    def status_missing(self, connection: Connection) -> None:
        """The peer speaks no status protocol (foreign) or ended the exchange (an error)."""
        record = self._records.get(connection)
        if record is None or connection.closed:
            return
        if record.status is not None and record.status.exchange.peer is None:
            record.status = None
            self._become_foreign(record)
        else:
            connection.close(LinkLost("the peer ended the status exchange"))

    # -- inside ---------------------------------------------------------------------------------

    def _hello(self, connection_class: ConnectionClass) -> Hello:
        facts = self._listener.status_facts()
        return Hello(
            PROTOCOL_VERSION,
            facts.network,
            facts.genesis,
            facts.height,
            connection_class,
            self._instance,
        )

    def _greet(self, record: _Record, connection_class: ConnectionClass) -> None:
        connection = record.connection
        connection.connection_class = connection_class
        if not self.settlement.try_greet((connection.peer_id, connection_class), connection):
            connection.close(NetworkRefused("duplicate: already connected", by_peer=False))
            return
        exchange = StatusExchange(
            self._hello(connection_class),
            dialer=True,
            judge=lambda hello: (
                self._judge_identity(connection) or self._judge_class(hello, connection_class)
            ),
        )
        record.status = StatusHandler(self, connection, exchange)
        record.status_deadline_s = self.clock.monotonic_s() + self.limits.status_s
        stream = connection.open_stream(STATUS_PROTOCOL, Lane.L0, record.status)
        record.status.attach(stream)
        stream.write(exchange.start())

    @staticmethod
    def _judge_identity(connection: Connection) -> Refusal | None:
        """The ledger names nodes by secp256k1 keys; other programs may identify and ping."""
        key = connection.peer_key
        if key is None or key.key_type is not KeyType.SECP256K1:
            return Refusal(REFUSED_IDENTITY, "nodes of the ledger have secp256k1 keys")
        return None

    @staticmethod
    def _judge_class(hello: Hello, connection_class: ConnectionClass) -> Refusal | None:
        if hello.connection_class is not connection_class:
            return Refusal(REFUSED_CLASS, f"answered with {hello.connection_class.value}")
        return None

    def _judge_inbound(self, record: _Record, hello: Hello) -> Refusal | None:
        connection = record.connection
        peer_id = connection.peer_id
        stranger = self._judge_identity(connection)
        if stranger is not None:
            return stranger
        banned_s = self._offenders.banned_for_s(peer_id, self.clock.monotonic_s())
        if banned_s > 0:
            return Refusal(REFUSED_BANNED, f"for {banned_s:.0f} s")
        if not self._listener.has_room(peer_id):
            return Refusal(REFUSED_FULL, "no room for another peer")
        connection.connection_class = hello.connection_class
        key = (peer_id, hello.connection_class)
        return self.settlement.judge(key, connection, hello.instance)

    def _accept(self, record: _Record, exchange: StatusExchange) -> None:
        connection = record.connection
        connection_class = connection.connection_class
        assert connection_class is not None
        assert exchange.peer is not None
        record.state = LinkState.ACCEPTED
        record.status_deadline_s = None
        if connection_class is ConnectionClass.URGENT:
            connection.limit_unsent(self.limits.urgent_unsent_bytes)
        key = (connection.peer_id, connection_class)
        replaced = self.settlement.accept(key, connection, exchange.peer.instance)
        self._trace(
            StatusAccepted(
                connection.peer_id,
                connection_class.value,
                exchange.peer_height,
                connection.dialed,
            )
        )
        self._listener.link_accepted(connection)
        if replaced is not None:
            replaced.close(LinkLost("replaced by a newer link"))
        self._settle(record)

    def _refuse(self, connection: Connection, refusal: Refusal, *, by_peer: bool = False) -> None:
        self._trace(StatusRefused(connection.peer_id, refusal.code, refusal.detail, by_peer))
        connection.close(NetworkRefused(f"{refusal.code}: {refusal.detail}", by_peer=by_peer))

    def _become_foreign(self, record: _Record) -> None:
        connection = record.connection
        record.status_deadline_s = None
        if self._offenders.banned_for_s(connection.peer_id, self.clock.monotonic_s()) > 0:
            connection.close(NetworkRefused(REFUSED_BANNED, by_peer=False))
            return
        if record.wanted_class is not None:
            connection.close(NetworkRefused("foreign: not a Tallystick node", by_peer=False))
            return
        if len(self.foreign()) >= self.limits.foreign_max_count:
            connection.close(LinkLost("too many foreign links"))
            return
        record.state = LinkState.FOREIGN
        self._trace(ForeignPeer(connection.peer_id))
        self._settle(record)

    @staticmethod
    def _settle(record: _Record) -> None:
        if record.settled is not None and not record.settled.done():
            record.settled.set_result(None)


def _kind(error: P2PError) -> str:
    return "timeout" if isinstance(error, HandshakeTimeout) else "lost"


def _host_of(address: str) -> str:
    """The IP address in `address:port`."""
    return address.rpartition(":")[0]
