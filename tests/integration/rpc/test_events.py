"""Events over real sockets: what a follower sees, however often its connection breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from ledger.block import BlockHeader
from ledger.identity import peer_id
from ledger.transactions import SignedTransaction
from rpc.client import CallFailed, ConnectionFailed, HttpRefused
from rpc.events import Event, follow
from rpc.feed import PeersChanged, RoundMoved
from rpc.schemas import EVENTS
from rpc.server import ServerSettings
from rpc.subscriptions import arrivals, routes, session, subscription
from rpc.subscriptions import hub as hub_module
from tests.kit.chain import address_of, make_validators
from tests.kit.rpc_node import RpcNode, ascending, score
from tests.kit.rpc_serving import serving
from tests.kit.schema import check

ALICE, BOB, CAROL = (peer_id(address_of(name)) for name in ("alice", "bob", "carol"))
DEADLINE_S = 20


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RpcNode]:
    made = RpcNode(tmp_path)
    yield made
    made.close()


class Talk:
    """A raw WebSocket conversation."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.said: list[dict[str, Any]] = []

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": method}
        await self.socket.send_str(orjson.dumps(request).decode())
        while True:
            answer = await self.hear()
            if answer.get("id") == method:
                return answer
            self.said.append(answer)

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_S):
            said: dict[str, Any] = await self.socket.receive_json(loads=orjson.loads)
        return said

    async def event(self) -> dict[str, Any]:
        said = self.said.pop(0) if self.said else await self.hear()
        assert said["method"] == "subscription"
        event: dict[str, Any] = said["params"]["event"]
        if not event.get("lagged"):
            check(event, EVENTS[said["params"]["topic"]], said["params"]["topic"])
        return event


def grow(node: RpcNode, *more: SignedTransaction, **how: Any) -> BlockHeader:
    """A block, so soon after the last one that no epoch ends."""
    return node.make_block(*more, time_ms=node.time_ms + 1, **how)


def heights(events: list[Event]) -> list[int | None]:
    return [each.height for each in events]


async def take(events: AsyncGenerator[Event, None], count: int) -> list[Event]:
    async with asyncio.timeout(DEADLINE_S):
        taken = [await anext(events) for _ in range(count)]
    for event in taken:
        check(event.data, EVENTS[event.topic], event.topic)
    return taken


# ---- logs ----------------------------------------------------------------------------------------


async def test_blocks_are_replayed_and_then_live_without_a_seam(node: RpcNode) -> None:
    for _ in range(120):
        grow(node)
    async with serving(node) as server:
        async with aclosing(follow(server.server.url, "blocks", from_height=3)) as events:
            seen = await take(events, 10)
            grow(node)
            seen += await take(events, 109)
            header = grow(node, node.transfer("alice", "bob", 1))
            seen += await take(events, 1)
        assert heights(seen) == list(range(3, 123))
        assert seen[-1].data["hash"] == "0x" + header.hash().hex()
        assert seen[-1].data["transactionCount"] == 1
        assert server.hub.sessions_count == 0 or await _until(lambda: not server.hub.sessions_count)


async def _until(holds: Any) -> bool:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():  # noqa: ASYNC110 - whatever it is, it is no event of ours
            await asyncio.sleep(0.001)
    return True


async def test_without_a_height_a_log_begins_behind_the_latest_block(node: RpcNode) -> None:
    grow(node)
    async with serving(node) as server, _talk(server.server.url) as talk:
        answer = await talk.ask("subscribe", topic="blocks", ids=True)
        assert answer["result"] == {"subscription": 1, "topic": "blocks", "fromHeight": 2}
        signed = node.transfer("alice", "bob", 1)
        grow(node, signed)
        event = await talk.event()
        assert event["height"] == 2
        assert event["transactions"] == ["0x" + signed.transaction_id.hex()]


