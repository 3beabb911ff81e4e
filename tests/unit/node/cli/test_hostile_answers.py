"""A node that lies about shapes or sends control characters: an error or plain text, never a trace
or a steered terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import pytest

from genesis.wellknown import account_address
from tests.kit.command_line import tally

ALICE = account_address("alice")
COMMANDS = [
    ["status"],
    ["validators"],
    ["peers", "ls"],
    ["account", ALICE],
    ["reputation", "get", ALICE],
    ["reputation", "top"],
    ["tx", "get", "11" * 32],
]
EVIL = "\x1b[2J\x1b]0;owned\x07\r"

# What a good node says, with a hostile string wherever it says words.
ANSWERS: dict[str, Any] = {
    "system_status": {
        "chainId": EVIL,
        "genesisHash": EVIL,
        "version": EVIL,
        "height": 1,
        "blockHash": EVIL,
        "peers": 1,
        "timeMs": 1,
    },
    "system_health": {"status": EVIL, "reason": EVIL, "targetHeight": None, "tipAgeMs": 1},
    "consensus_status": {
        "mode": EVIL,
        "tolerates": EVIL,
        "height": 1,
        "round": 0,
        "phase": EVIL,
        "ownIndex": None,
    },
    "mempool_status": {"count": 0, "sizeBytes": 0, "limitCount": 1, "limitBytes": 1},
    "validator_list": {
        "height": 1,
        "count": 1,
        "totalPower": 1,
        "items": [{"index": 0, "operator": EVIL, "power": 1}],
        "nextCursor": None,
    },
    "system_genesis": {"document": {"validators": [{"operator": EVIL, "name": EVIL}]}},
    "net_peers": {
        "items": [
            {
                "peerId": EVIL,
                "address": EVIL,
                "direction": EVIL,
                "connectedMs": 1,
                "roundTripMs": None,
                "validator": None,
            }
        ],
        "nextCursor": None,
    },
    "account_get": {
        "height": 1,
        "address": EVIL,
        "balance": "1",
        "nonce": EVIL,
        "deposit": "0",
        "isRegistered": False,
    },
    "reputation_get": {
        "height": 1,
        "epoch": 1,
        "subject": EVIL,
        "newcomer": False,
        "trust": "1",
        "quality": "1",
        "standing": "1",
        "rank": EVIL,
        "raters": 1,
        "flags": [EVIL],
    },
    "tx_get": {
        "hash": EVIL,
        "status": "committed",
        "height": 1,
        "receipt": {"ok": False, "reason": EVIL},
        "payload": {"type": EVIL, EVIL: EVIL, "fee": "1"},
    },
}
ANSWERS["reputation_leaderboard"] = {
    "height": 1,
    "epoch": 1,
    "items": [ANSWERS["reputation_get"]],
    "nextCursor": None,
}


class Client:
    """As rpc.client.RpcClient, with made-up answers."""

    url = "http://made.up"

    def __init__(self, answer: Callable[[str], Any]) -> None:
        self._answer = answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def call(self, method: str, _params: Any = None) -> Any:
        return self._answer(method)

    async def batch(self, calls: list[tuple[str, Any]]) -> list[Any]:
        return [self._answer(method) for method, _ in calls]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], Any]], None]:
    def install(answer: Callable[[str], Any]) -> None:
        monkeypatch.setattr("rpc.client.RpcClient", lambda _url: Client(answer))

    return install


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_control_characters_do_not_reach_the_terminal(
    words: list[str], answering: Callable[[Callable[[str], Any]], None]
) -> None:
    answering(ANSWERS.__getitem__)
    ran = tally(*words)
    assert ran.code == 0
    assert "owned" in ran.out
    assert all(each == "\n" or each.isprintable() for each in ran.out)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "answer", [None, [], {}, "words", 5, {"items": 5}, {"items": [5]}], ids=repr
)
def test_answers_of_another_shape_are_the_nodes_failure(
    words: list[str], answer: Any, answering: Callable[[Callable[[str], Any]], None]
) -> None:
    answering(lambda _: answer)
    ran = tally(*words, "--json")
    assert ran.code == 1
    assert ran.json["error"]["reason"] == "BAD_ANSWER"
