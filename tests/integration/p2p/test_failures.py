"""Full queues, oversized data, our own bugs, and an orderly end."""

from __future__ import annotations

import asyncio

import pytest

from p2p.errors import HostFailed, PeerUnavailable, RequestRefused, ResponseTooLarge
from p2p.lanes import Lane
from p2p.messages import Overflow
from p2p.trace import MessagesDropped, PeerCharged, ResponseRefused
from tests.integration.p2p.harness import Node, until


@pytest.mark.parametrize("overflow", list(Overflow))
async def test_a_full_queue_drops_by_its_rule_and_counts(overflow: Overflow) -> None:
    got: list[bytes] = []
    a, b = Node(1), Node(2)
    for node in (a, b):
        node.host.add_message_protocol(
            "/t/small/1",
            Lane.L2,
            100,
            lambda _peer, payload: got.append(payload),
            overflow=overflow,
            queue_count=10,
        )
    async with a, b:
        await a.connect(b)
        # Within one turn of the event loop nothing leaves the queue.
        taken = [a.host.send(b.peer_id, "/t/small/1", b"%d" % n) for n in range(25)]
        info = a.host.peers()[0]
        assert info.queues["/t/small/1"] == 10
        assert info.dropped_count == 15
        await until(lambda: len(got) == 10, "what was kept has arrived")
        if overflow is Overflow.DROP_OLDEST:
            assert all(taken)
            assert got == [b"%d" % n for n in range(15, 25)]
        else:
            assert taken == [True] * 10 + [False] * 15
            assert got == [b"%d" % n for n in range(10)]
        dropped = a.seen(MessagesDropped)
        assert sum(event.count for event in dropped) == 15
        assert {event.rule for event in dropped} == {overflow.value}


async def test_a_queue_is_bounded_in_bytes() -> None:
    a, b = Node(1), Node(2)
    for node in (a, b):
        node.host.add_message_protocol("/t/big/1", Lane.L2, 1000, lambda *_: None, queue_bytes=2500)
    async with a, b:
        await a.connect(b)
        for _ in range(5):
            assert a.host.send(b.peer_id, "/t/big/1", bytes(1000))
        assert a.host.peers()[0].queues["/t/big/1"] == 2
        assert a.host.peers()[0].dropped_count == 3
        with pytest.raises(ValueError, match="1001 bytes"):
            a.host.send(b.peer_id, "/t/big/1", bytes(1001))


async def test_a_slow_reader_fills_the_queue_not_the_memory() -> None:
    """Back-pressure reaches the queue: behind it only windows and small buffers hold bytes."""
    a = Node(1)
    a.host.add_message_protocol("/t/bulk/1", Lane.L4, 1 << 20, lambda *_: None, queue_bytes=4 << 20)
    b = Node(2)
    got: list[int] = []
    b.host.add_message_protocol(
        "/t/bulk/1", Lane.L4, 1 << 20, lambda _peer, payload: got.append(len(payload))
    )
    async with a, b:
        await a.connect(b)
        connection = next(iter(b.host._peers[a.peer_id].connections.values()))
        assert connection._transport is not None
        connection._transport.pause_reading()
        sent = 0
        while a.host.peers()[0].dropped_count == 0:
            assert a.host.send(b.peer_id, "/t/bulk/1", bytes(1 << 20))
            sent += 1
            assert sent < 50
            await asyncio.sleep(0)
        assert a.host.peers()[0].queued_bytes <= 5 << 20
        connection._transport.resume_reading()
        await until(lambda: a.host.peers()[0].queues["/t/bulk/1"] == 0, "the queue drains")
        await until(lambda: len(got) == sent - a.host.peers()[0].dropped_count, "the rest arrives")


async def test_a_protocol_that_the_peer_lacks_is_not_queued_for() -> None:
    a = Node(1)
    a.host.add_message_protocol("/t/new/1", Lane.L2, 100, lambda *_: None)
    async with a, Node(2) as b:
        await a.connect(b)
        await until(lambda: not a.host.send(b.peer_id, "/t/new/1", b"new?"), "the refusal came")
        assert {event.rule for event in a.seen(MessagesDropped)} == {"unsupported"}
        # The link lives and nobody was charged.
        assert a.host.send(b.peer_id, Node.MESSAGE, b"still here")
        await until(lambda: b.received, "the link lives")
        assert b.seen(PeerCharged) == []
        a.host.add_request_protocol("/t/newreq/1", Lane.L4, 10, 10, reverse)
        with pytest.raises(PeerUnavailable, match="does not speak"):
            await a.host.request(b.peer_id, "/t/newreq/1", b"x", 5.0)


async def reverse(_peer_id: str, payload: bytes) -> bytes:
    return payload[::-1]


async def test_an_oversized_message_costs_the_sender_its_link() -> None:
    async with Node(1, message_limit=2000) as a, Node(2, message_limit=1000) as b:
        await a.connect(b)
        a.host.send(b.peer_id, Node.MESSAGE, bytes(1001))
        await until(lambda: b.downs, "the sender is cut off")
        assert [event.kind for event in b.seen(PeerCharged)] == ["too-large"]
        assert b.received == []


