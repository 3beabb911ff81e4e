"""The protocols that a host speaks, and the handler that each puts on an inbound stream."""

from __future__ import annotations

from typing import Protocol

from p2p.identify import IDENTIFY_PROTOCOL, PING_PROTOCOL
from p2p.messages import STREAMS_MAX_COUNT, IncomingMessages, MessageOwner, MessageProtocol
from p2p.peers import Peer
from p2p.requests import RequestProtocol, RequestServer, Serving, ServingOwner
from p2p.services import IdentifyServer, PingServer
from p2p.status import STATUS_PROTOCOL
from p2p.stream import Stream


class ProtocolOwner(MessageOwner, ServingOwner, Protocol):
    """What the protocols' handlers need of the host."""


class ProtocolTable:
    """Registered protocols by id. Foreign programs get identify and ping, accepted peers all."""

    def __init__(self) -> None:
        self.messages: dict[str, MessageProtocol] = {}
        self.requests: dict[str, RequestProtocol] = {}
        self._serving: dict[str, Serving] = {}

    @property
    def ids(self) -> tuple[str, ...]:
        """Every protocol id, the services of every link first."""
        services = (IDENTIFY_PROTOCOL, PING_PROTOCOL, STATUS_PROTOCOL)
        return (*services, *self.messages, *self.requests)

    def add_messages(self, protocol: MessageProtocol) -> None:
        """Registers a one-way protocol. Raises ValueError for an id that is taken."""
        self._check_free(protocol.protocol_id)
        self.messages[protocol.protocol_id] = protocol

    def add_requests(self, protocol: RequestProtocol) -> None:
        """Registers a request protocol. Raises ValueError for an id that is taken."""
        self._check_free(protocol.protocol_id)
        self.requests[protocol.protocol_id] = protocol
        self._serving[protocol.protocol_id] = Serving(protocol)

    def supports(self, protocol_id: str, *, accepted: bool) -> bool:
        """Whether a peer, accepted as one of ours or not, may open streams of the protocol."""
        if protocol_id in (IDENTIFY_PROTOCOL, PING_PROTOCOL):
            return True
        return accepted and (protocol_id in self.messages or protocol_id in self.requests)

    @staticmethod
    def serve_everybody(stream: Stream, identification: bytes) -> None:
        """Puts identify or ping on a stream."""
        if stream.protocol_id == IDENTIFY_PROTOCOL:
            stream.handler = IdentifyServer(stream, identification)
        else:
            stream.handler = PingServer()

    def serve_peer(
        self, stream: Stream, peer: Peer, owner: ProtocolOwner, request_deadline_s: float
    ) -> None:
        """Puts the handler of a registered protocol on a stream of an accepted peer."""
        messages = self.messages.get(stream.protocol_id)
        if messages is not None:
            stream.lane = messages.lane
            stream.handler = IncomingMessages(owner, peer.peer_id, messages)
            known = peer.incoming.get(messages.protocol_id, [])
            open_ = [each for each in known if each.open]
            if len(open_) >= STREAMS_MAX_COUNT:
                # The oldest is the least likely to be the one in use.
                open_.pop(0).reset()
            peer.incoming[messages.protocol_id] = [*open_, stream]
            return
        requests = self.requests[stream.protocol_id]
        stream.lane = requests.lane
        stream.deadline_s = request_deadline_s
        serving = self._serving[requests.protocol_id]
        stream.handler = RequestServer(owner, peer.peer_id, requests, serving)

    def _check_free(self, protocol_id: str) -> None:
        if protocol_id in self.ids:
            raise ValueError(f"{protocol_id} is registered already")
