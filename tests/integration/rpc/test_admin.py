"""The operator's commands: who may give them, and what reaches the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.identity import peer_id
from rpc.client import CallFailed, RpcClient
from rpc.ports import LogLevel
from rpc.server import ServerSettings
from tests.kit.chain import address_of
from tests.kit.rpc_node import RpcNode
from tests.kit.rpc_serving import serving

PEER = peer_id(address_of("somebody"))
TOKEN = "s3cret"


class Commands:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.given: list[tuple[str, str]] = []

    def add_peer(self, address: str) -> str:
        if "@" not in address:
            raise ValueError("it is not PeerID@host:port")
        self.given.append(("add", address))
        return address.partition("@")[0]

    def remove_peer(self, peer_id: str) -> bool:
        self.given.append(("remove", peer_id))
        return peer_id == PEER

    def set_log_level(self, level: LogLevel) -> None:
        self.given.append(("level", level))

    def stop(self) -> None:
        self.given.append(("stop", ""))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RpcNode]:
    made = RpcNode(tmp_path)
    yield made
    made.close()


async def refusal(client: RpcClient, method: str, **params: str) -> tuple[int, str]:
    with pytest.raises(CallFailed) as failed:
        await client.call(method, params)
    return failed.value.code, failed.value.reason


async def test_the_operator_commands_through_the_socket_and_with_the_token(
    node: RpcNode, tmp_path: Path
) -> None:
    settings = ServerSettings(admin_token=TOKEN, unix_path=tmp_path / "admin.sock")
    async with serving(node, settings) as server:
        commands = server.desk.admin = Commands()
        url = server.server.url
        async with RpcClient("http://localhost/", unix_path=settings.unix_path) as client:
            added = await client.call("admin_addPeer", {"peer": f"{PEER}@192.0.2.1:26656"})
            assert added == {"peerId": PEER}
            assert await client.call("admin_removePeer", {"peerId": PEER}) == {"peerId": PEER}
        async with RpcClient(url, token=TOKEN) as client:
            level = await client.call("admin_setLogLevel", {"level": "debug"})
            assert level == {"level": "debug"}
            assert await client.call("admin_stop") == {"stopping": True}
        assert commands.given == [
            ("add", f"{PEER}@192.0.2.1:26656"),
            ("remove", PEER),
            ("level", "debug"),
            ("stop", ""),
        ]


async def test_nobody_else_commands(node: RpcNode) -> None:
    async with serving(node, ServerSettings(admin_token=TOKEN)) as server:
        commands = server.desk.admin = Commands()
        for token in (None, "wrong"):
            async with RpcClient(server.server.url, token=token) as client:
                assert await refusal(client, "admin_stop") == (-32010, "UNAUTHORIZED")
        assert commands.given == []


async def test_commands_that_make_no_sense(node: RpcNode) -> None:
    async with (
        serving(node, ServerSettings(admin_token=TOKEN)) as server,
        RpcClient(server.server.url, token=TOKEN) as client,
    ):
        assert await refusal(client, "admin_stop") == (-32004, "METHOD_DISABLED")
        server.desk.admin = Commands()
        wrong = await refusal(client, "admin_addPeer", peer="nonsense")
        assert wrong == (-32602, "INVALID_PEER")
        other = peer_id(address_of("other"))
        unknown = await refusal(client, "admin_removePeer", peerId=other)
        assert unknown == (-32001, "PEER_NOT_FOUND")
        nobody = await refusal(client, "admin_removePeer", peerId="x")
        assert nobody == (-32602, "INVALID_ADDRESS")
        loud = await refusal(client, "admin_setLogLevel", level="loud")
        assert loud == (-32602, "INVALID_PARAMS")
