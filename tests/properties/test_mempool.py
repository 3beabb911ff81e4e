"""The mempool as a state machine against a model that recomputes everything from its definition."""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ledger.codec import encode
from ledger.crypto import sha256
from ledger.mempool import Mempool, MempoolLimits, TransactionDropped
from ledger.reasons import TransactionRefused
from ledger.state import Account
from ledger.trace import TraceEvent
from ledger.transactions import SignedTransaction, Transfer
from tests.kit.chain import CHAIN, address_of

LIMITS = MempoolLimits(max_txs=7, max_bytes=1_700, max_per_sender=4)
SENDERS = ("a", "b", "c")
BALANCE = 20_000


def transaction(
    sender: str, nonce: int, fee: int, expiry_height: int, size_bytes: int
) -> SignedTransaction:
    transfer = Transfer(
        CHAIN.chain_id, address_of(sender), nonce, fee, expiry_height, address_of("to"), 1
    )
    payload = encode(transfer)
    raw = payload + bytes(size_bytes - len(payload))
    return SignedTransaction(raw, transfer, sha256(payload), sha256(raw))


@dataclass(frozen=True)
class Entry:
    sender: str
    nonce: int
    fee: int
    size: int
    expiry: int
    arrival: int
    signed: SignedTransaction

    @property
    def rate(self) -> int:
        return self.fee * 1_000_000 // self.size


class Model:
    """Sets and sorting; no state but entries and accounts."""

    def __init__(self) -> None:
        self.entries: set[Entry] = set()
        self.accounts = {sender: Account(BALANCE) for sender in SENDERS}
        self.arrivals = 0

    def at(self, sender: str, nonce: int) -> Entry | None:
        found = [e for e in self.entries if (e.sender, e.nonce) == (sender, nonce)]
        assert len(found) <= 1
        return found[0] if found else None

    def ready(self, sender: str) -> list[Entry]:
        chain = []
        nonce = self.accounts[sender].nonce
        while (entry := self.at(sender, nonce)) is not None:
            chain.append(entry)
            nonce += 1
        return chain

    def key(self, entry: Entry) -> tuple[bool, int, int, int]:
        chain = self.ready(entry.sender)
        if entry not in chain:
            return (False, entry.rate, -entry.nonce, -entry.arrival)
        worth = min(each.rate for each in chain[: chain.index(entry) + 1])
        return (True, worth, -entry.nonce, -entry.arrival)

    def add(self, entry: Entry, next_height: int) -> str:
        """The refusal's reason, or "" with the entry taken in."""
        account = self.accounts[entry.sender]
        chain = self.ready(entry.sender)
        if 0 < entry.expiry < next_height:
            return "EXPIRED"
        if entry.nonce < account.nonce:
            return "NONCE_TOO_LOW"
        if entry.nonce >= account.nonce + LIMITS.max_per_sender:
            return "SENDER_LIMIT" if len(chain) == LIMITS.max_per_sender else "NONCE_TOO_HIGH"
        old = self.at(entry.sender, entry.nonce)
        if old is not None and (
            entry.fee * 100 < old.fee * 110
            or entry.fee == old.fee
            or entry.fee * 100_000_000 < old.rate * 110 * entry.size
        ):
            return "REPLACEMENT_FEE_TOO_LOW"
        others = [e for e in self.entries if e.sender == entry.sender and e != old]
        if sum(e.fee for e in others) + entry.fee > account.balance:
            return "INSUFFICIENT_FEE_FUNDS"
        before, keys = set(self.entries), {e: self.key(e) for e in self.entries}
        self.entries.discard(old)  # type: ignore[arg-type]
        self.entries.add(entry)
        new_key = self.key(entry)
        for victim in sorted(before - {old}, key=lambda e: keys[e]):
            if not self.is_over_full() or keys[victim][:2] >= new_key[:2]:
                break
            self.entries.remove(victim)
        if self.is_over_full():
            self.entries = before
            return "MEMPOOL_FULL"
        return ""

    def is_over_full(self) -> bool:
        return (
            len(self.entries) > LIMITS.max_txs
            or sum(e.size for e in self.entries) > LIMITS.max_bytes
        )

    def follow(self, next_height: int) -> None:
        for sender, account in self.accounts.items():
            own = sorted((e for e in self.entries if e.sender == sender), key=lambda e: e.nonce)
            for entry in own:
                if entry.nonce < account.nonce:
                    self.entries.remove(entry)
            own = [e for e in own if e in self.entries]
            while sum(e.fee for e in own) > account.balance:
                self.entries.remove(own.pop())
        self.entries = {e for e in self.entries if not 0 < e.expiry < next_height}

    def select(self, max_txs: int, max_bytes: int) -> list[SignedTransaction]:
        chains = [self.ready(sender) for sender in SENDERS]
        chosen: list[Entry] = []
        while len(chosen) < max_txs and (heads := [chain[0] for chain in chains if chain]):
            best = min(heads, key=lambda e: (-e.rate, e.arrival))
            (chain,) = [chain for chain in chains if chain and chain[0] is best]
            if sum(e.size for e in chosen) + best.size > max_bytes:
                chain.clear()
            else:
                chosen.append(chain.pop(0))
        return [e.signed for e in chosen]


# 550 is exactly a tenth more than 500, 549 is not.
FEES = st.sampled_from([500, 549, 550, 605, 700, 1_000, 2_000, 20_001])


class MempoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.gone: list[bytes] = []
        self.pool = Mempool(LIMITS, self._note)
        self.height = 0

    def _note(self, event: TraceEvent) -> None:
        assert isinstance(event, TransactionDropped)
        self.gone.append(event.transaction_id)

    def account_of(self, address: bytes) -> Account:
        (name,) = [name for name in SENDERS if address_of(name) == address]
        return self.model.accounts[name]

    @rule(
        sender=st.sampled_from(SENDERS),
        ahead=st.integers(-1, 5),
        fee=FEES,
        expires_in=st.sampled_from([None, 0, 1, 3]),
        size=st.sampled_from([200, 250, 500, 900]),
    )
    def add(self, sender: str, ahead: int, fee: int, expires_in: int | None, size: int) -> None:
        """Anywhere: used nonces, replacements, gaps."""
        self._add(sender, ahead, fee, expires_in, size)

    def _add(self, sender: str, ahead: int, fee: int, expires_in: int | None, size: int) -> None:
        account = self.model.accounts[sender]
        nonce = max(0, account.nonce + ahead)
        expiry = 0 if expires_in is None else self.height + expires_in
        signed = transaction(sender, nonce, fee, expiry, size)
        known = {e.signed.transaction_id for e in self.model.entries}
        if signed.transaction_id in known:
            assert self.pool.add(signed, account, self.height + 1) == self.pool.status(
                signed.transaction_id
            )
            return
        entry = Entry(sender, nonce, fee, size, expiry, self.model.arrivals, signed)
        before = {e.signed.transaction_id for e in self.model.entries}
        expected = self.model.add(entry, self.height + 1)
        self.gone.clear()
        if expected:
            for enter in (self.pool.check, self.pool.add):
                with pytest.raises(TransactionRefused) as refused:
                    enter(signed, account, self.height + 1)
                assert refused.value.reason == expected
            assert self.gone == []
            return
        self.pool.check(signed, account, self.height + 1)
        self.pool.add(signed, account, self.height + 1)
        self.model.arrivals += 1
        after = {e.signed.transaction_id for e in self.model.entries}
        assert set(self.gone) == before - after

    @rule(sender=st.sampled_from(SENDERS), fees=st.lists(FEES, min_size=2, max_size=4))
    def add_chain(self, sender: str, fees: list[int]) -> None:
        """From the next missing nonce on, without a gap."""
        for fee in fees:
            following = len(self.model.ready(sender))
            self._add(sender, following, fee, None, 200)

    @rule(max_txs=st.integers(0, 8), max_bytes=st.integers(0, 2_000))
    def select(self, max_txs: int, max_bytes: int) -> None:
        assert self.pool.select(max_txs, max_bytes) == self.model.select(max_txs, max_bytes)

    @rule(
        count=st.integers(1, 5),
        foreign=st.booleans(),
        balance=st.sampled_from([1_500, BALANCE, BALANCE]),
    )
    def commit(self, count: int, foreign: bool, balance: int) -> None:
        """A block with our best transactions, and perhaps one of a sender that we never saw."""
        block = self.pool.select(count, 10**6)
        changed: dict[str, Account] = {}
        for name in SENDERS:
            own = [e for e in block if e.transaction.sender == address_of(name)]
            used = len(own) + (foreign and name == "a")
            if used:
                nonce = self.model.accounts[name].nonce + used
                changed[name] = Account(balance, nonce)
        self.model.accounts.update(changed)
        self.height += 1
        self.model.follow(self.height + 1)
        self.pool.update(
            block, [address_of(name) for name in changed], self.account_of, self.height + 1
        )

    @rule(nonces=st.integers(1, 3), sender=st.sampled_from(SENDERS))
    def catch_up(self, nonces: int, sender: str) -> None:
        """Several blocks came at once and none of ours was in them."""
        old = self.model.accounts[sender]
        self.model.accounts[sender] = Account(BALANCE, old.nonce + nonces)
        self.height += 5
        self.model.follow(self.height + 1)
        self.pool.update((), [address_of(sender)], self.account_of, self.height + 1)

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(sorted(self.model.entries, key=lambda e: e.arrival)))
        self.model.entries.remove(entry)
        self.pool.remove(entry.signed.transaction_id, "TEST")

    @invariant()
    def the_pool_holds_what_the_model_holds(self) -> None:
        model, pool = self.model, self.pool
        by_arrival = sorted(model.entries, key=lambda e: e.arrival)
        assert pool.transactions() == [e.signed for e in by_arrival]
        assert len(pool) == len(by_arrival) <= LIMITS.max_txs
        assert pool.size_bytes == sum(e.size for e in by_arrival) <= LIMITS.max_bytes
        ready = {e for sender in SENDERS for e in model.ready(sender)}
        assert pool.ready_count == len(ready)
        assert pool.waiting == bool(ready)
        for entry in by_arrival:
            status = "ready" if entry in ready else "parked"
            assert pool.status(entry.signed.transaction_id) == status
            assert pool.get_by_full_hash(entry.signed.full_hash) is entry.signed
        for sender in SENDERS:
            own = sorted((e for e in by_arrival if e.sender == sender), key=lambda e: e.nonce)
            assert pool.of_sender(address_of(sender)) == [e.signed for e in own]
            following = model.accounts[sender].nonce + len(model.ready(sender))
            assert pool.next_nonce(address_of(sender)) == (following if own else None)

    @invariant()
    def a_whole_selection_is_every_ready_transaction_in_order(self) -> None:
        assert self.pool.select(100, 10**6) == self.model.select(100, 10**6)


MempoolMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestMempool = MempoolMachine.TestCase
