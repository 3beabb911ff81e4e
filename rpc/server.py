"""HTTP around the dispatcher: one POST route, a few GET routes, and bounds on everything.

    POST /              JSON-RPC 2.0; 200 with an answer, 204 where the specification wants none
    GET  /healthz       the process answers
    GET  /readyz        200 when the node can be asked, 503 with the reason when not
    GET  /metrics       Prometheus text, made by an injected callable
    GET  /openrpc.json  the description of the methods

Refusals of HTTP itself (403, 408, 413, 415, 503) carry a JSON-RPC error with id null, so that a
client has one way of reading answers. Authority over admin_* is a connection through the operator's
unix socket (mode 0600) or a bearer token from this machine. Who may ask is rpc.guard's matter, how
many connections may be open rpc.connections', and events are those of rpc.subscriptions.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from aiohttp import web

from rpc.connections import Connections
from rpc.dispatcher import Dispatcher
from rpc.errors import InvalidRequest, LimitExceeded, RpcError, Unauthorized, Unavailable
from rpc.guard import Guard, as_host, is_json
from rpc.registry import C

# One body: 100 transactions of the usual size are 60 KiB, the largest transaction is 32 KiB in
# hexadecimal.
BODY_BYTES = 1024 * 1024

# From the end of the headers to the end of the body.
BODY_READ_MS = 5_000

# Bodies being read or answered at once. Most are answered within one turn of the event loop; those
# that wait for a commit stay longer and are bounded further in rpc.context.
IN_FLIGHT_COUNT = 2_048

# Bytes of those bodies together; a body of unannounced length counts as the largest.
IN_FLIGHT_BYTES = 64 * 1024 * 1024

# Accepted connections that wait for the event loop.
LISTEN_BACKLOG = 512

# An idle connection is kept this long between two requests.
KEEP_ALIVE_S = 75.0

# What remains of a refused body is read and dropped this long, so that the client sees the answer
# instead of a reset; then the connection closes.
LINGER_S = 1.0

# Requests still running when the server stops get this long, then are cancelled.
SHUTDOWN_S = 2.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_JSON = "application/json"
_METRICS_TYPE = "text/plain; version=0.0.4"
_NO_SNIFF = {"X-Content-Type-Options": "nosniff"}

OPERATOR = web.RequestKey("operator", bool)
"""In a request: whether its caller has the operator's authority. Further routes read it."""
CORS = web.RequestKey("cors", dict[str, str])
"""In a request: the headers by which a page of an allowed origin may read the answer."""

