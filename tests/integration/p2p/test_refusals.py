"""Who does not get in, and that both sides learn why."""

from __future__ import annotations

import asyncio
import time

import pytest

from ledger.crypto import PrivateKey
from ledger.identity import peer_id
from p2p.errors import CertificateRefused, HandshakeTimeout, LinkLost, NetworkRefused, WrongPeer
from p2p.tls import make_context
from p2p.trace import DialFailed, LinkRefused, PeerBanned, StatusRefused
from tests.integration.p2p.harness import Node, quick, until
from tests.integration.p2p.raw_peer import RawPeer
from tests.unit.p2p.certs import DAY_S, certificate, new_key

STRANGER = PrivateKey((99).to_bytes(32, "big"))


async def test_a_wrong_peer_id_is_refused() -> None:
    async with Node(1) as a, Node(2) as b:
        wrong = peer_id(STRANGER.public_key)
        with pytest.raises(WrongPeer) as refused:
            await a.host.connect(wrong, "127.0.0.1", b.host.listen_port)
        assert refused.value.found_peer_id == b.peer_id
        assert a.host.peers() == []
        assert [event.kind for event in a.seen(LinkRefused)] == ["certificate"]
        await until(lambda: b.host.link_count == 0, "the listener is rid of the link")
        assert b.ups == []


@pytest.mark.parametrize("fault", ["none", "expired", "two"])
async def test_a_client_with_a_bad_certificate_is_refused(fault: str) -> None:
    key = new_key()
    now_s = time.time()
    good = certificate(STRANGER, key, now_s=now_s)
    old = certificate(STRANGER, key, now_s=now_s, age_s=2 * DAY_S)
    chain = {"none": [], "expired": [old], "two": [good, good]}[fault]
    async with Node(1) as a:
        raw = RawPeer(context=make_context(chain, key))
        await raw.dial(a.host.listen_port)
        await raw.read_until(lambda: False)
        refused = a.seen(LinkRefused)
        assert [event.kind for event in refused] == ["tls" if fault == "none" else "certificate"]
        expected = {"none": "did not return a certificate", "expired": "dates", "two": "count"}
        assert expected[fault] in refused[0].detail
        await raw.close()
        assert a.host.foreign_peers() == []


