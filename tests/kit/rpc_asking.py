"""Asking an RpcNode through the real dispatcher, as JSON text and back.

Every result is held against the schema that the OpenRPC document promises for it.
"""

from __future__ import annotations

from typing import Any

import orjson

from rpc.context import Desk
from rpc.dispatcher import Dispatcher
from rpc.limits import RateLimiter
from rpc.methods import all_methods
from rpc.ports import NodeApi
from rpc.schemas import RESULTS
from tests.kit.schema import check


class Refused(Exception):
    """The error object of an answer."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.code: int = error["code"]
        self.data: dict[str, Any] = error["data"]
        self.reason: str = error["data"]["reason"]


class Asking:
    """`await ask("account_get", address=…)` gives the result or raises Refused."""

    def __init__(self, node: NodeApi, client: str = "127.0.0.1") -> None:
        self.failures: list[tuple[str, Exception]] = []
        self.now_ms = 0
        self.desk = Desk(node, limiter=RateLimiter(), monotonic_ms=lambda: self.now_ms)
        self.client = client
        self.dispatcher = Dispatcher(
            all_methods(), on_failure=lambda *failure: self.failures.append(failure)
        )

    async def text(self, method: str, /, **params: Any) -> bytes:
        """The whole answer as it would go over the wire."""
        body = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
        context = self.desk.context(self.client, False)
        answer = await self.dispatcher.dispatch(orjson.dumps(body), context)
        for _, failure in self.failures:
            raise failure
        assert answer is not None
        return answer

    async def __call__(self, method: str, /, **params: Any) -> Any:
        answer = orjson.loads(await self.text(method, **params))
        if "error" in answer:
            raise Refused(answer["error"])
        schema = RESULTS.get(method)
        if schema is not None:
            check(answer["result"], schema, method)
        return answer["result"]
