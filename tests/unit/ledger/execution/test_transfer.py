"""Transfer: balances, new accounts, oneself."""

import pytest

from ledger.params import MICRO
from ledger.reasons import TransactionRefused
from ledger.transactions import Transfer, sign_transaction
from ledger.verification import SignatureCache
from tests.kit.chain import FEE, GENESIS_HASH, SmallChain, address_of, key_of


@pytest.fixture
def chain() -> SmallChain:
    return SmallChain({"alice": 100 * MICRO})


def test_the_first_coin_makes_the_account(chain: SmallChain) -> None:
    (receipt,) = chain.commit(chain.transfer("alice", "carol", 1))
    assert receipt.ok
    carol = chain.account("carol")
    assert (carol.balance, carol.nonce, carol.is_registered) == (1, 0, False)


def test_the_whole_balance_but_the_fee(chain: SmallChain) -> None:
    (receipt,) = chain.commit(chain.transfer("alice", "carol", 100 * MICRO - FEE))
    assert receipt.ok
    assert chain.balance("alice") == 0


def test_one_more_than_there_is_fails(chain: SmallChain) -> None:
    (receipt,) = chain.commit(chain.transfer("alice", "carol", 100 * MICRO - FEE + 1))
    assert receipt.reason == "INSUFFICIENT_FUNDS"


def test_the_largest_amount_fails_without_overflow(chain: SmallChain) -> None:
    (receipt,) = chain.commit(chain.transfer("alice", "carol", 2**53 - 1))
    assert dict(receipt.facts) == {"needed": 2**53 - 1, "balance": 100 * MICRO - FEE}


def test_to_oneself_costs_the_fee_and_needs_the_amount(chain: SmallChain) -> None:
    (receipt,) = chain.commit(chain.transfer("alice", "alice", 50 * MICRO))
    assert receipt.ok
    assert chain.balance("alice") == 100 * MICRO - FEE
    (receipt,) = chain.commit(chain.transfer("alice", "alice", 100 * MICRO))
    assert receipt.reason == "INSUFFICIENT_FUNDS"


def test_an_account_keeps_its_nonce_when_it_is_empty(chain: SmallChain) -> None:
    chain.commit(chain.transfer("alice", "carol", 100 * MICRO - FEE))
    chain.commit(chain.transfer("carol", "alice", 10 * FEE))
    assert chain.nonce("alice") == 1


def test_what_is_no_key_cannot_be_paid(chain: SmallChain) -> None:
    nowhere = b"\x02" + b"\xff" * 32
    transfer = Transfer("tally-test", address_of("alice"), 0, FEE, 0, nowhere, 1)
    signed = sign_transaction(transfer, key_of("alice"), GENESIS_HASH)
    with pytest.raises(TransactionRefused) as caught:
        SignatureCache(GENESIS_HASH).check(signed, chain.params, lambda address: address)
    assert (caught.value.reason, caught.value.facts) == ("INVALID_ADDRESS", (("field", "to"),))
