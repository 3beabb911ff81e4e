"""The dispatcher: the specification's examples, the corners it leaves, arbitrary bytes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc.dispatcher import BATCH_ANSWER_BYTES, BATCH_COUNT, Dispatcher, Raw
from rpc.errors import LimitExceeded, NotFound
from rpc.registry import Registry, method

VECTORS = Path(__file__).parents[2] / "vectors" / "jsonrpc"
EXAMPLES = json.loads((VECTORS / "specification.json").read_text())["examples"]


class Caller:
    """A context that records charges and can run dry."""

    def __init__(self, *, admin: bool = False, tokens: int = 10**9) -> None:
        self.admin = admin
        self.tokens = tokens
        self.seen: list[Any] = []
        self.met = asyncio.Event()

    def charge(self, cost: int) -> None:
        if self.tokens < cost:
            raise LimitExceeded("empty", reason="RATE_LIMITED", retryable=True)
        self.tokens -= cost


@method("subtract")
def subtract(_call: Caller, minuend: int, subtrahend: int) -> object:
    return minuend - subtrahend


@method("sum")
def sum_(_call: Caller, a: int, b: int, c: int) -> object:
    return a + b + c


@method("notify_sum")
def notify_sum(call: Caller, a: int, b: int, c: int) -> object:
    call.seen.append(("notify_sum", a, b, c))
    return None


@method("notify_hello")
def notify_hello(call: Caller, number: int) -> object:
    call.seen.append(("notify_hello", number))
    return None


@method("update")
def update(call: Caller, a: int, b: int, c: int, d: int, e: int) -> object:
    call.seen.append(("update", a, b, c, d, e))
    return None


@method("get_data")
def get_data(_call: Caller) -> object:
    return ["hello", 5]


@method("test_kinds")
def kinds(
    _call: Caller,
    text: str = "",
    whole_number: int = 0,
    flag: bool = False,
    many: list[str] | None = None,
) -> object:
    return [text, whole_number, flag, many]


@method("test_fail")
def fail(_call: Caller) -> object:
    raise RuntimeError("secret path /etc/shadow")


@method("test_missing", errors=(NotFound,))
async def missing(_call: Caller) -> object:
    raise NotFound("no such block", reason="BLOCK_NOT_FOUND", facts={"height": 7})


@method("test_unencodable")
def unencodable(_call: Caller) -> object:
    return {"a": object()}


@method("test_badFacts")
def bad_facts(_call: Caller) -> object:
    raise NotFound("x", facts={"a": object()})


@method("test_raw")
def raw(_call: Caller) -> object:
    return {"items": [Raw(b'{"already":"encoded"}')]}


@method("test_large")
def large(_call: Caller) -> object:
    return Raw(b'"' + b"x" * (BATCH_ANSWER_BYTES // 2) + b'"')


@method("test_hang")
async def hang(_call: Caller) -> object:
    await asyncio.Event().wait()
    return None


@method("test_waits", waits=True, cost=5)
async def waits(call: Caller, number: int) -> object:
    call.seen.append(number)
    if len(call.seen) == 2:
        call.met.set()
    await call.met.wait()
    return number


@method("admin_stop", auth="admin")
def stop(_call: Caller) -> object:
    return "stopping"


METHODS = [
    subtract,
    sum_,
    notify_sum,
    notify_hello,
    update,
    get_data,
    kinds,
    fail,
    missing,
    unencodable,
    bad_facts,
    raw,
    large,
    hang,
    waits,
    stop,
]


class Served:
    def __init__(self, **options: Any) -> None:
        self.failures: list[tuple[str, Exception]] = []
        self.dispatcher: Dispatcher[Caller] = Dispatcher(
            Registry(METHODS), on_failure=lambda *it: self.failures.append(it), **options
        )

    async def ask(self, body: bytes, caller: Caller | None = None) -> Any:
        answer = await self.dispatcher.dispatch(body, caller or Caller())
        return None if answer is None else json.loads(answer)

    async def call(self, name: str, params: Any = (), caller: Caller | None = None) -> Any:
        body = {"jsonrpc": "2.0", "method": name, "params": params, "id": 1}
        return await self.ask(orjson.dumps(body), caller)


def matches(expected: Any, answer: Any) -> bool:
    """Whether the answer is the expected one, but for an error's message and data."""
    if isinstance(expected, list):
        return (
            isinstance(answer, list)
            and len(expected) == len(answer)
            and all(map(matches, expected, answer))
        )
    if isinstance(expected, dict) and "error" in expected:
        return bool(
            answer.keys() == expected.keys()
            and answer["jsonrpc"] == "2.0"
            and answer["id"] == expected["id"]
            and answer["error"]["code"] == expected["error"]["code"]
        )
    return bool(answer == expected)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["name"])
