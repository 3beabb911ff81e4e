"""The store: what comes back, what happens at a crash, and what it refuses to open."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plyvel
import pytest

from ledger import store_schema
from ledger.state_tree import StaleTreeUpdate, StateTree, StateTreeCorrupt, verify_state_proof
from ledger.store import (
    BlockRecord,
    LevelStore,
    PrunedBlock,
    SchemaVersionMismatch,
    StoreCorrupt,
    StoreFailed,
    StoreLocked,
    WrongGenesis,
)

ROOT = Path(__file__).parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
GENESIS = hashlib.sha256(b"genesis").digest()


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class Chain:
    """A store with its tree, and a plain model of what it should hold."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = str(path)
        self.store = LevelStore(self.path, GENESIS, **options)
        self.tree = self.store.load_tree()
        self.state: dict[bytes, bytes] = {}
        self.records: dict[int, BlockRecord] = {}

    def begin(self, state: dict[bytes, bytes]) -> None:
        update = self.tree.update(dict(state))
        self.store.begin_chain(
            height=0, block_hash=GENESIS, state_writes=dict(state), tree_update=update
        )
        self.tree.apply(update)
        self.state = dict(state)

    def record(
        self,
        height: int,
        count: int = 3,
        writes: dict[bytes, bytes | None] | None = None,
        **more: Any,
    ) -> BlockRecord:
        transactions = [f"transaction {height}.{n}".encode() for n in range(count)]
        block = b"HEAD%d" % height + b"|".join(transactions) + b"TAIL"
        writes = {b"height": b"%d" % height} if writes is None else writes
        return BlockRecord(
            height=height,
            block_hash=sha(f"block {height}"),
            header=b"header %d" % height,
            block=more.pop("block", block),
            certificate=b"certificate %d" % height,
            transactions=more.pop("transactions", transactions),
            transaction_ids=[sha(f"id {height}.{n}") for n in range(count)],
            receipts=[b"receipt %d.%d" % (height, n) * (n % 3) for n in range(count)],
            state_writes=writes,
            tree_update=more.pop("tree_update", None) or self.tree.update(writes),
            **more,
        )

    def commit(self, record: BlockRecord) -> None:
        self.store.commit_block(record)
        self.applied(record)

    def applied(self, record: BlockRecord) -> None:
        self.tree.apply(record.tree_update)
        self.records[record.height] = record
        for key, value in record.state_writes.items():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value

    def run(self, heights: range, **more: Any) -> None:
        for height in heights:
            self.commit(self.record(height, **more))

    def reopen(self) -> None:
        self.store.close()
        self.store = LevelStore(self.path, GENESIS)
        self.tree = self.store.load_tree()

    def check(self) -> None:
        """Everything the store says is what the model says."""
        store = self.store
        tip = max(self.records, default=0)
        assert store.tip() == (tip, self.records[tip].block_hash if tip else GENESIS)
        assert dict(store.state_scan()) == self.state
        assert list(store.state_items()) == sorted(self.state.items())
        assert store.load_tree().root == self.tree.root
        assert len(self.tree) == len(self.state)
        for height, record in self.records.items():
            assert store.header(height) == record.header
            assert store.block(height) == record.block
            assert store.certificate(height) == record.certificate
            assert store.height_of(record.block_hash) == height
            assert store.receipts(height) == list(record.receipts)
            assert store.transaction_count(height) == len(record.transactions)
            for position, transaction in enumerate(record.transactions):
                assert store.transaction(height, position) == transaction
                assert store.receipt(height, position) == record.receipts[position]
                place = store.transaction_place(record.transaction_ids[position])
                assert place == (height, position)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    chain = Chain(tmp_path / "db")
    chain.begin({b"a%d" % n: b"%d" % n for n in range(20)})
    yield chain
    chain.store.close()


# --- what comes back


