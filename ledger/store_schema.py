"""The keys and packed values of the store. Pure; `ledger.store` does the I/O.

A key is one tag byte and the parts below, heights and positions big-endian, so that keys of a kind
lie together and ascend with height.

    tag  rest of the key                value
    0    name                           the store's own facts: schema, genesis, tip, earliest
    m    name                           node-local facts, the driver's (`meta_*`, `extra`)
    h    height 8                       header
    n    block hash 32                  height 8
    c    height 8                       commit certificate
    b    height 8 ‖ piece 4             block, cut into pieces of BLOCK_PIECE_BYTES
    o    height 8                       block size 4 ‖ (offset 4 ‖ length 4) of each transaction
    r    height 8 ‖ piece 4             RECEIPTS_PER_PIECE receipts: their lengths 4 each, then they
    x    transaction id 32              height 8 ‖ position 4
    i    size 1 ‖ topic ‖ height 8      positions 4 each, ascending
    s    bucket 2 ‖ state key           state value
    k    state key                      nothing
    t    tree record                    see ledger.state_tree_log

State values lie by the bucket of the state tree (two bytes of the key's hash), so that a bucket, or
a chunk of a snapshot, is one short scan. `k` lists the keys in their own order; it is written only
when a key comes into being or ceases to be.

A transfer between two existing accounts costs five puts (two values, the id, two topics); blocks,
receipts and tree changes are packed and cost a few puts a block.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

SCHEMA_VERSION = 1

OWN, META, HEADER, HASH, CERTIFICATE, BLOCK, OFFSETS, RECEIPTS, TXID, TOPIC, STATE, KEY, TREE = (
    bytes([tag]) for tag in b"\x00mhncborxiskt"
)

SCHEMA_KEY = OWN + b"schema"
GENESIS_KEY = OWN + b"genesis"
TIP_KEY = OWN + b"tip"
EARLIEST_KEY = OWN + b"earliest"

# Large enough that a block of 400 kB is a dozen puts, small enough that one transaction is read
# without the whole block.
BLOCK_PIECE_BYTES = 32 * 1024

# About 6 kB of receipts: one is read without the others of its block.
RECEIPTS_PER_PIECE = 64

TOPIC_MAX_BYTES = 255

HEIGHT = struct.Struct(">Q")
PLACE = struct.Struct(">QI")
TIP = struct.Struct(">Q32s")
_U32 = struct.Struct(">I")
_SPAN = struct.Struct(">II")
_PIECE = struct.Struct(">cQI")
_BY_HEIGHT = struct.Struct(">cQ")


def by_height(tag: bytes, height: int) -> bytes:
    """Key of the one value of a kind at a height; also the prefix of its pieces."""
    return _BY_HEIGHT.pack(tag, height)


def piece_key(tag: bytes, height: int, piece: int) -> bytes:
    """Key of a piece."""
    return _PIECE.pack(tag, height, piece)


def after_prefix(prefix: bytes) -> bytes:
    """The least key above all keys with a prefix. A prefix begins with a tag, never 0xff."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1])


def topic_prefix(topic: bytes) -> bytes:
    """Prefix of all rows of a topic. The length byte keeps one topic out of another's rows."""
    if not 0 < len(topic) <= TOPIC_MAX_BYTES:
        raise ValueError(f"a topic has 1 to {TOPIC_MAX_BYTES} bytes, not {len(topic)}")
    return TOPIC + bytes([len(topic)]) + topic


def block_pieces(height: int, block: bytes) -> Iterable[tuple[bytes, bytes]]:
    """A block cut up, keyed."""
    for piece, start in enumerate(range(0, len(block), BLOCK_PIECE_BYTES)):
        yield piece_key(BLOCK, height, piece), block[start : start + BLOCK_PIECE_BYTES]


def pack_offsets(block: bytes, transactions: Sequence[bytes]) -> bytes:
    """Where each transaction lies in the block that contains them in order."""
    spans = [_U32.pack(len(block))]
    end = 0
    for transaction in transactions:
        start = block.find(transaction, end)
        if start < 0:
            raise ValueError("the block does not contain its transactions in order")
        end = start + len(transaction)
        spans.append(_SPAN.pack(start, len(transaction)))
    return b"".join(spans)


def block_size(offsets: bytes) -> int:
    """Size of the block in bytes."""
    size: int = _U32.unpack_from(offsets)[0]
    return size


def transaction_count(offsets: bytes) -> int:
    """How many transactions the block has."""
    return (len(offsets) - _U32.size) // _SPAN.size


def transaction_span(offsets: bytes, position: int) -> tuple[int, int]:
    """Offset and length of one transaction within the block."""
    start, length = _SPAN.unpack_from(offsets, _U32.size + position * _SPAN.size)
    return start, length


def receipt_pieces(height: int, receipts: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    """Receipts packed together, keyed."""
    for piece, start in enumerate(range(0, len(receipts), RECEIPTS_PER_PIECE)):
        some = receipts[start : start + RECEIPTS_PER_PIECE]
        lengths = struct.pack(f">{len(some)}I", *map(len, some))
        yield piece_key(RECEIPTS, height, piece), lengths + b"".join(some)


def unpack_receipts(packed: bytes, count: int) -> list[bytes]:
    """The `count` receipts of a piece. Raises ValueError where the bytes do not add up."""
    if len(packed) < 4 * count:
        raise ValueError("receipts cut short")
    receipts = []
    at = 4 * count
    for length in unpack_positions(packed[:at]):
        receipts.append(packed[at : at + length])
        at += length
    if at != len(packed):
        raise ValueError("receipts do not fill their piece")
    return receipts


def pack_positions(positions: Sequence[int]) -> bytes:
    """Positions within a block, 4 bytes each."""
    return struct.pack(f">{len(positions)}I", *positions)


def unpack_positions(packed: bytes) -> tuple[int, ...]:
    """The reverse."""
    return struct.unpack(f">{len(packed) // 4}I", packed)
