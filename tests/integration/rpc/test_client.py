"""Client, signing session and light client against a real server over 127.0.0.1."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from genesis.definition import parse_network
from genesis.devnet import bundled_text
from ledger.crypto import sha256
from ledger.execution.fees import minimum_fee
from ledger.identity import InvalidPeerId, peer_id
from ledger.params import DEVNET_PARAMS, MICRO
from ledger.transactions import Transfer
from rpc import client as client_module
from rpc import light_client as light_client_module
from rpc.client import (
    AnswerTimeout,
    BadAnswer,
    CallFailed,
    ConnectionFailed,
    HttpRefused,
    RpcClient,
)
from rpc.context import Call, Desk
from rpc.dispatcher import Dispatcher
from rpc.light import TrustRoot
from rpc.light_client import LightClient, fetch_trust
from rpc.light_errors import MalformedAnswer, TooFarBehind, UnknownValidatorSet, WrongChain
from rpc.limits import RateLimiter
from rpc.methods import all_methods
from rpc.server import Pages, RpcServer, ServerSettings
from rpc.session import Account
from tests.kit.chain import CHAIN, FEE, address_of, key_of, make_validators
from tests.kit.rpc_node import RpcNode, score

ALICE, BOB = (peer_id(address_of(name)) for name in ("alice", "bob"))


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[RpcNode]:
    made = RpcNode(tmp_path)
    yield made
    made.close()


@pytest.fixture
async def server(node: RpcNode) -> AsyncIterator[RpcServer[Call]]:
    def failed(name: str, error: Exception) -> None:
        raise AssertionError(name) from error

    desk = Desk(node, limiter=RateLimiter(), monotonic_ms=lambda: 0)
    made = RpcServer(
        ServerSettings(),
        Dispatcher(all_methods(), on_failure=failed),
        desk.context,
        Pages(not_ready=lambda: None, metrics=lambda: b""),
    )
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def client(server: RpcServer[Call]) -> AsyncIterator[RpcClient]:
    async with RpcClient(server.url) as made:
        yield made


def session_of(name: str, client: RpcClient | None) -> Account:
    return Account(key_of(name), CHAIN, client=client)


# ---- the client ----------------------------------------------------------------------------------


async def test_typed_answers(node: RpcNode, client: RpcClient) -> None:
    signed = node.transfer("alice", "bob", 5)
    header = node.make_block(signed)
    status = await client.status()
    assert (status.chain_id, status.height) == (CHAIN.chain_id, 1)
    assert status.block_hash == header.hash()
    account = await client.account(ALICE)
    assert account.balance == 1_000 * MICRO - 5 - FEE
    assert (account.nonce, account.next_nonce) == (1, 1)
    parameters = await client.parameters()
    assert parameters == dict(DEVNET_PARAMS.items())
    found = await client.transaction(signed.transaction_id)
    assert found is not None
    assert (found.status, found.height, found.ok) == ("committed", 1, True)
    assert await client.transaction(sha256(b"unknown")) is None


async def test_submitting(node: RpcNode, client: RpcClient) -> None:
    signed = node.transfer("alice", "bob", 5)
    assert (await client.submit(signed.raw)).status == "pending"
    waited = await client.submit(signed.raw, wait="committed", timeout_ms=1)
    assert (waited.status, waited.transaction_id) == ("pending", signed.transaction_id)
    node.make_block()
    assert (await client.submit(signed.raw, wait="committed")).is_committed
    with pytest.raises(CallFailed, match=r"NONCE_TOO_LOW.*-32003") as failed:
        await client.submit(node.transfer("alice", "bob", 6, nonce=0).raw)
    assert failed.value.reason == "NONCE_TOO_LOW"
    assert failed.value.data["expected_nonce"] == 1
    assert client.url in str(failed.value)
    many = [node.transfer("alice", "bob", 1, nonce=nonce).raw for nonce in (0, 1, 2)]
    answers = await client.submit_many(many)
    assert isinstance(answers[0], CallFailed)
    assert [getattr(each, "status", None) for each in answers[1:]] == ["pending", "pending"]


async def test_batches_keep_order_and_hold_errors(node: RpcNode, client: RpcClient) -> None:
    node.make_block()
    results = await client.batch(
        [("system_version", None), ("chain_getBlock", {"block": 9}), ("account_get", [BOB])]
    )
    assert results[0]["name"] == "tallystick"
    assert isinstance(results[1], CallFailed)
    assert results[1].reason == "BLOCK_NOT_FOUND"
    assert results[2]["address"] == BOB


async def test_no_node_at_the_other_end() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        async with RpcClient(url) as client:
            with pytest.raises(ConnectionFailed) as failed:
                await client.status()
    assert url in str(failed.value)
    assert "system_status" in str(failed.value)
    assert "is the node running" in str(failed.value)


async def test_no_socket_of_the_operator(tmp_path: Path) -> None:
    path = tmp_path / "none.sock"
    async with RpcClient("http://operator/", unix_path=path) as client:
        with pytest.raises(ConnectionFailed, match=r"none\.sock"):
            await client.status()


@asynccontextmanager
async def answering(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
) -> AsyncIterator[RpcClient]:
    """A client of a server that answers whatever `handler` says."""
    server = web.Server(handler, access_log=None)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        async with RpcClient(f"http://127.0.0.1:{port}/", timeout_ms=5_000) as client:
            yield client
    finally:
        listener.close()
        await server.shutdown(1)
        await listener.wait_closed()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"<html>", BadAnswer),
        (200, b"[]", BadAnswer),
        (200, b"7", BadAnswer),
        (204, b"", BadAnswer),
        (200, b'{"jsonrpc":"2.0","result":1,"id":999}', BadAnswer),
        (200, b'{"jsonrpc":"2.0","id":1}', BadAnswer),
        (200, b'{"jsonrpc":"2.0","error":"no","id":1}', BadAnswer),
        (200, b'{"jsonrpc":"2.0","error":{"code":-32001},"id":1}', CallFailed),
        (200, b'{"jsonrpc":"2.0","result":{},"id":1}', BadAnswer),
        (200, b'{"jsonrpc":"2.0","result":null,"id":1}', BadAnswer),
        (403, b"no", HttpRefused),
        (503, b'{"error":{"data":{"reason":"OVERLOADED"}}}', HttpRefused),
        (302, b"", HttpRefused),
    ],
)
async def test_answers_that_are_none(status: int, body: bytes, error: type[Exception]) -> None:
    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, body=None if status == 204 else body)

    async with answering(handler) as client:
        with pytest.raises(error) as failed:
            await client.status()
        assert type(failed.value) is error
        assert client.url in str(failed.value)
        if status == 503:
            assert "OVERLOADED" in str(failed.value)


@pytest.mark.parametrize("body", [b"{}", b"[1]", b"[]", b'[{"id":1}]', b"3"])
async def test_batch_answers_that_are_none(body: bytes) -> None:
    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body)

    async with answering(handler) as client:
        with pytest.raises(BadAnswer):
            await client.batch([("system_version", None)])


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ANSWER_BYTES", 100_000)

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65_536)
        except ConnectionError:
            return response

    async with answering(handler) as client:
        with pytest.raises(BadAnswer, match="exceeds 100000 bytes"):
            await client.status()


async def test_a_node_that_does_not_answer() -> None:
    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with answering(handler) as client:
        with pytest.raises(AnswerTimeout, match=r"no answer within 0\.01 s"):
            await client.call("system_status", timeout_ms=10)


# ---- the signing session -------------------------------------------------------------------------


def test_offline_signing_needs_no_network() -> None:
    account = Account(
        key_of("alice"), CHAIN, nonce=7, fee_base=DEVNET_PARAMS.fee_base, fee_per_byte=1
    )
    built = account.build(Transfer, to=address_of("bob"), amount=2**52)
    signed = account.sign(built)
    assert (built.nonce, built.sender) == (7, address_of("alice"))
    assert built.fee == minimum_fee(len(signed.raw), DEVNET_PARAMS)
    assert account.build(Transfer, nonce=9, fee=1, to=address_of("bob"), amount=1).fee == 1
    unknown = Account(key_of("alice"), CHAIN)
    with pytest.raises(ValueError, match="nonce is unknown"):
        unknown.build(Transfer, to=address_of("bob"), amount=1)
    with pytest.raises(ValueError, match="fee parameters are unknown"):
        unknown.build(Transfer, nonce=0, to=address_of("bob"), amount=1)


async def test_offline_accounts_say_that_they_have_no_client() -> None:
    with pytest.raises(ValueError, match="no client"):
        await session_of("alice", None).transfer(address_of("bob"), 1)


async def test_transactions_follow_each_other_without_blocks(
    node: RpcNode, client: RpcClient
) -> None:
    alice = session_of("alice", client)
    sent = await asyncio.gather(*[alice.transfer(address_of("bob"), 1 + n) for n in range(20)])
    assert len({each.transaction_id for each in sent}) == 20
    assert alice.next_nonce == 20
    node.make_block()
    assert node.account("alice").nonce == 20
    fees = 1_000 * MICRO - node.balance("alice") - sum(range(1, 21))
    assert 0 < fees < 20 * FEE


async def test_a_second_session_goes_on_behind_what_waits(node: RpcNode, client: RpcClient) -> None:
    await session_of("alice", client).transfer(address_of("bob"), 1)
    again = session_of("alice", client)
    await again.transfer(address_of("bob"), 2)
    assert again.next_nonce == 2
    node.make_block()
    assert node.account("alice").nonce == 2


async def test_a_wrong_count_is_mended(node: RpcNode, client: RpcClient) -> None:
    alice = session_of("alice", client)
    await alice.transfer(address_of("bob"), 1)
    node.make_block(node.transfer("alice", "bob", 9, nonce=1))
    # Nonce 1 was used by another program.
    assert alice.next_nonce == 1
    assert (await alice.transfer(address_of("bob"), 2)).status == "pending"
    assert alice.next_nonce == 3
    # Far ahead, as when the node has dropped what waited.
    alice.next_nonce = 100_000
    assert (await alice.transfer(address_of("bob"), 3)).status == "pending"
    assert alice.next_nonce == 4


async def test_a_rejected_transaction_leaves_its_nonce_free(
    node: RpcNode, client: RpcClient
) -> None:
    alice = session_of("alice", client)
    with pytest.raises(CallFailed, match="FEE_TOO_LOW"):
        await alice.send(Transfer, fee=1, to=address_of("bob"), amount=1)
    assert alice.next_nonce == 0
    assert (await alice.transfer(address_of("bob"), 1)).status == "pending"
    node.make_block()
    assert node.account("alice").nonce == 1


async def test_waiting_for_the_commit(node: RpcNode, client: RpcClient) -> None:
    alice = session_of("alice", client)
    waiting = asyncio.create_task(alice.transfer(address_of("bob"), 1, wait="committed"))
    async with asyncio.timeout(10):
        while not node.waits:  # noqa: ASYNC110 - the server's progress
            await asyncio.sleep(0)
    # Others are sent while the first one waits.
    assert (await alice.transfer(address_of("bob"), 2)).status == "pending"
    node.make_block()
    done = await waiting
    assert (done.status, done.height, done.ok) == ("committed", 1, True)
    late = await alice.transfer(address_of("bob"), 3, wait="committed", timeout_ms=1)
    assert late.status == "pending"
    assert alice.next_nonce == 3


async def test_a_broken_connection_is_followed_by_the_same_bytes(node: RpcNode) -> None:
    """The node takes the transaction and its answer is lost: it must not be sent as another."""
    seen: list[bytes] = []
    desk = Desk(node, limiter=RateLimiter(), monotonic_ms=lambda: 0)
    dispatcher = Dispatcher(all_methods(), on_failure=lambda *_: None)

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        answer = await dispatcher.dispatch(body, desk.context("127.0.0.1", False))
        if b"tx_submit" in body:
            seen.append(body)
            if len(seen) == 1:
                assert request.transport is not None
                request.transport.close()
        return web.Response(body=answer)

    async with answering(handler) as client:
        alice = session_of("alice", client)
        status = await alice.transfer(address_of("bob"), 1)
        assert status.status == "pending"
        assert alice.next_nonce == 1
    assert len(seen) == 2
    assert len(node.mempool_) == 1


async def test_an_unreachable_node_leaves_the_count_to_be_asked(node: RpcNode) -> None:
    requests = 0

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with answering(handler) as client:
        alice = Account(
            key_of("alice"), CHAIN, client=client, nonce=4, fee_base=100, fee_per_byte=1
        )
        with pytest.raises(ConnectionFailed):
            await alice.transfer(address_of("bob"), 1)
        assert alice.next_nonce is None
    assert requests == 3


# ---- the light client ----------------------------------------------------------------------------


async def test_the_light_client_follows_changes_and_proves(
    node: RpcNode, client: RpcClient
) -> None:
    light = LightClient(client, TrustRoot(CHAIN, node.validators))
    signed = node.transfer("alice", "bob", 1)
    node.make_block(signed)
    node.score_block(0, [score("alice", 0, 1)])
    proven = await light.score(ALICE)
    assert proven.score == score("alice", 0, 1)
    assert light.verifier.followed_height == 0
    for names in (("val-1", "val-2", "val-3", "val-4"), ("val-2", "val-3", "val-4", "val-5")):
        node.make_block(next_validators=make_validators(names))
        node.make_block()
    account = await light.account(ALICE)
    assert account.account == node.account("alice")
    assert account.header.height == node.height
    assert light.verifier.followed_height == 5
    both = await light.scores([ALICE, BOB])
    assert [each.score is None for each in both] == [False, True]
    transaction = await light.transaction(signed.transaction_id)
    assert transaction.receipt.ok
    with pytest.raises(InvalidPeerId):
        await light.account("nonsense")


async def test_a_node_that_hides_changes_is_not_believed(
    node: RpcNode, client: RpcClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    light = LightClient(client, TrustRoot(CHAIN, node.validators))
    node.make_block(next_validators=make_validators(("val-1", "val-2", "val-3", "val-4")))
    node.make_block()
    monkeypatch.setattr(node, "validator_changes", lambda _after, _limit: [])
    with pytest.raises(UnknownValidatorSet):
        await light.account(ALICE)


async def test_changes_followed_in_one_go_are_bounded(
    node: RpcNode, client: RpcClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(light_client_module, "CHANGES_FOLLOWED_COUNT", 2)
    light = LightClient(client, TrustRoot(CHAIN, node.validators))
    for last in (4, 5, 6):
        names = ("val-1", "val-2", "val-3", f"val-{last}")
        node.make_block(next_validators=make_validators(names))
    node.make_block()
    with pytest.raises(TooFarBehind):
        await light.account(ALICE)
    # What was followed is kept, and the next call goes on from there.
    assert light.verifier.followed_height == 2
    assert (await light.account(ALICE)).account == node.account("alice")


def trust_of(text: bytes) -> TrustRoot:
    network = parse_network(text)
    return TrustRoot(network.identity, network.validators)


async def test_trust_from_nothing_but_a_hash(node: RpcNode, client: RpcClient) -> None:
    node.document = bundled_text("devnet")
    expected = trust_of(bundled_text("devnet"))
    trust = await fetch_trust(client, expected.chain.genesis_hash, trust_of)
    assert trust == expected
    with pytest.raises(WrongChain):
        await fetch_trust(client, sha256(b"another"), trust_of)


@pytest.mark.parametrize(
    "result",
    [
        b"null",
        b"[]",
        b"{}",
        b'{"items":1}',
        b'{"items":[1],"nextAfterHeight":null}',
        b'{"items":[{}],"nextAfterHeight":null}',
    ],
)
async def test_nonsense_for_the_light_client(result: bytes) -> None:
    count = 0

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        nonlocal count
        count += 1
        return web.Response(body=b'{"jsonrpc":"2.0","result":%b,"id":%d}' % (result, count))

    trust = trust_of(bundled_text("devnet"))
    async with answering(handler) as client:
        light = LightClient(client, trust)
        with pytest.raises(MalformedAnswer):
            await light.follow()
        with pytest.raises(MalformedAnswer):
            await light.score(ALICE)
        with pytest.raises(MalformedAnswer):
            await fetch_trust(client, trust.chain.genesis_hash, trust_of)