def test_a_new_store_has_no_tip_and_the_genesis_state_gives_the_first(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "db")
    assert chain.store.tip() is None
    with pytest.raises(ValueError, match="does not follow"):
        chain.commit(chain.record(1))
    chain.begin({b"one": b"1"})
    chain.check()
    assert chain.store.earliest_height() == 1
    assert chain.store.height_of(GENESIS) == 0
    with pytest.raises(ValueError, match="begun"):
        chain.begin({})
    with pytest.raises(ValueError, match="begun"):
        chain.store.clear_state()
    chain.store.close()


def test_blocks_come_back_whole_and_in_parts_also_after_reopening(chain: Chain) -> None:
    chain.run(range(1, 6))
    chain.commit(chain.record(6, count=0, writes={}))
    chain.commit(chain.record(7, count=200, writes={b"a3": None, b"new": b"", b"a4": b"x"}))
    chain.check()
    chain.reopen()
    chain.check()
    assert chain.store.get(b"a3") is None
    assert chain.store.get(b"new") == b""


def test_large_blocks_are_read_transaction_by_transaction(chain: Chain) -> None:
    piece = store_schema.BLOCK_PIECE_BYTES
    sizes = [piece - 8, 1, 7, 3 * piece, 0, 5, piece, piece + 1, 100]
    transactions = [bytes([65 + n]) * size for n, size in enumerate(sizes)]
    block = b"HEADER" + b"".join(transactions) + b"TRAILER"
    chain.commit(chain.record(1, count=len(sizes), block=block, transactions=transactions))
    chain.check()


def test_what_is_not_there_is_none(chain: Chain) -> None:
    chain.run(range(1, 3))
    store = chain.store
    for height in (0, 3, 2**40):
        assert store.header(height) is None
        assert store.block(height) is None
        assert store.certificate(height) is None
        assert store.receipts(height) is None
        assert store.receipt(height, 0) is None
        assert store.transaction(height, 0) is None
        assert store.transaction_count(height) is None
    for position in (-1, 3):
        assert store.transaction(1, position) is None
        assert store.receipt(1, position) is None
    assert store.height_of(bytes(32)) is None
    assert store.transaction_place(bytes(32)) is None
    assert store.state_get(b"nobody") is None
    assert store.topic_transactions(b"nobody") == []


def test_the_caller_s_mistakes_are_refused_and_change_nothing(chain: Chain) -> None:
    chain.run(range(1, 3))
    good = chain.record(3)
    other_tree = StateTree()
    for wrong in (
        chain.record(2),
        chain.record(4),
        chain.record(3, transactions=[b"not in the block"] * 3),
        chain.record(3, transactions=[]),
    ):
        with pytest.raises(ValueError, match=r"follow|contain|one id"):
            chain.store.commit_block(wrong)
    stale = chain.tree.update({b"height": b"stale"})
    chain.commit(good)
    with pytest.raises(StaleTreeUpdate):
        chain.store.commit_block(chain.record(4, writes={b"height": b"stale"}, tree_update=stale))
    assert other_tree.root != chain.tree.root
    chain.check()


def test_state_is_listed_in_order_and_by_prefix(chain: Chain) -> None:
    writes: dict[bytes, bytes | None] = {
        b"p\xff\xff": b"1", b"p\xff": b"2", b"p": b"3", b"q": b"4", b"p\x00": b"5", b"a1": None,
    }  # fmt: skip
    chain.commit(chain.record(1, writes=writes))
    keys = [key for key, _ in chain.store.state_items(b"p")]
    assert keys == [b"p", b"p\x00", b"p\xff", b"p\xff\xff"]
    assert [k for k, _ in chain.store.state_items(b"p\xff")] == [b"p\xff", b"p\xff\xff"]
    assert [k for k, _ in chain.store.state_items(b"p", after=b"p\x00")] == keys[2:]
    assert [k for k, _ in chain.store.state_items(b"p", after=b"a")] == keys
    assert list(chain.store.state_items(b"p", after=b"q")) == []
    chain.check()


