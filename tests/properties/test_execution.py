"""Random blocks of all families, good and bad, against plain bookkeeping."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.codec import Codec
from ledger.execution.block import Outcome
from ledger.params import DEVNET_PARAMS, MICRO
from ledger.receipt import Receipt, decode_receipt
from ledger.state import ACCOUNT_PREFIX, TOTALS_KEY, Account, Totals, decode_account
from ledger.transactions import (
    Rate,
    Register,
    Settle,
    SignedTransaction,
    Transfer,
    sign_transaction,
)
from tests.kit.chain import GENESIS_HASH, SmallChain, address_of
from tests.properties.test_codec import KEY_OF, transactions

REPOSITORY = Path(__file__).parents[2]
BALANCES = {"alice": 60 * MICRO, "bob": 40 * MICRO, "carol": 12 * MICRO, "dave": 2_500}
NAMES = (*BALANCES, "val-0", "nobody")

names = st.sampled_from(NAMES)
amounts = st.sampled_from([1, 49, 1_000, 999_999, MICRO, 11 * MICRO, 70 * MICRO, 2**53 - 1])
nonce_shifts = st.sampled_from([0] * 12 + [-1, 1])
fees = st.sampled_from([1_000] * 8 + [1, 900_000])

parties = st.sampled_from(
    [("alice", "bob")] * 4 + [("bob", "alice")] * 2 + [("alice", "carol"), ("carol", "bob")]
)
intents = st.one_of(
    st.tuples(st.just("transfer"), names, names, amounts),
    st.tuples(st.just("register"), names, names, st.sampled_from([10 * MICRO, 10 * MICRO, 1])),
    st.tuples(
        st.just("settle"),
        parties,
        st.sampled_from(["payer", "payee", "payer alone"]),
        st.tuples(st.integers(1, 6), st.integers(0, 9), amounts),
    ),
    st.tuples(
        st.just("rate"),
        st.sampled_from(["alice", "bob"]),
        st.sampled_from(["bob", "alice", "carol"]),
        st.tuples(st.integers(1, 3), st.sampled_from([-10, -1, 1, 10])),
    ),
)
blocks = st.lists(
    st.lists(st.tuples(intents, nonce_shifts, fees), max_size=12), min_size=2, max_size=5
)


# Without registered peers and a settled receipt most rules are never reached.
ENTRANCE = [
    (("register", "alice", "alice", 10 * MICRO), 0, 1_000),
    (("register", "bob", "bob", 10 * MICRO), 0, 1_000),
    (("settle", ("alice", "bob"), "payee", (1, 1, 5_000)), 0, 1_000),
]


def sign(
    chain: SmallChain, intent: tuple, nonces: dict[str, int], shift: int, fee: int
) -> SignedTransaction:
    """The intent as the next transaction of its sender (nonce off by `shift`)."""
    match intent:
        case ("settle", (payer, payee), how, (seq, units, paid)):
            sender = payee if how == "payee" else payer
            nonce = nonces.get(sender, chain.nonce(sender)) + shift
            options = {"sender": sender, "cosigned": how != "payer alone"}
            signed = chain.settle(
                payer, payee, seq, units, paid, nonce=max(nonce, 0), fee=fee, **options
            )
        case (kind, sender, other, what):
            nonce = max(nonces.get(sender, chain.nonce(sender)) + shift, 0)
            if kind == "transfer":
                signed = chain.transfer(sender, other, what, nonce=nonce, fee=fee)
            elif kind == "register":
                signed = chain.register(sender, other, deposit=what, nonce=nonce, fee=fee)
            else:
                signed = chain.rate(sender, other, *what, nonce=nonce, fee=fee)
    if shift == 0:
        nonces[sender] = nonce + 1
    return signed


@dataclass
class Books:
    """Balances and receipts in plain dictionaries, by the text of the rules."""

    balances: dict[bytes, int]
    deposits: dict[bytes, int] = field(default_factory=dict)
    settled: dict[tuple[bytes, bytes], tuple[int, int, int]] = field(default_factory=dict)
    burned: int = 0
    pool: int = 0

    def move(self, giver: bytes, taker: bytes | None, amount: int) -> bool:
        if self.balances.get(giver, 0) < amount:
            return False
        self.balances[giver] -= amount
        if taker is not None:
            self.balances[taker] = self.balances.get(taker, 0) + amount
        return True

    def enter(self, signed: SignedTransaction, receipt: Receipt) -> int:
        """Book a transaction of a block, check its verdict; µT for the proposer."""
        transaction, income = signed.transaction, signed.transaction.fee
        assert self.move(transaction.sender, None, transaction.fee)
        match transaction:
            case Transfer():
                ok = self.move(transaction.sender, transaction.to, transaction.amount)
            case Register():
                ok = (
                    transaction.registrant not in self.deposits
                    and transaction.deposit >= DEVNET_PARAMS.register_deposit
                    and self.move(transaction.sender, None, transaction.deposit + MICRO)
                )
                if ok:
                    self.deposits[transaction.registrant] = transaction.deposit
                    self.burned += MICRO
            case Settle():
                ok, more = self._settle(transaction)
                income += more
            case Rate():
                ok = receipt.ok  # moves nothing; its rules have their own tests
        assert receipt.ok == ok, receipt
        return income

    def _settle(self, settle: Settle) -> tuple[bool, int]:
        parties = (settle.payer, settle.payee)
        seq, units, paid = self.settled.get(parties, (0, 0, 0))
        if not (settle.seq > seq and settle.cum_units > units and settle.cum_paid > paid):
            return False, 0
        if not all(party in self.deposits for party in parties):
            return False, 0
        due = settle.cum_paid - paid
        cut = (due * 2 + 99) // 100
        if not self.move(settle.payer, None, due):
            return False, 0
        self.balances[settle.payee] += due - cut
        if settle.counterparty_signature:
            seq, units = settle.seq, settle.cum_units
        self.settled[parties] = (seq, units, settle.cum_paid)
        self.burned += due // 200
        self.pool += cut - due // 200 - due // 200
        return True, due // 200


def state_of(chain: SmallChain, seen: set[bytes]) -> tuple[dict[bytes, Account], Totals]:
    accounts = {}
    for key in seen:
        raw = chain.view.get(key)
        if key.startswith(ACCOUNT_PREFIX) and raw is not None:
            accounts[key[1:]] = decode_account(raw)
    return accounts, chain.totals


def run_block(chain: SmallChain, block: list[SignedTransaction]) -> Outcome:
    """Build it, judge what was built, and keep it."""
    built = chain.execute(*block, mode="build")
    judged = chain.execute(*built.included)
    assert judged.writes == built.writes
    assert list(judged.writes) == list(built.writes)
    assert judged.state_root == built.state_root
    assert judged.receipts == built.receipts
    assert {id(signed) for signed, _ in built.dropped} | {
        id(signed) for signed in built.included
    } == {id(signed) for signed in block}
    chain.keep(judged)
    assert chain.tree.root == judged.state_root
    return judged


@settings(max_examples=120, deadline=None)
@given(blocks)
def test_money_is_conserved_and_every_verdict_is_the_books(plan: list) -> None:
    chain = SmallChain(dict(BALANCES))
    books = Books({address_of(name): amount for name, amount in BALANCES.items()})
    seen = set(chain.view.changes())
    for intended in [ENTRANCE, *plan]:
        nonces: dict[str, int] = {}
        made = (sign(chain, intent, nonces, shift, fee) for intent, shift, fee in intended)
        outcome = run_block(chain, list(made))
        income = sum(
            books.enter(signed, decode_receipt(raw))
            for signed, raw in zip(outcome.included, outcome.receipts, strict=True)
        )
        proposer = chain.proposer
        books.balances[proposer] = books.balances.get(proposer, 0) + income
        seen |= set(outcome.writes)
        accounts, totals = state_of(chain, seen)
        for address, account in accounts.items():
            assert account.balance == books.balances.get(address, 0) >= 0
            assert account.deposit == books.deposits.get(address, 0)
        assert sum(books.balances.values()) == sum(each.balance for each in accounts.values())
        assert (totals.burned, totals.pool) == (books.burned, books.pool)
        assert totals.registered == len(books.deposits)
        assert (
            totals.supply
            == sum(BALANCES.values())
            == totals.burned
            + totals.pool
            + sum(each.balance + each.deposit for each in accounts.values())
        )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(intents, st.just(0), st.just(1_000)), min_size=2, max_size=8))
def test_one_block_or_several_lead_to_the_same_balances(intended: list) -> None:
    """But for what is the block's: registration heights, and when the proposer is paid."""
    together, apart = SmallChain(dict(BALANCES)), SmallChain(dict(BALANCES))
    nonces: dict[str, int] = {}
    made = [sign(together, intent, nonces, shift, fee) for intent, shift, fee in intended]
    proposer = address_of("val-0")  # paid at the end of each block, so it could spend earlier
    block = [each for each in made if each.transaction.sender != proposer]
    together.keep(together.execute(*block, mode="build"))
    for signed in block:
        apart.keep(apart.execute(signed, mode="build"))
    for name in NAMES:
        one, other = together.account(name), apart.account(name)
        assert (one.balance, one.nonce, one.deposit) == (other.balance, other.nonce, other.deposit)
    assert together.view.get(TOTALS_KEY) == apart.view.get(TOTALS_KEY)


