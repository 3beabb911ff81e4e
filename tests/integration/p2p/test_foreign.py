"""A libp2p program that is not Tallystick: identify and ping, and nothing else."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from ledger.codec import encode
from p2p.certificates import EXTENSION_OID, SIGNATURE_PREFIX
from p2p.identify import IDENTIFY_PROTOCOL, PING_PROTOCOL, decode_identification
from p2p.keys import KeyType, PublicKey, decode_public_key
from p2p.multistream import encode_line
from p2p.status import (
    PROTOCOL_VERSION,
    STATUS_PROTOCOL,
    ConnectionClass,
    Hello,
    StatusExchange,
)
from p2p.tls import make_context
from p2p.trace import ForeignPeer, LinkClosed, PeerCharged, StatusRefused
from p2p.wire import FrameReader, frame
from p2p.yamux import StreamEnded, StreamReset
from tests.integration.p2p.harness import GENESIS, Node, quick, until
from tests.integration.p2p.raw_peer import GREETING, RawPeer


@pytest.mark.parametrize("direct", [True, False])
async def test_identify_and_ping(direct: bool) -> None:
    async with Node(1, limits=quick(status_s=0.1)) as a:
        raw = RawPeer()
        await raw.dial(a.host.listen_port, direct=direct)
        stream = raw.open(IDENTIFY_PROTOCOL)
        agreed = GREETING + encode_line(IDENTIFY_PROTOCOL)
        await raw.read_until(lambda: StreamEnded(stream) in raw.events)
        answer = raw.data[stream]
        assert answer.startswith(agreed)
        message = FrameReader("identify", 8192).feed(answer[len(agreed) :])[0]
        found = decode_identification(message)
        assert decode_public_key(found.public_key).peer_id == a.peer_id
        assert found.agent == "node 1"
        assert {IDENTIFY_PROTOCOL, PING_PROTOCOL, STATUS_PROTOCOL} <= set(found.protocols)
        assert Node.MESSAGE in found.protocols

        payload = bytes(range(64))
        stream = raw.open(PING_PROTOCOL, payload[:40])
        agreed = GREETING + encode_line(PING_PROTOCOL)
        assert await raw.answer_to(stream, len(agreed) + 32) == agreed + payload[:32]
        raw.flush(raw.yamux.data_header(stream, 24) + payload[40:])
        assert await raw.answer_to(stream, len(agreed) + 64) == agreed + payload

        await until(lambda: a.seen(ForeignPeer), "it counts as foreign")
        assert [peer[0] for peer in a.host.foreign_peers()] == [a.seen(ForeignPeer)[0].peer_id]
        assert a.ups == []
        assert a.host.peers() == []
        await raw.close()
        await until(lambda: a.host.foreign_peers() == [], "it is gone")


@pytest.mark.parametrize("protocol", [Node.MESSAGE, Node.REQUEST, "/meshsub/1.2.0", "ls"])
async def test_other_protocols_are_not_available(protocol: str) -> None:
    async with Node(1) as a:
        raw = RawPeer()
        await raw.dial(a.host.listen_port)
        stream = raw.open(protocol)
        answer = await raw.answer_to(stream, len(GREETING) + 4)
        assert answer == GREETING + encode_line("na")
        assert a.received == []
        await raw.close()


async def test_foreign_links_are_bounded() -> None:
    async with Node(1, limits=quick(status_s=0.05, foreign_max_count=2)) as a:
        raws = [RawPeer(90 + n) for n in range(3)]
        for raw in raws:
            await raw.dial(a.host.listen_port)
        await until(lambda: a.seen(LinkClosed), "one too many is closed")
        assert a.seen(LinkClosed)[0].reason == "too many foreign links"
        assert len(a.host.foreign_peers()) == 2
        for raw in raws:
            await raw.close()


async def test_our_host_can_dial_a_foreign_one() -> None:
    """A host without the status protocol, played by one of ours dialled without a class."""
    async with Node(1) as a, Node(2, limits=quick(status_s=0.1)) as b:
        await a.host.connect(b.peer_id, "127.0.0.1", b.host.listen_port, None, direct_tls=False)
        assert await a.host.ping(b.peer_id, 5.0) > 0
        await until(lambda: b.seen(ForeignPeer), "the listener sees a foreign program")
        await until(lambda: a.host.foreign_peers()[0][2] == "node 2", "identify has run")
        assert a.ups == b.ups == []
        assert not a.host.send(b.peer_id, Node.MESSAGE, b"x")


async def test_garbage_on_a_secured_link_is_charged_to_the_identity() -> None:
    async with Node(1) as a:
        raw = RawPeer()
        await raw.dial(a.host.listen_port)
        raw.flush(b"\x01" * 12)
        await raw.read_until(lambda: False)
        assert [event.kind for event in a.seen(PeerCharged)] == ["yamux"]
        await raw.close()


async def test_payload_behind_an_unknown_protocol_costs_only_the_stream() -> None:
    async with Node(1) as a:
        raw = RawPeer()
        await raw.dial(a.host.listen_port)
        stream = raw.open("/unknown/1", b"\x05hello" * 1000)
        answer = await raw.answer_to(stream, len(GREETING) + 4)
        assert answer == GREETING + encode_line("na")
        ping = raw.open(PING_PROTOCOL, bytes(32))
        assert (await raw.answer_to(ping, 32)).startswith(GREETING)
        assert a.seen(PeerCharged) == []
        await raw.close()


async def test_a_stream_that_names_no_protocol_is_reset() -> None:
    async with Node(1, limits=quick(stream_opening_s=0.1)) as a:
        raw = RawPeer()
        await raw.dial(a.host.listen_port)
        stream = raw.yamux.open_stream()
        raw.flush()
        await raw.read_until(lambda: StreamReset(stream) in raw.events)
        assert StreamReset(stream) in raw.events
        await raw.close()


async def test_a_request_that_never_ends_is_reset() -> None:
    async with Node(1, limits=quick(request_s=0.1)) as a:
        raw = RawPeer()
        await raw.dial(a.host.listen_port)
        hello = Hello(1, "testnet", GENESIS, 1, ConnectionClass.BULK, b"instance")
        exchange = StatusExchange(hello, dialer=True, judge=lambda _hello: None)
        status = raw.open(STATUS_PROTOCOL, exchange.start())
        agreed = GREETING + encode_line(STATUS_PROTOCOL)
        answer = await raw.answer_to(status, len(agreed) + 60)
        verdict = exchange.receive(answer[len(agreed) :])
        raw.flush(raw.yamux.data_header(status, len(verdict)) + verdict)
        await until(lambda: a.ups, "the raw peer is up")
        stream = raw.open(Node.REQUEST, b"\x10half")
        await raw.read_until(lambda: StreamReset(stream) in raw.events)
        assert StreamReset(stream) in raw.events
        await raw.close()


async def test_a_foreign_identity_that_knows_our_status_is_no_peer() -> None:
    """Everything behind the status exchange takes a peer's name for a secp256k1 key."""
    async with Node(1) as a:
        raw = RawPeer(context=ed25519_context())
        await raw.dial(a.host.listen_port)
        hello = Hello(PROTOCOL_VERSION, "testnet", GENESIS, 7, ConnectionClass.BULK, b"instance")
        raw.open(STATUS_PROTOCOL, frame(encode(hello)))
        await until(lambda: a.seen(StatusRefused), "the status is refused")
        assert a.seen(StatusRefused)[0].code == "identity"
        assert (a.ups, a.host.peers()) == ([], [])
        await raw.close()


def ed25519_context() -> SSL.Context:
    """As p2p.certificates makes it, with an identity of another kind."""
    identity = ed25519.Ed25519PrivateKey.generate()
    raw_key = identity.public_key().public_bytes_raw()
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    parts = (
        PublicKey(KeyType.ED25519, raw_key).encode(),
        identity.sign(SIGNATURE_PREFIX + spki),
    )
    inner = b"".join(bytes([4, len(part)]) + part for part in parts)
    extension = x509.UnrecognizedExtension(EXTENSION_OID, bytes([0x30, len(inner)]) + inner)
    name = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, "1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(extension, critical=False)
        .sign(key, hashes.SHA256())
    )
    return make_context([certificate], key)
