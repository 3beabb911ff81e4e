"""How the chain begins in the store, and what a block leaves there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consensus.engine import Tip
from ledger.state import read_account, read_validators
from ledger.store import LevelStore
from ledger.transactions import Rate, Register, Settle, Transfer
from node.chain_store import (
    begin_chain,
    parties_of,
    read_previous_validators,
    read_tip,
    validator_set,
)
from tests.unit.node.parts import GENESIS_MS, NETWORK, Bench, certify, key_of, transfer

ALICE, BOB, CAROL = (key_of(name).public_key for name in ("alice", "bob", "carol"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LevelStore]:
    made = LevelStore(str(tmp_path / "store"), NETWORK.genesis_hash)
    yield made
    made.close()


def test_an_empty_store_gets_the_state_of_the_definition(store: LevelStore) -> None:
    tree = begin_chain(store, NETWORK)

    assert read_validators(store) == NETWORK.validators
    assert {
        address: read_account(store, address).balance for address, _ in NETWORK.balances
    } == dict(NETWORK.balances)
    assert read_tip(store, NETWORK) == Tip(0, NETWORK.genesis_hash, GENESIS_MS, None)
    assert validator_set(store, NETWORK.validators.hash) == NETWORK.validators
    assert validator_set(store, bytes(32)) is None
    assert read_previous_validators(store, 0) is None
    assert store.load_tree().root == tree.root


def test_a_chain_that_has_begun_is_left_as_it_is(store: LevelStore) -> None:
    first = begin_chain(store, NETWORK)
    again = begin_chain(store, NETWORK)

    assert again.root == first.root
    assert store.tip() == (0, NETWORK.genesis_hash)


async def test_a_block_leaves_its_certificate_and_its_parties(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.add(
            transfer(0, to="bob"), transfer(1, to="alice"), transfer(0, sender="bob", to="carol")
        )
        proposal = await bench.built()
        certificate = certify(proposal.header)
        await bench.apply(proposal, certificate)
        store = bench.store

        assert read_tip(store, NETWORK) == Tip(
            1, proposal.block_hash, proposal.header.time_ms, certificate
        )
        assert read_previous_validators(store, 1) == NETWORK.validators
        order = [each.raw for each in (transfer(0), transfer(1, to="alice"))]
        places = {store.transaction_place(transfer(0).transaction_id)}
        assert places == {(1, _index_of(bench, order[0]))}

        def listed(address: bytes) -> list[int]:
            found = store.topic_transactions(address, None, 10, ascending=True)
            assert all(height == 1 for height, _ in found)
            return [index for _, index in found]

        to_self = _index_of(bench, order[1])
        # A transfer to oneself is one's own once, not twice.
        assert listed(ALICE).count(to_self) == 1
        assert sorted(listed(ALICE)) == sorted({_index_of(bench, raw) for raw in order})
        assert len(listed(BOB)) == 2
        assert len(listed(CAROL)) == 1


def _index_of(bench: Bench, raw: bytes) -> int:
    return next(index for index in range(3) if bench.store.transaction(1, index) == raw)


def test_whose_list_a_transaction_stands_in() -> None:
    chain_id = NETWORK.chain_id
    sent = Transfer(chain_id, ALICE, 0, 1, 0, BOB, 1)
    settled = Settle(chain_id, BOB, 0, 1, 0, ALICE, BOB, 1, b"", 1, 1, 1, b"")
    rated = Rate(chain_id, ALICE, 0, 1, 0, BOB, 1, 1, 5, 0, b"")
    sponsored = Register(chain_id, ALICE, 0, 1, 0, CAROL, b"", 1, bytes(32), 1, 0)

    assert parties_of(sent) == (ALICE, BOB)
    assert parties_of(settled) == (ALICE, BOB)
    assert parties_of(rated) == (ALICE, BOB)
    assert parties_of(sponsored) == (ALICE, CAROL)
