"""The receipt store: no number is ever signed twice, whatever happens in between."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from ledger.crypto import PrivateKey, sha256
from ledger.errors import StorageError
from ledger.receipt_store import (
    ReceiptStore,
    ReceiptStoreDamaged,
    ReceiptStoreLocked,
    SequenceUsed,
)
from ledger.receipts import InvalidReceipt, ServiceReceipt, sign_as_payer, verify_receipt
from ledger.transactions import ChainIdentity, ReceiptBody
from tests.kit.chain import CHAIN, GENESIS_HASH, address_of, key_of

ALICE, BOB = address_of("alice"), address_of("bob")

REPOSITORY = Path(__file__).parents[3]

Open = Callable[..., ReceiptStore]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    stores = []

    def opened(name: str = "alice", file: str | None = None) -> ReceiptStore:
        stores.append(ReceiptStore(tmp_path / (file or name), CHAIN, key_of(name)))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


def body(seq: int, units: int, paid: int, *, payee: bytes = BOB, service: int = 1) -> ReceiptBody:
    return ReceiptBody(CHAIN.chain_id, ALICE, payee, service, b"", seq, units, paid)


def test_a_conversation(open_store: Open) -> None:
    alice, bob = open_store("alice"), open_store("bob")
    for round_number in range(1, 4):
        wanted = alice.next_body(ALICE, BOB, 1, units=2, paid=500)
        proposed = alice.propose(wanted)
        assert (wanted.seq, wanted.cum_units, wanted.cum_paid) == (
            round_number,
            2 * round_number,
            500 * round_number,
        )
        complete = bob.countersign(proposed)
        verify_receipt(complete, CHAIN)
        assert complete.is_complete
        alice.adopt(complete)
    assert alice.newest_receipt(ALICE, BOB, 1) == complete
    assert bob.newest_receipt(ALICE, BOB, 1) == complete
    assert bob.newest_body(ALICE, BOB, 2) is None
    assert bob.newest_receipt(BOB, ALICE, 1) is None


def test_the_same_body_gives_the_same_signature_for_ever(open_store: Open) -> None:
    store = open_store()
    first = store.propose(body(1, 1, 100))
    assert store.propose(body(1, 1, 100)) == first
    store.close()
    assert open_store().propose(body(1, 1, 100)) == first


@pytest.mark.parametrize(
    ("second", "field"),
    [
        (body(5, 11, 101), "seq"),
        (body(5, 10, 101), "seq"),
        (body(4, 11, 101), "seq"),
        (body(6, 10, 101), "cum_units"),
        (body(6, 11, 100), "cum_paid"),
        (body(6, 11, 99), "cum_paid"),
        (msgspec.structs.replace(body(5, 10, 100), channel=bytes(32)), "seq"),
    ],
)
@pytest.mark.parametrize("restarted", [False, True])
def test_a_number_is_never_signed_twice(
    open_store: Open, second: ReceiptBody, field: str, restarted: bool
) -> None:
    store = open_store()
    store.propose(body(5, 10, 100))
    if restarted:
        store.close()
        store = open_store()
    with pytest.raises(SequenceUsed) as caught:
        store.propose(second)
    assert caught.value.field == field
    assert store.newest_body(ALICE, BOB, 1) == body(5, 10, 100)


def test_a_payee_does_not_countersign_two_receipts_with_one_number(open_store: Open) -> None:
    bob = open_store("bob")
    bob.countersign(sign_as_payer(body(1, 1, 100), key_of("alice"), GENESIS_HASH))
    with pytest.raises(SequenceUsed):
        bob.countersign(sign_as_payer(body(1, 1, 200), key_of("alice"), GENESIS_HASH))


def test_pairs_and_services_count_apart(open_store: Open) -> None:
    store = open_store()
    store.propose(body(1, 1, 100))
    store.propose(body(1, 1, 200, payee=address_of("carol")))
    store.propose(body(1, 1, 300, service=2))
    assert store.next_body(ALICE, BOB, 2, units=1, paid=1).cum_paid == 301


def test_two_signers_may_share_a_file(open_store: Open) -> None:
    alice = open_store("alice", "shared")
    proposed = alice.propose(body(1, 1, 100))
    alice.close()
    bob = open_store("bob", "shared")
    assert bob.newest_body(ALICE, BOB, 1) is None
    assert bob.countersign(proposed).is_complete


def run(script: str, path: Path) -> int:
    """The exit code of another process that runs `script` with the store's path."""
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, cwd=REPOSITORY, check=False, timeout=60).returncode