def chain_of_random_blocks(seed: int) -> bytes:
    """The state root after some blocks drawn from a seed."""
    random = Random(seed)
    chain = SmallChain(dict(BALANCES))
    chain.commit(*[chain.register(name) for name in ("alice", "bob")])
    for _ in range(6):
        block: list[SignedTransaction] = []
        nonces: dict[str, int] = {}
        for _ in range(12):
            sender, other = random.sample(NAMES, 2)
            nonce = nonces.get(sender, chain.nonce(sender))
            kind = random.choice(["transfer", "settle", "rate"])
            if kind == "transfer":
                block.append(chain.transfer(sender, other, random.randrange(1, MICRO), nonce=nonce))
            elif kind == "settle":
                paid = random.randrange(1, 10**6)
                block.append(
                    chain.settle(
                        sender, other, random.randrange(1, 99), 5, paid, sender=sender, nonce=nonce
                    )
                )
            else:
                block.append(chain.rate(sender, other, 1, random.choice([-5, 5]), nonce=nonce))
            nonces[sender] = nonce + 1
        chain.commit(*block, mode="build")
    return chain.tree.root


def test_the_root_does_not_depend_on_hash_randomisation() -> None:
    script = (
        "from tests.properties.test_execution import chain_of_random_blocks as root;"
        "print(root(1).hex(), root(2).hex())"
    )
    roots = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        roots.add(done.stdout)
    assert roots == {f"{chain_of_random_blocks(1).hex()} {chain_of_random_blocks(2).hex()}\n"}


