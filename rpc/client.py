"""Asking a node: an asynchronous JSON-RPC client that says what it tried when it fails.

    async with RpcClient("http://127.0.0.1:8645/") as client:
        account = await client.account("16Uiu2HA…")

Errors, all with the URL in their message:

    ClientError
      ConnectionFailed    no connection, or it broke; whether the node acted is unknown
      AnswerTimeout       connected, but no answer in time; whether the node acted is unknown
      HttpRefused         the node refused at the level of HTTP; it did not act
      BadAnswer           what came back is no JSON-RPC answer to what was asked
      CallFailed          the node answered with an error: code, reason, retryable, data

Nothing is retried here: whether a call may be repeated is the caller's knowledge. Submitting the
same transaction again always may (rpc.session does).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import aiohttp
import orjson

from rpc.dispatcher import BATCH_ANSWER_BYTES, BATCH_COUNT
from rpc.values import hexed

# The largest answer of a node: a full batch, and one block on top. A node that nobody trusts must
# not fill our memory.
ANSWER_BYTES = BATCH_ANSWER_BYTES + 16 * 1024 * 1024

# For calls that do not wait for a commit; the node's own deadline is shorter.
TIMEOUT_MS = 10_000

# How much longer than its own waiting time a waiting submit may take.
WAITING_MARGIN_MS = 5_000

CONNECT_TIMEOUT_MS = 5_000

# Open connections to one node; further calls wait for one.
CONNECTIONS_COUNT = 32

_READ_CHUNK_BYTES = 256 * 1024

Wait = Literal["accepted", "committed"]

T = TypeVar("T")


class ClientError(Exception):
    """A call that gave no result. `url` and `method` say which."""

    def __init__(self, url: str, method: str, detail: str) -> None:
        super().__init__(f"{method} at {url}: {detail}")
        self.url = url
        self.method = method
        self.detail = detail


class ConnectionFailed(ClientError):
    """No connection, or it broke."""


class AnswerTimeout(ClientError):
    """No answer in time."""


class HttpRefused(ClientError):
    """An HTTP status other than 200 and 204; `reason` where the node gave one."""

    def __init__(self, url: str, method: str, status: int, reason: str | None) -> None:
        why = "" if reason is None else f", {reason}"
        super().__init__(url, method, f"refused with HTTP {status}{why}")
        self.status = status
        self.reason = reason


class BadAnswer(ClientError):
    """Not a JSON-RPC answer."""


class CallFailed(ClientError):
    """The node's error. `data` has everything else it said, by the names of the protocol."""

    def __init__(self, url: str, method: str, error: dict[str, Any]) -> None:
        self.code = int(error["code"])
        self.message = str(error.get("message", ""))
        data = error.get("data")
        self.data: dict[str, Any] = data if isinstance(data, dict) else {}
        self.reason = str(self.data.get("reason", "UNKNOWN"))
        self.retryable = self.data.get("retryable") is True
        super().__init__(url, method, f"{self.reason}: {self.message} (code {self.code})")


@dataclass(frozen=True, slots=True)
class AccountAnswer:
    """What account_get says, not proven. `balance` and `deposit` in µT.

    `nonce` is the state's; `next_nonce` counts waiting transactions too.
    """

    height: int
    address: str
    exists: bool
    balance: int
    nonce: int
    next_nonce: int
    deposit: int
    is_registered: bool


@dataclass(frozen=True, slots=True)
class StatusAnswer:
    """What system_status says."""

    chain_id: str
    genesis_hash: bytes
    version: str
    height: int
    block_hash: bytes
    block_time_ms: int
    peers: int
    mempool_count: int


@dataclass(frozen=True, slots=True)
class TransactionStatus:
    """Where a transaction is. `height`, `ok`, `reason` and `facts` once it is committed.

    A committed transaction with `ok` False has paid its fee and had no effect; `reason` says why.
    """

    transaction_id: bytes
    status: Literal["pending", "committed"]
    height: int | None = None
    ok: bool | None = None
    reason: str = ""
    facts: tuple[tuple[str, int | str], ...] = ()

    @property
    def is_committed(self) -> bool:
        """Whether it stands in a block."""
        return self.status == "committed"