class Crash(BaseException):
    """The process ends here."""


class CrashingKey(PrivateKey):
    """Crashes between the durable note and the signature."""

    __slots__ = ()

    def sign(self, digest: bytes) -> bytes:
        raise Crash


def test_a_crash_before_the_signature_still_uses_the_number(tmp_path: Path) -> None:
    path = tmp_path / "store"
    crashing = ReceiptStore(path, CHAIN, CrashingKey(key_of("alice").secret))
    with pytest.raises(Crash):
        crashing.propose(body(1, 1, 100))
    crashing.close()
    with ReceiptStore(path, CHAIN, key_of("alice")) as store:
        with pytest.raises(SequenceUsed):
            store.propose(body(1, 1, 200))
        assert store.propose(body(1, 1, 100)).payer_signature
        assert store.next_body(ALICE, BOB, 1, units=1, paid=1).seq == 2


def test_a_killed_process_has_noted_what_it_signed(tmp_path: Path) -> None:
    """SIGKILL right after the answer: the write-ahead log alone brings the number back."""
    script = (
        "import os, sys; from pathlib import Path; from tests.kit.chain import *;"
        "from ledger.receipt_store import ReceiptStore;"
        "store = ReceiptStore(Path(sys.argv[1]), CHAIN, key_of('alice'));"
        "body = store.next_body(address_of('alice'), address_of('bob'), 1, units=3, paid=70);"
        "store.propose(body); os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "store"
    for seq in (1, 2):
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], cwd=Path.cwd(), check=False
        )
        assert done.returncode == -9
        with ReceiptStore(path, CHAIN, key_of("alice")) as store:
            assert store.newest_body(ALICE, BOB, 1) == body(seq, 3 * seq, 70 * seq)


def test_a_write_that_fails_gives_no_signature(
    open_store: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    store.propose(body(1, 1, 100))
    store._database.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageError):
        store.propose(body(2, 2, 200))
    store._database.execute("PRAGMA query_only = OFF")
    assert store.newest_body(ALICE, BOB, 1) == body(1, 1, 100)


