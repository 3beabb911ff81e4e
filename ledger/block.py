"""Blocks: header, the certificate of the parent, transactions.

A header names the state *after* its own block (execute before voting), the roots over
transactions (their full hashes) and execution receipts, and the validator sets of this height and
the next. It has no round: the proposer and the time survive a re-proposal in a later round. Times
are in ms since the Unix epoch. Height 1 follows the network definition: its parent hash is the
genesis hash.
"""

from __future__ import annotations

import msgspec

from ledger import domains
from ledger.certificate import CommitCertificate, Mode
from ledger.codec import U53, Address, ChainId, Codec, Hash, Positive, encode
from ledger.crypto import sha256
from ledger.errors import InvalidBlock
from ledger.merkle import root as merkle_root

BLOCK_VERSION = 1

# The largest block_max_bytes that parameters may set, and room for header and certificate.
BLOCK_HARD_LIMIT_BYTES = (64 << 20) + 256 * 1024


class BlockHeader(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """See the module. All hashes have 32 bytes; `proposer` is the operator's address.

    `next_mode` names the engine that orders the next height.
    """

    version: U53
    chain_id: ChainId
    height: Positive
    time_ms: U53
    parent_hash: Hash
    last_commit_hash: Hash
    tx_root: Hash
    receipts_root: Hash
    state_root: Hash
    validators_hash: Hash
    next_validators_hash: Hash
    params_hash: Hash
    next_mode: Mode
    proposer: Address

    def hash(self) -> bytes:
        """The block hash, 32 bytes."""
        return domains.tagged_hash(domains.BLOCK, encode(self))

    def encode(self) -> bytes:
        """Canonical bytes."""
        return encode(self)


class Block(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """`last_commit` certifies the parent; None exactly at height 1. Transactions are wire bytes."""

    header: BlockHeader
    last_commit: CommitCertificate | None
    transactions: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return encode(self)


def last_commit_hash(certificate: CommitCertificate | None) -> bytes:
    """What `header.last_commit_hash` must be, 32 bytes (zeros for none)."""
    if certificate is None:
        return bytes(32)
    return domains.tagged_hash(domains.CERTIFICATE, encode(certificate))


def transactions_root(full_hashes: list[bytes]) -> bytes:
    """Merkle root (RFC 6962) over the transactions' full hashes, in block order."""
    return merkle_root(full_hashes)


_block_codec = Codec[Block]("block", Block, BLOCK_HARD_LIMIT_BYTES)
_header_codec = Codec[BlockHeader]("header", BlockHeader, 4_096)

decode_block = _block_codec.decode
"""A block in canonical bytes. Raises MalformedData."""
decode_header = _header_codec.decode
"""A header in canonical bytes. Raises MalformedData."""


def check_body(block: Block) -> None:
    """Raise InvalidBlock unless transactions and last commit are those the header commits to."""
    full_hashes = [sha256(raw) for raw in block.transactions]
    if transactions_root(full_hashes) != block.header.tx_root:
        raise InvalidBlock("tx_root", "does not match the transactions in the block")
    if last_commit_hash(block.last_commit) != block.header.last_commit_hash:
        raise InvalidBlock("last_commit_hash", "does not match the certificate in the block")


def check_block_shape(block: Block, block_max_bytes: int, block_max_txs: int) -> None:
    """Limits, and a last commit exactly where one must be. Raises InvalidBlock."""
    if len(block.transactions) > block_max_txs:
        raise InvalidBlock(
            "block_max_txs", f"{len(block.transactions)} transactions, at most {block_max_txs}"
        )
    size_bytes = sum(map(len, block.transactions))
    if size_bytes > block_max_bytes:
        raise InvalidBlock(
            "block_max_bytes", f"{size_bytes} bytes of transactions, at most {block_max_bytes}"
        )
    if (block.last_commit is None) != (block.header.height == 1):
        raise InvalidBlock("last_commit", "every block but the first carries its parent's")