@pytest.mark.parametrize("fault", ["expired", "two"])
async def test_a_server_with_a_bad_certificate_is_refused(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Node(1) as a, Node(2) as b:
        key = new_key()
        now_s = time.time()
        good = certificate(b.key, key, now_s=now_s)
        old = certificate(b.key, key, now_s=now_s, age_s=2 * DAY_S)
        chain = {"expired": [old], "two": [good, good]}[fault]
        context = make_context(chain, key)
        monkeypatch.setattr(b.host._links._tls, "context", lambda _now_s: context)
        with pytest.raises(CertificateRefused) as refused:
            await a.connect(b)
        assert refused.value.rule == {"expired": "dates", "two": "count"}[fault]


@pytest.mark.parametrize("opening", [b"", b"\x16\x03\x01", b"\x13/multistream/1.0.0\n"])
async def test_a_slow_handshake_is_cut_off(opening: bytes) -> None:
    limits = quick(handshake_s=0.2)
    async with Node(1, limits=limits) as a:
        reader, writer = await asyncio.open_connection("127.0.0.1", a.host.listen_port)
        writer.write(opening)
        async with asyncio.timeout(5):
            while await read_some(reader):
                pass
        assert [event.kind for event in a.seen(LinkRefused)] == ["timeout"]
        writer.close()


async def test_a_server_that_never_answers_is_given_up() -> None:
    limits = quick(handshake_s=0.2)
    accepted = []
    server = await asyncio.start_server(
        lambda _reader, writer: accepted.append(writer), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    async with Node(1, limits=limits) as a:
        with pytest.raises(HandshakeTimeout):
            await a.host.connect(peer_id(STRANGER.public_key), "127.0.0.1", port)
    for writer in accepted:
        writer.close()
    server.close()


async def test_a_refused_connection_is_an_os_error() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with Node(1) as a:
        with pytest.raises(ConnectionRefusedError):
            await a.host.connect(peer_id(STRANGER.public_key), "127.0.0.1", port)


@pytest.mark.parametrize("what", ["network", "genesis"])
async def test_a_foreign_ledger_is_refused_and_both_sides_know_why(what: str) -> None:
    foreign = Node(2, network="another") if what == "network" else Node(2, genesis=b"\xaa" * 32)
    async with Node(1) as a, foreign as b:
        with pytest.raises(NetworkRefused) as refused:
            await a.connect(b)
        assert refused.value.by_peer
        assert refused.value.reason.startswith(f"{what}: ")
        await until(lambda: b.seen(StatusRefused), "the listener reports the refusal")
        mine, theirs = a.seen(StatusRefused)[0], b.seen(StatusRefused)[0]
        assert (mine.peer_id, mine.code, mine.by_peer) == (b.peer_id, what, True)
        assert (theirs.peer_id, theirs.code, theirs.by_peer) == (a.peer_id, what, False)
        assert mine.detail == theirs.detail
        assert a.ups == b.ups == []
        await until(lambda: a.host.link_count == b.host.link_count == 0, "the link is gone")


async def test_a_node_does_not_dial_itself() -> None:
    async with Node(1) as a:
        a.host.add_persistent_peer(a.address())
        assert a.host.dial_states() == []
        with pytest.raises(NetworkRefused, match="self"):
            await a.host.connect(a.peer_id, "127.0.0.1", a.host.listen_port)
        assert a.ups == []


async def test_an_offender_is_banned_and_told_so() -> None:
    async with Node(1) as a, Node(2) as b:
        await a.connect(b)
        b.host.charge(a.peer_id, "test", 60)
        assert b.host.peers() != []
        b.host.charge(a.peer_id, "test", 60)
        assert [event.kind for event in b.seen(PeerBanned)] == ["test"]
        await until(lambda: a.downs and b.downs, "both see the link go")
        with pytest.raises(NetworkRefused, match="banned") as refused:
            await a.connect(b)
        assert refused.value.by_peer
        # The ban holds the other way too: a persistent dial waits.
        b.host.add_persistent_peer(a.address())
        b.events.clear()
        await asyncio.sleep(0.1)
        assert b.seen(DialFailed) == []
        assert b.host.peers() == []


async def test_invalid_messages_are_charged() -> None:
    async with Node(1) as a, Node(2) as b:
        await a.connect(b)
        b.reject = True
        a.host.send(b.peer_id, Node.MESSAGE, b"one")
        a.host.send(b.peer_id, Node.MESSAGE, b"two")
        a.host.send(b.peer_id, Node.MESSAGE, b"three")
        await until(lambda: b.downs, "the offender is gone")
        assert b.downs[0][0] == a.peer_id
        assert "MalformedData" in b.downs[0][1]
        assert len(b.received) == 2


async def test_a_full_house_refuses_new_peers_but_not_persistent_ones() -> None:
    async with Node(1, limits=quick(peers_max_count=1)) as a, Node(2) as b, Node(3) as c:
        await b.connect(a)
        with pytest.raises(NetworkRefused, match="full"):
            await c.connect(a)
        a.host.add_persistent_peer(c.address())
        await until(lambda: set(a.ups) == {b.peer_id, c.peer_id}, "the persistent peer is up")


async def test_strangers_who_fill_the_house_keep_no_validator_out() -> None:
    async with Node(2) as stranger, Node(3) as validator:
        reserved = frozenset({validator.peer_id})
        async with Node(1, limits=quick(peers_max_count=1), reserved=reserved) as a:
            await stranger.connect(a)
            await validator.connect(a)
            assert {each.peer_id for each in a.host.peers()} == {
                stranger.peer_id,
                validator.peer_id,
            }


@pytest.mark.parametrize("limit", ["pending_max_count", "pending_per_host_max_count"])
async def test_pending_links_are_bounded(limit: str) -> None:
    async with Node(1, limits=quick(**{limit: 3})) as a:
        held = [await asyncio.open_connection("127.0.0.1", a.host.listen_port) for _ in range(3)]
        await until(lambda: a.host.link_count == 3, "three are pending")
        reader, writer = await asyncio.open_connection("127.0.0.1", a.host.listen_port)
        assert await read_some(reader) == b""
        for _, each in [*held, (reader, writer)]:
            each.close()


async def test_a_listener_that_dies_while_dialled_is_link_lost() -> None:
    async def slam(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(slam, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Node(1) as a:
        with pytest.raises(LinkLost):
            await a.host.connect(peer_id(STRANGER.public_key), "127.0.0.1", port)
    server.close()


async def read_some(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionError:
        return b""
