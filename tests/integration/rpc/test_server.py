"""The server over real sockets on 127.0.0.1: what a client, a browser page and a stranger get."""

from __future__ import annotations

import asyncio
import io
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rpc import server as server_module
from rpc.connections import Connections
from rpc.dispatcher import Dispatcher
from rpc.registry import Registry, method
from rpc.server import BODY_BYTES, Pages, RpcServer, ServerSettings

JSON = {"Content-Type": "application/json"}
CALL = b'{"jsonrpc":"2.0","method":"echo","params":["hi"],"id":1}'


class Caller:
    def __init__(self, client: str, admin: bool, gate: asyncio.Event) -> None:
        self.client = client
        self.admin = admin
        self.gate = gate

    def charge(self, cost: int) -> None:
        """Nothing is scarce here."""


@method("echo")
def echo(call: Caller, text: str) -> object:
    return {"text": text, "client": call.client, "admin": call.admin}


@method("wait", waits=True)
async def wait(call: Caller) -> object:
    await call.gate.wait()
    return "done"


@method("fail")
def fail(_call: Caller) -> object:
    raise RuntimeError("internal")


class Running:
    def __init__(self, settings: ServerSettings) -> None:
        self.gate = asyncio.Event()
        self.why_not_ready: str | None = None
        self.failures: list[str] = []
        dispatcher: Dispatcher[Caller] = Dispatcher(
            Registry([echo, wait, fail]),
            on_failure=lambda name, _error: self.failures.append(name),
        )
        self.server: RpcServer[Caller] = RpcServer(
            settings,
            dispatcher,
            lambda client, admin: Caller(client, admin, self.gate),
            Pages(
                not_ready=lambda: self.why_not_ready,
                metrics=lambda: b"tally_height 7\n",
                openrpc=b'{"openrpc":"1.3.2"}',
            ),
        )


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[tuple[Running, aiohttp.ClientSession]]:
    node = Running(ServerSettings(**settings))
    await node.server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{node.server.port}") as session:
            yield node, session
    finally:
        node.gate.set()
        await node.server.stop()


async def test_an_answer_a_notification_and_a_parse_error() -> None:
    async with running() as (_, session):
        async with session.post("/", data=CALL, headers=JSON) as answer:
            assert answer.status == 200
            assert answer.content_type == "application/json"
            assert (await answer.json())["result"]["text"] == "hi"
        silent = b'{"jsonrpc":"2.0","method":"echo","params":["hi"]}'
        async with session.post("/", data=silent, headers=JSON) as answer:
            assert answer.status == 204
            assert await answer.read() == b""
        async with session.post("/", data=b"{", headers=JSON) as answer:
            assert answer.status == 200
            assert (await answer.json())["error"]["code"] == -32700


async def test_get_routes() -> None:
    async with running() as (node, session):
        async with session.get("/healthz") as answer:
            assert answer.status == 200
        async with session.get("/readyz") as answer:
            assert answer.status == 200
        node.why_not_ready = "syncing: 3 of 100"
        async with session.get("/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["reason"] == "syncing: 3 of 100"
        async with session.get("/metrics") as answer:
            assert await answer.read() == b"tally_height 7\n"
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"
        async with session.get("/openrpc.json") as answer:
            assert (await answer.json())["openrpc"] == "1.3.2"
        async with session.get("/") as answer:
            assert answer.status == 405
        async with session.get("/nothing") as answer:
            assert answer.status == 404


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"Content-Type": "text/plain"}, 415, "INVALID_REQUEST"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "INVALID_REQUEST"),
        ({**JSON, "Content-Encoding": "gzip"}, 415, "INVALID_REQUEST"),
        ({**JSON, "Host": "evil.example"}, 403, "HOST_REFUSED"),
        ({**JSON, "Host": "127.0.0.1.evil.example:80"}, 403, "HOST_REFUSED"),
        ({**JSON, "Origin": "https://evil.example"}, 403, "ORIGIN_REFUSED"),
        ({**JSON, "Origin": "null"}, 403, "ORIGIN_REFUSED"),
    ],
)
async def test_refused_before_the_dispatcher(
    headers: dict[str, str], status: int, reason: str
) -> None:
    async with (
        running() as (_, session),
        session.post("/", data=CALL, headers=headers) as answer,
    ):
        assert answer.status == status
        body = await answer.json()
        assert body["id"] is None
        assert body["error"]["data"]["reason"] == reason


async def test_the_host_check_holds_for_pages_but_not_for_probes() -> None:
    async with running() as (_, session):
        for path, status in (("/metrics", 403), ("/openrpc.json", 403), ("/healthz", 200)):
            async with session.get(path, headers={"Host": "10.1.2.3"}) as answer:
                assert answer.status == status, path


async def test_cors_is_off_unless_an_origin_is_named() -> None:
    origin = {"Origin": "https://explorer.example", "Access-Control-Request-Method": "POST"}
    async with running() as (_, session), session.options("/", headers=origin) as answer:
        assert answer.status == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
    async with running(allowed_origins=frozenset({origin["Origin"]})) as (_, session):
        async with session.options("/", headers=origin) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == origin["Origin"]
        async with session.post("/", data=CALL, headers={**JSON, **origin}) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == origin["Origin"]