class _talk:  # noqa: N801 - a context manager used like a function
    def __init__(self, url: str, **headers: str) -> None:
        self.url = url
        self.headers = headers

    async def __aenter__(self) -> Talk:
        self.session = aiohttp.ClientSession()
        self.socket = await self.session.ws_connect(self.url + "ws", headers=self.headers)
        return Talk(self.socket)

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()
        await self.session.close()


async def test_transactions_by_account_type_and_hash(node: RpcNode) -> None:
    first = node.transfer("alice", "bob", 1)
    grow(node, first, node.transfer("carol", "bob", 2))
    grow(node, node.transfer("carol", "alice", 3))
    url_of_hash = "0x" + first.transaction_id.hex()
    async with serving(node) as server:

        async def amounts(count: int, **filters: str) -> list[str]:
            events = follow(server.server.url, "tx", from_height=1, filters=filters)
            async with aclosing(events):
                return [each.data["payload"]["amount"] for each in await take(events, count)]

        assert await amounts(3) == ["1", "2", "3"]
        assert await amounts(2, account=ALICE) == ["1", "3"]
        assert await amounts(2, account=BOB) == ["1", "2"]
        assert await amounts(3, type="Transfer") == ["1", "2", "3"]
        assert await amounts(1, hash=url_of_hash) == ["1"]
        events = follow(server.server.url, "tx", from_height=1, filters={"type": "Rate"})
        async with aclosing(events):
            grow(node, node.rate("alice", "bob", 1, 5))
            (rated,) = await take(events, 1)
        assert rated.height == 3
        assert rated.data["receipt"]["reason"] == "NOTHING_TO_RATE"


async def test_waiting_transactions_are_told_until_they_are_committed_or_dropped(
    node: RpcNode,
) -> None:
    async with serving(node) as server, _talk(server.server.url) as talk:
        await talk.ask("subscribe", topic="tx", pending=True, account=BOB)
        kept, dropped = node.transfer("alice", "bob", 1), node.transfer("carol", "bob", 2)
        other = node.transfer("carol", "alice", 3, nonce=1)
        await node.submit([kept.raw, dropped.raw, other.raw])
        assert [(await talk.event())["status"] for _ in range(2)] == ["pending", "pending"]
        node.drop(other.transaction_id, "EVICTED")
        node.drop(dropped.transaction_id, "EVICTED")
        event = await talk.event()
        assert event == {
            "hash": "0x" + dropped.transaction_id.hex(),
            "status": "dropped",
            "reason": "EVICTED",
        }
        grow(node)
        event = await talk.event()
        assert (event["status"], event["height"]) == ("committed", 1)


async def test_scores_and_changes_of_the_set(node: RpcNode) -> None:
    grow(node)
    node.score_block(0, ascending(score("alice", 0, 1), score("bob", 0, 2)))
    changed = make_validators(("val-0", "val-1", "val-2"))
    grow(node, next_validators=changed)
    async with serving(node) as server:
        filters = {"subjects": [ALICE, CAROL]}
        events = follow(server.server.url, "reputation", from_height=1, filters=filters)
        async with aclosing(events):
            (first,) = await take(events, 1)
            grow(node)
            node.score_block(1, ascending(score("alice", 1, 1)))
            (second,) = await take(events, 1)
        assert (first.height, first.data["epoch"], first.data["count"]) == (2, 0, 2)
        assert [each["newcomer"] for each in first.data["items"]] == [False, True]
        assert (second.height, second.data["epoch"]) == (5, 1)
        async with aclosing(follow(server.server.url, "validators", from_height=1)) as events:
            (change,) = await take(events, 1)
            grow(node, next_validators=make_validators())
            (back,) = await take(events, 1)
        assert (change.height, len(change.data["items"])) == (3, 3)
        assert (back.height, len(back.data["items"])) == (6, 4)