async def test_specification_example(example: dict[str, Any]) -> None:
    answer = await Served().ask(example["body"].encode())
    assert matches(example["answer"], answer), answer


@pytest.mark.parametrize(
    ("body", "code", "id_"),
    [
        (b"", -32700, None),
        (b"\xff", -32700, None),
        (b"nul", -32700, None),
        (b'{"jsonrpc":"2.0","method":"get_data","id":1} x', -32700, None),
        (b'{"jsonrpc":"2.0","method":"get_data","id":NaN}', -32700, None),
        (b'{"jsonrpc":"2.0","method":"get_data","id":"\\ud800"}', -32700, None),
        (b"[" * 100_000, -32700, None),
        (b"[" * 100_000 + b"]" * 100_000, -32700, None),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, -32700, None),
        (b"null", -32600, None),
        (b'"2.0"', -32600, None),
        (b"{}", -32600, None),
        (b'{"jsonrpc":"1.0","method":"get_data","id":7}', -32600, 7),
        (b'{"jsonrpc":2.0,"method":"get_data","id":7}', -32600, 7),
        (b'{"method":"get_data","id":7}', -32600, 7),
        (b'{"jsonrpc":"2.0","id":"abc"}', -32600, "abc"),
        (b'{"jsonrpc":"2.0","method":null,"id":7}', -32600, 7),
        (b'{"jsonrpc":"2.0","method":["get_data"],"id":7}', -32600, 7),
        (b'{"jsonrpc":"2.0","method":"get_data","id":true}', -32600, None),
        (b'{"jsonrpc":"2.0","method":"get_data","id":[1]}', -32600, None),
        (b'{"jsonrpc":"2.0","method":"get_data","id":{}}', -32600, None),
        (b'{"jsonrpc":"2.0","method":"get_data","id":18446744073709551616}', -32600, None),
        (b'{"jsonrpc":"2.0","method":"get_data","params":null,"id":7}', -32600, 7),
        (b'{"jsonrpc":"2.0","method":"get_data","params":"x","id":7}', -32600, 7),
        (b'{"jsonrpc":"2.0","method":"get_data","params":0,"id":7}', -32600, 7),
        (b'{"jsonrpc":"2.0","method":"get_data","params":0}', -32600, None),
        (b'{"jsonrpc":"2.0","method":"","id":7}', -32601, 7),
        (b'{"jsonrpc":"2.0","method":"get_data ","id":7}', -32601, 7),
        (b'{"jsonrpc":"2.0","method":"get_data","params":[1],"id":null}', -32602, None),
    ],
)
async def test_wrong_bodies(body: bytes, code: int, id_: object) -> None:
    answer = await Served().ask(body)
    assert answer["error"]["code"] == code
    assert answer["id"] == id_
    assert answer["error"]["data"]["reason"]
    assert isinstance(answer["error"]["data"]["retryable"], bool)


@pytest.mark.parametrize(
    "id_",
    ["null", "0", "-1", "1.5", "-0.25", '""', '"é\\u0000"', "18446744073709551615", "1e3"],
)
async def test_ids_are_echoed(id_: str) -> None:
    answer = await Served().ask(b'{"jsonrpc":"2.0","method":"get_data","id":%s}' % id_.encode())
    assert answer == {"jsonrpc": "2.0", "result": ["hello", 5], "id": json.loads(id_)}


async def test_of_duplicate_members_the_last_counts() -> None:
    body = b'{"jsonrpc":"2.0","method":"nope","id":1,"method":"get_data","id":2}'
    assert await Served().ask(body) == {"jsonrpc": "2.0", "result": ["hello", 5], "id": 2}


async def test_other_members_are_ignored() -> None:
    body = b'{"jsonrpc":"2.0","method":"get_data","id":1,"meta":{"trace":"x"}}'
    assert (await Served().ask(body))["result"] == ["hello", 5]


