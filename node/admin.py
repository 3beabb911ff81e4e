"""The operator's commands on a running node (rpc.ports.AdminApi)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from node.config import parse_peer_address
from node.telemetry import Telemetry
from p2p.dialing import PersistentPeer
from p2p.host import Host
from rpc.ports import LogLevel

# Peers dialled for ever, from the settings and by command: two tasks and a timer each.
PERSISTENT_PEERS_COUNT = 256

# From the answer to admin_stop to the stop, so that the answer leaves first.
STOP_DELAY_S = 0.1


class NodeAdmin:
    """See the module. `stop` begins the orderly stop of the process."""

    def __init__(self, host: Host, telemetry: Telemetry, stop: Callable[[], None]) -> None:
        self._host = host
        self._telemetry = telemetry
        self._stop = stop

    def add_peer(self, address: str) -> str:
        """Keep links to "PeerID@host:port"; the PeerID. Raises ValueError."""
        parsed = parse_peer_address(address)
        if parsed.peer_id == self._host.peer_id:
            raise ValueError("that is this node itself")
        dialed = {state.peer.peer_id for state in self._host.dial_states()}
        if parsed.peer_id not in dialed and len(dialed) >= PERSISTENT_PEERS_COUNT:
            raise ValueError(f"{PERSISTENT_PEERS_COUNT} peers are dialled already")
        # A second address replaces the first.
        self._host.remove_persistent_peer(parsed.peer_id)
        self._host.add_persistent_peer(PersistentPeer(parsed.peer_id, parsed.host, parsed.port))
        self._telemetry.log.info("peer added by the operator", peer=parsed.peer_id)
        return parsed.peer_id

    def remove_peer(self, peer_id: str) -> bool:
        """Stop dialling a peer and close its links; whether there was anything to stop or close."""
        is_dialed = any(state.peer.peer_id == peer_id for state in self._host.dial_states())
        is_connected = any(peer.peer_id == peer_id for peer in self._host.peers())
        self._host.remove_persistent_peer(peer_id)
        self._host.disconnect(peer_id, "removed by the operator")
        if is_dialed or is_connected:
            self._telemetry.log.info("peer removed by the operator", peer=peer_id)
        return is_dialed or is_connected

    def set_log_level(self, level: LogLevel) -> None:
        """Log from this level on."""
        self._telemetry.set_level(level)

    def stop(self) -> None:
        """Stop in order, after the answer."""
        self._telemetry.log.info("stopping at the operator's command")
        asyncio.get_running_loop().call_later(STOP_DELAY_S, self._stop)
