"""Claims are checked once, and never taken for what they are not."""

import hashlib
from collections.abc import Callable

import msgspec
import pytest

from ledger.crypto import sha256
from ledger.execution.claims import find_work_nonce, work_bits
from ledger.identity import peer_id
from ledger.params import DEFAULT_PARAMS, DEVNET_PARAMS, ChainParams
from ledger.reasons import REFUSED, TransactionRefused
from ledger.transactions import SignedTransaction, decode_transaction
from ledger.verification import SignatureCache, check_stateless
from tests.kit.chain import CHAIN, FEE, GENESIS_HASH, SmallChain, address_of, key_of


@pytest.fixture
def chain() -> SmallChain:
    return SmallChain()


@pytest.fixture
def cache() -> SignatureCache:
    return SignatureCache(GENESIS_HASH)


def founding(address: bytes) -> bytes:
    return address


def rotated(**names: str) -> Callable[[bytes], bytes]:
    """Active keys where `alice="alice 2"` lets key "alice 2" sign for alice."""
    keys = {address_of(name): address_of(key) for name, key in names.items()}
    return lambda address: keys.get(address, address)


def forged(signed: SignedTransaction) -> SignedTransaction:
    """The same payload under another signature."""
    return decode_transaction(
        signed.raw[:-64] + key_of("mallory").sign(signed.transaction_id), GENESIS_HASH
    )


def refusal(
    cache: SignatureCache,
    signed: SignedTransaction,
    params: ChainParams = DEVNET_PARAMS,
    active_key: Callable[[bytes], bytes] = founding,
) -> TransactionRefused:
    with pytest.raises(TransactionRefused) as caught:
        cache.check(signed, params, active_key)
    assert not cache.is_known(signed, params, active_key)
    return caught.value


def test_how_many_signatures_each_family_costs(chain: SmallChain, cache: SignatureCache) -> None:
    costs = {
        chain.transfer("alice", "bob", 1): 1,
        chain.register("alice"): 1,
        chain.register("alice", "bob"): 2,
        chain.settle("alice", "bob", 1, 1, 1): 2,
        chain.settle("alice", "bob", 1, 1, 1, sender="alice", cosigned=False): 1,
        chain.rate("alice", "bob", 1, 1): 1,
    }
    for signed, count in costs.items():
        assert not cache.is_known(signed, DEVNET_PARAMS, founding)
        assert cache.check(signed, DEVNET_PARAMS, founding) == count
        assert cache.is_known(signed, DEVNET_PARAMS, founding)
        assert cache.check(signed, DEVNET_PARAMS, founding) == 0
    assert len(cache) == len(costs)


def test_a_bad_copy_stays_bad_after_the_good_one(chain: SmallChain, cache: SignatureCache) -> None:
    good = chain.transfer("alice", "bob", 1)
    bad = forged(good)
    assert bad.transaction_id == good.transaction_id
    assert refusal(cache, bad).reason == "INVALID_SIGNATURE"
    cache.check(good, DEVNET_PARAMS, founding)
    caught = refusal(cache, bad)
    assert caught.reason == "INVALID_SIGNATURE"
    assert dict(caught.facts) == {"signer": peer_id(address_of("alice"))}
    assert cache.is_known(good, DEVNET_PARAMS, founding)


def test_the_signature_is_the_active_keys(chain: SmallChain, cache: SignatureCache) -> None:
    signed = chain.transfer("alice", "bob", 1)
    cache.check(signed, DEVNET_PARAMS, founding)
    keys = rotated(alice="alice 2")
    assert not cache.is_known(signed, DEVNET_PARAMS, keys)
    assert refusal(cache, signed, active_key=keys).reason == "INVALID_SIGNATURE"
    by_new = chain.sign(signed.transaction, "alice 2")
    assert cache.check(by_new, DEVNET_PARAMS, keys) == 1
    assert refusal(cache, by_new).reason == "INVALID_SIGNATURE"


def test_a_counterpartys_signature_too(chain: SmallChain, cache: SignatureCache) -> None:
    signed = chain.settle("alice", "bob", 1, 1, 1)
    cache.check(signed, DEVNET_PARAMS, founding)
    caught = refusal(cache, signed, active_key=rotated(alice="alice 2"))
    assert caught.reason == "INVALID_COUNTERPARTY_SIGNATURE"
    assert dict(caught.facts) == {"signer": peer_id(address_of("alice"))}


@pytest.mark.parametrize("field", ["seq", "cum_units", "cum_paid", "service"])
def test_a_settle_cannot_say_more_than_the_receipt(
    chain: SmallChain, cache: SignatureCache, field: str
) -> None:
    settle = chain.settle("alice", "bob", 1, 1, 1).transaction
    raised = msgspec.structs.replace(settle, **{field: getattr(settle, field) + 1})
    caught = refusal(cache, chain.sign(raised, "bob"))
    assert caught.reason == "INVALID_COUNTERPARTY_SIGNATURE"