def test_one_process_at_a_time(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    with pytest.raises(ReceiptStoreLocked):
        open_store()
    script = (
        "import sys; from pathlib import Path; from tests.kit.chain import *;"
        "from ledger.receipt_store import *;\n"
        "try: ReceiptStore(Path(sys.argv[1]), CHAIN, key_of('alice'))\n"
        "except ReceiptStoreLocked: sys.exit(42)"
    )
    assert run(script, tmp_path / "alice") == 42
    store.close()
    assert run(script, tmp_path / "alice") == 0


def test_adopting_the_counterpartys_copy_after_a_loss(open_store: Open) -> None:
    alice, bob = open_store("alice"), open_store("bob")
    for _ in range(3):
        bob.countersign(alice.propose(alice.next_body(ALICE, BOB, 1, units=1, paid=10)))
    alice.close()
    copy = bob.newest_receipt(ALICE, BOB, 1)
    assert copy is not None
    restored = open_store("alice", "fresh disk")
    restored.adopt(copy)
    assert restored.next_body(ALICE, BOB, 1, units=1, paid=10).seq == 4
    with pytest.raises(SequenceUsed):
        restored.propose(body(3, 9, 90))


def test_adopting_an_older_receipt_changes_nothing(open_store: Open) -> None:
    alice, bob = open_store("alice"), open_store("bob")
    old = bob.countersign(alice.propose(body(1, 1, 10)))
    alice.propose(body(2, 2, 20))
    alice.adopt(old)
    assert alice.newest_body(ALICE, BOB, 1) == body(2, 2, 20)


def test_what_is_not_adopted(open_store: Open) -> None:
    alice = open_store("alice")
    proposed = sign_as_payer(body(1, 1, 10), key_of("alice"), GENESIS_HASH)
    stranger = ServiceReceipt(body(1, 1, 10), proposed.payer_signature, bytes(64))
    for receipt in (proposed, stranger):
        with pytest.raises(InvalidReceipt) as caught:
            alice.adopt(receipt)
        assert caught.value.rule == "payee-signature"
    with pytest.raises(InvalidReceipt, match="not-a-party"):
        open_store("carol").adopt(stranger)
    assert alice.newest_body(ALICE, BOB, 1) is None


def test_a_payee_checks_before_it_notes(open_store: Open) -> None:
    bob = open_store("bob")
    good = body(1, 1, 100)
    for receipt, rule in (
        (ServiceReceipt(good), "payer-signature"),
        (ServiceReceipt(good, bytes(64)), "payer-signature"),
        (sign_as_payer(good, key_of("mallory"), GENESIS_HASH), "payer-signature"),
        (
            sign_as_payer(
                msgspec.structs.replace(good, chain_id="other"), key_of("alice"), GENESIS_HASH
            ),
            "chain",
        ),
        (
            sign_as_payer(msgspec.structs.replace(good, payer=BOB), key_of("bob"), GENESIS_HASH),
            "parties",
        ),
        (
            sign_as_payer(
                msgspec.structs.replace(good, payee=address_of("carol")),
                key_of("alice"),
                GENESIS_HASH,
            ),
            "not-a-party",
        ),
    ):
        with pytest.raises(InvalidReceipt) as caught:
            bob.countersign(receipt)
        assert caught.value.rule == rule
    assert bob.newest_body(ALICE, BOB, 1) is None
    renewed = sign_as_payer(good, key_of("alice 2"), GENESIS_HASH)
    assert bob.countersign(renewed, payer_key=address_of("alice 2")).is_complete


def test_a_payer_proposes_for_itself_only(open_store: Open) -> None:
    with pytest.raises(InvalidReceipt, match="not-a-party"):
        open_store("carol").propose(body(1, 1, 1))


@pytest.mark.parametrize(("units", "paid"), [(0, 1), (1, 0), (-1, 1), (2**53, 1), (1, 2**53)])
def test_a_body_adds_something_and_stays_below_2_53(
    open_store: Open, units: int, paid: int
) -> None:
    with pytest.raises(ValueError, match=r"at least|2\^53"):
        open_store().next_body(ALICE, BOB, 1, units=units, paid=paid)


def test_files_that_are_no_store_of_this_network(tmp_path: Path) -> None:
    noise, other_database = tmp_path / "noise", tmp_path / "database"
    noise.write_bytes(b"not a database at all" * 100)
    with sqlite3.connect(other_database) as database:
        database.execute("CREATE TABLE things (name)")
    database.close()
    mine = tmp_path / "mine"
    ReceiptStore(mine, CHAIN, key_of("alice")).close()
    for path, chain in (
        (noise, CHAIN),
        (other_database, CHAIN),
        (mine, ChainIdentity(CHAIN.chain_id, sha256(b"another genesis"))),
        (mine, ChainIdentity("another-chain", GENESIS_HASH)),
    ):
        with pytest.raises(ReceiptStoreDamaged):
            ReceiptStore(path, chain, key_of("alice"))
    with pytest.raises(StorageError):
        ReceiptStore(tmp_path / "no" / "such" / "folder", CHAIN, key_of("alice"))


def test_a_store_of_a_later_version_is_left_alone(open_store: Open) -> None:
    store = open_store()
    store._database.execute("PRAGMA user_version = 2")
    store.close()
    with pytest.raises(ReceiptStoreDamaged, match="version 2, not 1"):
        open_store()


def test_a_damaged_row_is_not_signed_over(open_store: Open) -> None:
    store = open_store()
    store.propose(body(1, 1, 100))
    store._database.execute("UPDATE receipts SET receipt = X'00'")
    with pytest.raises(ReceiptStoreDamaged):
        store.propose(body(2, 2, 200))
