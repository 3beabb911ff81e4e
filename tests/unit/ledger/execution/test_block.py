"""Blocks of transactions: who may stand in one, what it costs, and that µT are conserved."""

from dataclasses import replace

import msgspec
import pytest

from ledger.errors import InvalidBlock
from ledger.execution.block import TransactionNotAllowed, execute_block
from ledger.params import DEVNET_PARAMS, MICRO
from ledger.receipt import decode_receipt, receipts_root
from ledger.state import account_key
from ledger.state_tree import StateTree
from ledger.transactions import SignedTransaction
from ledger.view import EmptyView, OverlayView
from tests.kit.chain import FEE, SmallChain, address_of, make_validators


@pytest.fixture
def chain() -> SmallChain:
    return SmallChain({"alice": 100 * MICRO, "bob": 50 * MICRO, "poor": 500})


def refused(
    chain: SmallChain, *transactions: SignedTransaction
) -> tuple[int, str, dict[str, object]]:
    """Where and why a block is not allowed, which must be what building it drops."""
    with pytest.raises(TransactionNotAllowed) as caught:
        chain.execute(*transactions)
    refusal = caught.value.refusal
    built = chain.execute(*transactions, mode="build")
    signed, reason = built.dropped[0]
    assert signed is transactions[caught.value.index]
    assert (reason.reason, reason.facts) == (refusal.reason, refusal.facts)
    return caught.value.index, refusal.reason, dict(refusal.facts)


def test_the_genesis_tree_is_the_tree_of_the_genesis_writes(chain: SmallChain) -> None:
    outcome = chain.execute()
    assert outcome.state_root == chain.tree.root
    assert outcome.writes == {}
    assert outcome.receipts_root == receipts_root([])


def test_fees_go_to_the_proposer_once(chain: SmallChain) -> None:
    chain.commit(chain.transfer("alice", "bob", 5), chain.transfer("bob", "alice", 7, fee=2_000))
    assert chain.balance("alice") == 100 * MICRO - 5 + 7 - FEE
    assert chain.balance("bob") == 50 * MICRO + 5 - 7 - 2_000
    assert chain.balance("val-0") == FEE + 2_000


def test_a_proposer_that_sends_and_proposes_keeps_its_fee(chain: SmallChain) -> None:
    chain.commit(chain.transfer("alice", "val-0", MICRO))
    chain.commit(chain.transfer("val-0", "bob", 5))
    assert chain.balance("val-0") == MICRO + FEE - 5
    assert chain.nonce("val-0") == 1


def test_a_stranger_cannot_propose(chain: SmallChain) -> None:
    chain.proposer = address_of("alice")
    with pytest.raises(InvalidBlock, match="proposer"):
        chain.execute()


def test_nonces_run_without_gap_or_repeat(chain: SmallChain) -> None:
    first, second = (chain.transfer("alice", "bob", 1, nonce=nonce) for nonce in (0, 1))
    assert len(chain.execute(first, second).receipts) == 2
    assert refused(chain, second, first) == (
        0,
        "NONCE_TOO_HIGH",
        {"expected_nonce": 0, "nonce": 1},
    )
    assert refused(chain, first, first) == (
        1,
        "NONCE_TOO_LOW",
        {"expected_nonce": 1, "nonce": 0},
    )
    chain.commit(first)
    assert refused(chain, first)[1] == "NONCE_TOO_LOW"


def test_the_fee_covers_base_and_bytes(chain: SmallChain) -> None:
    size = len(chain.transfer("alice", "bob", 1, fee=200).raw)
    least = DEVNET_PARAMS.fee_base + size * DEVNET_PARAMS.fee_per_byte
    exact = chain.transfer("alice", "bob", 1, fee=least)
    assert len(exact.raw) == size
    assert chain.execute(exact).included == [exact]
    cheap = chain.transfer("alice", "bob", 1, fee=least - 1)
    assert refused(chain, cheap) == (0, "FEE_TOO_LOW", {"required": least, "fee": least - 1})


def test_the_balance_covers_the_fee(chain: SmallChain) -> None:
    assert refused(chain, chain.transfer("poor", "bob", 1)) == (
        0,
        "INSUFFICIENT_FEE_FUNDS",
        {"needed": FEE, "balance": 500},
    )
    assert refused(chain, chain.transfer("nobody", "bob", 1))[1] == "INSUFFICIENT_FEE_FUNDS"
    # What an earlier transaction of the block brings in counts.
    outcome = chain.execute(chain.transfer("alice", "poor", 501), chain.transfer("poor", "bob", 1))
    assert len(outcome.included) == 2


def test_expiry_is_the_last_height_that_may_include(chain: SmallChain) -> None:
    last = chain.transfer("alice", "bob", 1, expiry_height=1)
    assert chain.execute(last).included == [last]
    chain.commit()
    assert refused(chain, last) == (0, "EXPIRED", {"expiry_height": 1, "block_height": 2})
    later = chain.transfer("alice", "bob", 1, expiry_height=2)
    assert chain.execute(later).included == [later]