def test_a_sponsor_cannot_register_whom_it_likes(chain: SmallChain, cache: SignatureCache) -> None:
    register = chain.register("alice", "bob").transaction
    other = msgspec.structs.replace(register, registrant=address_of("carol"))
    assert refusal(cache, chain.sign(other, "alice")).reason == "INVALID_REGISTRANT_SIGNATURE"
    taken_over = msgspec.structs.replace(register, sender=address_of("mallory"))
    caught = refusal(cache, chain.sign(taken_over, "mallory"))
    assert caught.reason == "INVALID_REGISTRANT_SIGNATURE"


def test_work_is_asked_for_by_the_parameters(chain: SmallChain, cache: SignatureCache) -> None:
    bob = address_of("bob")
    good = find_work_nonce(bob, GENESIS_HASH, DEFAULT_PARAMS)
    bad = next(n for n in range(100) if work_bits(bob, n, GENESIS_HASH, DEFAULT_PARAMS) < 4)
    assert cache.check(chain.register("bob", work_nonce=good), DEFAULT_PARAMS, founding) == 1
    caught = refusal(cache, chain.register("bob", work_nonce=bad), DEFAULT_PARAMS)
    assert caught.reason == "INVALID_WORK"
    assert dict(caught.facts)["required_bits"] == 4


def test_harder_work_is_asked_for_again(chain: SmallChain, cache: SignatureCache) -> None:
    """A node that remembers must judge as one that does not, or they part ways."""
    signed = chain.register("bob", work_nonce=0)
    cache.check(signed, DEVNET_PARAMS, founding)
    harder = msgspec.structs.replace(DEVNET_PARAMS, register_work_bits=32)
    assert refusal(cache, signed, harder).reason == "INVALID_WORK"
    assert refusal(SignatureCache(GENESIS_HASH), signed, harder).reason == "INVALID_WORK"


def test_work_is_bound_to_peer_and_network() -> None:
    params = msgspec.structs.replace(DEVNET_PARAMS, register_work_n=2, register_work_bits=12)
    alice, bob = address_of("alice"), address_of("bob")
    nonce = find_work_nonce(alice, GENESIS_HASH, params)
    assert work_bits(alice, nonce, GENESIS_HASH, params) >= 12
    assert work_bits(bob, nonce, GENESIS_HASH, params) < 12
    assert work_bits(alice, nonce, sha256(b"another network"), params) < 12
    assert find_work_nonce(alice, GENESIS_HASH, params, start=nonce + 1) > nonce


def test_work_against_a_direct_computation() -> None:
    params = msgspec.structs.replace(DEVNET_PARAMS, register_work_n=16)
    digest = hashlib.scrypt(
        address_of("a") + (7).to_bytes(8, "big"),
        salt=b"tally/scrypt/1".ljust(16, b"\0") + GENESIS_HASH,
        n=16,
        r=1,
        p=1,
        dklen=32,
    )
    text = "".join(f"{byte:08b}" for byte in digest)
    assert work_bits(address_of("a"), 7, GENESIS_HASH, params) == len(text) - len(text.lstrip("0"))


def test_the_cache_is_bounded_and_lets_the_oldest_go(chain: SmallChain) -> None:
    cache = SignatureCache(GENESIS_HASH, limit_count=3)
    signed = [chain.transfer("alice", "bob", 1, nonce=nonce) for nonce in range(5)]
    for each in signed:
        cache.check(each, DEVNET_PARAMS, founding)
    assert len(cache) == 3
    known = [cache.is_known(each, DEVNET_PARAMS, founding) for each in signed]
    assert known == [False, False, True, True, True]


def test_what_is_forgotten_is_checked_again(chain: SmallChain, cache: SignatureCache) -> None:
    signed = chain.transfer("alice", "bob", 1)
    cache.check(signed, DEVNET_PARAMS, founding)
    cache.forget([signed.full_hash, bytes(32)])
    assert cache.check(signed, DEVNET_PARAMS, founding) == 1


def test_stateless_rules_name_their_facts(chain: SmallChain) -> None:
    good = chain.transfer("alice", "bob", 1)
    check_stateless(good, CHAIN.chain_id, DEVNET_PARAMS)
    with pytest.raises(TransactionRefused, match="chain_id elsewhere, named tally-test"):
        check_stateless(good, "elsewhere", DEVNET_PARAMS)
    dear = msgspec.structs.replace(DEVNET_PARAMS, fee_base=FEE)
    with pytest.raises(TransactionRefused, match="FEE_TOO_LOW"):
        check_stateless(good, CHAIN.chain_id, dear)


def test_a_refusal_needs_a_published_reason() -> None:
    with pytest.raises(AssertionError):
        TransactionRefused("SOMETHING_ELSE")
    assert all(reason.isupper() and words for reason, words in REFUSED.items())
