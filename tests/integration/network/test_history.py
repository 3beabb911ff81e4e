"""The checker itself: every way in which a chain may betray its clients is named."""

from __future__ import annotations

import pytest

from ledger.identity import peer_id
from ledger.transactions import Transfer, sign_transaction
from tests.integration.network.history import Chain, Client, Sent, check_histories
from tests.kit.chain import CHAIN, GENESIS_HASH, address_of, key_of


def client_with(count: int) -> tuple[Client, list[bytes]]:
    client = Client("alice", CHAIN)
    for nonce in range(count):
        transfer = Transfer(CHAIN.chain_id, address_of("alice"), nonce, 1_000, 0, client.to, 5)
        client.sent.append(Sent(sign_transaction(transfer, key_of("alice"), GENESIS_HASH), 5))
    return client, [each.signed.transaction_id for each in client.sent]


def chain(blocks: dict[int, list[int]], ids: list[bytes]) -> Chain:
    alice = peer_id(address_of("alice"))
    return {height: [(ids[each], alice) for each in block] for height, block in blocks.items()}


def test_what_was_not_acknowledged_may_or_may_not_stand() -> None:
    client, ids = client_with(3)
    client.sent[0].height = 1

    check_histories(chain({1: [0]}, ids), [client])
    check_histories(chain({1: [0], 2: [1, 2]}, ids), [client])


def test_other_accounts_do_as_they_like() -> None:
    client, ids = client_with(1)

    check_histories({1: [(ids[0], client.sent[0].sender), (bytes(32), "bob")]}, [client])


@pytest.mark.parametrize(
    ("blocks", "complaint"),
    [
        ({1: [1]}, "lost"),
        ({1: [], 2: [0, 1]}, "it is at 2"),
        ({1: [0], 2: [0]}, "stands at 1 and at 2"),
        ({1: [0, 2]}, "nonces"),
        ({1: [0], 2: [3]}, "nobody sent"),
    ],
)
def test_what_betrays_a_client_is_named(blocks: dict[int, list[int]], complaint: str) -> None:
    client, ids = client_with(3)
    ids.append(bytes(32))
    client.sent[0].height = 1

    with pytest.raises(AssertionError, match=complaint):
        check_histories(chain(blocks, ids), [client])
