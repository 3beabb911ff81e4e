"""Events over HTTP.

    GET /ws                          WebSocket (RFC 6455): every JSON-RPC method, and subscribe
    GET /events?topic=…&fromHeight=… the events of one topic as a stream (text/event-stream)

Host and Origin are checked before, as for POST; a browser always names its origin when it opens a
WebSocket, so a page of another host is refused. Messages of one connection are answered one after
the other; events come in between. Nothing is compressed: the work would be done for each client.

A stream is one subscription with the parameters of `subscribe` in the query. An event's `id` is
its place in the log, "height" or "height.index"; browsers send the last one back as Last-Event-ID
when they reconnect, and the stream goes on behind it. A stream that lagged ends with an event named
`lagged`, and the browser comes back by itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import WSMsgType, web

from rpc.context import Call
from rpc.dispatcher import Dispatcher
from rpc.errors import InvalidParams, InvalidRequest, LimitExceeded, RpcError, Unavailable
from rpc.methods.subscription import open_subscription, subscribe
from rpc.server import CORS, OPERATOR, json_refusal
from rpc.subscriptions.hub import Hub
from rpc.subscriptions.logs import Transactions
from rpc.subscriptions.session import Notice, Session
from rpc.subscriptions.subscription import Subscription

# One message of a client: 100 usual transactions are 60 KiB, the largest one 32 KiB.
MESSAGE_BYTES = 128 * 1024

# Frames written before it is asked whether the client reads; as much again waits in the transport.
UNSENT_BYTES = 64 * 1024

# A ping each; a client that has not answered after half of it is gone, and so is one that does not
# read at all, since it sees no ping.
HEARTBEAT_S = 30.0

# A stream that is silent longer than this gets a comment, lest a proxy close it.
SILENCE_S = 15.0

# A stream whose client reads nothing for this long is closed.
STALL_S = 30.0

# Browsers wait this long before they reconnect.
RETRY_MS = 1_000

# A closed connection's goodbye is waited for this long.
CLOSE_S = 1.0

_NUMBERS = frozenset({"fromHeight", "fromIndex"})
_TRUTHS = frozenset({"pending", "ids"})
_DIGITS = 16

_STATUSES: tuple[tuple[type[RpcError], int], ...] = (
    (InvalidParams, 400),
    (LimitExceeded, 429),
    (Unavailable, 410),
)

_LAST_PLACE = re.compile(r"(\d{1,16})(?:\.(\d{1,9}))?")

_STREAM_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # Lets events through proxies that would collect them (nginx).
    "X-Accel-Buffering": "no",
}


class EventRoutes:
    """The two routes. `make_context` as in RpcServer."""

    def __init__(
        self,
        hub: Hub,
        dispatcher: Dispatcher[Call],
        make_context: Callable[[str, bool], Call],
        *,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self._hub = hub
        self._dispatcher = dispatcher
        self._make_context = make_context
        self._on_failure = on_failure
        self._open: dict[asyncio.Task[Any], None] = {}

    def routes(self) -> list[web.AbstractRouteDef]:
        """For RpcServer."""
        return [web.get("/ws", self._websocket), web.get("/events", self._stream)]

    async def close(self) -> None:
        """End every connection; before the server stops."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- WebSocket -------------------------------------------------------------------------------

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            compress=False,
            max_msg_size=MESSAGE_BYTES,
            writer_limit=UNSENT_BYTES,
            heartbeat=HEARTBEAT_S,
            timeout=CLOSE_S,
        )
        if not socket.can_prepare(request):
            error = InvalidRequest("this address speaks WebSocket", reason="NEEDS_WEBSOCKET")
            return json_refusal(426, error, {"Upgrade": "websocket"})
        call = self._call(request)
        try:
            self._hub.enter(call.network, metered=call.metered)
        except RpcError as error:
            return json_refusal(503, error)
        try:
            await socket.prepare(request)
            call.session = Session(self._hub, call.charge, _SocketOutlet(request, socket))
            await self._converse(socket, call, call.session)
        finally:
            self._hub.leave(call.network)
        return socket

    async def _converse(self, socket: web.WebSocketResponse, call: Call, session: Session) -> None:
        async def send(notice: Notice) -> None:
            notification = _notification(notice.subscription, notice.event)
            await socket.send_frame(notification, WSMsgType.TEXT)

        try:
            async with asyncio.TaskGroup() as group:
                events = group.create_task(session.run(send))
                answers = group.create_task(self._answer(socket, call, session))
                answers.add_done_callback(lambda _: events.cancel())
                self._track(answers)
        except* ConnectionError:
            pass
        except* Exception as failures:  # noqa: BLE001 - the border: one connection ends, not the node
            self._on_failure("subscription", failures.exceptions[0])
        finally:
            session.close()
            await socket.close(code=1001)

    async def _answer(self, socket: web.WebSocketResponse, call: Call, session: Session) -> None:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                await socket.close(code=1003, message=b"requests are text")
                return
            answer = await self._dispatcher.dispatch(message.data.encode(), call)
            if answer is not None:
                await socket.send_frame(answer, WSMsgType.TEXT)
            session.begin()

    # ---- server-sent events ----------------------------------------------------------------------

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        call = self._call(request)
        session = Session(self._hub, call.charge)
        try:
            call.charge(subscribe.cost)
            given = subscribe.bind(_query(request.query, request.headers.get("Last-Event-ID")))
            self._hub.enter(call.network, metered=call.metered)
        except RpcError as error:
            return json_refusal(_status_of(error), error)
        try:
            filters = {name: value for name, value in given.items() if name != "topic"}
            open_subscription(call, session, given["topic"], filters)
            session.begin()
            return await self._feed(request, session)
        except RpcError as error:
            return json_refusal(_status_of(error), error)
        finally:
            session.close()
            self._hub.leave(call.network)

    async def _feed(self, request: web.Request, session: Session) -> web.StreamResponse:
        cors = request[CORS]
        response = web.StreamResponse(headers={**_STREAM_HEADERS, **cors})
        await response.prepare(request)
        await response.write(b"retry: %d\n\n" % RETRY_MS)
        loop = asyncio.get_running_loop()
        written_s = loop.time()

        async def write(data: bytes) -> None:
            nonlocal written_s
            async with asyncio.timeout(STALL_S):
                await response.write(data)
            written_s = loop.time()

        async def send(notice: Notice) -> None:
            await write(_server_sent(notice))
            if notice.is_end:
                events.cancel()

        async def break_silence() -> None:
            while True:
                await asyncio.sleep(SILENCE_S)
                if loop.time() - written_s >= SILENCE_S:
                    await write(b":\n\n")

        try:
            async with asyncio.TaskGroup() as group:
                events = group.create_task(session.run(send))
                comments = group.create_task(break_silence())
                events.add_done_callback(lambda _: comments.cancel())
                self._track(events)
        except* (ConnectionError, TimeoutError):
            pass
        except* Exception as failures:  # noqa: BLE001 - the border: one connection ends, not the node
            self._on_failure("subscription", failures.exceptions[0])
        return response

    # ---- both ------------------------------------------------------------------------------------

    def _call(self, request: web.Request) -> Call:
        return self._make_context(request.remote or "", request[OPERATOR])

    def _track(self, task: asyncio.Task[None]) -> None:
        """`close` shall end it."""
        self._open[task] = None
        task.add_done_callback(self._open.pop)