HALF = 2**52 - 1
ACCOUNT_CODEC = Codec[Account]("account", Account, 512)  # strict: every number within its range


@settings(max_examples=150)
@given(st.lists(st.tuples(transactions, st.integers(0, 10)), min_size=1, max_size=10))
def test_numbers_up_to_2_53_neither_overflow_nor_escape(drawn: list) -> None:
    """Fields from the whole range over accounts that hold nearly all there can be."""
    chain = SmallChain({"alice": HALF, "bob": HALF // 2, "carol": HALF // 2})
    chain.commit(*[chain.register(name) for name in ("alice", "bob", "carol")])
    nonces = {address_of(name): 1 for name in chain.balances}
    block = []
    for transaction, advance in drawn:
        sender = transaction.sender
        fee = transaction.fee // 16 if advance else transaction.fee
        header = {"nonce": nonces[sender], "fee": fee, "expiry_height": 0}
        changed = msgspec.structs.replace(transaction, **header)
        nonces[sender] += 1
        block.append(sign_transaction(changed, KEY_OF[sender], GENESIS_HASH))
    outcome = run_block(chain, block)
    for key, value in outcome.writes.items():
        assert value is not None
        if key.startswith(ACCOUNT_PREFIX):
            ACCOUNT_CODEC.decode(value)
    assert chain.totals.burned + chain.totals.pool < 2**53