async def test_bodies_are_bounded() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES // 65_536 + 1):
            yield b" " * 65_536

    async with running() as (_, session):
        padded = CALL + b" " * (BODY_BYTES - len(CALL))
        async with session.post("/", data=padded, headers=JSON) as answer:
            assert answer.status == 200
        async with session.post("/", data=io.BytesIO(padded + b" "), headers=JSON) as answer:
            assert answer.status == 413
            assert (await answer.json())["error"]["data"]["reason"] == "BODY_TOO_LARGE"
        async with session.post("/", data=pieces(), headers=JSON) as answer:
            assert answer.status == 413


async def raw_exchange(port: int, request: bytes) -> bytes:
    """Everything the server says to these bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_body_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BODY_READ_MS", 20)
    monkeypatch.setattr(server_module, "LINGER_S", 0.02)
    async with running() as (node, session):
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        answer = await raw_exchange(node.server.port, head + b"Content-Length: 100\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"BODY_TIMEOUT" in answer
        async with session.post("/", data=CALL, headers=JSON) as fine:
            assert fine.status == 200


async def test_malformed_http_closes_the_connection() -> None:
    async with running() as (node, session):
        assert (await raw_exchange(node.server.port, b"\x16\x03\x01\x02\x00\r\n\r\n")).startswith(
            b"HTTP/1.0 400"
        )
        async with session.post("/", data=CALL, headers=JSON) as fine:
            assert fine.status == 200


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is another task's progress
            await asyncio.sleep(0)


async def test_calls_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "IN_FLIGHT_COUNT", 2)
    body = b'{"jsonrpc":"2.0","method":"wait","id":1}'
    async with running() as (node, session), asyncio.TaskGroup() as group:

        async def waiting() -> int:
            async with session.post("/", data=body, headers=JSON) as answer:
                return answer.status

        tasks = [group.create_task(waiting()) for _ in range(2)]
        await until(lambda: node.server._in_flight_count == 2)
        async with session.post("/", data=CALL, headers=JSON) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
            assert (await answer.json())["error"]["data"]["reason"] == "OVERLOADED"
        async with session.get("/healthz") as answer:
            assert answer.status == 200
        node.gate.set()
        assert [await task for task in tasks] == [200, 200]
        async with session.post("/", data=CALL, headers=JSON) as answer:
            assert answer.status == 200


async def test_a_caller_that_leaves_frees_its_place() -> None:
    body = b'{"jsonrpc":"2.0","method":"wait","id":1}'
    async with running() as (node, _):
        _, writer = await asyncio.open_connection("127.0.0.1", node.server.port)
        writer.write(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        await until(lambda: node.server._in_flight_count == 1)
        writer.close()
        await until(lambda: node.server._in_flight_count == 0)
        assert node.server._in_flight_bytes == 0


async def test_the_operators_token() -> None:
    async with running(admin_token="s3cret") as (_, session):
        for header, admin in (("Bearer s3cret", True), ("Bearer other", False)):
            headers = {**JSON, "Authorization": header}
            async with session.post("/", data=CALL, headers=headers) as answer:
                assert (await answer.json())["result"]["admin"] is admin


async def test_the_operators_socket(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with running(unix_path=path) as (_, session):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        connector = aiohttp.UnixConnector(str(path))
        async with (
            aiohttp.ClientSession("http://operator", connector=connector) as operator,
            operator.post("/", data=CALL, headers=JSON) as answer,
        ):
            assert (await answer.json())["result"]["admin"] is True
        async with session.post("/", data=CALL, headers=JSON) as answer:
            assert (await answer.json())["result"]["admin"] is False
    assert not path.exists()


async def test_a_dead_processes_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with running(unix_path=path):
        left = path.stat().st_ino
        async with running(unix_path=path):
            assert path.stat().st_ino != left


async def test_failures_reach_the_node() -> None:
    body = b'{"jsonrpc":"2.0","method":"fail","id":1}'
    async with running() as (node, session):
        async with session.post("/", data=body, headers=JSON) as answer:
            assert (await answer.json())["error"]["code"] == -32603
        assert node.failures == ["fail"]


@asynccontextmanager
async def listening(**limits: int) -> AsyncIterator[tuple[Connections, int]]:
    async def hello(_request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        return aiohttp.web.Response(text="hello")

    server = aiohttp.web.Server(hello, access_log=None)
    connections = Connections(server, **limits)
    listener = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0)
    try:
        yield connections, listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        connections.close()
        await server.shutdown(1)
        await listener.wait_closed()


async def test_a_silent_connection_is_closed() -> None:
    async with listening(first_request_ms=10) as (_, port):
        assert await raw_exchange(port, b"GET / HT") == b""


async def test_connections_are_bounded() -> None:
    async with listening(limit=2) as (_, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        assert await raw_exchange(port, b"") == b""
        for _, writer in held:
            writer.close()
            await writer.wait_closed()

        async def served() -> bool:
            request = b"GET / HTTP/1.0\r\n\r\n"
            try:
                return b"hello" in await raw_exchange(port, request)
            except ConnectionError:
                return False

        async with asyncio.timeout(10):
            while not await served():
                pass
