"""Rare turns of the status exchange, of requests, and of links that only one side has lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from ledger.crypto import PrivateKey
from ledger.errors import MalformedData
from ledger.identity import peer_id
from p2p.errors import (
    HandshakeTimeout,
    LinkLost,
    NetworkRefused,
    PeerUnavailable,
    RequestRefused,
    StatusViolation,
)
from p2p.lanes import Lane
from p2p.multistream import encode_line
from p2p.status import (
    STATUS_PROTOCOL,
    ConnectionClass,
    Hello,
    StatusExchange,
)
from p2p.trace import LinkClosed, PeerCharged
from p2p.wire import frame
from p2p.yamux import StreamReset
from tests.integration.p2p.harness import GENESIS, Node, quick, until
from tests.integration.p2p.raw_peer import GREETING, RawPeer

RAW_ID = peer_id(PrivateKey((99).to_bytes(32, "big")).public_key)
HELLO = Hello(1, "testnet", GENESIS, 1, ConnectionClass.BULK, b"instance")
AGREED = GREETING + encode_line(STATUS_PROTOCOL)


@contextlib.asynccontextmanager
async def raw_server(reply: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    raw = RawPeer()
    raw.reply = reply
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def raw_peer_up(node: Node) -> RawPeer:
    """A raw peer that went through the status exchange."""
    raw = RawPeer()
    await raw.dial(node.host.listen_port)
    exchange = StatusExchange(HELLO, dialer=True, judge=lambda _hello: None)
    status = raw.open(STATUS_PROTOCOL, exchange.start())
    answer = await raw.answer_to(status, len(AGREED) + 60)
    verdict = exchange.receive(answer[len(AGREED) :])
    raw.flush(raw.yamux.data_header(status, len(verdict)) + verdict)
    await until(lambda: RAW_ID in node.ups, "the raw peer is up")
    return raw


def decline(_first: bytes) -> bytes:
    return GREETING + encode_line("na")


def bulk_when_asked_for_urgent(first: bytes) -> bytes:
    if STATUS_PROTOCOL.encode() not in first:
        return decline(first)
    listener = StatusExchange(HELLO, dialer=False, judge=lambda _hello: None)
    # Answers a Hello of its own choice instead of the dialer's class.
    exchange = StatusExchange(HELLO, dialer=True, judge=lambda _hello: None)
    return AGREED + listener.receive(exchange.start())


def nonsense(first: bytes) -> bytes:
    return AGREED + frame(b"\xc1") if STATUS_PROTOCOL.encode() in first else decline(first)


def silence(first: bytes) -> bytes:
    return b"" if STATUS_PROTOCOL.encode() in first else decline(first)


@pytest.mark.parametrize(
    ("reply", "error", "match"),
    [
        (decline, NetworkRefused, "not a Tallystick node"),
        (bulk_when_asked_for_urgent, NetworkRefused, "class: answered with bulk"),
        (nonsense, StatusViolation, "MessagePack"),
        (silence, HandshakeTimeout, "status exchange"),
    ],
)
async def test_listeners_that_answer_the_status_wrongly(
    reply: Callable[[bytes], bytes], error: type[Exception], match: str
) -> None:
    async with Node(1, limits=quick(status_s=0.2)) as a, raw_server(reply) as port:
        with pytest.raises(error, match=match):
            await a.host.connect(RAW_ID, "127.0.0.1", port, ConnectionClass.URGENT)
        assert a.ups == []


async def test_a_dialer_that_never_says_its_verdict_is_dropped() -> None:
    async with Node(1, limits=quick(status_s=0.2)) as a:
        raw = RawPeer()
        await raw.dial(a.host.listen_port)
        exchange = StatusExchange(HELLO, dialer=True, judge=lambda _hello: None)
        raw.open(STATUS_PROTOCOL, exchange.start())
        await raw.read_until(lambda: False)
        assert a.seen(LinkClosed)[0].reason == "no status exchange within 0.2 s"
        assert a.ups == []
        await raw.close()


async def test_a_banned_identity_does_not_come_back_as_a_foreign_program() -> None:
    async with Node(1, limits=quick(status_s=0.1)) as a:
        a.host.charge(RAW_ID, "test", 1000)
        raw = RawPeer()
        await raw.dial(a.host.listen_port)
        await raw.read_until(lambda: False)
        assert "banned" in a.seen(LinkClosed)[0].reason
        assert a.host.foreign_peers() == []
        await raw.close()


async def test_a_link_that_the_peer_has_lost_is_asked_and_dropped() -> None:
    """The lower node dialled; its peer lost that link unseen, and dials again."""
    a, b = sorted((Node(1), Node(2)), key=lambda node: node.peer_id)
    async with a, b:
        await a.connect(b)
        lost = next(iter(b.host._peers[a.peer_id].connections.values()))
        lost._end(LinkLost("forgotten by the test"))
        b.host.add_persistent_peer(a.address())
        await until(
            lambda: any(e.reason == "silent when asked" for e in a.seen(LinkClosed)),
            "the lower node drops the dead link",
        )
        closed = next(e for e in a.seen(LinkClosed) if e.reason == "silent when asked")
        assert closed.dialed
        await until(lambda: a.classes(b) == b.classes(a) == ("urgent", "bulk"), "a new one stands")


async def test_a_link_that_lives_survives_the_question() -> None:
    async with Node(1, limits=quick(suspicion_s=0.1)) as a, Node(2) as b:
        await a.connect(b)
        link = next(iter(a.host._peers[b.peer_id].connections.values()))
        link.suspect()
        assert link._suspected is not None
        await until(lambda: link._suspected is None, "the answer came")
        assert a.host.peers()


async def test_votes_move_to_the_urgent_link_when_it_comes() -> None:
    async with Node(1) as a, Node(2) as b:
        await a.connect(b)
        for n in range(200):
            a.host.send(b.peer_id, Node.VOTE, b"%d" % n)
            if n == 100:
                await until(lambda: b.votes, "votes flow on the bulk link")
                await a.host.connect(
                    b.peer_id, "127.0.0.1", b.host.listen_port, ConnectionClass.URGENT
                )
        await until(lambda: len(b.votes) == 200, "every vote arrives")
        peer = a.host._peers[b.peer_id]
        assert peer.queues[Node.VOTE]._connection is peer.connections[ConnectionClass.URGENT]


async def test_a_queue_that_loses_its_stream_goes_on_with_a_new_one() -> None:
    async with Node(1) as a, Node(2) as b:
        await a.connect(b)
        a.host.send(b.peer_id, Node.MESSAGE, b"one")
        await until(lambda: b.received, "the first is there")
        link = next(iter(b.host._peers[a.peer_id].connections.values()))
        for stream in list(link._streams.values()):
            if stream.protocol_id == Node.MESSAGE:
                stream.reset()
        queue = a.host._peers[b.peer_id].queues[Node.MESSAGE]
        await until(lambda: queue._stream is None, "the sender sees the reset")
        a.host.send(b.peer_id, Node.MESSAGE, b"two")
        await until(lambda: len(b.received) == 2, "the second is there")


async def test_waiting_requests_are_bounded() -> None:
    async with Node(1) as a, Node(2) as b:
        await a.connect(b)
        gate = asyncio.Event()

        async def waiting(payload: bytes) -> bytes:
            await gate.wait()
            return payload

        b.answer = waiting
        calls = [
            asyncio.create_task(a.host.request(b.peer_id, Node.REQUEST, b"", 10.0))
            for _ in range(16 + 256 + 5)
        ]
        await until(lambda: sum(call.done() for call in calls) == 5, "five are turned away")
        gate.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        refused = [r for r in results if isinstance(r, PeerUnavailable)]
        assert len(refused) == 5
        assert results.count(b"") == 16 + 256
        assert {error.detail for error in refused} == {"too many requests wait"}


async def test_a_greedy_peer_is_told_that_we_are_busy() -> None:
    async with Node(1) as a:
        gate = asyncio.Event()

        async def waiting(payload: bytes) -> bytes:
            await gate.wait()
            return payload

        a.answer = waiting
        raw = await raw_peer_up(a)
        agreed = GREETING + encode_line(Node.REQUEST)
        streams = [raw.open(Node.REQUEST, frame(b"abc")) for _ in range(17)]
        assert await raw.answer_to(streams[-1], len(agreed) + 6) == agreed + frame(b"\x01busy")
        gate.set()
        for stream in streams[:-1]:
            assert await raw.answer_to(stream, len(agreed) + 5) == agreed + frame(b"\0abc")
        await raw.close()


@pytest.mark.parametrize(
    ("protocol", "payload", "kind"),
    [
        (Node.REQUEST, frame(b"abc") * 2, "malformed"),
        (Node.REQUEST, b"\x80\x80\x80\x80\x01", "too-large"),
        (Node.VOTE, b"\x80\x80\x80\x80\x01", "too-large"),
        (Node.VOTE, b"\x80\x00", "malformed"),
    ],
)
async def test_malformed_streams_of_a_peer_are_charged(
    protocol: str, payload: bytes, kind: str
) -> None:
    async with Node(1) as a:
        raw = await raw_peer_up(a)
        raw.open(protocol, payload)
        await until(lambda: a.downs, "the link is closed")
        assert [event.kind for event in a.seen(PeerCharged)] == [kind]
        await raw.close()


async def test_a_request_cut_short_is_reset() -> None:
    async with Node(1) as a:
        raw = await raw_peer_up(a)
        stream = raw.open(Node.REQUEST, b"\x10half")
        raw.yamux.finish(stream)
        raw.flush()
        await raw.read_until(lambda: StreamReset(stream) in raw.events)
        assert StreamReset(stream) in raw.events
        await raw.close()


async def test_incomplete_messages_are_bounded_over_all_streams() -> None:
    async with Node(1, limits=quick(link_buffer_bytes=100_000)) as a:
        raw = await raw_peer_up(a)
        # Each is far below the limit of its protocol.
        for _ in range(3):
            raw.open(Node.MESSAGE, b"\x80\x80\x04" + bytes(40_000))
        await until(lambda: a.downs, "the link is closed")
        assert [event.kind for event in a.seen(PeerCharged)] == ["too-large"]
        await raw.close()


async def test_finished_messages_free_their_room() -> None:
    async with Node(1, limits=quick(link_buffer_bytes=100_000)) as a, Node(2) as b:
        await b.connect(a)
        for _ in range(20):
            b.host.send(a.peer_id, Node.MESSAGE, bytes(90_000))
        await until(lambda: len(a.received) == 20, "all have arrived")
        link = next(iter(a.host._peers[b.peer_id].connections.values()))
        assert link._buffered_bytes == 0


async def test_an_invalid_request_is_refused_and_charged() -> None:
    async def invalid(_payload: bytes) -> bytes:
        raise MalformedData("request", "nonsense")

    async with Node(1) as a, Node(2) as b:
        b.answer = invalid
        await a.connect(b)
        with pytest.raises(RequestRefused) as refused:
            await a.host.request(b.peer_id, Node.REQUEST, b"?", 5.0)
        assert refused.value.reason == "invalid"
        assert len(b.seen(PeerCharged)) == 1


def test_ids_are_registered_once_and_urgent_messages_are_small() -> None:
    async def run() -> None:
        host = Node(1).host
        for taken in (Node.MESSAGE, Node.REQUEST, STATUS_PROTOCOL, "/ipfs/ping/1.0.0"):
            with pytest.raises(ValueError, match="registered already"):
                host.add_message_protocol(taken, Lane.L2, 10, lambda *_: None)
        with pytest.raises(AssertionError):
            host.add_message_protocol("/t/huge/1", Lane.L0, 2 << 20, lambda *_: None)

    asyncio.run(run())
