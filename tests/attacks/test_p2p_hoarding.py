"""Attacks on memory by a peer that asks for much and takes nothing."""

from __future__ import annotations

import asyncio

import pytest

from p2p.connection import Connection
from p2p.errors import RequestRefused
from p2p.lanes import Lane
from p2p.requests import RequestCall, RequestProtocol, Serving
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
