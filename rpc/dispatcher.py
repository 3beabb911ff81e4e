"""JSON-RPC 2.0, to the letter, without a socket: one body in, one answer (or none) out.

    await dispatcher.dispatch(body, context) -> bytes | None

Rules, by section of the specification (https://www.jsonrpc.org/specification):

  4    A Request object has `jsonrpc` exactly "2.0", a string `method`, `params` absent or
       structured (an object or an array; null is neither), and `id` absent or a string, a number
       or null. Members other than these four are ignored.
  4.1  A Request without `id` is a notification and is never answered, whatever happens to it.
       `"id": null` is not a notification: it is answered, with `"id": null`.
  5    Where the id could be read it is echoed, also for an invalid Request; otherwise it is null.
  6    An empty array is one invalid Request; a batch of notifications only is answered with
       nothing; an invalid member gets its own error. Answers stand in the order of the calls.

Decisions where the specification leaves room (docs/decisions/0040):

  - Duplicate member names: the last one counts, as in ECMA-262 JSON.parse.
  - Fractional ids are echoed as numbers. A number that is no 64-bit integer and lies beyond 2^53
    cannot be echoed as it was sent, so it is no id: the Request is invalid, id null.
  - More than BATCH_COUNT members, or nesting deeper than the parser goes (1,024), answers the whole
    body with one error.
  - Members run one after the other, except that a batch holding a call that waits runs its members
    side by side, started in order. The event loop has its turns between them: a hundred proofs in
    one body take more than a second, and votes must not wait for that.

Nothing a caller sends makes `dispatch` raise; a handler's unexpected exception becomes
INTERNAL_ERROR and goes to `on_failure`, which belongs to the node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from typing import Any, Final, Generic, cast

import orjson

from rpc.errors import (
    InternalError,
    InvalidRequest,
    LimitExceeded,
    MethodDisabled,
    MethodNotFound,
    ParseError,
    RpcError,
    Unauthorized,
    Unavailable,
)
from rpc.registry import C, Method, Registry

# Calls in one body. Each is charged on its own; the limit bounds the time one body holds the loop.
BATCH_COUNT = 100

# Bytes of one batch's answers together: four of the largest blocks in hexadecimal. Members after
# that are answered with RESPONSE_TOO_LARGE, so that one body cannot make the node hold 100 blocks.
BATCH_ANSWER_BYTES = 32 * 1024 * 1024

# From the arrival of the body to the end of its last call, except for calls that wait on purpose.
DEADLINE_MS = 5_000

# How long the members of a batch hold the event loop before everybody else has a turn.
TURN_S = 0.005

# Integers up to here are echoed exactly; orjson reads larger ones as doubles.
_EXACT_DOUBLE = 2.0**53

Raw = orjson.Fragment
"""JSON that is already encoded: spliced into the answer at any depth, never parsed or copied."""

OnFailure = Callable[[str, Exception], None]
"""Told the method's name and the exception that no rule of ours foresaw."""

_MISSING: Final = object()
_NULL: Final = b"null"


class _Room:
    """What is left of BATCH_ANSWER_BYTES while the members of one batch are answered."""

    __slots__ = ("left_bytes",)

    def __init__(self) -> None:
        self.left_bytes = BATCH_ANSWER_BYTES


class Dispatcher(Generic[C]):
    """Answers bodies from a registry. Holds no state between bodies."""

    __slots__ = ("_deadline_s", "_disabled", "_on_failure", "_registry")

    def __init__(
        self,
        registry: Registry[C],
        *,
        on_failure: OnFailure,
        disabled: Collection[str] = (),
        deadline_ms: int = DEADLINE_MS,
    ) -> None:
        unknown = sorted(set(disabled) - set(registry))
        if unknown:
            raise ValueError(f"cannot disable unknown methods: {', '.join(unknown)}")
        self._registry = registry
        self._on_failure = on_failure
        self._disabled = frozenset(disabled)
        self._deadline_s = deadline_ms / 1000

    async def dispatch(self, body: bytes, context: C) -> bytes | None:
        """The answer to `body`, or None where the specification wants none."""
        try:
            request = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return _error_answer(_NULL, ParseError(f"the body is not JSON: {error.msg}"))
        deadline = asyncio.get_running_loop().time() + self._deadline_s
        if type(request) is not list:
            return await self._answer(request, context, deadline)
        return await self._answer_batch(request, context, deadline)

    async def _answer_batch(
        self, requests: list[object], context: C, deadline: float
    ) -> bytes | None:
        if not requests:
            return _error_answer(_NULL, InvalidRequest("the batch is empty"))
        if len(requests) > BATCH_COUNT:
            return _error_answer(_NULL, _batch_too_large(len(requests)))
        room = _Room()
        members = (self._answer_member(each, context, deadline, room) for each in requests)
        if any(map(self._waits, requests)):
            answers = await _side_by_side(members)
        else:
            answers = await _one_by_one(members)
        wanted = [answer for answer in answers if answer is not None]
        return b"[" + b",".join(wanted) + b"]" if wanted else None

    async def _answer_member(
        self, request: object, context: C, deadline: float, room: _Room
    ) -> bytes | None:
        if room.left_bytes <= 0:
            return _refuse_for_size(request)
        answer = await self._answer(request, context, deadline)
        if answer is not None:
            room.left_bytes -= len(answer)
        return answer

    def _waits(self, request: object) -> bool:
        if type(request) is not dict:
            return False
        name = request.get("method")
        found = self._registry.get(name) if type(name) is str else None
        return found is not None and found.waits

    async def _answer(self, request: object, context: C, deadline: float) -> bytes | None:
        """The answer to one Request object; None for a notification."""
        if type(request) is not dict:
            return _error_answer(_NULL, InvalidRequest("a request is a JSON object"))
        id_json = _encoded_id(request.get("id", _MISSING))
        problem = _problem(request, id_json)
        if problem is not None:
            return _error_answer(id_json or _NULL, InvalidRequest(problem))
        name: str = request["method"]
        try:
            result = await self._run(name, request.get("params"), context, deadline)
            if id_json is None:
                return None
            encoded = orjson.dumps(result)
            return b'{"jsonrpc":"2.0","result":' + encoded + b',"id":' + id_json + b"}"
        except RpcError as error:
            return None if id_json is None else self._error_answer(name, id_json, error)
        except Exception as error:  # noqa: BLE001 - the border: nothing may escape to the caller
            self._on_failure(name, error)
            return None if id_json is None else _error_answer(id_json, _internal())

    def _error_answer(self, name: str, id_json: bytes, error: RpcError) -> bytes:
        """An error raised by a handler, whose facts we have not seen before."""
        try:
            return _error_answer(id_json, error)
        except TypeError as unencodable:
            self._on_failure(name, unencodable)
            return _error_answer(id_json, _internal())

    async def _run(self, name: str, params: Any, context: C, deadline: float) -> object:
        found = self._registry.get(name)
        if found is None:
            context.charge(1)
            raise MethodNotFound("there is no such method; rpc.discover lists them")
        if found.auth == "admin" and not context.admin:
            raise Unauthorized(f"{name} is for the operator of this node")
        if name in self._disabled:
            raise MethodDisabled(f"{name} is not served by this node")
        context.charge(found.cost)
        arguments = found.bind(params)
        if not found.is_async:
            return found.call(context, arguments)
        pending = cast("Awaitable[object]", found.call(context, arguments))
        if found.waits:
            return await pending
        return await _before(deadline, found, pending)


