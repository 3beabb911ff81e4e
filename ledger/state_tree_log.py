"""How the bucket hashes of the state tree are persisted: a log with a rotating checkpoint.

A block changes thousands of buckets scattered over all 65,536. One record for each would cost a
database write per key, and the table of hashes, 2 MB, is too long to write whole. So a block writes

- one *delta*: the changed buckets with their new hashes, 34 bytes each, in a single record; and
- for every PAGE_BUCKETS changes since the last one, the next *page* of the table as it is now,
  16 kB; the pages take turns.

Once PAGE_COUNT pages have been written since a delta, every page is younger than it, and it is
deleted. So a change costs 34 bytes of delta and 32 bytes of page, and what must be read at the
start is the table and the deltas of the last 65,536 or so changes.

Reading back applies the deltas, oldest first, to the pages. A delta may be older than the page it
is applied to, and that does no harm: the last delta that names a bucket holds the bucket's last
hash, and a bucket which no remaining delta names has not changed since its page was written.

Records (keys sort in the order in which they must be read):

    0x00                            cursor: root 32 ‖ keys u64 ‖ epoch u64 ‖ debt u32
    0x01 ‖ page u8                  hashes of PAGE_BUCKETS buckets, 32 bytes each
    0x02 ‖ epoch u64 ‖ ordinal u32  delta: (bucket u16 ‖ hash 32)*

The epoch counts the pages written so far, the ordinal the deltas within it, the debt the changes
since the last page. A page never written is all empty. All numbers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ledger.errors import StorageError
from ledger.state_proof import EMPTY, HASH_BYTES

PAGE_BUCKETS = 512
"""Changes for each page written. Smaller pages write less with every block but keep more deltas;
either way a change costs one hash of page."""

PAGE_COUNT = 128
"""Pages of the table: 65,536 buckets."""

_CURSOR_KEY = b"\x00"
_PAGE_TAG = 0x01
_DELTA_TAG = 0x02
_CURSOR = struct.Struct(">32sQQI")
_PAGE_KEY = struct.Struct(">BB")
_DELTA_KEY = struct.Struct(">BQI")
_CHANGE = struct.Struct(">H32s")

Record = tuple[bytes, bytes | None]


class TreeRecordInvalid(StorageError):
    """A record that this module cannot have written."""

    def __init__(self, key: bytes, detail: str) -> None:
        super().__init__(f"state tree record {key.hex()}: {detail}")
        self.key = key
        self.detail = detail


class BucketLogState(NamedTuple):
    """Where the log stands. `delta_counts`: deltas kept in each of the last epochs, oldest first;
    the last is the present epoch's."""

    key_count: int = 0
    epoch: int = 0
    debt: int = 0
    delta_counts: tuple[int, ...] = (0,)


class BucketLog:
    """Makes the records of each update and reads them back. `state` is moved on by the tree."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = BucketLogState()

    def records(
        self,
        root: bytes,
        key_count: int,
        changed: Mapping[int, bytes],
        table: bytearray,
    ) -> tuple[list[Record], BucketLogState]:
        """The records for `changed` (bucket to hash) over `table` (all hashes before, packed), and
        the state after them. The log itself stays where it is."""
        _, epoch, debt, counts = self.state
        if not changed:
            return [], self.state
        delta_key = _DELTA_KEY.pack(_DELTA_TAG, epoch, counts[-1])
        kept = [*counts[:-1], counts[-1] + 1]
        debt += len(changed)
        records: list[Record] = []
        for _ in range(PAGE_COUNT):
            if debt < PAGE_BUCKETS:
                break
            records.append(_page_record(epoch % PAGE_COUNT, changed, table))
            epoch += 1
            debt -= PAGE_BUCKETS
            kept.append(0)
        else:
            debt = 0  # the whole table has just been written
        dropped, kept = kept[:-PAGE_COUNT], kept[-PAGE_COUNT:]
        oldest = epoch + 1 - len(kept) - len(dropped)
        for place, count in enumerate(dropped):
            records.extend(
                (_DELTA_KEY.pack(_DELTA_TAG, oldest + place, ordinal), None)
                for ordinal in range(count)
            )
        if (delta_key, None) in records:
            records.remove((delta_key, None))  # every page is as young as this delta
        else:
            records.append((delta_key, _delta(changed)))
        records.append((_CURSOR_KEY, _CURSOR.pack(root, key_count, epoch, debt)))
        return records, BucketLogState(key_count, epoch, debt, tuple(kept))

    def load(self, records: Iterable[tuple[bytes, bytes]], table: bytearray) -> bytes:
        """Fill `table`, all empty, with the bucket hashes; the persisted root, or empty for none.

        Raises TreeRecordInvalid. Whether the hashes give that root is for the caller to check.
        """
        root, key_count, epoch, debt = EMPTY, 0, 0, 0
        deltas: dict[int, int] = {}
        for key, value in records:
            if key == _CURSOR_KEY and len(value) == _CURSOR.size:
                root, key_count, epoch, debt = _CURSOR.unpack(value)
            elif len(key) == _PAGE_KEY.size and key[0] == _PAGE_TAG:
                _load_page(key, value, table)
            elif len(key) == _DELTA_KEY.size and key[0] == _DELTA_TAG:
                if len(value) % _CHANGE.size:
                    raise TreeRecordInvalid(key, f"a delta of {len(value)} bytes")
                for bucket, node in _CHANGE.iter_unpack(value):
                    at = bucket * HASH_BYTES
                    table[at : at + HASH_BYTES] = node
                delta_epoch, ordinal = _DELTA_KEY.unpack(key)[1:]
                if ordinal != deltas.get(delta_epoch, 0):
                    raise TreeRecordInvalid(key, "a delta before it is missing")
                deltas[delta_epoch] = ordinal + 1
            else:
                raise TreeRecordInvalid(key, f"unknown, with {len(value)} bytes")
        first = max(0, epoch + 1 - PAGE_COUNT)
        counts = tuple(deltas.pop(at, 0) for at in range(first, epoch + 1))
        if deltas:
            raise TreeRecordInvalid(_CURSOR_KEY, f"deltas of epochs {sorted(deltas)} remain")
        self.state = BucketLogState(key_count, epoch, debt, counts)
        return root


def _delta(changed: Mapping[int, bytes]) -> bytes:
    pack = _CHANGE.pack
    return b"".join([pack(bucket, changed[bucket]) for bucket in sorted(changed)])


def _page_record(page: int, changed: Mapping[int, bytes], table: bytearray) -> Record:
    first = page * PAGE_BUCKETS
    hashes = table[first * HASH_BYTES : (first + PAGE_BUCKETS) * HASH_BYTES]
    for place in range(PAGE_BUCKETS):
        node = changed.get(first + place)
        if node is not None:
            hashes[place * HASH_BYTES : (place + 1) * HASH_BYTES] = node
    return _PAGE_KEY.pack(_PAGE_TAG, page), bytes(hashes)


def _load_page(key: bytes, value: bytes, table: bytearray) -> None:
    page = key[1]
    if page >= PAGE_COUNT or len(value) != PAGE_BUCKETS * HASH_BYTES:
        raise TreeRecordInvalid(key, f"a page of {len(value)} bytes")
    table[page * len(value) : (page + 1) * len(value)] = value