async def test_pruned_blocks_cannot_be_replayed(node: RpcNode, monkeypatch: Any) -> None:
    for _ in range(5):
        grow(node)
    monkeypatch.setattr(node, "earliest_height", lambda: 4)
    async with serving(node) as server:
        async with aclosing(follow(server.server.url, "blocks", from_height=3)) as events:
            with pytest.raises(CallFailed) as failed:
                await anext(events)
        assert failed.value.reason == "PRUNED"
        assert failed.value.data["earliestHeight"] == 4
        async with aiohttp.ClientSession() as http:
            address = server.server.url + "events?topic=blocks&fromHeight=3"
            async with http.get(address) as answer:
                assert answer.status == 410


async def test_blocks_pruned_under_a_replay_end_it(node: RpcNode, monkeypatch: Any) -> None:
    for _ in range(5):
        grow(node)
    monkeypatch.setattr(node, "header", lambda _: None)
    async with serving(node) as server, _talk(server.server.url) as talk:
        await talk.ask("subscribe", topic="blocks", fromHeight=2)
        assert await talk.event() == {
            "lagged": True,
            "resumeFrom": 2,
            "reason": "PRUNED",
            "earliestHeight": 1,
        }


# ---- states --------------------------------------------------------------------------------------


async def test_states_begin_with_the_present_and_follow_changes(node: RpcNode) -> None:
    async with serving(node) as server, _talk(server.server.url) as talk:
        await talk.ask("subscribe", topic="account", account=BOB)
        before = await talk.event()
        grow(node, node.transfer("alice", "carol", 4))
        grow(node, node.transfer("alice", "bob", 5))
        after = await talk.event()
        assert int(after["balance"]) == int(before["balance"]) + 5
        assert after["height"] == 2
        await talk.ask("subscribe", topic="peers")
        assert await talk.event() == {"items": []}
        await talk.ask("subscribe", topic="consensus")
        assert (await talk.event())["height"] == 3
        node.tell(RoundMoved())
        assert (await talk.event())["phase"] == "idle"
        node.tell(PeersChanged())
        assert await talk.event() == {"items": []}


# ---- asking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"topic": "weather"}, "INVALID_PARAMS"),
        ({"topic": "account"}, "INVALID_PARAMS"),
        ({"topic": "account", "account": "x"}, "INVALID_ADDRESS"),
        ({"topic": "account", "account": ALICE, "fromHeight": 1}, "INVALID_FILTER"),
        ({"topic": "blocks", "pending": True}, "INVALID_FILTER"),
        ({"topic": "blocks", "fromHeight": 0}, "INVALID_PARAMS"),
        ({"topic": "tx", "fromIndex": 1}, "INVALID_PARAMS"),
        ({"topic": "tx", "hash": "0x" + "zz" * 32}, "INVALID_HEX"),
    ],
)
async def test_subscriptions_that_make_no_sense(
    node: RpcNode, params: dict[str, Any], reason: str
) -> None:
    async with serving(node) as server, _talk(server.server.url) as talk:
        answer = await talk.ask("subscribe", **params)
        assert answer["error"]["data"]["reason"] == reason
        assert (await talk.ask("system_version"))["result"]["name"] == "tallystick"


async def test_unsubscribing_ends_a_subscription_and_frees_its_place(
    node: RpcNode, monkeypatch: Any
) -> None:
    monkeypatch.setattr(session, "SUBSCRIPTIONS_COUNT", 2)
    async with serving(node) as server, _talk(server.server.url) as talk:
        for _ in range(2):
            await talk.ask("subscribe", topic="blocks")
        refused = await talk.ask("subscribe", topic="blocks")
        assert refused["error"]["data"]["reason"] == "TOO_MANY_SUBSCRIPTIONS"
        assert (await talk.ask("unsubscribe", subscription=1))["result"] == {"subscription": 1}
        again = await talk.ask("unsubscribe", subscription=1)
        assert again["error"]["data"]["reason"] == "SUBSCRIPTION_NOT_FOUND"
        assert (await talk.ask("subscribe", topic="blocks"))["result"]["subscription"] == 3
        grow(node)
        said = [await talk.hear() for _ in range(2)]
        assert [each["params"]["subscription"] for each in said] == [2, 3]


