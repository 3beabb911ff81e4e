"""One spelling for signed or hashed bytes: strict canonical MessagePack.

A value is a msgspec struct, encoded as a MessagePack array with the shortest form of every integer
and length. Decoding encodes the value again and refuses bytes that do not come back the same, which
catches unknown fields, over-long integers, duplicate spellings and trailing bytes in one rule.
Numbers stay below 2^53 so that every JSON reader holds them exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

import msgspec

from ledger.errors import MalformedData, NotCanonical, Oversized, TrailingBytes

LIMIT_53 = 2**53

U8 = Annotated[int, msgspec.Meta(ge=0, lt=2**8)]
U32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
U53 = Annotated[int, msgspec.Meta(ge=0, lt=LIMIT_53)]
Positive = Annotated[int, msgspec.Meta(ge=1, lt=LIMIT_53)]
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Address = Annotated[bytes, msgspec.Meta(min_length=33, max_length=33)]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
ChainId = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern="^[a-z0-9-]+$")]

T = TypeVar("T")

encode: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode
"""The canonical bytes of a value."""


class Codec(Generic[T]):
    """Strict decoder for one kind of value. `limit_bytes` bounds the work before any decoding."""

    __slots__ = ("_decode", "kind", "limit_bytes")

    def __init__(self, kind: str, type_: type[T] | object, limit_bytes: int) -> None:
        self.kind = kind
        self.limit_bytes = limit_bytes
        self._decode = msgspec.msgpack.Decoder(type_, strict=True).decode

    def decode(self, raw: bytes) -> T:
        """The value. Raises Oversized, TrailingBytes, NotCanonical or MalformedData."""
        if len(raw) > self.limit_bytes:
            raise Oversized(self.kind, len(raw), self.limit_bytes)
        try:
            value = self._decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            detail = str(error)
            if "trailing" in detail:
                raise TrailingBytes(self.kind, detail) from error
            raise MalformedData(self.kind, detail) from error
        if encode(value) != raw:
            raise NotCanonical(self.kind, "encoding the value again gives other bytes")
        return value  # type: ignore[no-any-return]
