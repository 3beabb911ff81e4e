"""Blocks: what the hash covers, and the shape that is checked before anything is executed."""

import msgspec
import pytest

from ledger.block import (
    BLOCK_VERSION,
    Block,
    BlockHeader,
    check_block_shape,
    check_body,
    decode_block,
    decode_header,
    last_commit_hash,
    transactions_root,
)
from ledger.certificate import CommitCertificate
from ledger.crypto import sha256
from ledger.errors import InvalidBlock, MalformedData
from tests.kit.chain import CHAIN, GENESIS_HASH, GENESIS_TIME_MS, address_of, make_validators

VALIDATORS = make_validators()
COMMIT = CommitCertificate(
    "pbft", CHAIN.chain_id, 1, 0, sha256(b"1"), VALIDATORS.hash, b"\x07", (bytes(64),) * 3
)


def header(height: int = 1, commit: CommitCertificate | None = None) -> BlockHeader:
    return BlockHeader(
        BLOCK_VERSION,
        CHAIN.chain_id,
        height,
        GENESIS_TIME_MS,
        GENESIS_HASH,
        last_commit_hash(commit),
        transactions_root([]),
        sha256(b"receipts"),
        sha256(b"state"),
        VALIDATORS.hash,
        VALIDATORS.hash,
        sha256(b"params"),
        "pbft",
        address_of("val-0"),
    )


def test_round_trip() -> None:
    block = Block(header(2, COMMIT), COMMIT, (b"one", b"two"))
    assert decode_block(block.encode()) == block
    assert decode_header(block.header.encode()) == block.header
    with pytest.raises(MalformedData):
        decode_block(block.encode() + b"\0")


def test_the_hash_covers_every_field_of_the_header() -> None:
    base = header()
    hashes = {base.hash()}
    for name in base.__struct_fields__:
        value = getattr(base, name)
        other = {
            int: lambda v: v + 1,
            str: lambda v: "raft" if v == "pbft" else v + "x",
            bytes: lambda v: sha256(v) + v[32:],
        }[type(value)](value)
        hashes.add(msgspec.structs.replace(base, **{name: other}).hash())
    assert len(hashes) == len(base.__struct_fields__) + 1


def test_the_transactions_root_depends_on_order_and_content() -> None:
    a, b = sha256(b"a"), sha256(b"b")
    assert len({transactions_root(each) for each in ([], [a], [b], [a, b], [b, a], [a, a])}) == 6


def refused(block: Block, max_bytes: int = 100, max_txs: int = 2) -> str:
    with pytest.raises(InvalidBlock) as caught:
        check_block_shape(block, max_bytes, max_txs)
    return caught.value.rule


def test_shape() -> None:
    check_block_shape(Block(header(), None, (b"x" * 50, b"y" * 50)), 100, 2)
    check_block_shape(Block(header(2, COMMIT), COMMIT, ()), 100, 2)
    assert refused(Block(header(), None, (b"x",) * 3)) == "block_max_txs"
    assert refused(Block(header(), None, (b"x" * 51, b"y" * 50))) == "block_max_bytes"


def test_every_block_but_the_first_carries_a_certificate() -> None:
    assert refused(Block(header(2, COMMIT), None, ())) == "last_commit"
    assert refused(Block(header(1, COMMIT), COMMIT, ())) == "last_commit"


def test_the_body_is_the_one_its_header_commits_to() -> None:
    transactions = (b"one", b"two")
    root = transactions_root([sha256(each) for each in transactions])
    named = msgspec.structs.replace(header(2, COMMIT), tx_root=root)
    check_body(Block(named, COMMIT, transactions))
    other = msgspec.structs.replace(COMMIT, round=1)
    for block, rule in (
        (Block(named, COMMIT, transactions[::-1]), "tx_root"),
        (Block(named, COMMIT, (*transactions, b"two")), "tx_root"),
        (Block(named, other, transactions), "last_commit_hash"),
        (Block(named, None, transactions), "last_commit_hash"),
    ):
        with pytest.raises(InvalidBlock) as caught:
            check_body(block)
        assert caught.value.rule == rule
