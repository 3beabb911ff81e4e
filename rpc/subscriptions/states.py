"""The states: what each topic's present looks like. The hub makes each once per change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import orjson

from ledger.identity import peer_id
from ledger.state import account_key, decode_account
from rpc.forms import account_form, peer_form, round_form
from rpc.ports import NodeApi


class State(Protocol):
    """One topic with its filter; equal ones share their encoding."""

    topic: ClassVar[str]

    def event(self, node: NodeApi) -> bytes:
        """The present, as JSON."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """One account at the tip."""

    topic: ClassVar[str] = "account"
    address: bytes

    def event(self, node: NodeApi) -> bytes:
        """{height, address, exists, balance, nonce, …}."""
        raw = node.state().get(account_key(self.address))
        account = None if raw is None else decode_account(raw)
        form = {"height": node.tip().height, **account_form(self.address, account)}
        return orjson.dumps(form)


@dataclass(frozen=True, slots=True)
class RoundState:
    """The round in progress."""

    topic: ClassVar[str] = "consensus"

    def event(self, node: NodeApi) -> bytes:
        """As consensus_status."""
        return orjson.dumps(round_form(node.consensus()))


@dataclass(frozen=True, slots=True)
class PeersState:
    """All connected peers; the node bounds their number."""

    topic: ClassVar[str] = "peers"

    def event(self, node: NodeApi) -> bytes:
        """{items}, by PeerID."""
        peers = sorted(node.peers(), key=lambda peer: peer_id(peer.node_key))
        return orjson.dumps({"items": [peer_form(peer) for peer in peers]})