async def test_post_cannot_subscribe(node: RpcNode) -> None:
    body = {"jsonrpc": "2.0", "method": "subscribe", "params": {"topic": "blocks"}, "id": 1}
    async with serving(node) as server, aiohttp.ClientSession() as http:
        async with http.post(server.server.url, json=body) as answer:
            assert (await answer.json())["error"]["data"]["reason"] == "NEEDS_WEBSOCKET"
        async with http.get(server.server.url + "ws") as answer:
            assert answer.status == 426


async def test_hosts_and_origins_are_checked_as_for_post(node: RpcNode) -> None:
    async with serving(node) as server, aiohttp.ClientSession() as http:
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(server.server.url + "ws", headers=headers)
            assert refused.value.status == 403
            stream = server.server.url + "events?topic=blocks"
            async with http.get(stream, headers=headers) as answer:
                assert answer.status == 403
    settings = ServerSettings(allowed_hosts=frozenset({"other"}))
    async with serving(node, settings) as server:
        url = server.server.url.replace("127.0.0.1", "localhost")
        async with aclosing(follow(url, "peers")) as events:
            assert (await take(events, 1))[0].data == {"items": []}


async def test_connections_have_a_limit(node: RpcNode, monkeypatch: Any) -> None:
    monkeypatch.setattr(hub_module, "SESSIONS_COUNT", 1)
    async with serving(node) as server, _talk(server.server.url) as talk:
        await talk.ask("system_version")
        async with aiohttp.ClientSession() as http:
            async with http.get(server.server.url + "events?topic=blocks") as answer:
                assert answer.status == 429
                reason = (await answer.json())["error"]["data"]["reason"]
                assert reason == "TOO_MANY_STREAMS"
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await http.ws_connect(server.server.url + "ws")


async def test_messages_that_are_too_large_or_binary_end_the_connection(node: RpcNode) -> None:
    async with serving(node) as server:
        async with _talk(server.server.url) as talk:
            await talk.socket.send_bytes(b"{}")
            assert (await talk.socket.receive()).data == 1003
        async with _talk(server.server.url) as talk:
            await talk.socket.send_str(" " * (routes.MESSAGE_BYTES + 1))
            assert (await talk.socket.receive()).data == 1009


# ---- slow clients --------------------------------------------------------------------------------


async def test_a_client_that_does_not_read_is_told_where_to_resume(
    node: RpcNode, monkeypatch: Any
) -> None:
    monkeypatch.setattr(subscription, "LAG_BLOCKS", 30)
    async with serving(node) as server:
        async with _talk(server.server.url) as talk:
            await talk.ask("subscribe", topic="tx", pending=True)
            grow(node, node.transfer("alice", "bob", 1))
            assert (await talk.event())["height"] == 1
            (transport,) = server.transports()
            # As a full socket does: whoever writes waits from now on.
            protocol: Any = transport.get_protocol()
            protocol.pause_writing()
            for _ in range(400):
                grow(node, node.transfer("alice", "bob", 1))
                await asyncio.sleep(0)
            protocol.resume_writing()
            seen = []
            while True:
                event = await talk.event()
                if event.get("lagged"):
                    break
                seen.append(event["height"])
            assert seen == list(range(2, 2 + len(seen)))
            assert len(seen) < 400
            assert event == {"lagged": True, "resumeFrom": seen[-1] + 1}
        # The client in rpc.events does the rest by itself.
        async with aclosing(follow(server.server.url, "tx", from_height=1)) as events:
            assert heights(await take(events, 401)) == list(range(1, 402))


async def test_too_many_waiting_transactions_end_a_subscription(
    node: RpcNode, monkeypatch: Any
) -> None:
    monkeypatch.setattr(subscription, "WAITING_COUNT", 3)
    async with serving(node) as server, _talk(server.server.url) as talk:
        await talk.ask("subscribe", topic="tx", pending=True)
        await node.submit([node.transfer("alice", "bob", 1, nonce=n).raw for n in range(5)])
        assert await talk.event() == {"lagged": True, "resumeFrom": 1}


