"""Reading the store: the same questions to the live store and to a snapshot of it.

Every method describes one moment, the end of the last finished commit or of the snapshot. What is
not there (a height above the tip, a pruned block, an unknown hash) is None or an empty list.
Checksums are verified on every read from disk. Raises StoreCorrupt and StoreFailed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import plyvel

from ledger import store_schema as schema
from ledger.state_tree import StateTree, bucket_prefix
from ledger.store_errors import StoreCorrupt, storage_errors

LIST_MAX = 1_000
"""Most transactions one call of `topic_transactions` returns; callers page with cursors."""


class StoreReader:
    """See the module. `source` is a plyvel DB or Snapshot."""

    def __init__(self, path: str, source: Any) -> None:
        self._path = path
        self._source = source

    # --- chain

    def tip(self) -> tuple[int, bytes] | None:
        """Height and block hash of the last block; None before the first state is stored."""
        raw = self._get(schema.TIP_KEY)
        if raw is None:
            return None
        height, block_hash = schema.TIP.unpack(raw)
        return height, block_hash

    def earliest_height(self) -> int:
        """The lowest height whose block is kept; 1 unless pruned or restored."""
        raw = self._get(schema.EARLIEST_KEY)
        return 1 if raw is None else schema.HEIGHT.unpack(raw)[0]

    def header(self, height: int) -> bytes | None:
        """The encoded header."""
        return self._get(schema.by_height(schema.HEADER, height))

    def certificate(self, height: int) -> bytes | None:
        """The encoded commit certificate."""
        return self._get(schema.by_height(schema.CERTIFICATE, height))

    def height_of(self, block_hash: bytes) -> int | None:
        """The height of a block hash."""
        raw = self._get(schema.HASH + block_hash)
        return None if raw is None else schema.HEIGHT.unpack(raw)[0]

    def block(self, height: int) -> bytes | None:
        """The encoded block."""
        offsets = self._offsets(height)
        if offsets is None:
            return None
        prefix = schema.by_height(schema.BLOCK, height)
        block = b"".join([piece for _, piece in self._items(prefix)])
        if len(block) != schema.block_size(offsets):
            raise StoreCorrupt(self._path, f"block {height} has {len(block)} bytes")
        return block

    def transaction_count(self, height: int) -> int | None:
        """How many transactions a block has."""
        offsets = self._offsets(height)
        return None if offsets is None else schema.transaction_count(offsets)

    def transaction(self, height: int, position: int) -> bytes | None:
        """The wire bytes of one transaction, without reading the rest of its block."""
        offsets = self._offsets(height)
        if offsets is None or not 0 <= position < schema.transaction_count(offsets):
            return None
        start, length = schema.transaction_span(offsets, position)
        size = schema.BLOCK_PIECE_BYTES
        first, last = start // size, (start + max(length, 1) - 1) // size
        pieces = [
            self._get(schema.piece_key(schema.BLOCK, height, piece)) or b""
            for piece in range(first, last + 1)
        ]
        raw = b"".join(pieces)[start - first * size :][:length]
        if len(raw) != length:
            raise StoreCorrupt(self._path, f"a piece of block {height} is missing")
        return raw

    def transaction_place(self, transaction_id: bytes) -> tuple[int, int] | None:
        """Height and position of a transaction."""
        raw = self._get(schema.TXID + transaction_id)
        if raw is None:
            return None
        height, position = schema.PLACE.unpack(raw)
        return height, position

    def receipts(self, height: int) -> list[bytes] | None:
        """The encoded receipts of a block, in block order."""
        count = self.transaction_count(height)
        if count is None:
            return None
        pieces = range(0, count, schema.RECEIPTS_PER_PIECE)
        return [
            receipt for at in pieces for receipt in self._receipt_piece(height, at, count) or []
        ]

    def receipt(self, height: int, position: int) -> bytes | None:
        """One encoded receipt, without reading the rest."""
        count = self.transaction_count(height)
        if count is None or not 0 <= position < count:
            return None
        at = position - position % schema.RECEIPTS_PER_PIECE
        return self._receipt_piece(height, at, count)[position - at]

    def topic_transactions(
        self,
        topic: bytes,
        cursor: tuple[int, int] | None = None,
        limit: int = 50,
        *,
        ascending: bool = False,
    ) -> list[tuple[int, int]]:
        """(height, position) of the transactions under a topic, newest first unless `ascending`.

        `cursor` is the last pair of the page before; the answer begins behind it.
        """
        limit = min(limit, LIST_MAX)
        prefix = schema.topic_prefix(topic)
        bounds: dict[str, bytes] = {
            "start": prefix,
            "stop": schema.after_prefix(prefix),
        }
        if cursor is not None:
            edge = schema.HEIGHT.pack(cursor[0] + (0 if ascending else 1))
            bounds["start" if ascending else "stop"] = prefix + edge
        places: list[tuple[int, int]] = []
        for key, packed in self._iterate(reverse=not ascending, **bounds):
            height = schema.HEIGHT.unpack(key[len(prefix) :])[0]
            positions = schema.unpack_positions(packed)
            for position in positions if ascending else reversed(positions):
                place = (height, position)
                if cursor is None or (place > cursor if ascending else place < cursor):
                    places.append(place)
                    if len(places) >= limit:
                        return places
        return places

    def account_transactions(
        self,
        account: bytes,
        before: tuple[int, int] | None = None,
        limit: int = 50,
    ) -> list[tuple[int, int]]:
        """(height, position) of the transactions that touch an account, newest first."""
        return self.topic_transactions(account, before, limit)

    # --- state at the tip

    def state_get(self, key: bytes) -> bytes | None:
        """The state value of a key."""
        return self._get(schema.STATE + bucket_prefix(key) + key)

    def get(self, key: bytes) -> bytes | None:
        """`state_get`, under the name a `ReadView` has."""
        return self.state_get(key)

    def state_items(
        self, prefix: bytes = b"", after: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of the state keys with a prefix, in the order of the keys, behind `after`.

        One lookup an item: for lists of hundreds. To read most of the state use `state_scan`.
        """
        # Keys and values from one moment, also where the list is read across later commits.
        moment = StoreReader(self._path, self._source)
        rows = moment._items(schema.KEY + prefix, None if after is None else schema.KEY + after)
        for row, _ in rows:
            key = row[1:]
            value = moment.state_get(key)
            if value is None:
                raise StoreCorrupt(self._path, f"state key {key.hex()} is listed but has no value")
            yield key, value

    def state_scan(
        self, first_bucket: int = 0, last_bucket: int = 0xFFFF
    ) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of all state in some buckets, by bucket and then key: one pass over it."""
        start = schema.STATE + first_bucket.to_bytes(2)
        stop = schema.after_prefix(schema.STATE + last_bucket.to_bytes(2))
        for row, value in self._iterate(start=start, stop=stop):
            yield row[3:], value

    def load_tree(self) -> StateTree:
        """The state tree at the tip. Buckets are read from here when first needed.

        Raises StateTreeCorrupt where the persisted hashes do not give the persisted root.
        """
        records = ((row[1:], value) for row, value in self._items(schema.TREE))
        return StateTree.load(records, lambda bucket: self.state_scan(bucket, bucket))

    # --- node-local facts

    def meta_get(self, name: bytes) -> bytes | None:
        """A node-local fact."""
        return self._get(schema.META + name)

    def meta_items(
        self, prefix: bytes = b"", after: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """(name, value) of node-local facts in the order of their names, behind `after`."""
        start = None if after is None else schema.META + after
        for row, value in self._items(schema.META + prefix, start):
            yield row[1:], value

    # --- access

    def _offsets(self, height: int) -> bytes | None:
        return self._get(schema.by_height(schema.OFFSETS, height))

    def _receipt_piece(self, height: int, first: int, count: int) -> list[bytes]:
        number = first // schema.RECEIPTS_PER_PIECE
        packed = self._get(schema.piece_key(schema.RECEIPTS, height, number))
        if packed is None:
            raise StoreCorrupt(self._path, f"receipts {first} of block {height} are missing")
        try:
            return schema.unpack_receipts(packed, min(schema.RECEIPTS_PER_PIECE, count - first))
        except ValueError as error:
            raise StoreCorrupt(self._path, f"block {height}: {error}") from error

    def _get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._source.get(key, verify_checksums=True)
        except plyvel.Error:
            with storage_errors(self._path):
                raise
        return value

    def _items(self, prefix: bytes, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with a prefix, in order, behind the key `after`."""
        stop = schema.after_prefix(prefix)
        if after is None or after < prefix:
            return self._iterate(start=prefix, stop=stop)
        return self._iterate(start=after, include_start=False, stop=stop)

    def _iterate(self, **bounds: Any) -> Iterator[tuple[bytes, bytes]]:
        source = self._source
        with storage_errors(self._path), source.iterator(verify_checksums=True, **bounds) as rows:
            yield from rows
