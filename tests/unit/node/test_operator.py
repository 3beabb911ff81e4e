"""The operator's commands on a real host and a real logger."""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections.abc import AsyncIterator

import pytest

from ledger.crypto import PrivateKey, sha256
from ledger.identity import peer_id
from node import admin as admin_module
from node.admin import NodeAdmin
from node.telemetry import Telemetry, make_logger
from p2p.host import Host, HostConfig
from p2p.status import StatusFacts

DEADLINE_S = 10.0


def make_host(name: str) -> Host:
    return Host(
        HostConfig(listen_host="127.0.0.1", listen_port=0),
        PrivateKey(sha256(name.encode())),
        lambda: StatusFacts("test", bytes(32), 0),
        rng=random.Random(name),
    )


@pytest.fixture
async def hosts() -> AsyncIterator[tuple[Host, Host]]:
    pair = make_host("north"), make_host("south")
    for each in pair:
        await each.start()
    yield pair
    for each in pair:
        await each.close()


def lines(stream: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


class Operator:
    def __init__(self, host: Host) -> None:
        self.stream = io.StringIO()
        self.telemetry = Telemetry(make_logger("info", "json", self.stream), node="north")
        self.stopped = asyncio.Event()
        self.admin = NodeAdmin(host, self.telemetry, self.stopped.set)


async def until_peers(host: Host, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while len(host.peers()) != count:  # noqa: ASYNC110 - links are the host's
            await asyncio.sleep(0.002)


async def test_a_peer_is_kept_until_it_is_removed(hosts: tuple[Host, Host]) -> None:
    north, south = hosts
    operator = Operator(north)
    address = f"{south.peer_id}@127.0.0.1:{south.listen_port}"
    assert operator.admin.add_peer(address) == south.peer_id
    await until_peers(north, 1)
    # Twice is once.
    operator.admin.add_peer(address)
    assert {state.peer.peer_id for state in north.dial_states()} == {south.peer_id}
    assert operator.admin.remove_peer(south.peer_id)
    await until_peers(north, 0)
    assert north.dial_states() == []
    assert not operator.admin.remove_peer(south.peer_id)
    said = lines(operator.stream)
    assert said == ["peer added by the operator"] * 2 + ["peer removed by the operator"]


async def test_peers_that_cannot_be_added(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    north, south = hosts
    operator = Operator(north)
    for address, problem in (
        ("nonsense", "PeerID@host:port"),
        (f"{south.peer_id}@127.0.0.1:0", "port"),
        (f"{north.peer_id}@127.0.0.1:1", "itself"),
    ):
        with pytest.raises(ValueError, match=problem):
            operator.admin.add_peer(address)
    monkeypatch.setattr(admin_module, "PERSISTENT_PEERS_COUNT", 1)
    other = peer_id(PrivateKey(sha256(b"other")).public_key)
    operator.admin.add_peer(f"{other}@127.0.0.1:1")
    with pytest.raises(ValueError, match="dialled already"):
        operator.admin.add_peer(f"{south.peer_id}@127.0.0.1:1")
    # Another address of one that is dialled takes no further place.
    operator.admin.add_peer(f"{other}@127.0.0.1:2")
    assert {state.peer.port for state in north.dial_states()} == {2}


async def test_the_level_of_the_log_changes_at_once(hosts: tuple[Host, Host]) -> None:
    operator = Operator(hosts[0])
    for level, heard in (("debug", ["d", "i"]), ("info", ["i"]), ("error", [])):
        operator.admin.set_log_level(level)  # type: ignore[arg-type] # a literal in each turn
        operator.stream.truncate(0)
        operator.stream.seek(0)
        operator.telemetry.log.debug("d")
        operator.telemetry.log.info("i")
        assert lines(operator.stream) == heard
    operator.admin.set_log_level("info")
    operator.telemetry.log.info("named")
    assert json.loads(operator.stream.getvalue().splitlines()[-1])["node"] == "north"


async def test_the_stop_comes_after_the_answer(hosts: tuple[Host, Host]) -> None:
    operator = Operator(hosts[0])
    operator.admin.stop()
    assert not operator.stopped.is_set()
    async with asyncio.timeout(DEADLINE_S):
        await operator.stopped.wait()
