"""The mempool's rules, one by one. What they do together is in tests/properties/test_mempool.py."""

import pytest

from ledger.codec import encode
from ledger.crypto import sha256
from ledger.mempool import Mempool, MempoolLimits, TransactionDropped
from ledger.reasons import TransactionRefused
from ledger.state import Account
from ledger.trace import TraceEvent
from ledger.transactions import SignedTransaction, Transfer
from tests.kit.chain import CHAIN, address_of

RICH = 10**9


def transaction(
    sender: str, nonce: int, fee: int = 1_000, *, expiry_height: int = 0, size_bytes: int = 200
) -> SignedTransaction:
    """Unsigned (the pool checks no signatures) and of exactly `size_bytes`."""
    transfer = Transfer(
        CHAIN.chain_id, address_of(sender), nonce, fee, expiry_height, address_of("to"), 1
    )
    payload = encode(transfer)
    raw = payload + bytes(size_bytes - len(payload))
    return SignedTransaction(raw, transfer, sha256(payload), sha256(raw))


class Pool(Mempool):
    """A pool over given accounts; keeps the names of what was dropped."""

    def __init__(self, max_txs: int = 100, max_bytes: int = 10**6, per_sender: int = 8) -> None:
        self.dropped: list[tuple[bytes, str]] = []
        self.accounts: dict[bytes, Account] = {}
        super().__init__(MempoolLimits(max_txs, max_bytes, per_sender), self._note)

    def _note(self, event: TraceEvent) -> None:
        assert isinstance(event, TransactionDropped)
        self.dropped.append((event.transaction_id, event.reason))

    def account(self, address: bytes) -> Account:
        return self.accounts.get(address, Account(RICH))

    def put(self, signed: SignedTransaction, next_height: int = 1) -> str:
        return self.add(signed, self.account(signed.transaction.sender), next_height)

    def refuse(self, signed: SignedTransaction, next_height: int = 1) -> TransactionRefused:
        account = self.account(signed.transaction.sender)
        before = [each.raw for each in self.transactions()]
        with pytest.raises(TransactionRefused) as caught:
            self.check(signed, account, next_height)
        with pytest.raises(TransactionRefused) as again:
            self.add(signed, account, next_height)
        assert (caught.value.reason, caught.value.facts) == (again.value.reason, again.value.facts)
        assert [each.raw for each in self.transactions()] == before
        return caught.value

    def commit(self, *signed: SignedTransaction, height: int = 1) -> None:
        """A block applied these; every sender keeps its riches."""
        for each in signed:
            sender = each.transaction.sender
            self.accounts[sender] = Account(RICH, each.transaction.nonce + 1)
        changed = [each.transaction.sender for each in signed]
        self.update(signed, changed, self.account, height + 1)

    def order(self) -> list[SignedTransaction]:
        return self.select(1_000, 10**9)


def test_one_transaction_comes_and_goes() -> None:
    pool, one = Pool(), transaction("a", 0)
    assert not pool.waiting
    assert pool.put(one) == "ready"
    assert pool.waiting
    assert (len(pool), pool.size_bytes, pool.ready_count) == (1, 200, 1)
    assert pool.status(one.transaction_id) == "ready"
    assert pool.get(one.transaction_id) is one
    assert pool.get_by_full_hash(one.full_hash) is one
    assert pool.next_nonce(address_of("a")) == 1
    pool.commit(one)
    assert not pool.waiting
    assert (len(pool), pool.size_bytes, pool.ready_count) == (0, 0, 0)
    assert pool.status(one.transaction_id) is None
    assert pool.get_by_full_hash(one.full_hash) is None
    assert pool.next_nonce(address_of("a")) is None
    assert pool.dropped == []


def test_a_known_transaction_is_answered_with_its_status() -> None:
    pool = Pool()
    ready, parked = transaction("a", 0), transaction("a", 5)
    for _ in range(2):
        assert pool.put(ready) == "ready"
        assert pool.put(parked) == "parked"
    pool.check(ready, Account(0, 9), 1)  # known: whatever the account says
    assert len(pool) == 2


def test_nonces_order_within_a_sender_and_gaps_park() -> None:
    pool = Pool()
    late, first, second = (transaction("a", nonce) for nonce in (2, 0, 1))
    assert pool.put(late) == "parked"
    assert not pool.waiting
    assert pool.put(first) == "ready"
    assert pool.order() == [first]
    assert pool.put(second) == "ready"
    assert pool.status(late.transaction_id) == "ready"
    assert pool.order() == [first, second, late]
    assert pool.of_sender(address_of("a")) == [first, second, late]
    assert pool.transactions() == [late, first, second]