@pytest.mark.parametrize(
    ("params", "result"),
    [
        ({}, ["", 0, False, None]),
        ([], ["", 0, False, None]),
        (["a", 1], ["a", 1, False, None]),
        ({"wholeNumber": 2, "flag": True}, ["", 2, True, None]),
        ({"many": ["a"]}, ["", 0, False, ["a"]]),
        ({"many": None}, ["", 0, False, None]),
    ],
)
async def test_parameters_fit(params: object, result: object) -> None:
    assert (await Served().call("test_kinds", params))["result"] == result


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"text": 1}, "text"),
        ({"text": None}, "text"),
        ({"wholeNumber": "1"}, "wholeNumber"),
        ({"wholeNumber": 1.0}, "wholeNumber"),
        ({"wholeNumber": True}, "wholeNumber"),
        ({"flag": 1}, "flag"),
        ({"many": "abc"}, "many"),
        ({"many": [1]}, "many.0"),
        ({"whole_number": 1}, "whole_number"),
        ({"unknown": 1}, "unknown"),
        ({"x" * 500: 1}, "x" * 64),
    ],
)
async def test_parameters_that_do_not_fit_are_named(params: object, named: str) -> None:
    error = (await Served().call("test_kinds", params))["error"]
    assert error["code"] == -32602
    assert error["data"]["reason"] == "INVALID_PARAMS"
    assert error["data"]["problems"][0]["parameter"] == named


async def test_missing_and_surplus_parameters() -> None:
    served = Served()
    assert (await served.call("subtract", {"minuend": 1}))["error"]["code"] == -32602
    assert (await served.call("subtract", [1]))["error"]["code"] == -32602
    surplus = await served.call("subtract", [1, 2, 3])
    assert surplus["error"]["data"]["parameters"] == ["minuend", "subtrahend"]
    many = {f"k{n}": n for n in range(50_000)}
    assert len(orjson.dumps(await served.call("subtract", many))) < 1_000


async def test_deep_parameters_are_an_error_not_a_crash() -> None:
    nested = b"[" * 900 + b"]" * 900
    body = b'{"jsonrpc":"2.0","method":"test_kinds","params":{"text":%s},"id":1}' % nested
    assert (await Served().ask(body))["error"]["code"] == -32602


async def test_notifications_run_and_are_never_answered() -> None:
    served, caller = Served(), Caller()
    body = b'[{"jsonrpc":"2.0","method":"notify_hello","params":[7]},'
    body += b'{"jsonrpc":"2.0","method":"test_fail"},'
    body += b'{"jsonrpc":"2.0","method":"test_badFacts"},'
    body += b'{"jsonrpc":"2.0","method":"test_unencodable"},'
    body += b'{"jsonrpc":"2.0","method":"admin_stop"},'
    body += b'{"jsonrpc":"2.0","method":"notify_hello","params":{"number":"7"}}]'
    assert await served.ask(body, caller) is None
    assert caller.seen == [("notify_hello", 7)]
    assert [name for name, _ in served.failures] == ["test_fail"]


async def test_failures_go_to_the_node_and_not_to_the_caller() -> None:
    served = Served()
    for name in ("test_fail", "test_unencodable", "test_badFacts"):
        answer = await served.call(name)
        assert answer["error"]["code"] == -32603
        assert answer["error"]["data"] == {"reason": "INTERNAL_ERROR", "retryable": True}
        assert "shadow" not in json.dumps(answer)
    assert [name for name, _ in served.failures] == [
        "test_fail",
        "test_unencodable",
        "test_badFacts",
    ]


async def test_errors_carry_reason_and_facts() -> None:
    error = (await Served().call("test_missing"))["error"]
    assert error == {
        "code": -32001,
        "message": "no such block",
        "data": {"reason": "BLOCK_NOT_FOUND", "retryable": False, "height": 7},
    }


async def test_encoded_results_are_spliced() -> None:
    answer = await Served().call("test_raw")
    assert answer["result"] == {"items": [{"already": "encoded"}]}


async def test_batch_limit() -> None:
    served = Served()
    one = {"jsonrpc": "2.0", "method": "get_data", "id": 1}
    assert len(await served.ask(orjson.dumps([one] * BATCH_COUNT))) == BATCH_COUNT
    answer = await served.ask(orjson.dumps([one] * (BATCH_COUNT + 1)))
    assert answer["error"]["code"] == -32005
    assert answer["error"]["data"]["reason"] == "BATCH_TOO_LARGE"


async def test_batch_answers_are_bounded() -> None:
    batch = [{"jsonrpc": "2.0", "method": "test_large", "id": n} for n in range(4)]
    batch.append({"jsonrpc": "2.0", "method": "notify_hello", "params": [1]})
    answer = await Served().ask(orjson.dumps(batch))
    assert [each["id"] for each in answer] == [0, 1, 2, 3]
    assert ["result" in each for each in answer] == [True, True, False, False]
    assert answer[2]["error"]["data"]["reason"] == "RESPONSE_TOO_LARGE"