def test_state_scans_by_bucket_cover_everything_once(chain: Chain) -> None:
    chain.commit(chain.record(1, writes={b"%d" % n: b"v" for n in range(2000)}))
    quarters = [
        item
        for first in range(0, 0x10000, 0x4000)
        for item in chain.store.state_scan(first, first + 0x3FFF)
    ]
    assert quarters == list(chain.store.state_scan())
    assert dict(quarters) == chain.state


def test_topics_are_paged_in_both_directions(chain: Chain) -> None:
    account, other = b"\x02" * 33, b"\x02" * 34
    expected = []
    for height in range(1, 12):
        positions = list(range(0, 10, height))
        topics = {account: positions, other: [0]} if height % 3 else {other: [0]}
        chain.commit(chain.record(height, count=10, topics=topics))
        expected += [(height, position) for position in positions if height % 3]
    store = chain.store
    assert store.topic_transactions(account, limit=1000, ascending=True) == expected
    assert store.account_transactions(account, limit=1000) == expected[::-1]
    for ascending in (True, False):
        seen: list[tuple[int, int]] = []
        while page := store.topic_transactions(
            account, seen[-1] if seen else None, limit=4, ascending=ascending
        ):
            assert len(page) <= 4
            seen += page
        assert seen == (expected if ascending else expected[::-1])
    with pytest.raises(ValueError, match="topic"):
        store.topic_transactions(b"")
    with pytest.raises(ValueError, match="topic"):
        store.topic_transactions(b"x" * 256)


def test_certificates_are_replaced_and_added(chain: Chain) -> None:
    chain.run(range(1, 3))
    chain.store.put_certificate(2, b"better")
    assert chain.store.certificate(2) == b"better"
    prepared = chain.store.prepare_block(chain.record(3))
    chain.store.put_certificate(2, b"best")
    assert chain.store.certificate(2) == b"best"
    prepared.write()
    chain.store.finish(prepared)
    chain.reopen()
    assert chain.store.certificate(2) == b"best"
    assert chain.store.certificate(1) == b"certificate 1"
    with pytest.raises(ValueError, match="no block"):
        chain.store.put_certificate(4, b"early")


def test_node_local_facts(chain: Chain) -> None:
    store = chain.store
    store.meta_put(b"peer/1", b"one")
    store.meta_put(b"peer/2", b"two")
    extra = {b"peer/1": None, b"peer/3": b"three", b"set": b"s"}
    prepared = store.prepare_block(chain.record(1, extra=extra))
    store.meta_put(b"peer/4", b"four")
    assert store.meta_get(b"peer/4") == b"four"
    prepared.write()
    store.finish(prepared)
    names = [name for name, _ in store.meta_items(b"peer/")]
    assert names == [b"peer/2", b"peer/3", b"peer/4"]
    assert list(store.meta_items(b"peer/", after=b"peer/3")) == [(b"peer/4", b"four")]
    store.meta_put(b"set", None)
    chain.reopen()
    assert chain.store.meta_get(b"set") is None
    assert chain.store.meta_get(b"peer/3") == b"three"


# --- moments


def test_readers_see_the_tip_before_until_the_commit_is_finished(chain: Chain) -> None:
    chain.run(range(1, 3))
    record = chain.record(3, writes={b"a1": b"after", b"a2": None, b"z": b"new"})
    prepared = chain.store.prepare_block(record)
    writer = threading.Thread(target=prepared.write)
    writer.start()
    writer.join()
    store = chain.store
    assert store.tip() == (2, sha("block 2"))
    assert store.header(3) is None
    assert store.state_get(b"a1") == b"1"
    assert store.state_get(b"z") is None
    assert dict(store.state_scan()) == chain.state
    with pytest.raises(ValueError, match="under way"):
        store.prepare_block(record)
    store.finish(prepared)
    chain.applied(record)
    assert store.state_get(b"a1") == b"after"
    assert store.state_get(b"a2") is None
    chain.check()