async def test_more_news_of_the_mempool_than_can_be_told_ends_a_subscription(
    node: RpcNode, monkeypatch: Any
) -> None:
    monkeypatch.setattr(arrivals, "NOTED_COUNT", 3)
    async with serving(node) as server, _talk(server.server.url) as talk:
        await talk.ask("subscribe", topic="tx", pending=True)
        await talk.ask("subscribe", topic="tx")
        # In one turn of the loop, so nothing is told in between.
        await node.submit([node.transfer("alice", "bob", 1, nonce=n).raw for n in range(5)])
        grow(node)
        said = await talk.hear()
        assert said["params"]["subscription"] == 1
        assert said["params"]["event"] == {"lagged": True, "resumeFrom": 1}
        # Who follows the chain alone has lost nothing.
        assert [(await talk.event())["index"] for _ in range(5)] == list(range(5))


@pytest.mark.parametrize(
    ("limit", "pending"), [("PENDING_COUNT", True), ("SUBSCRIPTIONS_COUNT", False)]
)
async def test_the_node_carries_so_many_subscriptions_and_no_more(
    node: RpcNode, monkeypatch: Any, limit: str, pending: bool
) -> None:
    monkeypatch.setattr(hub_module, limit, 1)
    async with serving(node) as server:
        async with _talk(server.server.url) as talk:
            await talk.ask("subscribe", topic="tx", pending=pending)
            async with _talk(server.server.url) as other:
                refused = await other.ask("subscribe", topic="tx", pending=pending)
            assert refused["error"]["data"]["reason"] == "TOO_MANY_SUBSCRIPTIONS"
        # Who leaves gives the place back.
        await _until(lambda: not server.hub.sessions_count)
        async with _talk(server.server.url) as talk:
            assert "result" in await talk.ask("subscribe", topic="tx", pending=pending)


# ---- broken connections --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_is_missed_or_doubled_however_often_the_connection_breaks(
    node: RpcNode, seed: int, monkeypatch: Any
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(subscription, "LAG_BLOCKS", rng.choice((2, 10, 256)))
    topic = ("blocks", "tx")[seed % 2]
    names = ("alice", "bob", "carol")
    committed: list[tuple[int, int]] = []

    def make_block() -> None:
        senders = rng.sample(names, rng.randrange(4))
        header = grow(node, *(node.transfer(name, "bob", 1) for name in senders))
        count = len(senders) if topic == "tx" else 1
        committed.extend((header.height, index) for index in range(count))

    for _ in range(rng.randrange(80)):
        make_block()
    seen: list[tuple[int, int]] = []
    async with serving(node) as server:

        async def read() -> None:
            events = follow(server.server.url, topic, from_height=1, rng=random.Random(seed))
            async with aclosing(events):
                async for event in events:
                    assert event.height is not None
                    seen.append((event.height, event.data.get("index", 0)))
                    for _ in range(rng.choice((0, 0, 0, 3))):
                        await asyncio.sleep(0)

        reading = asyncio.create_task(read())
        for _ in range(60):
            for _ in range(rng.randrange(3)):
                make_block()
            if rng.random() < 0.15:
                server.sever()
            await asyncio.sleep(rng.choice((0, 0, 0.002)))
        async with asyncio.timeout(DEADLINE_S):
            while seen != committed and not reading.done():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.002)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert seen == committed


async def test_a_node_that_is_gone_is_given_up_after_a_while(node: RpcNode) -> None:
    async with serving(node) as server:
        url = server.server.url
        events = follow(url, "blocks", from_height=1, patience_s=0.2)
        grow(node)
        await take(events, 1)
    with pytest.raises(ConnectionFailed, match="is the node running"):
        await take(events, 1)


async def test_a_refused_page_is_not_asked_again(node: RpcNode) -> None:
    async with (
        serving(node) as server,
        aclosing(follow(server.server.url + "other", "blocks")) as events,
    ):
        with pytest.raises(HttpRefused):
            await take(events, 1)