def test_fee_per_byte_orders_between_senders_and_arrival_breaks_ties() -> None:
    pool = Pool()
    cheap, dear = transaction("a", 0, 1_000), transaction("b", 0, 2_000)
    long_dear = transaction("c", 0, 3_000, size_bytes=1_000)
    tie = transaction("d", 0, 2_000)
    for each in (cheap, dear, long_dear, tie):
        pool.put(each)
    assert pool.order() == [dear, tie, cheap, long_dear]


def test_a_dear_transaction_waits_for_its_predecessor() -> None:
    pool = Pool()
    cheap, dear, middle = (
        transaction("a", 0, 1_000),
        transaction("a", 1, 9_000),
        transaction("b", 0, 2_000),
    )
    for each in (cheap, dear, middle):
        pool.put(each)
    assert pool.order() == [middle, cheap, dear]


def test_selecting_obeys_both_limits_and_changes_nothing() -> None:
    pool = Pool()
    for sender in "abc":
        for nonce in range(3):
            pool.put(transaction(sender, nonce))
    assert len(pool.select(4, 10**6)) == 4
    assert len(pool.select(100, 999)) == 4
    assert pool.select(0, 10**6) == []
    assert pool.select(4, 10**6) == pool.select(9, 10**6)[:4]
    assert len(pool.order()) == 9


def test_what_does_not_fit_is_passed_over_with_all_that_follows_it() -> None:
    pool = Pool()
    big, after_big, small = (
        transaction("a", 0, 90_000, size_bytes=900),
        transaction("a", 1, 90_000),
        transaction("b", 0),
    )
    for each in (big, after_big, small):
        pool.put(each)
    assert pool.select(10, 800) == [small]
    assert pool.select(10, 1_100) == [big, after_big]


def test_a_block_in_flight_is_left_out_and_built_upon() -> None:
    pool = Pool()
    one, two, three = (transaction("a", nonce) for nonce in range(3))
    for each in (one, two, three):
        pool.put(each)
    in_flight = {one.transaction_id, two.transaction_id}
    assert pool.select(10, 10**6, in_flight) == [three]
    assert pool.select(1, 200, in_flight) == [three]


@pytest.mark.parametrize(("nonce", "expected"), [(0, 3), (2, 3)])
def test_used_nonces(nonce: int, expected: int) -> None:
    pool = Pool()
    pool.accounts[address_of("a")] = Account(RICH, 3)
    refused = pool.refuse(transaction("a", nonce))
    assert refused.reason == "NONCE_TOO_LOW"
    assert dict(refused.facts) == {"expected_nonce": expected, "nonce": nonce}


def test_a_nonce_is_at_most_the_senders_limit_ahead() -> None:
    pool = Pool(per_sender=8)
    assert pool.put(transaction("a", 7)) == "parked"
    refused = pool.refuse(transaction("a", 8))
    assert refused.reason == "NONCE_TOO_HIGH"
    assert dict(refused.facts) == {"expected_nonce": 0, "highest_nonce": 7}


def test_a_sender_with_all_its_places_taken() -> None:
    pool = Pool(per_sender=3)
    for nonce in range(3):
        pool.put(transaction("a", nonce))
    refused = pool.refuse(transaction("a", 3))
    assert refused.reason == "SENDER_LIMIT"
    assert dict(refused.facts) == {"waiting": 3, "limit": 3}
    pool.commit(transaction("a", 0))
    assert pool.put(transaction("a", 3)) == "ready"


def test_the_balance_covers_the_fees_of_all_that_wait() -> None:
    pool = Pool()
    pool.accounts[address_of("a")] = Account(2_500)
    pool.put(transaction("a", 0, 1_000))
    pool.put(transaction("a", 1, 1_000))
    refused = pool.refuse(transaction("a", 2, 1_000))
    assert refused.reason == "INSUFFICIENT_FEE_FUNDS"
    assert dict(refused.facts) == {"needed": 3_000, "balance": 2_500}
    pool.put(transaction("a", 2, 500))


def test_a_replacement_needs_the_balance_for_itself_only() -> None:
    pool = Pool()
    pool.accounts[address_of("a")] = Account(1_500)
    pool.put(transaction("a", 0, 1_000))
    assert pool.put(transaction("a", 0, 1_500)) == "ready"
    refused = pool.refuse(transaction("a", 0, 1_650))
    assert dict(refused.facts) == {"needed": 1_650, "balance": 1_500}


