"""The methods over a real store, mempool and execution: what each answers, and how it refuses."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from ledger.identity import peer_id
from ledger.params import DEVNET_PARAMS, MICRO
from rpc.context import WAITING_COUNT
from rpc.methods import all_methods
from rpc.methods import chain as chain_methods
from rpc.ports import PeerStatus
from rpc.values import cursor_of
from tests.kit.chain import CHAIN, FEE, GENESIS_HASH, address_of
from tests.kit.rpc_asking import Asking, Refused
from tests.kit.rpc_node import RpcNode, ascending, score

ALICE, BOB, CAROL = (peer_id(address_of(name)) for name in ("alice", "bob", "carol"))
ZERO_HASH = "0x" + "00" * 32


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


# ---- submitting ----------------------------------------------------------------------------------


async def test_a_submitted_transaction_waits_is_committed_and_stays_known(
    node: RpcNode, ask: Asking
) -> None:
    signed = node.transfer("alice", "bob", 5)
    name = hexed(signed.transaction_id)
    assert await ask("tx_submit", tx=hexed(signed.raw)) == {"hash": name, "status": "pending"}
    assert await ask("tx_submit", tx=hexed(signed.raw)) == {"hash": name, "status": "pending"}
    assert (await ask("tx_get", hash=name))["status"] == "pending"
    node.make_block()
    committed = {
        "hash": name,
        "status": "committed",
        "height": 1,
        "index": 0,
        "receipt": {"hash": name, "ok": True, "fee": str(FEE)},
    }
    assert await ask("tx_submit", tx=hexed(signed.raw)) == committed
    assert await ask("tx_getReceipt", hash=name) == committed
    got = await ask("tx_get", hash=name)
    assert got["raw"] == hexed(signed.raw)
    assert got["payload"] == {
        "type": "Transfer",
        "chainId": CHAIN.chain_id,
        "sender": ALICE,
        "nonce": 0,
        "fee": str(FEE),
        "expiryHeight": 0,
        "to": BOB,
        "amount": "5",
    }


async def test_a_rejection_carries_the_ledgers_reason_and_facts(node: RpcNode, ask: Asking) -> None:
    node.make_block(node.transfer("alice", "bob", 5))
    with pytest.raises(Refused) as refused:
        await ask("tx_submit", tx=hexed(node.transfer("alice", "bob", 6, nonce=0).raw))
    assert refused.value.code == -32003
    assert refused.value.reason == "NONCE_TOO_LOW"
    assert refused.value.data["retryable"] is False
    assert refused.value.data["expected_nonce"] == 1


async def test_a_list_answers_for_each(node: RpcNode, ask: Asking) -> None:
    good = node.transfer("alice", "bob", 1)
    forged = node.transfer("alice", "bob", 1, nonce=1)
    poor = node.transfer("alice", "bob", 1, nonce=1, fee=1)
    raws = [hexed(good.raw), hexed(forged.raw[:-1] + bytes([forged.raw[-1] ^ 1])), hexed(poor.raw)]
    answer = await ask("tx_submit", tx=[*raws, "0x00"])
    assert answer[0] == {"hash": hexed(good.transaction_id), "status": "pending"}
    reasons = [item["error"]["data"]["reason"] for item in answer[1:]]
    assert reasons == ["INVALID_SIGNATURE", "FEE_TOO_LOW", "MALFORMED"]
    assert all(item["status"] == "rejected" for item in answer[1:])


async def test_a_wait_ends_with_the_commit(node: RpcNode, ask: Asking) -> None:
    signed = [node.transfer(name, "bob", 1) for name in ("alice", "carol")]
    waiting = asyncio.create_task(
        ask("tx_submit", tx=[hexed(each.raw) for each in signed], wait="committed")
    )
    while not node.waits:  # noqa: ASYNC110 - the other task's progress
        await asyncio.sleep(0)
    assert ask.desk.waiting == 1
    node.make_block()
    answer = await waiting
    assert [item["status"] for item in answer] == ["committed", "committed"]
    assert ask.desk.waiting == 0


async def test_a_wait_that_runs_out_is_a_pending_result(node: RpcNode, ask: Asking) -> None:
    signed = node.transfer("alice", "bob", 1)
    answer = await ask("tx_submit", tx=hexed(signed.raw), wait="committed", timeoutMs=1)
    assert answer == {"hash": hexed(signed.transaction_id), "status": "pending"}
    assert node.waits == []
    assert ask.desk.waiting == 0


async def test_a_wait_for_what_is_committed_or_rejected_ends_at_once(
    node: RpcNode, ask: Asking
) -> None:
    signed = node.transfer("alice", "bob", 1)
    node.make_block(signed)
    raws = [hexed(signed.raw), "0x00"]
    answer = await ask("tx_submit", tx=raws, wait="committed", timeoutMs=60_000)
    assert [item["status"] for item in answer] == ["committed", "rejected"]


async def test_a_transaction_that_failed_says_why(node: RpcNode, ask: Asking) -> None:
    signed = node.transfer("alice", "bob", 2_000 * MICRO)
    await ask("tx_submit", tx=hexed(signed.raw))
    node.make_block()
    receipt = (await ask("tx_getReceipt", hash=hexed(signed.transaction_id)))["receipt"]
    assert receipt["ok"] is False
    assert receipt["reason"] == "INSUFFICIENT_FUNDS"
    assert receipt["facts"]["needed"] == 2_000 * MICRO


async def test_waiting_places_are_bounded(node: RpcNode, ask: Asking) -> None:
    ask.desk.waiting = WAITING_COUNT
    raw = hexed(node.transfer("alice", "bob", 1).raw)
    with pytest.raises(Refused) as refused:
        await ask("tx_submit", tx=raw, wait="committed")
    assert refused.value.reason == "TOO_MANY_WAITING"
    assert (await ask("tx_submit", tx=raw))["status"] == "pending"


@pytest.mark.parametrize(
    "tx", ["", "0x", "0X00", "0xAB", "0xa", "0x 0", "0x0\n0", "ab", "0xg0", "0x\u0660\u0660"]
)
async def test_bytes_have_one_spelling(ask: Asking, tx: str) -> None:
    for given in (tx, [tx]):
        with pytest.raises(Refused) as refused:
            await ask("tx_submit", tx=given)
        assert refused.value.code == -32602


@pytest.mark.parametrize("tx", [[], ["0x00"] * 101, [1], 1, None, {"raw": "0x00"}])
async def test_wrong_lists(ask: Asking, tx: object) -> None:
    with pytest.raises(Refused) as refused:
        await ask("tx_submit", tx=tx)
    assert refused.value.code == -32602


async def test_a_choked_node_is_unavailable(
    node: RpcNode, ask: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_raws: object) -> list[object]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(node, "submit", never)
    monkeypatch.setattr("rpc.methods.tx.SUBMIT_MS", 1)
    with pytest.raises(Refused) as refused:
        await ask("tx_submit", tx="0x00")
    assert (refused.value.code, refused.value.reason) == (-32002, "DEADLINE_EXCEEDED")


async def test_a_full_list_costs_microseconds_in_this_layer(node: RpcNode, ask: Asking) -> None:
    signed = [node.transfer("alice", "bob", 1, nonce=nonce) for nonce in range(100)]
    states = await node.submit([each.raw for each in signed])

    class Instant:
        chain = CHAIN

        async def submit(self, _raws: object) -> object:
            return states

    ask.desk.node = Instant()  # type: ignore[assignment] # nothing else is asked
    raws = [hexed(each.raw) for each in signed]
    body = orjson.dumps({"jsonrpc": "2.0", "method": "tx_submit", "params": {"tx": raws}, "id": 1})
    best = 1.0
    for _ in range(50):
        start = time.perf_counter()
        await ask.dispatcher.dispatch(body, ask.desk.context("127.0.0.1", False))
        best = min(best, time.perf_counter() - start)
    # 1.3 µs on the development machine; the goal is 5.
    assert best / 100 < 20e-6


# ---- finding -------------------------------------------------------------------------------------


async def test_unknown_transactions(ask: Asking) -> None:
    for method in ("tx_get", "tx_getReceipt", "tx_getProof"):
        with pytest.raises(Refused) as refused:
            await ask(method, hash=ZERO_HASH)
        assert (refused.value.code, refused.value.reason) == (-32001, "TRANSACTION_NOT_FOUND")


async def test_a_pending_transaction_has_no_receipt_yet(node: RpcNode, ask: Asking) -> None:
    signed = node.transfer("alice", "bob", 1)
    await node.submit([signed.raw])
    with pytest.raises(Refused) as refused:
        await ask("tx_getReceipt", hash=hexed(signed.transaction_id))
    assert (refused.value.code, refused.value.reason) == (-32002, "PENDING")


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("listed", ["block", "account"])
async def test_lists_of_transactions_page_without_gaps(
    node: RpcNode, ask: Asking, order: str, listed: str
) -> None:
    for first in range(0, 7, 7 if listed == "block" else 2):
        many = range(first, min(first + (7 if listed == "block" else 2), 7))
        node.make_block(*[node.transfer("alice", "bob", 1 + n, nonce=n) for n in many])
    which = {"block": "latest"} if listed == "block" else {"account": BOB}
    seen, cursor = [], None
    while True:
        page = await ask("tx_list", **which, limit=3, cursor=cursor, order=order)
        assert len(page["items"]) <= 3
        seen += [int(item["payload"]["amount"]) for item in page["items"]]
        assert all(item["receipt"]["ok"] for item in page["items"])
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert seen == (list(range(1, 8)) if order == "asc" else list(range(7, 0, -1)))


async def test_a_cursor_belongs_to_its_list(node: RpcNode, ask: Asking) -> None:
    for _ in range(2):
        node.make_block(
            *[node.transfer("alice", "bob", 1, nonce=node.nonce("alice") + n) for n in range(2)]
        )
    cursor = (await ask("tx_list", block=1, limit=1))["nextCursor"]
    assert cursor is not None
    for wrong in (
        {"block": 2, "cursor": cursor},
        {"account": BOB, "cursor": cursor},
        {"block": 1, "cursor": "AAAA"},
        {"block": 1, "cursor": "é"},
        {"block": 1, "cursor": cursor_of("txs@1", "1", "-1")},
        {"block": 1, "cursor": cursor_of("txs@1", 1)},
    ):
        with pytest.raises(Refused) as refused:
            await ask("tx_list", **wrong)
        assert refused.value.reason == "INVALID_CURSOR", wrong
    for neither in ({}, {"block": 1, "account": BOB}):
        with pytest.raises(Refused) as refused:
            await ask("tx_list", **neither)
        assert refused.value.code == -32602


async def test_blocks_by_every_reference(node: RpcNode, ask: Asking) -> None:
    signed = node.transfer("alice", "bob", 1)
    first = node.make_block(signed)
    second = node.make_block()
    for reference in (1, "earliest", hexed(first.hash())):
        block = await ask("chain_getBlock", block=reference)
        assert block["header"]["hash"] == hexed(first.hash())
        assert block["header"]["height"] == 1
        assert block["transactions"] == [hexed(signed.transaction_id)]
        assert block["lastCommit"] is None
    for reference in (2, "latest", hexed(second.hash())):
        block = await ask("chain_getBlock", block=reference)
        assert block["header"]["parentHash"] == hexed(first.hash())
        assert block["lastCommit"]["signers"] == [0, 1, 2, 3]
    full = await ask("chain_getBlock", block=1, full=True)
    assert full["transactions"][0]["payload"]["amount"] == "1"
    # The second time it comes from the cache and is the same.
    assert await ask("chain_getBlock", block=1, full=True) == full
    header = await ask("chain_getHeader", block=1)
    assert header["encoded"] == hexed(first.encode())
    commit = await ask("chain_getCommit", block=2)
    assert commit["blockHash"] == hexed(second.hash())
    assert commit["anchor"]["header"] == hexed(second.encode())


@pytest.mark.parametrize(
    ("reference", "code", "reason"),
    [
        (0, -32001, "BLOCK_NOT_FOUND"),
        (2, -32001, "BLOCK_NOT_FOUND"),
        (ZERO_HASH, -32001, "BLOCK_NOT_FOUND"),
        (hexed(GENESIS_HASH), -32001, "BLOCK_NOT_FOUND"),
        ("newest", -32602, "INVALID_HEX"),
        ("0x00", -32602, "INVALID_HEX"),
        (-1, -32602, "INVALID_PARAMS"),
        (2**53, -32602, "INVALID_PARAMS"),
        (1.0, -32602, "INVALID_PARAMS"),
        (True, -32602, "INVALID_PARAMS"),
        (None, -32602, "INVALID_PARAMS"),
    ],
)
async def test_references_to_no_block(
    node: RpcNode, ask: Asking, reference: object, code: int, reason: str
) -> None:
    node.make_block()
    for method in ("chain_getBlock", "chain_getHeader", "chain_getCommit"):
        with pytest.raises(Refused) as refused:
            await ask(method, block=reference)
        assert (refused.value.code, refused.value.reason) == (code, reason)


async def test_an_empty_chain_has_no_blocks(ask: Asking) -> None:
    for reference in ("latest", "earliest"):
        with pytest.raises(Refused) as refused:
            await ask("chain_getBlock", block=reference)
        assert refused.value.reason == "BLOCK_NOT_FOUND"
    assert await ask("chain_listBlocks") == {"items": [], "nextCursor": None}


async def test_pruned_blocks_say_where_the_chain_begins(
    node: RpcNode, ask: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        node.make_block()
    monkeypatch.setattr(node, "earliest_height", lambda: 3)
    with pytest.raises(Refused) as refused:
        await ask("chain_getBlock", block=2)
    assert refused.value.code == -32002
    assert refused.value.data == {"reason": "PRUNED", "retryable": False, "earliestHeight": 3}
    assert [item["height"] for item in (await ask("chain_listBlocks"))["items"]] == [3]


async def test_blocks_are_listed(node: RpcNode, ask: Asking) -> None:
    for count in range(5):
        node.make_block(
            *[node.transfer("alice", "bob", 1, nonce=node.nonce("alice") + n) for n in range(count)]
        )
    page = await ask("chain_listBlocks", limit=2)
    assert [(each["height"], each["transactionCount"]) for each in page["items"]] == [
        (5, 4),
        (4, 3),
    ]
    page = await ask("chain_listBlocks", limit=4, cursor=page["nextCursor"])
    assert [each["height"] for each in page["items"]] == [3, 2, 1]
    assert page["nextCursor"] is None
    page = await ask("chain_listBlocks", limit=3, order="asc")
    assert [each["height"] for each in page["items"]] == [1, 2, 3]


async def test_large_blocks_are_not_decoded_in_one_go(
    node: RpcNode, ask: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_methods, "DECODED_COUNT", 1)
    node.make_block(*[node.transfer("alice", "bob", 1, nonce=n) for n in range(2)])
    with pytest.raises(Refused) as refused:
        await ask("chain_getBlock", block=1, full=True)
    assert refused.value.reason == "BLOCK_TOO_LARGE"
    assert len((await ask("chain_getBlock", block=1))["transactions"]) == 2


# ---- accounts, scores, validators ----------------------------------------------------------------


async def test_accounts(node: RpcNode, ask: Asking) -> None:
    node.make_block(node.transfer("alice", "dave", 5))
    await node.submit([node.transfer("alice", "dave", 5).raw])
    alice = await ask("account_get", address=ALICE)
    assert alice["height"] == 1
    assert alice["balance"] == str(1_000 * MICRO - 5 - FEE)
    assert (alice["nonce"], alice["nextNonce"]) == (1, 2)
    assert "proof" not in alice
    stranger = await ask("account_get", address=peer_id(address_of("nobody")))
    assert (stranger["exists"], stranger["balance"], stranger["nonce"]) == (False, "0", 0)


@pytest.mark.parametrize("address", ["", "16Uiu2HA", "0x00", "Qm" * 30, ALICE[:-1] + "0"])
async def test_texts_that_are_no_address(ask: Asking, address: str) -> None:
    for method, name in (("account_get", "address"), ("reputation_get", "subject")):
        with pytest.raises(Refused) as refused:
            await ask(method, **{name: address})
        assert refused.value.code == -32602


async def test_nothing_is_proven_before_the_first_block(ask: Asking) -> None:
    assert (await ask("account_get", address=ALICE))["height"] == 0
    with pytest.raises(Refused) as refused:
        await ask("account_get", address=ALICE, proof=True)
    assert (refused.value.code, refused.value.reason) == (-32002, "NOT_PROVABLE")


async def test_before_the_first_epoch_everybody_is_a_newcomer(node: RpcNode, ask: Asking) -> None:
    node.make_block()
    answer = await ask("reputation_get", subject=ALICE)
    assert answer["epoch"] is None
    assert answer["newcomer"] is True
    assert await ask("reputation_leaderboard") == {
        "height": 1,
        "epoch": None,
        "items": [],
        "nextCursor": None,
    }


async def test_scores(node: RpcNode, ask: Asking) -> None:
    node.make_block()
    node.score_block(0, ascending(score("alice", 0, 1, flags=1), score("bob", 0, 2, trust=99)))
    assert await ask("reputation_get", subject=ALICE) == {
        "height": 2,
        "epoch": 0,
        "subject": ALICE,
        "newcomer": False,
        "trust": str(2**30),
        "quality": "60000",
        "standing": str(2**30 - 7),
        "rank": 1,
        "raters": 3,
        "flags": ["seed"],
    }
    many = await ask("reputation_get", subject=[CAROL, BOB])
    assert [item["newcomer"] for item in many["items"]] == [True, False]
    assert many["items"][0]["quality"] == str(2**16)
    assert many["items"][0]["trust"] == many["items"][0]["standing"] == "0"
    board = await ask("reputation_leaderboard", limit=1)
    assert [item["subject"] for item in board["items"]] == [ALICE]
    rest = await ask("reputation_leaderboard", limit=1, cursor=board["nextCursor"])
    assert [item["subject"] for item in rest["items"]] == [BOB]
    assert rest["nextCursor"] is None
    # A cursor stays with its epoch as long as the table is held, and says so afterwards.
    node.score_block(1, ascending(score("bob", 1, 1), score("carol", 1, 2)))
    again = await ask("reputation_leaderboard", limit=1, cursor=board["nextCursor"])
    assert (again["epoch"], again["items"][0]["subject"]) == (0, BOB)
    del node.tables[0]
    with pytest.raises(Refused) as refused:
        await ask("reputation_leaderboard", limit=1, cursor=board["nextCursor"])
    assert refused.value.reason == "INVALID_CURSOR"


async def test_a_score_table_that_is_not_there_yet(node: RpcNode, ask: Asking) -> None:
    node.make_block()
    node.score_block(0, [score("alice", 0, 1)])
    node.tables.clear()
    with pytest.raises(Refused) as refused:
        await ask("reputation_get", subject=ALICE)
    assert (refused.value.code, refused.value.reason) == (-32002, "SCORES_NOT_HELD")


async def test_validators(node: RpcNode, ask: Asking) -> None:
    node.make_block()
    answer = await ask("validator_list")
    assert answer["hash"] == hexed(node.validators.hash)
    assert answer["totalPower"] == 4
    first = answer["items"][0]
    assert first["operator"] == peer_id(node.validators[0].operator)
    assert first["nodeId"] == peer_id(node.validators[0].node_key)
    page = await ask("validator_list", limit=3)
    rest = await ask("validator_list", limit=3, cursor=page["nextCursor"])
    assert page["items"] + rest["items"] == answer["items"]
    assert await ask("validator_listChanges") == {"items": [], "nextAfterHeight": None}


# ---- the node ------------------------------------------------------------------------------------


async def test_the_node_at_a_glance(node: RpcNode, ask: Asking) -> None:
    header = node.make_block()
    node.peer_list = [PeerStatus(address_of("val-1 node"), "/ip4/127.0.0.1", True, 5, None, None)]
    status = await ask("system_status")
    assert status["chainId"] == CHAIN.chain_id
    assert status["genesisHash"] == hexed(GENESIS_HASH)
    assert status["blockHash"] == hexed(header.hash())
    assert status["peers"] == 1
    assert await ask("system_version") == {"name": "tallystick", "version": "0.0-test"}
    assert (await ask("system_genesis"))["document"] == {"chain_id": "tally-test"}
    health = await ask("system_health")
    assert (health["status"], health["tipAgeMs"]) == ("ok", 500)
    node.target_height = 50
    assert (await ask("system_health"))["status"] == "behind"
    node.not_ready = "the store is being checked"
    health = await ask("system_health")
    assert (health["status"], health["reason"]) == ("not ready", "the store is being checked")


async def test_consensus_and_mempool(node: RpcNode, ask: Asking) -> None:
    node.make_block()
    status = await ask("consensus_status")
    assert (status["height"], status["mode"], status["ownIndex"]) == (2, "pbft", 0)
    params = await ask("consensus_getParams")
    by_name = {item["name"]: item for item in params["items"]}
    assert params["hash"] == hexed(DEVNET_PARAMS.hash())
    assert by_name["register_fee"]["value"] == str(MICRO)
    assert by_name["epoch_ms"] == {
        "name": "epoch_ms",
        "unit": "ms",
        "value": 10_000,
        "low": 1_000,
        "high": 30 * 86_400_000,
    }
    await node.submit([node.transfer("alice", "bob", 1).raw])
    mempool = await ask("mempool_status")
    assert mempool["count"] == 1
    assert mempool["sizeBytes"] > 100


async def test_peers_page_by_name(node: RpcNode, ask: Asking) -> None:
    names = ["val-1 node", "val-2 node", "val-3 node"]
    node.peer_list = [
        PeerStatus(address_of(name), f"/ip4/127.0.0.1/tcp/{n}", n == 0, n, 7, address_of("val-1"))
        for n, name in enumerate(names)
    ]
    ids = sorted(peer_id(address_of(name)) for name in names)
    page = await ask("net_peers", limit=2)
    assert [each["peerId"] for each in page["items"]] == ids[:2]
    # One that leaves between two pages shifts nothing.
    node.peer_list = [each for each in node.peer_list if peer_id(each.node_key) != ids[0]]
    page = await ask("net_peers", limit=2, cursor=page["nextCursor"])
    assert [each["peerId"] for each in page["items"]] == ids[2:]
    assert page["nextCursor"] is None
    page = await ask("net_peers", order="desc")
    assert [each["peerId"] for each in page["items"]] == ids[:0:-1]


async def test_strangers_are_metered_and_the_own_machine_is_not(node: RpcNode) -> None:
    stranger = Asking(node, client="203.0.113.7")

    async def insist() -> None:
        for _ in range(5_000):
            await stranger("reputation_get", subject=[ALICE] * 200)

    with pytest.raises(Refused) as refused:
        await insist()
    assert refused.value.code == -32005
    assert refused.value.data["retryAfterMs"] > 0
    stranger.now_ms += refused.value.data["retryAfterMs"]
    own = Asking(node)
    for _ in range(50):
        await own("reputation_get", subject=[ALICE] * 200)


def test_every_method_is_named_by_the_rules_and_documented() -> None:
    for name, method in all_methods().items():
        if name in ("rpc.discover", "subscribe", "unsubscribe"):
            continue
        namespace, _, verb = name.partition("_")
        assert namespace.islower()
        assert verb.isalnum()
        assert verb[0].islower()
        assert method.summary.endswith((".", "}."))
        assert method.cost >= 1