async def test_calls_that_wait_run_side_by_side_and_are_answered_in_order() -> None:
    # The first can only finish after the second has started.
    batch = [{"jsonrpc": "2.0", "method": "test_waits", "params": [n], "id": n} for n in (1, 2)]
    caller = Caller()
    answer = await Served().ask(orjson.dumps(batch), caller)
    assert [each["result"] for each in answer] == [1, 2]
    assert caller.seen == [1, 2]


async def test_deadline() -> None:
    batch = [
        {"jsonrpc": "2.0", "method": "test_hang", "id": 1},
        {"jsonrpc": "2.0", "method": "get_data", "id": 2},
    ]
    answer = await Served(deadline_ms=1).ask(orjson.dumps(batch))
    assert answer[0]["error"]["code"] == -32002
    assert answer[0]["error"]["data"] == {"reason": "DEADLINE_EXCEEDED", "retryable": True}
    assert answer[1]["result"] == ["hello", 5]


async def test_authority_and_disabled_methods() -> None:
    served = Served(disabled=["get_data"])
    assert (await served.call("admin_stop"))["error"]["code"] == -32010
    assert (await served.call("admin_stop", (), Caller(admin=True)))["result"] == "stopping"
    assert (await served.call("get_data"))["error"]["code"] == -32004
    with pytest.raises(ValueError, match="no_such"):
        Served(disabled=["no_such"])


async def test_every_call_is_charged() -> None:
    served = Served()
    caller = Caller(tokens=8)
    batch = [
        {"jsonrpc": "2.0", "method": "get_data", "id": 1},
        {"jsonrpc": "2.0", "method": "unknown", "id": 2},
        {"jsonrpc": "2.0", "method": "get_data", "params": [1], "id": 3},
        {"jsonrpc": "2.0", "method": "test_waits", "params": [1]},
        {"jsonrpc": "2.0", "method": "get_data", "id": 4},
    ]
    caller.seen.append(0)
    answer = await served.ask(orjson.dumps(batch), caller)
    assert caller.tokens == 0
    assert answer[-1]["error"]["data"]["reason"] == "RATE_LIMITED"


def test_two_methods_of_one_name_are_refused() -> None:
    with pytest.raises(AssertionError):
        Registry([get_data, get_data])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "1.0", 2]) | JSON,
        "method": st.sampled_from([each.name for each in METHODS if not each.is_async]) | JSON,
        "params": JSON,
        "id": JSON,
    },
)


def well_formed(answer: Any) -> bool:
    return (
        answer.keys() in ({"jsonrpc", "result", "id"}, {"jsonrpc", "error", "id"})
        and answer["jsonrpc"] == "2.0"
        and (answer["id"] is None or type(answer["id"]) in (str, int, float))
        and (
            "error" not in answer
            or (
                type(answer["error"]["code"]) is int
                and answer["error"]["data"]["reason"]
                and answer["error"]["data"]["retryable"] in (True, False)
            )
        )
    )


def check_answered(body: bytes) -> None:
    answer = asyncio.run(Served().dispatcher.dispatch(body, Caller(admin=True)))
    if answer is None:
        return
    parsed = json.loads(answer)
    if isinstance(parsed, list):
        assert parsed
        assert all(map(well_formed, parsed))
    else:
        assert well_formed(parsed)


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(body: bytes) -> None:
    check_answered(body)


@given(st.one_of(REQUESTS, st.lists(REQUESTS | JSON, max_size=5), JSON))
def test_any_json_is_answered(value: Any) -> None:
    check_answered(json.dumps(value).encode())


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["get_data", "none"])), max_size=8))
def test_a_batch_is_answered_once_for_each_call_with_an_id(shape: list[tuple[bool, str]]) -> None:
    batch = [
        {"jsonrpc": "2.0", "method": name, **({"id": place} if wants else {})}
        for place, (wants, name) in enumerate(shape)
    ]
    answer = asyncio.run(Served().ask(orjson.dumps(batch)))
    expected = [place for place, (wants, _) in enumerate(shape) if wants]
    if not shape:
        assert answer["error"]["code"] == -32600
    elif not expected:
        assert answer is None
    else:
        assert [each["id"] for each in answer] == expected