# Probes come from orchestrators that ask by address and reveal nothing.
_OPEN_PATHS = frozenset({"/healthz", "/readyz"})


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where to listen and whom to trust.

    `port` 0 takes a free one. `unix_path` is the operator's socket. `allowed_hosts` are host names
    without port, beside the loopback names and `host` itself. `allowed_origins` are full origins
    ("https://explorer.example"). `admin_token` None leaves the unix socket as the only way in.
    """

    host: str = "127.0.0.1"
    port: int = 0
    unix_path: Path | None = None
    allowed_hosts: frozenset[str] = frozenset()
    allowed_origins: frozenset[str] = frozenset()
    admin_token: str | None = None


@dataclass(frozen=True, slots=True)
class Pages:
    """What the GET routes show. `not_ready` says why the node cannot be asked yet, or None."""

    not_ready: Callable[[], str | None]
    metrics: Callable[[], bytes]
    openrpc: bytes = b"{}"


class RpcServer(Generic[C]):
    """The listening server. `start` binds, `stop` closes; each once.

    `make_context` gets the client's address and whether it has the operator's authority. `routes`
    are further pages (the explorer); the Host check holds for them too. `closing` ends what they
    keep open; it is awaited when the server stops, before running requests are waited for.
    """

    def __init__(
        self,
        settings: ServerSettings,
        dispatcher: Dispatcher[C],
        make_context: Callable[[str, bool], C],
        pages: Pages,
        *,
        routes: Iterable[web.AbstractRouteDef] = (),
        closing: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._settings = settings
        self._dispatcher = dispatcher
        self._make_context = make_context
        self._pages = pages
        self._routes = tuple(routes)
        self._closing = tuple(closing)
        self._guard = Guard(
            hosts=settings.allowed_hosts | {as_host(settings.host)},
            origins=settings.allowed_origins,
            admin_token=settings.admin_token,
        )
        self._in_flight_count = 0
        self._in_flight_bytes = 0
        self._listening: list[asyncio.Server] = []
        self._runners: list[web.AppRunner] = []
        self._connections: list[Connections] = []
        self.port = 0

    async def start(self) -> None:
        """Binds the TCP port and, where configured, the operator's socket. Raises OSError."""
        loop = asyncio.get_running_loop()
        public = await self._make_connections(operator=False)
        server = await loop.create_server(
            public, self._settings.host, self._settings.port, backlog=LISTEN_BACKLOG
        )
        self._listening.append(server)
        self.port = server.sockets[0].getsockname()[1]
        if self._settings.unix_path is not None:
            operators = await self._make_connections(operator=True)
            listener = _private_unix_socket(self._settings.unix_path)
            self._listening.append(await loop.create_unix_server(operators, sock=listener))

    async def stop(self) -> None:
        """Stops listening, gives running requests SHUTDOWN_S, closes every connection."""
        for server in self._listening:
            server.close()
        for connections in self._connections:
            connections.close()
        for close in self._closing:
            await close()
        for runner in self._runners:
            await runner.cleanup()
        for server in self._listening:
            await server.wait_closed()
        if self._settings.unix_path is not None:
            self._settings.unix_path.unlink(missing_ok=True)

    @property
    def url(self) -> str:
        """Where the public routes are."""
        return f"http://{as_host(self._settings.host)}:{self.port}/"

    async def _make_connections(self, *, operator: bool) -> Connections:
        """The application of one listener, behind its bounded protocol factory."""
        app = web.Application(client_max_size=BODY_BYTES)
        runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            auto_decompress=False,
            keepalive_timeout=KEEP_ALIVE_S,
            lingering_time=LINGER_S,
            shutdown_timeout=SHUTDOWN_S,
        )
        doors: list[Connections] = []

        async def rpc(request: web.Request) -> web.StreamResponse:
            try:
                return await self._rpc(request)
            except _Refused as refused:
                return refused.response

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            doors[0].spoke(request.protocol)
            if not operator and request.path not in _OPEN_PATHS:
                try:
                    self._check_caller(request)
                except _Refused as refused:
                    return refused.response
            request[OPERATOR] = operator or self._guard.is_operator(
                request.headers.get("Authorization"), request.remote
            )
            request[CORS] = self._cors_headers(request)
            return await handler(request)

        app.middlewares.append(check)
        app.router.add_post("/", rpc)
        app.router.add_route("OPTIONS", "/", self._preflight)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/openrpc.json", self._openrpc)
        app.add_routes(self._routes)
        await runner.setup()
        assert runner.server is not None
        doors.append(Connections(runner.server))
        self._connections.append(doors[0])
        self._runners.append(runner)
        return doors[0]

    # JSON-RPC

    async def _rpc(self, request: web.Request) -> web.StreamResponse:
        headers = request.headers
        if not is_json(headers.get("Content-Type")):
            raise _refuse(415, InvalidRequest("the content type must be application/json"))
        if headers.get("Content-Encoding", "identity") != "identity":
            raise _refuse(415, InvalidRequest("the body must not be compressed"))
        size = request.content_length
        if size is not None and size > BODY_BYTES:
            raise _too_large()
        reserved = BODY_BYTES if size is None else size
        self._enter(reserved)
        try:
            body = await _read_body(request)
            context = self._make_context(request.remote or "", request[OPERATOR])
            answer = await self._dispatcher.dispatch(body, context)
        finally:
            self._in_flight_count -= 1
            self._in_flight_bytes -= reserved
        extra = request[CORS]
        if answer is None:
            return web.Response(status=204, headers=extra)
        return web.Response(body=answer, content_type=_JSON, headers=extra)

    def _enter(self, size_bytes: int) -> None:
        if (
            self._in_flight_count >= IN_FLIGHT_COUNT
            or self._in_flight_bytes + size_bytes > IN_FLIGHT_BYTES
        ):
            raise _refuse(
                503,
                LimitExceeded(
                    "the node is answering as many calls as it can hold",
                    reason="OVERLOADED",
                    retryable=True,
                    facts={"retryAfterMs": 1_000},
                ),
                {"Retry-After": "1"},
            )
        self._in_flight_count += 1
        self._in_flight_bytes += size_bytes

    def _check_caller(self, request: web.Request) -> None:
        host = request.headers.get("Host")
        if not self._guard.host_allowed(host):
            raise _refuse(
                403, Unauthorized("the Host header does not name this node", reason="HOST_REFUSED")
            )
        if not self._guard.origin_allowed(request.headers.get("Origin"), host):
            raise _refuse(
                403, Unauthorized("pages of this origin may not ask", reason="ORIGIN_REFUSED")
            )

    def _cors_headers(self, request: web.Request) -> dict[str, str]:
        origin = self._guard.cors_origin(request.headers.get("Origin"))
        if origin is None:
            return _NO_SNIFF
        return {**_NO_SNIFF, "Access-Control-Allow-Origin": origin, "Vary": "Origin"}

    async def _preflight(self, request: web.Request) -> web.StreamResponse:
        if self._guard.cors_origin(request.headers.get("Origin")) is None:
            return json_refusal(403, Unauthorized("CORS is off", reason="ORIGIN_REFUSED"))
        allowed = {
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": "content-type, authorization",
            "Access-Control-Max-Age": "600",
        }
        return web.Response(status=204, headers={**self._cors_headers(request), **allowed})

    # Pages

    async def _healthz(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=b'{"status":"ok"}', content_type=_JSON)

    async def _readyz(self, _request: web.Request) -> web.StreamResponse:
        why = self._pages.not_ready()
        if why is None:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not ready", "reason": why}, status=503)

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": _METRICS_TYPE, **_NO_SNIFF}
        return web.Response(body=self._pages.metrics(), headers=headers)

    async def _openrpc(self, request: web.Request) -> web.StreamResponse:
        headers = self._cors_headers(request)
        return web.Response(body=self._pages.openrpc, content_type=_JSON, headers=headers)


