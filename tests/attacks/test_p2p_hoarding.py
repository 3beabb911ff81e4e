"""Attacks on memory by a peer that asks and takes nothing, or begins and never ends."""

from __future__ import annotations

import asyncio

import pytest

from p2p.connection import Connection
from p2p.errors import RequestRefused
from p2p.lanes import Lane
from p2p.messages import STREAMS_MAX_COUNT
from p2p.requests import RequestCall, RequestProtocol, Serving
from p2p.stream import StreamHandler
from p2p.wire import encode_uvarint
from tests.integration.p2p.harness import Node, quick, until

ANSWER_BYTES = 4 << 20
REQUESTS = 60


async def much(_payload: bytes) -> bytes:
    """The answer to anything."""
    return bytes(ANSWER_BYTES)


class Hoarder:
    """A peer that keeps its link alive, asks on stream after stream, and reads nothing."""

    def __init__(self, victim: Node, attacker: Node) -> None:
        self.victim = victim
        (self.link,) = attacker.host._links._records
        self.served: Connection = next(
            each for each in victim.host._links._records if each.peer_id == attacker.peer_id
        )
        self.protocol: RequestProtocol = attacker.host._protocols.requests[Node.REQUEST]
        assert self.link._transport is not None
        self.link._transport.pause_reading()

    def leave(self) -> None:
        """End the link at once."""
        assert self.link._transport is not None
        self.link._transport.abort()

    async def ask(self) -> int:
        """One more request; the bytes that the victim then holds for this peer."""
        call = RequestCall(self.victim.peer_id, self.protocol)
        call.answer.add_done_callback(lambda done: done.exception())
        before = self.served.bytes_in
        stream = self.link.open_stream(Node.REQUEST, Lane.L4, call)
        stream.write(encode_uvarint(1), b"x")
        stream.finish()
        await until(lambda: self.served.bytes_in > before, "the request arrives")
        await asyncio.sleep(0)
        return self.served.queued_bytes


def serving_of(node: Node) -> Serving:
    return node.host._protocols._serving[Node.REQUEST]


async def test_answers_that_nobody_takes_are_bounded() -> None:
    # A request of a few bytes is answered with megabytes. What is answered and has not left must
    # count as being served, or one stranger fills the memory of a validator.
    async with Node(1) as victim, Node(2) as attacker, Node(3) as other:
        victim.answer = much
        await attacker.connect(victim)
        hoarder = Hoarder(victim, attacker)
        held = [await hoarder.ask() for _ in range(REQUESTS)]
        assert max(held) <= hoarder.protocol.max_serving_count * (ANSWER_BYTES + 64)

        await other.connect(victim)
        answer = await other.host.request(victim.peer_id, Node.REQUEST, b"y", 10.0)
        assert len(answer) == ANSWER_BYTES, "everybody else is answered as before"

        hoarder.leave()
        await until(lambda: serving_of(victim).unsent_bytes == 0, "what it left behind is gone")


async def test_many_hoarders_together_are_bounded() -> None:
    # Each stays within its places; all of them share the room for answers.
    async with Node(1) as victim:
        victim.answer = much
        serving = serving_of(victim)
        limit = 4 * ANSWER_BYTES
        serving._protocol = RequestProtocol(
            Node.REQUEST,
            Lane.L4,
            65_536,
            ANSWER_BYTES,
            serving._protocol.handler,
            max_unsent_bytes=limit,
        )
        attackers = [Node(number) for number in range(2, 6)]
        hoarders = []
        for attacker in attackers:
            await attacker.__aenter__()
            await attacker.connect(victim)
            hoarders.append(Hoarder(victim, attacker))
            for _ in range(5):
                await hoarders[-1].ask()
        assert serving.unsent_bytes <= limit + ANSWER_BYTES
        async with Node(9) as other:
            await other.connect(victim)
            with pytest.raises(RequestRefused):
                await other.host.request(victim.peer_id, Node.REQUEST, b"y", 10.0)
        for attacker, hoarder in zip(attackers, hoarders, strict=True):
            hoarder.leave()
            await attacker.__aexit__(None, None, None)


async def test_an_answer_that_is_not_taken_is_dropped() -> None:
    # Pings keep the link alive, so the answer would lie there as long as the peer likes.
    async with Node(1, limits=quick(request_s=0.3)) as victim, Node(2) as attacker:
        victim.answer = much
        await attacker.connect(victim)
        hoarder = Hoarder(victim, attacker)
        assert await hoarder.ask() > ANSWER_BYTES / 2
        await until(lambda: hoarder.served.queued_bytes < 1_000, "the answer is dropped")
        assert serving_of(victim).unsent_bytes == 0
        hoarder.leave()


LARGE = "/t/large/1"
LARGE_BYTES = 8 << 20


def with_large(node: Node, heard: list[str], hears: bool) -> Node:
    """The node also takes large messages, from everybody or from nobody."""
    node.host.add_message_protocol(
        LARGE,
        Lane.L1,
        LARGE_BYTES,
        lambda peer, _payload: heard.append(peer),
        hears=lambda _peer: hears,
    )
    return node


async def begin_messages(victim: Node, attacker: Node, streams: int) -> Connection:
    """The attacker begins a large message on each of many streams and ends none of them."""
    await attacker.connect(victim)
    (link,) = attacker.host._links._records
    for _ in range(streams):
        stream = link.open_stream(LARGE, Lane.L4, StreamHandler())
        stream.write(encode_uvarint(LARGE_BYTES), bytes(LARGE_BYTES // 8))
    await until(lambda: link.queued_bytes == 0, "all of it has left")
    (served,) = victim.host._links._records
    await attacker.host.ping(victim.peer_id, 5.0)
    return served


async def test_of_those_who_have_nothing_to_say_nothing_is_kept() -> None:
    # Only validators send proposals, which may have 70 MB; anybody may connect.
    heard: list[str] = []
    async with (
        with_large(Node(1), heard, hears=False) as victim,
        with_large(Node(2), [], hears=True) as stranger,
    ):
        served = await begin_messages(victim, stranger, 8)
        assert served._buffered_bytes == 0
        stranger.host.send(victim.peer_id, LARGE, b"a whole one")
        await stranger.host.ping(victim.peer_id, 5.0)
        assert heard == []
        assert not served.closed, "it may still ask for blocks and send transactions"


async def test_beginnings_of_messages_do_not_pile_up() -> None:
    # A link may hold open 256 streams, each of which may begin a message of the largest size.
    heard: list[str] = []
    async with (
        with_large(Node(1), heard, hears=True) as victim,
        with_large(Node(2), [], hears=True) as peer,
    ):
        served = await begin_messages(victim, peer, 40)
        assert 0 < served._buffered_bytes <= STREAMS_MAX_COUNT * LARGE_BYTES
        assert sum(each.protocol_id == LARGE for each in served._streams.values()) <= 4
        peer.host.send(victim.peer_id, LARGE, b"a whole one")
        await until(lambda: heard == [peer.peer_id], "it is heard all the same")
