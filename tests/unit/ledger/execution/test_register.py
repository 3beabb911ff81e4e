"""Register: who pays, what is burned, what is locked, and that it happens once."""

import msgspec
import pytest

from ledger.crypto import sha256
from ledger.params import DEVNET_PARAMS, MICRO
from ledger.reasons import TransactionRefused
from ledger.transactions import Register
from ledger.verification import check_stateless
from tests.kit.chain import CHAIN, FEE, SmallChain, address_of

DEPOSIT, BURNED = DEVNET_PARAMS.register_deposit, DEVNET_PARAMS.register_fee


@pytest.fixture
def chain() -> SmallChain:
    return SmallChain({"alice": 100 * MICRO, "poor": BURNED + DEPOSIT + FEE - 1})


def test_the_entry_in_the_state(chain: SmallChain) -> None:
    chain.commit()
    (receipt,) = chain.commit(chain.register("alice"))
    assert receipt.ok
    account = chain.account("alice")
    assert account.balance == 100 * MICRO - FEE - BURNED - DEPOSIT
    assert account.deposit == DEPOSIT
    assert account.registered_height == 2
    assert account.service_mask == 0b1011
    assert account.endpoint_hash == sha256(b"endpoint")
    assert account.is_registered
    assert chain.totals.burned == BURNED
    assert chain.totals.registered == 1


def test_a_sponsor_pays_for_a_peer_without_an_account(chain: SmallChain) -> None:
    (receipt,) = chain.commit(chain.register("alice", "carol"))
    assert receipt.ok
    assert chain.balance("alice") == 100 * MICRO - FEE - BURNED - DEPOSIT
    assert not chain.account("alice").is_registered
    carol = chain.account("carol")
    assert (carol.balance, carol.nonce, carol.deposit) == (0, 0, DEPOSIT)
    assert carol.is_registered


def test_a_sponsored_peer_keeps_what_it_had(chain: SmallChain) -> None:
    chain.commit(chain.register("alice", "poor"))
    assert chain.balance("poor") == BURNED + DEPOSIT + FEE - 1


def test_more_than_the_deposit_may_be_locked(chain: SmallChain) -> None:
    (receipt,) = chain.commit(chain.register("alice", deposit=DEPOSIT + 7))
    assert receipt.ok
    assert chain.account("alice").deposit == DEPOSIT + 7


def test_only_once(chain: SmallChain) -> None:
    chain.commit(chain.register("alice"))
    (again, sponsored) = chain.commit(chain.register("alice"), chain.register("alice", nonce=2))
    for receipt in (again, sponsored):
        assert (receipt.reason, receipt.facts) == (
            "ALREADY_REGISTERED",
            (("registered_height", 1),),
        )
    assert chain.totals.burned == BURNED
    assert chain.totals.registered == 1
    assert chain.account("alice").deposit == DEPOSIT


def test_too_small_a_deposit(chain: SmallChain) -> None:
    (receipt,) = chain.commit(chain.register("alice", deposit=DEPOSIT - 1))
    assert receipt.reason == "DEPOSIT_TOO_LOW"
    assert dict(receipt.facts) == {"required": DEPOSIT, "deposit": DEPOSIT - 1}
    assert not chain.account("alice").is_registered


def test_fee_and_deposit_must_both_be_there(chain: SmallChain) -> None:
    (receipt,) = chain.commit(chain.register("poor"))
    assert receipt.reason == "INSUFFICIENT_FUNDS"
    assert dict(receipt.facts) == {"needed": BURNED + DEPOSIT, "balance": BURNED + DEPOSIT - 1}
    assert chain.totals.burned == 0
    assert chain.balance("poor") == BURNED + DEPOSIT - 1


def test_the_largest_deposit_fails_with_facts_below_2_53(chain: SmallChain) -> None:
    (receipt,) = chain.commit(chain.register("alice", deposit=2**53 - 1))
    assert dict(receipt.facts)["needed"] == 2**53 - 1


def test_a_network_without_entrance_fee_still_registers_once() -> None:
    params = msgspec.structs.replace(DEVNET_PARAMS, register_fee=0, register_deposit=0)
    chain = SmallChain({"alice": MICRO}, params)
    (first, second) = chain.commit(
        chain.register("alice", deposit=0), chain.register("alice", nonce=1, deposit=0)
    )
    assert first.ok
    assert second.reason == "ALREADY_REGISTERED"


@pytest.mark.parametrize(
    ("registrant", "signature"),
    [("alice", bytes(64)), ("carol", b""), ("carol", bytes(63))],
)
def test_the_registrant_signs_exactly_when_it_is_sponsored(
    chain: SmallChain, registrant: str, signature: bytes
) -> None:
    register = Register(
        CHAIN.chain_id,
        address_of("alice"),
        0,
        FEE,
        0,
        address_of(registrant),
        signature,
        1,
        bytes(32),
        DEPOSIT,
        0,
    )
    with pytest.raises(TransactionRefused) as caught:
        check_stateless(chain.sign(register, "alice"), CHAIN.chain_id, chain.params)
    assert caught.value.reason == "INVALID_FIELDS"
    assert dict(caught.value.facts)["field"] == "registrant_signature"