async def test_response_limits() -> None:
    a, b = Node(1), Node(2)
    a.host.add_request_protocol("/t/lim/1", Lane.L4, 10, 100, reverse)

    async def long_answer(_peer_id: str, payload: bytes) -> bytes:
        return bytes(payload[0])

    b.host.add_request_protocol("/t/lim/1", Lane.L4, 10, 150, long_answer)
    async with a, b:
        await a.connect(b)
        assert await a.host.request(b.peer_id, "/t/lim/1", bytes([100]), 5.0) == bytes(100)
        with pytest.raises(RequestRefused, match="200 bytes"):
            await a.host.request(b.peer_id, "/t/lim/1", bytes([200]), 5.0)
        assert [event.peer_id for event in b.seen(ResponseRefused)] == [a.peer_id]
        with pytest.raises(ResponseTooLarge):
            await a.host.request(b.peer_id, "/t/lim/1", bytes([101]), 5.0)
        with pytest.raises(ValueError, match="11 bytes"):
            await a.host.request(b.peer_id, "/t/lim/1", bytes(11), 5.0)


async def test_windows_bound_requests_in_flight_and_all_are_answered() -> None:
    async with Node(1) as a, Node(2) as b:
        await a.connect(b)
        gate = asyncio.Event()
        running, most = 0, 0

        async def counting(payload: bytes) -> bytes:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await gate.wait()
            running -= 1
            return payload

        b.answer = counting
        calls = [
            asyncio.create_task(a.host.request(b.peer_id, Node.REQUEST, b"%d" % n, 10.0))
            for n in range(100)
        ]
        await until(lambda: running == 16, "the window is full")
        gate.set()
        assert await asyncio.gather(*calls) == [b"%d" % n for n in range(100)]
        assert most == 16


async def test_a_lost_peer_fails_its_requests() -> None:
    async with Node(1) as a, Node(2) as b:
        await a.connect(b)
        started = asyncio.Event()

        async def hanging(_payload: bytes) -> bytes:
            started.set()
            await asyncio.Event().wait()
            raise AssertionError

        b.answer = hanging
        calls = [
            asyncio.create_task(a.host.request(b.peer_id, Node.REQUEST, b"", 10.0))
            for _ in range(20)
        ]
        await asyncio.wait_for(started.wait(), 5)
        b.host.disconnect(a.peer_id, "test")
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {PeerUnavailable}


async def test_a_bug_in_a_message_handler_fails_the_host() -> None:
    def buggy(_peer_id: str, _payload: bytes) -> None:
        raise ZeroDivisionError("a bug")

    a, b = Node(1), Node(2)
    for node in (a, b):
        node.host.add_message_protocol("/t/bug/1", Lane.L2, 100, buggy)
    async with a:
        await b.host.start()
        await a.connect(b)
        a.host.send(b.peer_id, "/t/bug/1", b"x")
        with pytest.raises(HostFailed, match="a bug") as failed:
            await asyncio.wait_for(b.host.wait(), 5)
        assert isinstance(failed.value.__cause__, ZeroDivisionError)
        await until(lambda: a.downs, "the failed host has closed its links")
        with pytest.raises(HostFailed):
            await b.host.close()


async def test_a_bug_in_a_request_handler_or_callback_fails_the_host() -> None:
    async def buggy(_payload: bytes) -> bytes:
        raise ZeroDivisionError("a bug")

    async with Node(1) as a:
        b = Node(2)
        b.answer = buggy
        await b.host.start()
        await a.connect(b)
        with pytest.raises(PeerUnavailable):
            await a.host.request(b.peer_id, Node.REQUEST, b"", 5.0)
        with pytest.raises(HostFailed, match="a bug"):
            await asyncio.wait_for(b.host.wait(), 5)

        def bad_callback(_peer_id: str) -> None:
            raise KeyError("callback")

        c = Node(3)
        c.host.on_peer_up(bad_callback)
        await c.host.start()
        await c.host.connect(a.peer_id, "127.0.0.1", a.host.listen_port)
        with pytest.raises(HostFailed, match="callback"):
            await asyncio.wait_for(c.host.wait(), 5)


async def test_last_messages_before_close_arrive() -> None:
    async with Node(1) as a, Node(2) as b:
        await a.connect(b)
        a.host.send(b.peer_id, Node.MESSAGE, b"last words")
        await a.host.close()
        await until(lambda: b.downs, "the end is seen")
        assert b.received == [(a.peer_id, b"last words")]


async def test_close_leaves_nothing_running() -> None:
    before = asyncio.all_tasks()
    async with Node(1) as a, Node(2) as b:
        a.host.add_persistent_peer(b.address())
        b.host.add_persistent_peer(a.address())
        await until(lambda: a.host.peers() and b.host.peers(), "they are up")
    assert a.host.link_count == b.host.link_count == 0
    assert asyncio.all_tasks() == before
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", a.host.listen_port)


async def test_a_taken_port_is_an_os_error() -> None:
    async with Node(1) as a:
        with pytest.raises(OSError, match="address"):
            await Node(2, port=a.host.listen_port).host.start()
