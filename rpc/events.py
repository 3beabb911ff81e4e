"""Following a node's events: an asynchronous iterator that survives broken connections.

    async with aclosing(follow("http://127.0.0.1:8700", "blocks", from_height=1)) as events:
        async for event in events:
            print(event.height, event.data["hash"])

A log (blocks, tx, reputation, validators) is followed from place to place: what has been yielded is
remembered, and after a broken connection, a restart of the node or a `lagged` the next subscription
begins right behind it. So every event comes once and in order, however often the connection broke.
Without `from_height` a log begins behind the node's latest block at the time of the first answer.

A state (account, consensus, peers) begins with the present, and again after each reconnection.
Waiting and dropped transactions (`tx` with pending) have no place: those that came while the
connection was broken are not seen.

Raises CallFailed where the node refuses the subscription (PRUNED: the blocks to resume from are
gone), HttpRefused, BadAnswer, and ConnectionFailed once the node could not be reached for
`patience_s`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from rpc.client import (
    CONNECT_TIMEOUT_MS,
    BadAnswer,
    CallFailed,
    ConnectionFailed,
    HttpRefused,
)

# The largest event: a block of 10,000 transactions' ids is 700 KiB.
EVENT_BYTES = 8 * 1024 * 1024

# The answer to subscribe; the node answers it from memory.
ANSWER_S = 10.0

# Pings, so that a node that vanished without a word is noticed.
HEARTBEAT_S = 20.0

# Between two attempts, doubling, with jitter so that many clients do not come back at once.
BACKOFF_FIRST_S = 0.1
BACKOFF_CAP_S = 5.0
_DOUBLINGS_COUNT = 8

# HTTP statuses that pass: overloaded, restarting behind a proxy.
_PASSING_STATUSES = frozenset({429, 502, 503, 504})

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Event:
    """`height` where the event has one; `data` is what the topic says (rpc.subscriptions)."""

    topic: str
    data: dict[str, Any]

    @property
    def height(self) -> int | None:
        """The block it belongs to."""
        found = self.data.get("height")
        return found if isinstance(found, int) else None


async def follow(
    url: str,
    topic: str,
    *,
    from_height: int | None = None,
    filters: Mapping[str, Any] | None = None,
    token: str | None = None,
    unix_path: Path | None = None,
    patience_s: float | None = None,
    rng: random.Random | None = None,
) -> AsyncGenerator[Event, None]:
    """The events of a topic, for ever. `filters` by their names in JSON. See the module."""
    following = _Following(url, topic, from_height, dict(filters or {}))
    backoff = _Backoff(random.Random() if rng is None else rng, patience_s)  # noqa: S311 - jitter
    async with _session(token, unix_path) as session:
        while True:
            try:
                async with AsyncExitStack() as stack:
                    socket = await stack.enter_async_context(_connect(session, url))
                    events = await stack.enter_async_context(aclosing(following.events(socket)))
                    async for event in events:
                        backoff.reset()
                        yield event
            except aiohttp.WSServerHandshakeError as error:
                if error.status not in _PASSING_STATUSES:
                    raise HttpRefused(url, "subscribe", error.status, None) from error
                cause: Exception = error
            except CallFailed as error:
                if not error.retryable or error.reason == "PRUNED":
                    raise
                cause = error
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                cause = error
            await backoff.wait(url, cause)


class _Following:
    """One topic, and how far it has come."""

    def __init__(
        self, url: str, topic: str, from_height: int | None, filters: dict[str, Any]
    ) -> None:
        self._url = url
        self._topic = topic
        self._filters = filters
        self._next: Place | None = None if from_height is None else (from_height, 0)
        self._calls = 0

    async def events(self, socket: aiohttp.ClientWebSocketResponse) -> AsyncGenerator[Event, None]:
        """The events on one connection, until it breaks. Raises what ended it."""
        while True:
            id_ = await self._subscribe(socket)
            lagged = False
            while not lagged:
                params = (await self._receive(socket)).get("params")
                if not isinstance(params, dict) or params.get("subscription") != id_:
                    continue
                data = params.get("event")
                if not isinstance(data, dict):
                    raise self._bad("the event is no object")
                if data.get("lagged") is True:
                    self._next = (_number(data, "resumeFrom"), _number(data, "resumeIndex"))
                    lagged = True
                elif self._advance(data):
                    yield Event(self._topic, data)

    async def _subscribe(self, socket: aiohttp.ClientWebSocketResponse) -> int:
        """The subscription's id. Raises CallFailed, BadAnswer, TimeoutError."""
        self._calls += 1
        params = {"topic": self._topic, **self._filters}
        if self._next is not None:
            params["fromHeight"] = max(1, self._next[0])
            if self._next[1]:
                params["fromIndex"] = self._next[1]
        request = {"jsonrpc": "2.0", "method": "subscribe", "params": params, "id": self._calls}
        await socket.send_str(orjson.dumps(request).decode())
        async with asyncio.timeout(ANSWER_S):
            while (answer := await self._receive(socket)).get("id") != self._calls:
                pass
        error, result = answer.get("error"), answer.get("result")
        if isinstance(error, dict) and type(error.get("code")) is int:
            raise CallFailed(self._url, "subscribe", error)
        if not isinstance(result, dict) or type(result.get("subscription")) is not int:
            raise self._bad("the answer names no subscription")
        begins = result.get("fromHeight")
        if self._next is None and isinstance(begins, int):
            self._next = (begins, 0)
        return int(result["subscription"])

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            try:
                said = orjson.loads(message.data)
            except orjson.JSONDecodeError as error:
                raise self._bad(f"not JSON: {error.msg}") from error
            if not isinstance(said, dict):
                raise self._bad("the message is no object")
            return said
        raise aiohttp.ClientConnectionError(f"the connection ended ({message.type.name})")

    def _advance(self, data: dict[str, Any]) -> bool:
        """Note the place of an event of a log; False for one that was yielded before."""
        if self._next is None or "height" not in data:
            return True
        height, index = _number(data, "height"), _number(data, "index")
        if (height, index) < self._next:
            return False
        self._next = (height, index + 1) if "index" in data else (height + 1, 0)
        return True

    def _bad(self, detail: str) -> BadAnswer:
        return BadAnswer(self._url, "subscribe", detail)