# ---- server-sent events --------------------------------------------------------------------------


async def _lines(answer: aiohttp.ClientResponse, count: int) -> list[dict[str, str]]:
    """Parsed events, as a browser does it: fields until an empty line."""
    found: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    async with asyncio.timeout(DEADLINE_S):
        while len(found) < count:
            line = (await answer.content.readline()).decode()
            assert line, "the stream ended"
            if line != "\n":
                name, _, value = line.rstrip("\n").partition(":")
                fields[name] = value.removeprefix(" ")
            elif "data" in fields:
                found.append(fields)
                fields = {}
            else:
                fields = {}
    return found


async def test_a_stream_goes_on_where_the_browser_left_it(node: RpcNode) -> None:
    for _ in range(3):
        grow(node, node.transfer("alice", "bob", 1), node.transfer("carol", "bob", 1))
    async with serving(node) as server, aiohttp.ClientSession() as http:
        address = server.server.url + "events?topic=tx&fromHeight=2&type=Transfer"
        async with http.get(address) as answer:
            assert answer.content_type == "text/event-stream"
            first = await _lines(answer, 1)
        assert (first[0]["event"], first[0]["id"]) == ("tx", "2.0")
        async with http.get(address, headers={"Last-Event-ID": first[0]["id"]}) as answer:
            rest = await _lines(answer, 3)
            assert [each["id"] for each in rest] == ["2.1", "3.0", "3.1"]
            grow(node, node.transfer("alice", "bob", 7))
            (live,) = await _lines(answer, 1)
            assert orjson.loads(live["data"])["payload"]["amount"] == "7"
        address = server.server.url + "events?topic=blocks"
        async with http.get(address, headers={"Last-Event-ID": "3"}) as answer:
            (block,) = await _lines(answer, 1)
            assert block["id"] == "4"


async def test_streams_refuse_what_subscribe_refuses(node: RpcNode) -> None:
    async with serving(node) as server, aiohttp.ClientSession() as http:
        for query, headers in (
            ("", {}),
            ("topic=weather", {}),
            ("topic=blocks&fromHeight=x", {}),
            ("topic=account", {}),
            ("topic=blocks", {"Last-Event-ID": "nonsense"}),
            ("topic=blocks&unknown=1", {}),
        ):
            address = f"{server.server.url}events?{query}"
            async with http.get(address, headers=headers) as answer:
                assert answer.status == 400, query
                assert (await answer.json())["error"]["code"] == -32602


async def test_a_silent_stream_is_kept_open_by_comments(node: RpcNode, monkeypatch: Any) -> None:
    monkeypatch.setattr(routes, "SILENCE_S", 0.01)
    async with (
        serving(node) as server,
        aiohttp.ClientSession() as http,
        http.get(server.server.url + "events?topic=blocks") as answer,
        asyncio.timeout(DEADLINE_S),
    ):
        lines = [await answer.content.readline() for _ in range(3)]
    assert lines == [b"retry: 1000\n", b"\n", b":\n"]


async def test_a_stream_of_a_state_and_one_that_lags(node: RpcNode, monkeypatch: Any) -> None:
    monkeypatch.setattr(subscription, "WAITING_COUNT", 1)
    async with serving(node) as server, aiohttp.ClientSession() as http:
        address = f"{server.server.url}events?topic=account&account={ALICE}"
        async with http.get(address) as answer:
            (event,) = await _lines(answer, 1)
            assert "id" not in event
            assert orjson.loads(event["data"])["address"] == ALICE
        async with http.get(server.server.url + "events?topic=tx&pending=true") as answer:
            await _until(lambda: server.hub._arrivals.followers)
            await node.submit([node.transfer("alice", "bob", 1, nonce=n).raw for n in range(3)])
            (event,) = await _lines(answer, 1)
            assert event["event"] == "lagged"
            assert await answer.content.read() == b""