def test_expired_on_arrival() -> None:
    refused = Pool().refuse(transaction("a", 0, expiry_height=4), next_height=5)
    assert refused.reason == "EXPIRED"
    assert Pool().put(transaction("a", 0, expiry_height=5), next_height=5) == "ready"


def test_expiry_by_height_parks_what_followed() -> None:
    pool = Pool()
    one, two, three = (
        transaction("a", 0),
        transaction("a", 1, expiry_height=7),
        transaction("a", 2),
    )
    for each in (one, two, three):
        pool.put(each)
    pool.update((), (), pool.account, 7)
    assert len(pool) == 3
    pool.update((), (), pool.account, 8)
    assert pool.dropped == [(two.transaction_id, "EXPIRED")]
    assert pool.order() == [one]
    assert pool.status(three.transaction_id) == "parked"


@pytest.mark.parametrize(("fee", "ok"), [(1_099, False), (1_100, True), (1_000, False)])
def test_a_replacement_pays_a_tenth_more(fee: int, ok: bool) -> None:
    pool = Pool()
    old, successor = transaction("a", 0, 1_000), transaction("a", 1)
    pool.put(old)
    pool.put(successor)
    new = transaction("a", 0, fee, expiry_height=99)
    if not ok:
        refused = pool.refuse(new)
        assert refused.reason == "REPLACEMENT_FEE_TOO_LOW"
        assert dict(refused.facts) == {"required_fee": 1_100}
        return
    assert pool.put(new) == "ready"
    assert pool.dropped == [(old.transaction_id, "REPLACED")]
    assert pool.order() == [new, successor]
    assert pool.size_bytes == 400


def test_a_longer_replacement_pays_for_its_length() -> None:
    pool = Pool()
    pool.put(transaction("a", 0, 1_000))
    longer = transaction("a", 0, 2_000, size_bytes=400)
    assert dict(pool.refuse(longer).facts) == {"required_fee": 2_200}
    assert pool.put(transaction("a", 0, 2_200, size_bytes=400)) == "ready"


def test_a_replacement_of_a_parked_transaction_stays_parked() -> None:
    pool = Pool()
    pool.put(transaction("a", 3, 1_000))
    assert pool.put(transaction("a", 3, 2_000)) == "parked"
    assert len(pool) == 1


def test_a_full_pool_takes_what_is_worth_more_than_its_cheapest() -> None:
    pool = Pool(max_txs=3)
    cheap = transaction("a", 0, 1_000)
    for each in (transaction("b", 0, 2_000), cheap, transaction("c", 0, 3_000)):
        pool.put(each)
    refused = pool.refuse(transaction("d", 0, 1_000))
    assert refused.reason == "MEMPOOL_FULL"
    assert dict(refused.facts) == {"waiting": 3, "required_fee": 1_001}
    assert pool.put(transaction("d", 0, 1_001)) == "ready"
    assert pool.dropped == [(cheap.transaction_id, "EVICTED")]
    assert len(pool) == 3


def test_bytes_are_bounded_and_several_may_have_to_go() -> None:
    pool = Pool(max_bytes=1_000)
    for number, sender in enumerate("abcde"):
        pool.put(transaction(sender, 0, 1_000 + number))
    assert pool.refuse(transaction("f", 0, 2_000, size_bytes=400)).reason == "MEMPOOL_FULL"
    assert pool.put(transaction("f", 0, 4_000, size_bytes=400)) == "ready"
    assert pool.size_bytes == 1_000
    assert [reason for _, reason in pool.dropped] == ["EVICTED", "EVICTED"]
    assert [each.transaction.fee for each in pool.order()] == [4_000, 1_004, 1_003, 1_002]


def test_a_dear_tail_protects_no_cheap_chain() -> None:
    pool = Pool(max_txs=4)
    chain = [transaction("a", nonce, 1_000) for nonce in range(3)] + [transaction("a", 3, 90_000)]
    for each in chain:
        pool.put(each)
    assert pool.put(transaction("b", 0, 1_001)) == "ready"
    assert pool.dropped == [(chain[3].transaction_id, "EVICTED")]
    assert pool.ready_count == 4


def test_parked_transactions_make_room_first_and_displace_no_ready_one() -> None:
    pool = Pool(max_txs=2)
    parked, ready = transaction("a", 2, 90_000), transaction("b", 0, 1_000)
    pool.put(parked)
    pool.put(ready)
    assert pool.put(transaction("c", 0, 900)) == "ready"
    assert pool.dropped == [(parked.transaction_id, "EVICTED")]
    refused = pool.refuse(parked)
    assert refused.reason == "MEMPOOL_FULL"
    assert dict(refused.facts) == {"waiting": 2, "expected_nonce": 0}


