"""The socket options that keep bytes out of hidden buffers, on both event loops."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from p2p.status import ConnectionClass
from tests.integration.p2p.harness import QUICK, Node, until


async def check_options() -> None:
    async with Node(1) as a, Node(2) as b:
        a.host.add_persistent_peer(b.address())
        await until(lambda: a.classes(b) == b.classes(a) == ("urgent", "bulk"), "both are up")
        expected = {
            ConnectionClass.URGENT: QUICK.urgent_unsent_bytes,
            ConnectionClass.BULK: QUICK.bulk_unsent_bytes,
        }
        for node, other in ((a, b), (b, a)):
            for kind, connection in node.host._peers[other.peer_id].connections.items():
                assert connection._transport is not None
                sock = connection._transport.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
                if option is not None:
                    assert sock.getsockopt(socket.IPPROTO_TCP, option) == expected[kind]
                low, high = connection._transport.get_write_buffer_limits()
                assert low < high == QUICK.write_buffer_bytes


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_options(factory: type) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(check_options())
