"""Methods about the node, its mempool, its accounts, its validators, and what would happen."""

from __future__ import annotations

import pytest

from ledger.identity import peer_id
from ledger.params import MICRO
from rpc.ports import DialStatus, NetworkStatus, PeerStatus
from tests.kit.chain import FEE, address_of, make_validators
from tests.kit.rpc_asking import Asking, Refused
from tests.kit.rpc_node import RpcNode

ALICE, BOB, CAROL = (peer_id(address_of(name)) for name in ("alice", "bob", "carol"))


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


async def test_the_node_on_the_network(node: RpcNode, ask: Asking) -> None:
    node.peer_list = [
        PeerStatus(address_of("val-1 node"), "127.0.0.1:1", True, 1, 7, address_of("val-1")),
        PeerStatus(address_of("observer"), "127.0.0.1:2", False, 2, None, None),
    ]
    node.network_status = NetworkStatus(
        node_key=address_of("val-0 node"),
        listening="127.0.0.1:26656",
        agent="tally/test",
        links=3,
        foreign=[("12D3KooW", "127.0.0.1:9", "js-libp2p")],
        dialing=[DialStatus(address_of("val-2 node"), "127.0.0.1:3", "urgent", 4, "refused")],
    )
    said = await ask("net_info")
    assert said["peerId"] == peer_id(address_of("val-0 node"))
    assert (said["inbound"], said["outbound"], said["validators"], said["links"]) == (1, 1, 1, 3)
    assert said["dialing"] == [
        {
            "peerId": peer_id(address_of("val-2 node")),
            "address": "127.0.0.1:3",
            "link": "urgent",
            "failures": 4,
            "lastFailure": "refused",
        }
    ]
    assert said["foreign"][0]["agent"] == "js-libp2p"


async def test_what_waits_comes_in_order_of_arrival(node: RpcNode, ask: Asking) -> None:
    later = node.transfer("alice", "bob", 3, nonce=2)
    waiting = [node.transfer("carol", "bob", 1), later, node.transfer("alice", "bob", 2)]
    await node.submit([each.raw for each in waiting])
    first = await ask("mempool_list", limit=2)
    rest = await ask("mempool_list", cursor=first["nextCursor"])
    items = first["items"] + rest["items"]
    assert [each["hash"] for each in items] == [hexed(each.transaction_id) for each in waiting]
    assert [each["status"] for each in items] == ["ready", "parked", "ready"]
    assert items[0]["sizeBytes"] == len(waiting[0].raw)
    assert rest["nextCursor"] is None
    # What leaves between two pages shifts nothing.
    node.drop(waiting[0].transaction_id, "EVICTED")
    assert await ask("mempool_list", cursor=first["nextCursor"]) == rest


async def test_what_waits_of_one_sender_comes_by_nonce(node: RpcNode, ask: Asking) -> None:
    raws = [node.transfer("alice", "bob", 1, nonce=nonce).raw for nonce in (2, 0, 1)]
    await node.submit([*raws, node.transfer("carol", "bob", 1).raw])
    first = await ask("mempool_list", sender=ALICE, limit=2)
    rest = await ask("mempool_list", sender=ALICE, cursor=first["nextCursor"])
    assert [each["payload"]["nonce"] for each in first["items"] + rest["items"]] == [0, 1, 2]
    assert (await ask("mempool_list", sender=BOB))["items"] == []
    with pytest.raises(Refused) as refused:
        await ask("mempool_list", cursor=first["nextCursor"])
    assert refused.value.reason == "INVALID_CURSOR"


async def test_accounts_page_without_gaps(node: RpcNode, ask: Asking) -> None:
    node.make_block(node.transfer("alice", "newcomer", 5))
    whole = (await ask("account_list"))["items"]
    # The proposer has an account since it was paid the fee.
    people = {peer_id(address_of(name)) for name in ("alice", "bob", "carol", "newcomer")}
    assert {each["address"] for each in whole} == people | {peer_id(node.proposer)}
    page = await ask("account_list", limit=2)
    paged = page["items"]
    while page["nextCursor"] is not None:
        page = await ask("account_list", limit=2, cursor=page["nextCursor"])
        paged += page["items"]
    assert paged == whole
    by_address = {each["address"]: each for each in whole}
    assert by_address[peer_id(address_of("newcomer"))]["balance"] == "5"


async def test_a_validators_part_in_the_last_blocks(node: RpcNode, ask: Asking) -> None:
    node.make_block()
    node.make_block(signers=[0, 1, 2])
    node.make_block(signers=[1, 2, 3])
    operator = peer_id(node.validators[3].operator)
    said = await ask("validator_get", operator=operator)
    assert (said["height"], said["index"], said["power"], said["totalPower"]) == (3, 3, 1, 4)
    assert said["participation"] == {"fromHeight": 1, "toHeight": 3, "proposed": [], "absent": [2]}
    leader = await ask("validator_get", operator=peer_id(node.validators[0].operator), blocks=2)
    assert leader["participation"] == {
        "fromHeight": 2,
        "toHeight": 3,
        "proposed": [2, 3],
        "absent": [3],
    }
    with pytest.raises(Refused) as refused:
        await ask("validator_get", operator=ALICE)
    assert refused.value.reason == "VALIDATOR_NOT_FOUND"


async def test_who_was_no_validator_then_was_not_absent(node: RpcNode, ask: Asking) -> None:
    without = make_validators(("val-0", "val-1", "val-2"))
    late = next(
        each.operator
        for each in node.validators.validators
        if each.operator not in {other.operator for other in without.validators}
    )
    node.make_block(next_validators=without)
    node.make_block(next_validators=make_validators())
    node.make_block()
    said = await ask("validator_get", operator=peer_id(late))
    assert said["participation"]["absent"] == []
    assert said["participation"]["toHeight"] == 3


async def test_a_simulation_says_what_would_happen_and_changes_nothing(
    node: RpcNode, ask: Asking
) -> None:
    root = node.tree.root
    said = await ask("tx_simulate", tx=hexed(node.transfer("alice", "bob", 7 * MICRO).raw))
    assert said["height"] == 1
    assert said["receipt"]["ok"] is True
    balances = {each["address"]: int(each["balance"]) for each in said["accounts"]}
    assert balances == {ALICE: 993 * MICRO - FEE, BOB: 1_007 * MICRO}
    failing = await ask("tx_simulate", tx=hexed(node.transfer("alice", "bob", 2_000 * MICRO).raw))
    assert failing["receipt"]["reason"] == "INSUFFICIENT_FUNDS"
    assert [each["address"] for each in failing["accounts"]] == [ALICE]
    assert node.tree.root == root
    assert len(node.mempool_) == 0
    assert (await ask("account_get", address=ALICE))["nonce"] == 0


async def test_a_simulation_refuses_what_no_block_could_hold(node: RpcNode, ask: Asking) -> None:
    good = node.transfer("alice", "bob", 1)
    forged = good.raw[:-1] + bytes([good.raw[-1] ^ 1])
    for raw, reason in (
        (b"\x00", "MALFORMED"),
        (forged, "INVALID_SIGNATURE"),
        (node.transfer("alice", "bob", 1, fee=1).raw, "FEE_TOO_LOW"),
        (node.transfer("nobody", "bob", 1).raw, "INSUFFICIENT_FEE_FUNDS"),
        (node.transfer("alice", "bob", 1, nonce=5).raw, "NONCE_TOO_HIGH"),
    ):
        with pytest.raises(Refused) as refused:
            await ask("tx_simulate", tx=hexed(raw))
        assert (refused.value.code, refused.value.reason) == (-32003, reason)