async def _one_by_one(members: Iterable[Coroutine[Any, Any, bytes | None]]) -> list[bytes | None]:
    now_s = asyncio.get_running_loop().time
    turn_ends_s = now_s() + TURN_S
    answers = []
    for member in members:
        if now_s() >= turn_ends_s:
            await asyncio.sleep(0)
            turn_ends_s = now_s() + TURN_S
        answers.append(await member)
    return answers


async def _side_by_side(
    members: Iterable[Coroutine[Any, Any, bytes | None]],
) -> list[bytes | None]:
    tasks = []
    async with asyncio.TaskGroup() as group:
        for member in members:
            tasks.append(group.create_task(member))
            # Runs it up to where it waits; all at once would hold the loop for their sum.
            await asyncio.sleep(0)
    return [task.result() for task in tasks]


async def _before(deadline: float, called: Method[Any], pending: Awaitable[object]) -> object:
    try:
        async with asyncio.timeout_at(deadline) as limit:
            return await pending
    except TimeoutError:
        if not limit.expired():
            raise
        raise Unavailable(
            f"{called.name} took longer than the node allows", reason="DEADLINE_EXCEEDED"
        ) from None


def _encoded_id(id_: object) -> bytes | None:
    """The id as JSON; None where it is absent, empty where it is no id at all."""
    if id_ is _MISSING:
        return None
    kind = type(id_)
    if id_ is None or kind is str or kind is int:
        return orjson.dumps(id_)
    if kind is float and -_EXACT_DOUBLE <= cast("float", id_) <= _EXACT_DOUBLE:
        return orjson.dumps(id_)
    return b""


def _problem(request: dict[str, object], id_json: bytes | None) -> str | None:
    """Why the object is no Request, or None."""
    if request.get("jsonrpc") != "2.0":
        return 'jsonrpc must be "2.0"'
    if type(request.get("method")) is not str:
        return "method must be a string"
    if id_json == b"":
        return "id must be a string, null, a 64-bit integer or a smaller fraction"
    params = request.get("params", _MISSING)
    if params is not _MISSING and type(params) is not dict and type(params) is not list:
        return "params must be an object or an array"
    return None


def _error_answer(id_json: bytes, error: RpcError) -> bytes:
    return b'{"jsonrpc":"2.0","error":' + error.encoded() + b',"id":' + id_json + b"}"


def _internal() -> InternalError:
    return InternalError("the node failed to answer; its log says why")


def _batch_too_large(count: int) -> LimitExceeded:
    return LimitExceeded(
        f"a batch has at most {BATCH_COUNT} members, not {count}",
        reason="BATCH_TOO_LARGE",
        facts={"limit": BATCH_COUNT},
    )


def _refuse_for_size(request: object) -> bytes | None:
    """The answer of a member that comes after the answers have grown too large."""
    id_json = _encoded_id(request.get("id", _MISSING)) if type(request) is dict else _NULL
    if id_json is None:
        return None
    error = LimitExceeded(
        f"the answers before this one exceed {BATCH_ANSWER_BYTES} bytes; call it on its own",
        reason="RESPONSE_TOO_LARGE",
        retryable=True,
        facts={"limit": BATCH_ANSWER_BYTES},
    )
    return _error_answer(id_json or _NULL, error)