class _Refused(Exception):
    """A request that ends before the dispatcher, with its answer."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        self.response = response


def json_refusal(
    status: int, error: RpcError, headers: dict[str, str] | None = None
) -> web.Response:
    """A refusal at the level of HTTP, as a JSON-RPC error with id null."""
    body = b'{"jsonrpc":"2.0","error":' + error.encoded() + b',"id":null}'
    return web.Response(
        status=status, body=body, content_type=_JSON, headers={**_NO_SNIFF, **(headers or {})}
    )


def _refuse(status: int, error: RpcError, headers: dict[str, str] | None = None) -> _Refused:
    return _Refused(json_refusal(status, error, headers))


def _refuse_and_close(status: int, error: RpcError) -> _Refused:
    """For a body that is not read to its end, after which nothing else can be read."""
    response = json_refusal(status, error)
    response.force_close()
    return _Refused(response)


def _too_large() -> _Refused:
    error = LimitExceeded(
        f"a body has at most {BODY_BYTES} bytes",
        reason="BODY_TOO_LARGE",
        facts={"limit": BODY_BYTES},
    )
    return _refuse_and_close(413, error)


async def _read_body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_READ_MS / 1000):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except TimeoutError:
        error = Unavailable("the body did not arrive in time", reason="BODY_TIMEOUT")
        raise _refuse_and_close(408, error) from None


def _private_unix_socket(path: Path) -> socket.socket:
    """A listening-ready socket at `path`, mode 0600 from its first moment.

    A socket left by a process that died is removed: the lock on the home says that no other lives.
    """
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)  # noqa: FBT003 - the name of the only argument
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener
