"""identify, `/ipfs/id/1.0.0`: what program is this and which protocols does it speak?

The side that opens the stream listens; the other sends one length-prefixed protobuf message
    publicKey = 1, listenAddrs = 2*, protocols = 3*, observedAddr = 4,
    protocolVersion = 5, agentVersion = 6
and closes. Nothing in it is trusted: the TLS handshake has already proved the key.
Source: libp2p/specs identify/README.md; multiformats/multiaddr for addresses.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from p2p.errors import MalformedFrame
from p2p.wire import encode_uvarint, proto_bytes, proto_fields

IDENTIFY_PROTOCOL = "/ipfs/id/1.0.0"
PING_PROTOCOL = "/ipfs/ping/1.0.0"
PING_BYTES = 32

PROTOCOL_VERSION = "tally/1.0.0"

# go-libp2p's limit for a message with a signed record.
IDENTIFY_MAX_BYTES = 8 * 1024
# Texts go to logs and pages.
TEXT_MAX_CHARACTERS = 128
LIST_MAX_COUNT = 256

_MULTIADDR_IP4, _MULTIADDR_IP6, _MULTIADDR_TCP = 4, 41, 6


@dataclass(frozen=True, slots=True)
class Identification:
    """The fields we use. Addresses are binary multiaddrs."""

    public_key: bytes
    agent: str
    protocol_version: str
    protocols: tuple[str, ...] = ()
    listen_addresses: tuple[bytes, ...] = ()
    observed_address: bytes = b""


def encode_identification(facts: Identification) -> bytes:
    """The protobuf message."""
    parts = [proto_bytes(1, facts.public_key)]
    parts += [proto_bytes(2, address) for address in facts.listen_addresses]
    parts += [proto_bytes(3, protocol.encode()) for protocol in facts.protocols]
    if facts.observed_address:
        parts.append(proto_bytes(4, facts.observed_address))
    parts.append(proto_bytes(5, facts.protocol_version.encode()))
    parts.append(proto_bytes(6, facts.agent.encode()))
    return b"".join(parts)


def decode_identification(message: bytes) -> Identification:
    """The fields of a message; unknown ones are skipped. Raises MalformedFrame."""
    found: dict[int, list[bytes]] = {number: [] for number in range(1, 7)}
    for number, value in proto_fields("identify", message):
        if number in found:
            if isinstance(value, int):
                raise MalformedFrame("identify", f"field {number} is no bytes")
            found[number].append(value)
            if len(found[number]) > LIST_MAX_COUNT:
                raise MalformedFrame("identify", f"too many of field {number}")
    return Identification(
        public_key=_last(found[1]),
        listen_addresses=tuple(found[2]),
        protocols=tuple(_text(value) for value in found[3]),
        observed_address=_last(found[4]),
        protocol_version=_text(_last(found[5])),
        agent=_text(_last(found[6])),
    )


def tcp_multiaddr(host: str, port: int) -> bytes:
    """The binary multiaddr of an IP address and TCP port; empty where `host` is a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return b""
    code = _MULTIADDR_IP4 if address.version == 4 else _MULTIADDR_IP6
    return (
        encode_uvarint(code)
        + address.packed
        + encode_uvarint(_MULTIADDR_TCP)
        + port.to_bytes(2, "big")
    )


def _last(values: list[bytes]) -> bytes:
    return values[-1] if values else b""


def _text(value: bytes) -> str:
    text = value[: 4 * TEXT_MAX_CHARACTERS].decode(errors="replace")[:TEXT_MAX_CHARACTERS]
    return "".join(character if character.isprintable() else "�" for character in text)