def test_a_snapshot_stays_at_its_moment(chain: Chain) -> None:
    chain.run(range(1, 3))
    before = dict(chain.state)
    with chain.store.snapshot() as snapshot:
        items = snapshot.state_items()
        first = next(items)
        root = chain.tree.root
        chain.run(range(3, 8))
        chain.commit(chain.record(8, writes={b"a1": None, b"new": b"n"}))
        chain.store.compact()
        assert snapshot.tip() == (2, sha("block 2"))
        assert snapshot.header(3) is None
        assert [first, *items] == sorted(before.items())
        old_tree = snapshot.load_tree()
        assert old_tree.root == root
        assert verify_state_proof(root, b"a1", b"1", old_tree.prove(b"a1"))
    chain.check()


def test_a_listing_read_across_commits_describes_one_moment(chain: Chain) -> None:
    before = sorted(chain.state.items())
    listing = chain.store.state_items()
    seen = [next(listing)]
    chain.commit(chain.record(1, writes=dict.fromkeys([b"a%d" % n for n in range(20)])))
    assert [*seen, *listing] == before


def test_the_tree_is_read_back_bucket_by_bucket_while_commits_go_on(chain: Chain) -> None:
    keys = [b"%d" % n for n in range(3000)]
    chain.commit(chain.record(1, writes=dict.fromkeys(keys, b"v")))
    chain.reopen()
    for height in range(2, 12):
        writes: dict[bytes, bytes | None] = {
            keys[(height * 101 + n * 7) % len(keys)]: b"%d" % height for n in range(50)
        }
        writes[keys[height]] = None
        record = chain.record(height, writes=writes)
        prepared = chain.store.prepare_block(record)
        ahead = chain.tree.update({keys[height * 50]: b"ahead"}, on=record.tree_update)
        prepared.write()
        again = chain.tree.update({keys[height * 50]: b"ahead"}, on=record.tree_update)
        assert ahead.root == again.root
        chain.store.finish(prepared)
        chain.applied(record)
        for key in keys[height::500]:
            proof = chain.tree.prove(key)
            assert verify_state_proof(chain.tree.root, key, chain.state.get(key), proof)
    chain.check()


def test_the_cache_never_shows_an_old_value(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "db", cache_bytes=4_000)
    chain.begin({b"k%d" % n: b"0" for n in range(40)})
    for height in range(1, 60):
        writes: dict[bytes, bytes | None] = {
            b"k%d" % ((height * 7 + n) % 45): None if (height + n) % 5 == 0 else b"%d" % height
            for n in range(6)
        }
        for n in range(0, 45, 2):
            assert chain.store.state_get(b"k%d" % n) == chain.state.get(b"k%d" % n)
        chain.commit(chain.record(height, writes=writes))
        for n in range(45):
            assert chain.store.state_get(b"k%d" % n) == chain.state.get(b"k%d" % n)
    chain.store.close()


# --- opening


def test_another_genesis_is_refused(chain: Chain) -> None:
    chain.store.close()
    with pytest.raises(WrongGenesis) as caught:
        LevelStore(chain.path, bytes(32))
    assert caught.value.found == GENESIS
    chain.reopen()
    chain.check()


def test_another_schema_is_refused(chain: Chain) -> None:
    chain.store.close()
    database = plyvel.DB(chain.path)
    database.put(store_schema.SCHEMA_KEY, (99).to_bytes(8))
    database.close()
    with pytest.raises(SchemaVersionMismatch) as caught:
        LevelStore(chain.path, GENESIS)
    assert caught.value.found == 99


def test_a_second_opening_is_refused_and_harms_nothing(chain: Chain) -> None:
    # First in this process, which must not cost the lock that keeps the other process out.
    with pytest.raises(StoreLocked):
        LevelStore(chain.path, GENESIS)
    program = (
        "import sys; from ledger.store import *\n"
        "try: LevelStore(sys.argv[1], bytes.fromhex(sys.argv[2]))\n"
        "except StoreLocked: print('locked')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, chain.path, GENESIS.hex()],
        capture_output=True, text=True, check=True, timeout=60, cwd=ROOT, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.stdout.strip() == "locked"
    chain.run(range(1, 3))
    chain.check()


def test_a_database_that_is_not_ours_or_not_there_is_refused(tmp_path: Path) -> None:
    database = plyvel.DB(str(tmp_path / "foreign"), create_if_missing=True)
    database.put(b"something", b"else")
    database.close()
    with pytest.raises(StoreCorrupt):
        LevelStore(str(tmp_path / "foreign"), GENESIS)
    with pytest.raises(StoreFailed):
        LevelStore(str(tmp_path / "absent"), GENESIS, create=False)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreFailed):
        LevelStore(str(tmp_path / "file"), GENESIS)


