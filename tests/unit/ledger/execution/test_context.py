"""The block's context: what is undone, what is written, and money out of nothing."""

import pytest

from ledger.codec import encode
from ledger.execution.block import check_conserved
from ledger.execution.context import BlockContext
from ledger.reasons import ExecutionFailed
from ledger.state import Account, Totals, account_key
from tests.kit.chain import SmallChain, address_of

ALICE, BOB = address_of("alice"), address_of("bob")


@pytest.fixture
def context() -> BlockContext:
    chain = SmallChain({"alice": 1_000})
    return BlockContext(chain.view, chain.facts())


def test_a_rollback_undoes_everything_since_the_checkpoint_and_no_more(
    context: BlockContext,
) -> None:
    context.debit(ALICE, 10)
    context.proposer_income += 10
    context.checkpoint()
    totals = context.totals
    context.debit(ALICE, 500)
    context.credit(BOB, 300)
    context.credit(BOB, 100)
    context.totals = Totals(totals.supply, 100, 0, 1)
    context.proposer_income += 7
    context.rollback()
    assert context.account(ALICE) == Account(990)
    assert context.account(BOB) == Account(0)
    assert context.totals == totals
    assert context.proposer_income == 10
    assert context.writes() == {account_key(ALICE): encode(Account(990))}
    context.rollback()
    assert context.account(ALICE) == Account(990)


def test_a_debit_is_never_more_than_the_balance(context: BlockContext) -> None:
    with pytest.raises(ExecutionFailed) as caught:
        context.debit(ALICE, 1_001)
    assert caught.value.reason == "INSUFFICIENT_FUNDS"
    assert context.writes() == {}


def test_what_was_only_read_is_not_written(context: BlockContext) -> None:
    context.account(ALICE)
    context.account(BOB)
    assert context.pair(ALICE, BOB, 1) is None
    assert context.writes() == {}
    assert context.changed_accounts() == ()


@pytest.mark.parametrize("amount", [1, -1])
def test_money_out_of_nothing_or_into_nothing_stops_the_node(
    context: BlockContext, amount: int
) -> None:
    check_conserved(context)
    context.credit(BOB, amount)
    assert context.money_delta() == amount
    with pytest.raises(AssertionError, match="the supply changed"):
        check_conserved(context)


def test_unpaid_income_is_noticed(context: BlockContext) -> None:
    context.proposer_income = 1
    with pytest.raises(AssertionError):
        check_conserved(context)