class _SocketOutlet:
    """The WebSocket of one request, as long as its client reads."""

    __slots__ = ("_protocol", "_socket", "_transport")

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        assert request.transport is not None
        self._transport: asyncio.WriteTransport = request.transport
        self._protocol = request.protocol
        self._socket = socket

    def frame(self, subscription: Subscription, event: bytes) -> bytes:
        """The notification of an event, as a frame."""
        return text_frame(_notification(subscription, event))

    def is_ready(self) -> bool:
        """Whether nothing waits to be sent."""
        return not (
            self._protocol.writing_paused
            or self._socket.closed
            or self._transport.is_closing()
            or self._transport.get_write_buffer_size()
        )

    def write(self, frames: bytes) -> None:
        """Write finished frames."""
        self._transport.write(frames)


def text_frame(payload: bytes) -> bytes:
    """A server's text frame (RFC 6455, section 5.2): never masked, one piece, not compressed."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65_536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def _notification(subscription: Subscription, event: bytes) -> bytes:
    """The JSON-RPC notification of an event, which is spliced, not encoded again."""
    return (
        b'{"jsonrpc":"2.0","method":"subscription","params":'
        b'{"subscription":%d,"topic":"%b","event":%b}}'
        % (subscription.id, subscription.topic.encode(), event)
    )


def _server_sent(notice: Notice) -> bytes:
    """One event of a stream. JSON as orjson writes it has no line breaks."""
    if notice.is_end:
        return b"event: lagged\ndata: %b\n\n" % notice.event
    topic = notice.subscription.topic
    if notice.place is None:
        place = b""
    elif topic == Transactions.topic:
        place = b"id: %d.%d\n" % notice.place
    else:
        place = b"id: %d\n" % notice.place[0]
    return b"%bevent: %b\ndata: %b\n\n" % (place, topic.encode(), notice.event)


def _query(query: Mapping[str, str], last_event_id: str | None) -> dict[str, Any]:
    """The parameters of subscribe in a query. What is no number or truth value stays text."""
    given: dict[str, Any] = {}
    for name, text in query.items():
        if name in _NUMBERS and text.isascii() and text.isdigit() and len(text) <= _DIGITS:
            given[name] = int(text)
        elif name in _TRUTHS and text in ("true", "false"):
            given[name] = text == "true"
        elif name == "subjects":
            given[name] = text.split(",")
        else:
            given[name] = text
    if last_event_id:
        given |= _place_behind(last_event_id)
    return given


def _place_behind(last_event_id: str) -> dict[str, int]:
    found = _LAST_PLACE.fullmatch(last_event_id)
    if found is None:
        raise InvalidParams("Last-Event-ID is none of ours", reason="INVALID_CURSOR")
    height, index = found.groups()
    if index is None:
        return {"fromHeight": int(height) + 1}
    return {"fromHeight": int(height), "fromIndex": int(index) + 1}


def _status_of(error: RpcError) -> int:
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