class _Backoff:
    """How long to wait before the next attempt, and when to give up."""

    def __init__(self, rng: random.Random, patience_s: float | None) -> None:
        self._rng = rng
        self._patience_s = patience_s
        self._failures = 0
        self._since_s: float | None = None

    def reset(self) -> None:
        """The node has answered."""
        self._failures = 0
        self._since_s = None

    async def wait(self, url: str, cause: Exception) -> None:
        """Raises ConnectionFailed when patience is at its end."""
        now_s = asyncio.get_running_loop().time()
        self._since_s = now_s if self._since_s is None else self._since_s
        if self._patience_s is not None and now_s - self._since_s >= self._patience_s:
            raise ConnectionFailed(
                url, "subscribe", f"cannot be reached ({cause}); is the node running?"
            ) from cause
        ceiling_s = min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2 ** min(self._failures, _DOUBLINGS_COUNT))
        self._failures += 1
        await asyncio.sleep(ceiling_s * self._rng.uniform(0.5, 1.0))


def _session(token: str | None, unix_path: Path | None) -> aiohttp.ClientSession:
    connector = None if unix_path is None else aiohttp.UnixConnector(str(unix_path))
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_MS / 1000)
    return aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout)


def _connect(session: aiohttp.ClientSession, url: str) -> Any:
    return session.ws_connect(
        url.rstrip("/") + "/ws", max_msg_size=EVENT_BYTES, heartbeat=HEARTBEAT_S, compress=0
    )


def _number(data: dict[str, Any], name: str) -> int:
    found = data.get(name, 0)
    return found if isinstance(found, int) else 0