class RpcClient:
    """One node's client. Use as an asynchronous context manager, or call `close`.

    `unix_path`: the operator's socket instead of TCP. `token`: the operator's token.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        unix_path: Path | None = None,
        timeout_ms: int = TIMEOUT_MS,
    ) -> None:
        self.url = url
        self._unix_path = unix_path
        self._timeout_ms = timeout_ms
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._session: aiohttp.ClientSession | None = None
        self._next_id = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self,
        method: str,
        params: dict[str, Any] | list[Any] | None = None,
        *,
        timeout_ms: int | None = None,
    ) -> Any:
        """The result of one call. Raises ClientError."""
        request = self._request(method, params)
        answer = await self._post(method, orjson.dumps(request), timeout_ms)
        if not isinstance(answer, dict):
            raise BadAnswer(self.url, method, "the answer is no object")
        if "error" in answer:
            raise self._failure(method, answer["error"])
        if answer.get("id") != request["id"] or "result" not in answer:
            raise BadAnswer(self.url, method, "the answer is not to this call")
        return answer["result"]

    async def batch(
        self,
        calls: Sequence[tuple[str, dict[str, Any] | list[Any] | None]],
        *,
        timeout_ms: int | None = None,
    ) -> list[Any]:
        """The results of up to 100 calls in one body; a call that failed gives its CallFailed."""
        assert 0 < len(calls) <= BATCH_COUNT
        requests = [self._request(method, params) for method, params in calls]
        named = f"batch of {len(calls)}"
        answers = await self._post(named, orjson.dumps(requests), timeout_ms)
        if isinstance(answers, dict) and "error" in answers:
            raise self._failure(named, answers["error"])
        if not isinstance(answers, list):
            raise BadAnswer(self.url, named, "the answer is no array")
        by_id = {each.get("id"): each for each in answers if isinstance(each, dict)}
        results: list[Any] = []
        for (method, _), request in zip(calls, requests, strict=True):
            answer = by_id.get(request["id"])
            if answer is None or ("result" not in answer and "error" not in answer):
                raise BadAnswer(self.url, method, "one call of the batch has no answer")
            if "error" in answer:
                results.append(self._failure(method, answer["error"]))
            else:
                results.append(answer["result"])
        return results

    # typed calls

    async def status(self) -> StatusAnswer:
        """system_status. Raises ClientError."""
        said = await self.call("system_status")
        return self._read("system_status", _status_of, said)

    async def account(self, address: str) -> AccountAnswer:
        """account_get, not proven. Raises ClientError."""
        said = await self.call("account_get", {"address": address})
        return self._read("account_get", _account_of, said)

    async def parameters(self) -> dict[str, int]:
        """The chain parameters in force, by name, in the units of ledger.params."""
        said = await self.call("consensus_getParams")
        return self._read("consensus_getParams", _parameters_of, said)

    async def submit(
        self, raw: bytes, *, wait: Wait = "accepted", timeout_ms: int = TIMEOUT_MS
    ) -> TransactionStatus:
        """tx_submit of one transaction. A wait that runs out is a pending status, not an error.

        Raises CallFailed with the ledger's reason where it is rejected, ClientError otherwise.
        """
        params = {"tx": hexed(raw), "wait": wait, "timeoutMs": timeout_ms}
        said = await self.call("tx_submit", params, timeout_ms=self._patience(wait, timeout_ms))
        return self._read("tx_submit", _transaction_of, said)

    async def submit_many(
        self, raws: Sequence[bytes], *, wait: Wait = "accepted", timeout_ms: int = TIMEOUT_MS
    ) -> list[TransactionStatus | CallFailed]:
        """tx_submit of up to 100 transactions in order; a rejected one gives its CallFailed."""
        params = {"tx": [hexed(raw) for raw in raws], "wait": wait, "timeoutMs": timeout_ms}
        said = await self.call("tx_submit", params, timeout_ms=self._patience(wait, timeout_ms))
        if not isinstance(said, list) or len(said) != len(raws):
            raise BadAnswer(self.url, "tx_submit", "the answer is no list of this length")
        return [self._submitted(item) for item in said]

    async def transaction(self, transaction_id: bytes) -> TransactionStatus | None:
        """tx_get; None where the node does not know it. Raises ClientError."""
        try:
            said = await self.call("tx_get", {"hash": hexed(transaction_id)})
        except CallFailed as failed:
            if failed.reason == "TRANSACTION_NOT_FOUND":
                return None
            raise
        return self._read("tx_get", _transaction_of, said)

    # the wire

    def _request(self, method: str, params: dict[str, Any] | list[Any] | None) -> dict[str, Any]:
        self._next_id += 1
        request: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "id": self._next_id}
        if params is not None:
            request["params"] = params
        return request

    def _patience(self, wait: Wait, timeout_ms: int) -> int:
        return self._timeout_ms if wait == "accepted" else timeout_ms + WAITING_MARGIN_MS

    async def _post(self, method: str, body: bytes, timeout_ms: int | None) -> Any:
        patience_s = (self._timeout_ms if timeout_ms is None else timeout_ms) / 1000
        try:
            async with asyncio.timeout(patience_s):
                async with self._opened().post(
                    self.url, data=body, allow_redirects=False
                ) as response:
                    raw = await self._read_bounded(method, response)
        except TimeoutError:
            raise AnswerTimeout(self.url, method, f"no answer within {patience_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            where = "" if self._unix_path is None else f" through {self._unix_path}"
            detail = f"cannot be reached{where} ({error}); is the node running?"
            raise ConnectionFailed(self.url, method, detail) from error
        if response.status not in (200, 204):
            raise HttpRefused(self.url, method, response.status, _reason_in(raw))
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise BadAnswer(self.url, method, f"not JSON: {error.msg}") from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector: aiohttp.BaseConnector
            if self._unix_path is None:
                connector = aiohttp.TCPConnector(limit=CONNECTIONS_COUNT)
            else:
                connector = aiohttp.UnixConnector(str(self._unix_path), limit=CONNECTIONS_COUNT)
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_MS / 1000),
            )
        return self._session

    async def _read_bounded(self, method: str, response: aiohttp.ClientResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_chunked(_READ_CHUNK_BYTES):
            size += len(part)
            if size > ANSWER_BYTES:
                response.close()
                raise BadAnswer(self.url, method, f"the answer exceeds {ANSWER_BYTES} bytes")
            parts.append(part)
        return b"".join(parts)

    # reading answers

    def _failure(self, method: str, error: object) -> CallFailed:
        if not isinstance(error, dict) or type(error.get("code")) is not int:
            raise BadAnswer(self.url, method, "the error is no error object")
        return CallFailed(self.url, method, error)

    def _submitted(self, item: Any) -> TransactionStatus | CallFailed:
        if isinstance(item, dict) and item.get("status") == "rejected":
            return self._failure("tx_submit", item.get("error"))
        return self._read("tx_submit", _transaction_of, item)

    def _read(self, method: str, read: Callable[[Any], T], said: Any) -> T:
        """A typed answer. Raises BadAnswer where members are missing or of another kind."""
        try:
            return read(said)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadAnswer(self.url, method, f"unexpected answer: {error!r}") from error


def _reason_in(raw: bytes) -> str | None:
    """The reason in a refusal's body, if it is ours."""
    try:
        reason = orjson.loads(raw)["error"]["data"]["reason"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return reason if isinstance(reason, str) else None


def _status_of(said: Any) -> StatusAnswer:
    return StatusAnswer(
        chain_id=str(said["chainId"]),
        genesis_hash=bytes.fromhex(said["genesisHash"][2:]),
        version=str(said["version"]),
        height=int(said["height"]),
        block_hash=bytes.fromhex(said["blockHash"][2:]),
        block_time_ms=int(said["blockTimeMs"]),
        peers=int(said["peers"]),
        mempool_count=int(said["mempoolCount"]),
    )


def _account_of(said: Any) -> AccountAnswer:
    return AccountAnswer(
        height=int(said["height"]),
        address=str(said["address"]),
        exists=said["exists"] is True,
        balance=int(said["balance"]),
        nonce=int(said["nonce"]),
        next_nonce=int(said["nextNonce"]),
        deposit=int(said["deposit"]),
        is_registered=said["isRegistered"] is True,
    )


def _parameters_of(said: Any) -> dict[str, int]:
    return {str(item["name"]): int(item["value"]) for item in said["items"]}


def _transaction_of(said: Any) -> TransactionStatus:
    transaction_id = bytes.fromhex(said["hash"][2:])
    if said["status"] == "pending":
        return TransactionStatus(transaction_id, "pending")
    if said["status"] != "committed":
        raise ValueError(f"unknown status {said['status']!r}")
    receipt = said["receipt"] or {"ok": None}
    return TransactionStatus(
        transaction_id,
        "committed",
        height=int(said["height"]),
        ok=receipt["ok"],
        reason=str(receipt.get("reason", "")),
        facts=tuple(receipt.get("facts", {}).items()),
    )
