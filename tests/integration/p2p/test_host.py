"""Two or more hosts on 127.0.0.1: what the wiring room relies on."""

from __future__ import annotations

import asyncio
import random

import pytest

from p2p.errors import PeerUnavailable, RequestRefused, RequestTimeout, refuse
from p2p.trace import PeerDown, PeerUp
from tests.integration.p2p.harness import Node, until


async def test_messages_arrive_in_order_both_ways() -> None:
    async with Node(1) as a, Node(2) as b:
        await a.connect(b)
        sent = [f"message {n}".encode() for n in range(500)]
        for payload in sent:
            assert a.host.send(b.peer_id, Node.MESSAGE, payload)
            assert b.host.send(a.peer_id, Node.MESSAGE, payload)
        await until(lambda: len(a.received) == len(b.received) == 500, "all have arrived")
        assert b.received == [(a.peer_id, payload) for payload in sent]
        assert a.received == [(b.peer_id, payload) for payload in sent]


async def test_peer_events_and_information() -> None:
    async with Node(1) as a, Node(2) as b:
        b.height = 42
        await a.connect(b)
        assert a.ups == [b.peer_id]
        assert [event.peer_id for event in a.seen(PeerUp)] == [b.peer_id]
        await until(lambda: a.host.peers()[0].agent == "node 2", "identify has run")
        await until(lambda: a.host.peers()[0].rtt_ms is not None, "a ping came back")
        info = a.host.peers()[0]
        assert (info.peer_id, info.direction, info.classes, info.height) == (
            b.peer_id,
            "outbound",
            ("bulk",),
            42,
        )
        assert info.bytes_in > 0
        assert info.bytes_out > 0
        b.height = 43
        await until(lambda: a.host.peers()[0].height == 43, "the new height was told")
        await b.host.close()
        await until(lambda: a.downs, "the loss is reported")
        assert a.downs[0][0] == b.peer_id
        assert [event.peer_id for event in a.seen(PeerDown)] == [b.peer_id]
        assert a.host.peers() == []
        assert not a.host.send(b.peer_id, Node.MESSAGE, b"x")


async def test_requests_are_answered_refused_and_time_out() -> None:
    async with Node(1) as a, Node(2) as b:
        await a.connect(b)
        assert await a.host.request(b.peer_id, Node.REQUEST, b"abc", 5.0) == b"cba"
        assert await b.host.request(a.peer_id, Node.REQUEST, b"", 5.0) == b""

        async def refusing(_payload: bytes) -> bytes:
            raise refuse("not today")

        b.answer = refusing
        with pytest.raises(RequestRefused) as refused:
            await a.host.request(b.peer_id, Node.REQUEST, b"abc", 5.0)
        assert refused.value.reason == "not today"

        cancelled = asyncio.Event()

        async def hanging(_payload: bytes) -> bytes:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            raise AssertionError

        b.answer = hanging
        with pytest.raises(RequestTimeout):
            await a.host.request(b.peer_id, Node.REQUEST, b"abc", 0.1)
        await asyncio.wait_for(cancelled.wait(), 5)
        with pytest.raises(PeerUnavailable):
            await a.host.request("16Uiu2Nobody", Node.REQUEST, b"abc", 1.0)


async def test_big_payloads_pass_with_back_pressure() -> None:
    async with Node(1) as a, Node(2) as b:
        await a.connect(b)
        payload = random.Random(5).randbytes(6 << 20)
        for _ in range(2):
            assert a.host.send(b.peer_id, Node.MESSAGE, payload)
        answer = random.Random(6).randbytes(4 << 20)

        async def answering(_payload: bytes) -> bytes:
            return answer

        b.answer = answering
        assert await a.host.request(b.peer_id, Node.REQUEST, b"big", 20.0) == answer
        await until(lambda: len(b.received) == 2, "both have arrived")
        assert [data for _, data in b.received] == [payload, payload]