def log_file(path: str) -> Path:
    return max(Path(path).glob("*.log"), key=lambda file: file.stat().st_size)


@pytest.mark.parametrize("lost", [1, 100, 700])
def test_a_torn_tail_loses_the_last_block_and_no_more(chain: Chain, lost: int) -> None:
    chain.run(range(1, 10))
    chain.store.close()
    log = log_file(chain.path)
    os.truncate(log, log.stat().st_size - lost)
    store = LevelStore(chain.path, GENESIS)
    tip = store.tip()
    assert tip is not None
    assert tip[0] in (8, 9) if lost == 1 else tip[0] < 9
    assert store.header(tip[0]) == b"header %d" % tip[0]
    assert store.header(tip[0] + 1) is None
    assert store.state_get(b"height") == b"%d" % tip[0]
    tree = store.load_tree()
    proof = tree.prove(b"height")
    assert verify_state_proof(tree.root, b"height", b"%d" % tip[0], proof)
    store.close()


def test_damage_in_the_middle_of_the_log_is_reported(chain: Chain) -> None:
    chain.run(range(1, 10))
    chain.store.close()
    log = log_file(chain.path)
    raw = bytearray(log.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    log.write_bytes(raw)
    with pytest.raises(StoreCorrupt):
        LevelStore(chain.path, GENESIS)


def test_damaged_tables_are_reported_when_read(chain: Chain) -> None:
    chain.run(range(1, 10), count=50)
    chain.store.compact()
    chain.store.close()
    for table in Path(chain.path).glob("*.ldb"):
        raw = bytearray(table.read_bytes())
        for at in range(0, len(raw) * 3 // 4, 512):
            raw[at] ^= 0xFF
        table.write_bytes(raw)
    with pytest.raises(StoreCorrupt):
        Chain(Path(chain.path)).check()


def test_missing_pieces_are_corruption_and_not_empty_answers(chain: Chain) -> None:
    chain.run(range(1, 3), count=5)
    chain.store.close()
    database = plyvel.DB(chain.path)
    database.delete(store_schema.piece_key(store_schema.BLOCK, 1, 0))
    database.delete(store_schema.piece_key(store_schema.RECEIPTS, 1, 0))
    database.put(store_schema.piece_key(store_schema.RECEIPTS, 2, 0), bytes(7))
    key = b"a7"
    row = next(row for row, _ in database.iterator(prefix=b"s") if row[3:] == key)
    database.put(row, b"changed")
    database.close()
    with LevelStore(chain.path, GENESIS) as store:
        for read in (
            lambda: store.block(1),
            lambda: store.transaction(1, 0),
            lambda: store.receipts(1),
            lambda: store.receipt(1, 0),
            lambda: store.receipts(2),
        ):
            with pytest.raises(StoreCorrupt):
                read()
        with pytest.raises(StateTreeCorrupt):
            store.load_tree().prove(key)
    database = plyvel.DB(chain.path)
    database.delete(row)
    database.close()
    with LevelStore(chain.path, GENESIS) as store, pytest.raises(StoreCorrupt):
        list(store.state_items())


def test_nothing_is_committed_after_a_failed_write(chain: Chain) -> None:
    chain.run(range(1, 3))

    class FullDisk:
        def write(self) -> None:
            raise plyvel.IOError(b"IO error: No space left on device")

    record = chain.record(3)
    prepared = chain.store.prepare_block(record)
    prepared._batch = FullDisk()
    with pytest.raises(StoreFailed, match="No space"):
        prepared.write()
    for attempt in (
        lambda: chain.store.prepare_block(record),
        lambda: chain.store.meta_put(b"a", b"b"),
        lambda: chain.store.put_certificate(2, b"c"),
    ):
        with pytest.raises(StoreFailed, match="failed before"):
            attempt()
    chain.check()
    chain.reopen()
    chain.check()


def test_a_failed_single_write_poisons_the_store_too(chain: Chain) -> None:
    chain.run(range(1, 3))
    database = chain.store._db

    class FailingDisk:
        def put(self, key: bytes, value: bytes, *, sync: bool) -> None:
            assert sync
            raise plyvel.IOError(b"IO error: Input/output error")

    chain.store._db = FailingDisk()
    with pytest.raises(StoreFailed, match="Input/output"):
        chain.store.meta_put(b"name", b"value")
    chain.store._db = database
    with pytest.raises(StoreFailed, match="failed before"):
        chain.store.commit_block(chain.record(3))
    chain.reopen()
    chain.check()


def test_a_write_after_closing_is_an_error_and_leaves_the_tip_before(chain: Chain) -> None:
    chain.run(range(1, 3))
    prepared = chain.store.prepare_block(chain.record(3))
    chain.store.close()
    with pytest.raises(RuntimeError, match="closed"):
        prepared.write()
    chain.reopen()
    chain.check()


# --- crash


CRASHER = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_store_chain import Chain
chain = Chain(Path(sys.argv[2]))
if chain.store.tip() is None:
    chain.begin({b"a%d" % n: b"%d" % n for n in range(20)})
height = chain.store.tip()[0]
def die():
    sys.stdin.readline()
    os._exit(7)
threading.Thread(target=die, daemon=True).start()
while True:
    height += 1
    writes = {b"h%d" % (height * n % 97): b"%d" % height for n in range(1, 30)}
    writes[b"height"] = b"%d" % height
    record = chain.record(height, count=40, writes=writes)
    chain.commit(record)
    print(height, flush=True)
"""


def test_a_crash_leaves_the_tip_before_or_after_and_all_that_belongs_to_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_store_chain.py").write_text(Path(__file__).read_text())
    path = tmp_path / "db"
    last = 0
    for crash in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", CRASHER, str(tmp_path), str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            for _ in range(3 + 5 * crash):
                last = int(process.stdout.readline())
            process.stdin.write("now\n")
            process.stdin.flush()
            rest = process.stdout.read().split()
            last = int(rest[-1]) if rest else last
            assert process.wait(timeout=30) == 7
        check_after_crash(path, last)


def check_after_crash(path: Path, acknowledged: int) -> None:
    """The tip is the last acknowledged block or the one after, and every record agrees."""
    chain = Chain(path)
    store = chain.store
    tip = store.tip()
    assert tip is not None
    height = tip[0]
    assert height in (acknowledged, acknowledged + 1)
    assert tip[1] == sha(f"block {height}")
    assert store.header(height + 1) is None
    assert store.block(height + 1) is None
    assert store.transaction_place(sha(f"id {height + 1}.0")) is None
    for each in (height, height - 1, 1):
        assert store.header(each) == b"header %d" % each
        assert store.transaction(each, 39) == f"transaction {each}.39".encode()
        assert len(store.receipts(each) or []) == 40
        assert store.transaction_place(sha(f"id {each}.39")) == (each, 39)
    state = {b"a%d" % n: b"%d" % n for n in range(20)}
    for each in range(1, height + 1):
        state |= {b"h%d" % (each * n % 97): b"%d" % each for n in range(1, 30)}
        state[b"height"] = b"%d" % each
    assert dict(store.state_scan()) == state
    assert list(store.state_items()) == sorted(state.items())
    rebuilt = StateTree()
    rebuilt.apply(rebuilt.update(dict(state)))
    assert chain.tree.root == rebuilt.root
    for key in (b"height", b"h5", b"a1"):
        assert verify_state_proof(rebuilt.root, key, state.get(key), chain.tree.prove(key))
    store.close()


# --- restoring and pruning


def test_a_state_is_restored_in_parts_across_a_crash(tmp_path: Path, chain: Chain) -> None:
    chain.run(range(1, 3))
    source = list(chain.store.state_scan())
    restored = Chain(tmp_path / "restored")
    half = len(source) // 2
    part: dict[bytes, bytes | None] = dict(source[:half])
    update = restored.tree.update(part)
    restored.store.put_state(part, update, {b"restored": b"1"})
    restored.reopen()
    assert restored.store.tip() is None
    assert restored.store.meta_get(b"restored") == b"1"
    rest: dict[bytes, bytes | None] = dict(source[half:])
    update = restored.tree.update(rest)
    assert update.root == chain.tree.root
    restored.store.begin_chain(
        height=2,
        block_hash=sha("block 2"),
        header=b"header 2",
        certificate=b"certificate 2",
        state_writes=rest,
        tree_update=update,
        extra={b"restored": None},
    )
    restored.tree.apply(update)
    restored.state = dict(chain.state)
    assert restored.store.earliest_height() == 3
    assert restored.store.header(2) == b"header 2"
    assert restored.store.block(2) is None
    restored.run(range(3, 5))
    restored.check()
    restored.store.close()


def test_a_half_restored_state_can_be_dropped(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "db")
    part: dict[bytes, bytes | None] = {b"%d" % n: b"v" for n in range(25_000)}
    chain.store.put_state(part, chain.tree.update(part))
    assert chain.store.state_get(b"7") == b"v"
    chain.store.clear_state()
    chain.reopen()
    assert chain.store.state_get(b"7") is None
    assert list(chain.store.state_scan()) == list(chain.store.state_items()) == []
    chain.begin({b"fresh": b"1"})
    chain.check()
    chain.store.close()


def pruned(chain: Chain, height: int, *, keep_header: bool = False) -> PrunedBlock:
    record = chain.records[height]
    return PrunedBlock(
        height=height,
        block_hash=record.block_hash,
        transaction_ids=record.transaction_ids,
        topics=record.topics,
        keep_header=keep_header,
    )


def test_pruning_frees_the_disk_and_keeps_what_is_asked(chain: Chain) -> None:
    account = b"\x03" * 33
    filler = [os.urandom(30_000) for _ in range(10)]
    for height in range(1, 31):
        block = b"HEAD" + b"".join(filler)
        topics = {account: [0, 4]}
        chain.commit(
            chain.record(height, count=10, block=block, transactions=filler, topics=topics)
        )
    chain.store.compact()
    before = chain.store.size_bytes()
    for heights in (range(1, 11), range(11, 26)):
        chain.store.prune([pruned(chain, h, keep_header=h == 5) for h in heights])
    chain.store.compact()
    assert chain.store.earliest_height() == 26
    assert chain.store.size_bytes() < before / 4
    store = chain.store
    gone = chain.records[7]
    assert store.block(7) is None
    assert store.receipts(7) is None
    assert store.header(7) is None
    assert store.height_of(gone.block_hash) is None
    assert store.transaction_place(gone.transaction_ids[0]) is None
    assert store.header(5) == b"header 5"
    assert store.certificate(5) == b"certificate 5"
    assert store.block(5) is None
    assert store.account_transactions(account, limit=100)[-1] == (26, 0)
    for height in range(1, 26):
        del chain.records[height]
    chain.reopen()
    chain.check()


def test_only_the_lowest_blocks_can_be_pruned(chain: Chain) -> None:
    chain.run(range(1, 6))
    store = chain.store
    store.prune([])
    for wrong in ([2], [1, 3], [1, 2, 3, 4, 5]):
        with pytest.raises(ValueError, match="cannot be pruned"):
            store.prune([pruned(chain, height) for height in wrong])
    chain.check()
    assert store.earliest_height() == 1
