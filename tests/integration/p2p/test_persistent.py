"""Persistent peers: two links per pair, simultaneous dials, restarts, and links that die."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from p2p.dialing import PersistentPeer
from p2p.lanes import Lane
from p2p.trace import DialFailed, LinkClosed, StatusAccepted
from tests.integration.p2p.harness import Node, quick, until

BOTH = ("urgent", "bulk")


async def both_up(*nodes: Node) -> None:
    def settled() -> bool:
        return all(a.classes(b) == BOTH for a in nodes for b in nodes if a is not b)

    await until(settled, "every pair has both links")


def links(node: Node, other: Node) -> list[tuple[str, int]]:
    """(class, local or remote port) of the standing links, the same on both sides."""
    found = []
    for kind, connection in node.host._peers[other.peer_id].connections.items():
        assert connection._transport is not None
        local = connection._transport.get_extra_info("sockname")[1]
        remote = connection._transport.get_extra_info("peername")[1]
        found.append((kind.value, remote if local == node.host.listen_port else local))
    return sorted(found)


@pytest.mark.parametrize("round_", range(5))
async def test_simultaneous_dials_settle_to_one_link_per_class(round_: int) -> None:
    async with Node(1, seed=round_) as a, Node(2, seed=round_) as b:
        a.host.add_persistent_peer(b.address())
        b.host.add_persistent_peer(a.address())
        await both_up(a, b)
        await until(lambda: a.host.link_count == b.host.link_count == 2, "spare links are gone")
        assert links(a, b) == links(b, a)
        # Nothing flaps: the links that were accepted first are those that stand.
        assert len(a.seen(StatusAccepted)) == len(b.seen(StatusAccepted)) == 2
        assert a.ups == [b.peer_id]
        assert a.downs == b.downs == []


async def test_four_nodes_form_a_full_mesh() -> None:
    async with contextlib.AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Node(n)) for n in range(1, 5)]
        for a in nodes:
            for b in nodes:
                a.host.add_persistent_peer(b.address())
        await both_up(*nodes)
        for node in nodes:
            assert node.host.broadcast(Node.MESSAGE, b"hello") == 3
        await until(lambda: all(len(node.received) == 3 for node in nodes), "all have arrived")


async def test_votes_take_the_urgent_link_and_the_rest_the_bulk_one() -> None:
    async with Node(1) as a, Node(2) as b:
        a.host.add_persistent_peer(b.address())
        await both_up(a, b)
        peer = a.host._peers[b.peer_id]
        for n in range(50):
            assert a.host.send(b.peer_id, Node.VOTE, b"%d" % n)
            assert a.host.send(b.peer_id, Node.MESSAGE, b"%d" % n)
        await until(lambda: len(b.votes) == len(b.received) == 50, "all have arrived")
        assert [payload for _, payload in b.votes] == [b"%d" % n for n in range(50)]
        for protocol, lane in ((Node.VOTE, Lane.L0), (Node.MESSAGE, Lane.L2)):
            assert peer.queues[protocol]._connection is peer.route(lane)
        assert peer.route(Lane.L0) is not peer.route(Lane.L2)


async def test_one_link_carries_everything_when_the_other_dies() -> None:
    async with Node(1) as a, Node(2) as b:
        a.host.add_persistent_peer(b.address())
        await both_up(a, b)
        a.host.remove_persistent_peer(b.peer_id)
        a.host.send(b.peer_id, Node.VOTE, b"before")
        await until(lambda: b.votes, "the first vote is there")
        urgent = a.host._peers[b.peer_id].route(Lane.L0)
        assert urgent is not None
        assert urgent._transport is not None
        urgent._transport.abort()
        await until(lambda: a.classes(b) == b.classes(a) == ("bulk",), "the urgent link is gone")
        assert a.host.send(b.peer_id, Node.VOTE, b"after")
        await until(lambda: len(b.votes) == 2, "the bulk link carries the vote")
        assert a.downs == b.downs == []


async def test_a_restarted_peer_is_found_again() -> None:
    async with Node(1) as a:
        b = Node(2)
        await b.host.start()
        port = b.host.listen_port
        a.host.add_persistent_peer(b.address())
        await both_up(a, b)
        await b.host.close()
        await until(lambda: a.downs, "the loss is seen")
        await until(lambda: a.seen(DialFailed), "dialling goes on")
        async with Node(2, port=port, seed=1) as again:
            again.host.add_persistent_peer(a.address())
            await both_up(a, again)
            assert a.ups == [b.peer_id] * 2
            again.host.send(a.peer_id, Node.MESSAGE, b"back")
            await until(lambda: a.received, "messages flow again")


async def test_a_dead_process_that_comes_back_replaces_its_links_at_once() -> None:
    """The old process vanished without a word; the survivor must not cling to its links."""
    async with Node(2) as survivor:
        dead = Node(1, limits=quick(silence_s=60.0))
        await dead.host.start()
        dead.host.add_persistent_peer(survivor.address())
        await both_up(dead, survivor)
        async with Node(1, seed=1) as again:
            again.host.add_persistent_peer(survivor.address())
            await both_up(again, survivor)
            await until(lambda: dead.downs, "the old links were closed")
            assert survivor.downs == []
            assert survivor.host.send(again.peer_id, Node.MESSAGE, b"new")
            await until(lambda: again.received, "the new process is spoken to")
            dead.host.remove_persistent_peer(survivor.peer_id)
        await dead.host.close()


async def test_a_lost_link_is_dialled_again() -> None:
    async with Node(1) as a, Node(2) as b:
        a.host.add_persistent_peer(b.address())
        b.host.add_persistent_peer(a.address())
        await both_up(a, b)
        for count in range(1, 4):
            for connection in list(b.host._peers[a.peer_id].connections.values()):
                assert connection._transport is not None
                connection._transport.abort()
            await until(
                lambda count=count: len(a.downs) == len(b.downs) == count,  # type: ignore[misc]
                "both see the links go",
            )
            await both_up(a, b)


async def test_a_peer_that_cannot_be_reached_is_dialled_with_growing_delays() -> None:
    async with Node(1, limits=quick(backoff_first_s=0.01, backoff_cap_s=0.08)) as a:
        nobody = Node(2)
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        a.host.add_persistent_peer(PersistentPeer(nobody.peer_id, "127.0.0.1", port))
        await until(lambda: len(a.seen(DialFailed)) >= 12, "six dials of each class")
        delays = [e.retry_s for e in a.seen(DialFailed) if e.connection_class == "bulk"]
        for attempt, delay in enumerate(delays):
            ceiling = min(0.08, 0.01 * 2**attempt)
            assert ceiling / 2 <= delay <= ceiling
        state = next(s for s in a.host.dial_states() if s.connection_class.value == "bulk")
        assert state.failures_count >= 6
        assert "Connect call failed" in state.last_failure


async def test_a_silent_peer_is_dropped() -> None:
    limits = quick(silence_s=0.5, ping_interval_s=0.1)
    async with Node(1, limits=limits) as a, Node(2, limits=quick(ping_interval_s=60)) as b:
        await a.connect(b)
        connection = next(iter(b.host._peers[a.peer_id].connections.values()))
        assert connection._transport is not None
        connection._transport.pause_reading()
        await until(lambda: a.downs, "the silent peer is given up")
        assert a.downs[0][1] == "silent for 0.5 s"
        assert a.seen(LinkClosed)[-1].reason == "silent for 0.5 s"
        connection._transport.resume_reading()
        await until(lambda: b.downs, "the other side sees it too")


async def test_an_idle_link_lives_on_pings() -> None:
    limits = quick(silence_s=0.3, ping_interval_s=0.1)
    async with Node(1, limits=limits) as a, Node(2, limits=limits) as b:
        await a.connect(b)
        loop = asyncio.get_running_loop()
        end_s = loop.time() + 1.0
        await until(lambda: loop.time() > end_s, "three times the limit has passed")
        assert a.downs == b.downs == []
