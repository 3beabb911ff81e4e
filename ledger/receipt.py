"""Execution receipts: what became of a transaction in a block.

A transaction that is in a block has paid its fee, whether or not its effect took place; the receipt
says which, with a stable reason and its facts. Receipts are under `receipts_root` in the header.
"""

from __future__ import annotations

import msgspec

from ledger.codec import U53, Codec, Hash, encode
from ledger.merkle import root as merkle_root

RECEIPT_LIMIT_BYTES = 4_096


class Receipt(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """`reason` is "" for success; `facts` are (name, value) pairs in a fixed order per reason."""

    transaction_id: Hash
    ok: bool
    fee: U53
    reason: str = ""
    facts: tuple[tuple[str, int | str], ...] = ()

    def encode(self) -> bytes:
        """Canonical bytes; a leaf of the receipts tree."""
        return encode(self)


def receipts_root(encoded_receipts: list[bytes]) -> bytes:
    """Merkle root (RFC 6962) over the encoded receipts, in block order."""
    return merkle_root(encoded_receipts)


_codec = Codec[Receipt]("receipt", Receipt, RECEIPT_LIMIT_BYTES)
decode_receipt = _codec.decode
"""The receipt in canonical bytes. Raises MalformedData."""