def test_other_chains_are_named_as_such(chain: SmallChain) -> None:
    foreign = chain.transfer("alice", "bob", 1, chain_id="other-chain")
    assert refused(chain, foreign) == (
        0,
        "WRONG_CHAIN",
        {"chain_id": "tally-test", "named": "other-chain"},
    )


def test_size_is_limited_by_the_parameters_of_the_state(chain: SmallChain) -> None:
    params = msgspec.structs.replace(DEVNET_PARAMS, tx_max_bytes=1_024)
    small = SmallChain({"alice": MICRO}, params)
    big = small.transfer("alice", "bob", 1, fee=5_000)
    bloated = SignedTransaction(bytes(1_025), big.transaction, big.transaction_id, big.full_hash)
    assert refused(small, bloated) == (0, "OVERSIZED", {"size_bytes": 1_025, "limit_bytes": 1_024})


def test_a_failed_transaction_pays_and_leaves_only_a_receipt(chain: SmallChain) -> None:
    before = chain.balance("bob")
    (receipt,) = chain.commit(chain.transfer("alice", "bob", 100 * MICRO))
    assert (receipt.ok, receipt.fee, receipt.reason) == (False, FEE, "INSUFFICIENT_FUNDS")
    assert dict(receipt.facts) == {"needed": 100 * MICRO, "balance": 100 * MICRO - FEE}
    assert chain.balance("alice") == 100 * MICRO - FEE
    assert chain.nonce("alice") == 1
    assert chain.balance("bob") == before
    assert chain.balance("val-0") == FEE


def test_a_failure_does_not_create_the_accounts_it_looked_at(chain: SmallChain) -> None:
    outcome = chain.execute(chain.transfer("alice", "carol", 200 * MICRO))
    assert account_key(address_of("carol")) not in outcome.writes
    assert address_of("carol") not in outcome.changed_accounts


def test_building_drops_what_validating_refuses_and_agrees_on_the_rest(chain: SmallChain) -> None:
    good = chain.transfer("alice", "bob", 1)
    gap = chain.transfer("bob", "alice", 1, nonce=3)
    failing = chain.transfer("bob", "alice", 900 * MICRO)
    built = chain.execute(good, gap, failing, mode="build")
    assert built.included == [good, failing]
    assert [(signed, why.reason) for signed, why in built.dropped] == [(gap, "NONCE_TOO_HIGH")]
    judged = chain.execute(*built.included)
    assert judged.state_root == built.state_root
    assert judged.receipts_root == built.receipts_root
    assert judged.writes == built.writes


def test_receipts_are_in_block_order_under_their_root(chain: SmallChain) -> None:
    transactions = [chain.transfer("alice", "bob", 1, nonce=nonce) for nonce in range(5)]
    outcome = chain.execute(*transactions)
    receipts = [decode_receipt(each) for each in outcome.receipts]
    assert [each.transaction_id for each in receipts] == [
        each.transaction_id for each in transactions
    ]
    assert outcome.receipts_root == receipts_root(outcome.receipts)


def test_executing_changes_neither_view_nor_tree(chain: SmallChain) -> None:
    root = chain.tree.root
    first = chain.execute(chain.transfer("alice", "bob", 1))
    again = chain.execute(chain.transfer("alice", "bob", 1))
    assert chain.tree.root == root
    assert chain.nonce("alice") == 0
    assert first.state_root == again.state_root != root


def test_a_block_may_stand_on_one_that_is_not_applied(chain: SmallChain) -> None:
    one = chain.transfer("alice", "bob", 1, nonce=0)
    two = chain.transfer("alice", "bob", 2, nonce=1)
    first = chain.execute(one)
    facts = replace(chain.facts(), height=2)
    view = OverlayView(chain.view, first.writes)
    second = execute_block(view, chain.tree, facts, [two], on=first.tree_update)
    chain.keep(first)
    chain.commit(two)
    assert chain.tree.root == second.state_root


def test_changed_accounts_are_those_with_another_balance_or_nonce(chain: SmallChain) -> None:
    outcome = chain.execute(chain.transfer("alice", "bob", 1))
    assert set(outcome.changed_accounts) == {
        address_of("alice"),
        address_of("bob"),
        address_of("val-0"),
    }


def test_the_outcome_names_validators_and_parameters(chain: SmallChain) -> None:
    outcome = chain.execute()
    assert outcome.next_validators == make_validators()
    assert outcome.params_hash == DEVNET_PARAMS.hash()


def test_the_root_is_that_of_the_whole_state(chain: SmallChain) -> None:
    genesis = chain.view.changes()
    outcome = chain.execute(chain.transfer("alice", "carol", 9), chain.register("bob"))
    rebuilt = StateTree()
    rebuilt.apply(rebuilt.update({**genesis, **outcome.writes}))
    assert outcome.state_root == rebuilt.root != chain.tree.root


def test_a_key_is_required_since_genesis() -> None:
    chain = SmallChain()
    with pytest.raises(AssertionError, match="stands since genesis"):
        execute_block(EmptyView(), StateTree(), chain.facts(), [])
