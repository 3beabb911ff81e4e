"""Bending answers of a node, and the light client that must notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger.identity import peer_id
from rpc.light import LightVerifier, TrustRoot
from tests.kit.chain import CHAIN, address_of
from tests.kit.rpc_node import RpcNode

NAMES = ("alice", "bob", "carol", "nobody")
ADDRESS = {name: address_of(name) for name in NAMES}
PEER = {name: peer_id(address) for name, address in ADDRESS.items()}

Bend = Callable[[dict[str, Any]], None]


def trusting(node: RpcNode) -> LightVerifier:
    return LightVerifier(TrustRoot(CHAIN, node.validators))


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def flipped(text: str, byte: int = -1) -> str:
    """The hexadecimal text with one bit of one byte changed."""
    data = bytearray.fromhex(text[2:])
    data[byte] ^= 1
    return hexed(bytes(data))


def set_at(path: str, value: object) -> Bend:
    def bend(answer: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            answer = answer[name]
        answer[last] = value(answer[last]) if callable(value) else value

    return bend


def drop(path: str) -> Bend:
    def bend(answer: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            answer = answer[name]
        del answer[last]

    return bend