def test_no_transaction_pushes_out_its_own_predecessor() -> None:
    pool = Pool(max_txs=2)
    first = transaction("a", 0, 1_000)
    pool.put(first)
    pool.put(transaction("b", 0, 5_000))
    assert pool.refuse(transaction("a", 1, 90_000)).reason == "MEMPOOL_FULL"
    assert pool.get(first.transaction_id) is first


def test_a_replacement_needs_no_room_but_its_growth() -> None:
    pool = Pool(max_txs=2, max_bytes=400)
    pool.put(transaction("a", 0, 1_000))
    dear = transaction("b", 0, 90_000)
    pool.put(dear)
    assert pool.put(transaction("a", 0, 1_100)) == "ready"
    assert pool.dropped[-1][1] == "REPLACED"
    assert pool.refuse(transaction("a", 0, 9_000, size_bytes=300)).reason == "MEMPOOL_FULL"
    assert pool.put(transaction("a", 0, 200_000, size_bytes=300)) == "ready"
    assert pool.dropped[-1] == (dear.transaction_id, "EVICTED")


def test_a_replacement_in_the_middle_revalues_what_follows() -> None:
    pool = Pool(max_txs=3)
    for nonce, fee in enumerate((1_000, 5_000)):
        pool.put(transaction("a", nonce, fee))
    pool.put(transaction("b", 0, 2_000))
    pool.put(transaction("a", 0, 6_000))
    # a's chain is now worth 5,000 a piece, so b is the cheapest.
    assert pool.put(transaction("c", 0, 3_000)) == "ready"
    assert pool.get(transaction("b", 0, 2_000).transaction_id) is None


def test_a_commit_of_the_cheap_head_revalues_what_follows() -> None:
    pool = Pool(max_txs=3)
    head, rest = transaction("a", 0, 1_000), transaction("a", 1, 5_000)
    pool.put(head)
    pool.put(rest)
    pool.put(transaction("b", 0, 2_000))
    pool.commit(head)
    pool.put(transaction("c", 0, 4_000))
    assert pool.put(transaction("d", 0, 3_000)) == "ready"
    assert pool.get(rest.transaction_id) is rest


def test_another_transaction_used_the_nonce() -> None:
    pool = Pool()
    ours, theirs = transaction("a", 0, 1_000), transaction("a", 0, 1_050)
    after = transaction("a", 1)
    pool.put(ours)
    pool.put(after)
    pool.commit(theirs)
    assert pool.dropped == [(ours.transaction_id, "NONCE_TOO_LOW")]
    assert pool.order() == [after]


def test_an_account_that_lost_its_balance_keeps_what_it_can_pay() -> None:
    pool = Pool()
    entries = [transaction("a", nonce) for nonce in range(4)]
    for each in entries:
        pool.put(each)
    pool.accounts[address_of("a")] = Account(2_500)
    pool.update((), [address_of("a"), address_of("stranger")], pool.account, 2)
    assert pool.order() == entries[:2]
    assert [reason for _, reason in pool.dropped] == ["INSUFFICIENT_FEE_FUNDS"] * 2


def test_an_account_that_moved_is_noticed_on_the_next_arrival() -> None:
    pool = Pool()
    old = transaction("a", 0)
    pool.put(old)
    pool.accounts[address_of("a")] = Account(RICH, 1)
    assert pool.put(transaction("a", 1)) == "ready"
    assert pool.get(old.transaction_id) is None


def test_removing_parks_what_followed_and_strangers_are_fine() -> None:
    pool = Pool()
    one, two = transaction("a", 0), transaction("a", 1)
    pool.put(one)
    pool.put(two)
    pool.remove(one.transaction_id, "FEE_TOO_LOW")
    pool.remove(bytes(32), "FEE_TOO_LOW")
    assert pool.dropped == [(one.transaction_id, "FEE_TOO_LOW")]
    assert not pool.waiting
    assert pool.put(one) == "ready"
    assert pool.order() == [one, two]


def test_stale_heap_items_do_not_pile_up() -> None:
    pool = Pool(max_txs=10, per_sender=4)
    for number in range(5_000):
        pool.put(transaction(f"s{number % 7}", 0, 1_000, expiry_height=number + 2))
        pool.remove(pool.transactions()[0].transaction_id, "TEST")
    items = sum(map(len, (pool._heads, pool._by_worth, pool._by_expiry)))
    assert items < 3 * (1_024 + 30)
