"""Values at the border: hexadecimal bytes, addresses, heights, block references, cursors.

Bytes are `0x` and lower-case hexadecimal, and nothing else: a second spelling would make two texts
of one hash. Addresses are PeerIDs. Amounts and scores are decimal strings, because JSON readers
lose integers beyond 2^53 and sums of scores come near; heights, nonces and times are integers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from ledger.codec import LIMIT_53
from ledger.crypto import HASH_BYTES
from ledger.identity import InvalidPeerId, public_key_of
from rpc.errors import InvalidParams, NotFound, Unavailable
from rpc.ports import NodeApi

# Items of one page, and the default.
PAGE_COUNT = 200
PAGE_DEFAULT_COUNT = 50

# A cursor is ours and short; a longer text is not one.
_CURSOR_CHARACTERS = 128

Hex = Annotated[str, Field(max_length=2 + 2 * 262_144)]
"""0x and lower-case digits; checked by `unhex`, which is cheaper than a pattern."""
HashText = Annotated[str, Field(min_length=66, max_length=66)]
AddressText = Annotated[str, Field(min_length=1, max_length=64)]
Height = Annotated[int, Field(ge=0, lt=LIMIT_53)]
BlockReference = Height | Annotated[str, Field(max_length=66)]
"""A height, a block hash, "latest" or "earliest"."""
Limit = Annotated[int, Field(ge=1, le=PAGE_COUNT)]
Cursor = Annotated[str, Field(max_length=_CURSOR_CHARACTERS)]
Order = Literal["asc", "desc"]

T = TypeVar("T")


def hexed(data: bytes) -> str:
    """Bytes as JSON shows them."""
    return "0x" + data.hex()


def unhex(text: str, parameter: str) -> bytes:
    """The bytes of `0x…`. Raises InvalidParams (INVALID_HEX)."""
    digits = text[2:]
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        data = b"\0"
    # fromhex also takes blanks and upper case; hex() gives the one spelling back.
    if data.hex() != digits or text[:2] != "0x":
        raise InvalidParams(
            f"{parameter} must be 0x and lower-case hexadecimal digits",
            reason="INVALID_HEX",
            facts={"parameter": parameter},
        )
    return data


def hash_of(text: str, parameter: str) -> bytes:
    """The 32 bytes of a hash. Raises InvalidParams."""
    data = unhex(text, parameter)
    if len(data) != HASH_BYTES:
        raise InvalidParams(
            f"{parameter} must have {HASH_BYTES} bytes",
            reason="INVALID_HEX",
            facts={"parameter": parameter},
        )
    return data


def address_of(text: str, parameter: str) -> bytes:
    """The 33-byte address of a PeerID. Raises InvalidParams (INVALID_ADDRESS)."""
    try:
        return public_key_of(text)
    except InvalidPeerId as error:
        raise InvalidParams(
            f"{parameter}: {error.detail}",
            reason="INVALID_ADDRESS",
            facts={"parameter": parameter},
        ) from None


def height_of(node: NodeApi, block: int | str) -> int:
    """The height a block reference names. Raises InvalidParams, NotFound or Unavailable (PRUNED).

    The height is one whose block this node holds, at the moment of the call.
    """
    latest = node.tip().height
    earliest = node.earliest_height()
    if isinstance(block, int):
        height = block
    elif block == "latest":
        height = latest
    elif block == "earliest":
        height = earliest
    else:
        found = node.height_of(hash_of(block, "block"))
        if found is None:
            raise NotFound("no block has this hash", reason="BLOCK_NOT_FOUND")
        height = found
    if height < 1 or height > latest:
        raise NotFound(
            f"there is no block {height}; the latest is {latest}",
            reason="BLOCK_NOT_FOUND",
            facts={"latestHeight": latest},
        )
    if height < earliest:
        raise pruned(earliest)
    return height


def pruned(earliest_height: int) -> Unavailable:
    """The block existed, but this node has let go of it."""
    return Unavailable(
        f"this node keeps blocks from height {earliest_height}",
        reason="PRUNED",
        retryable=False,
        facts={"earliestHeight": earliest_height},
    )


@dataclass(frozen=True, slots=True)
class Page:
    """Items and where the next page begins, as JSON."""

    items: list[Any]
    next_cursor: str | None

    def as_object(self) -> dict[str, Any]:
        """{items, nextCursor}; nextCursor is null on the last page."""
        return {"items": self.items, "nextCursor": self.next_cursor}


def cursor_of(kind: str, *position: int | str) -> str:
    """An opaque cursor. `kind` keeps the cursor of one list from being used on another."""
    text = ":".join((kind, *map(str, position)))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position_of(kind: str, cursor: str, count: int) -> list[str]:
    """The `count` parts of a cursor of this kind. Raises InvalidParams (INVALID_CURSOR)."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        found, *position = (
            base64.b64decode(padded, altchars=b"-_", validate=True).decode().split(":")
        )
    except (binascii.Error, ValueError):
        raise invalid_cursor() from None
    if found != kind or len(position) != count:
        raise invalid_cursor()
    return position


def number_in_cursor(text: str) -> int:
    """A number that stands in a cursor. Raises InvalidParams (INVALID_CURSOR)."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(LIMIT_53)):
        raise invalid_cursor()
    return int(text)


def invalid_cursor() -> InvalidParams:
    """A cursor that this list did not hand out."""
    return InvalidParams(
        "the cursor does not belong to this list",
        reason="INVALID_CURSOR",
        facts={"parameter": "cursor"},
    )


def page_of(
    kind: str,
    entries: Sequence[T],
    key: Callable[[T], str],
    form: Callable[[T], object],
    *,
    limit: int,
    cursor: str | None,
    descending: bool,
) -> Page:
    """A page of a list that lies in memory, ordered by `key`, starting after the cursor's key.

    Entries may come and go between two pages: what stays is neither skipped nor repeated.
    """
    ordered = sorted(entries, key=key, reverse=descending)
    if cursor is not None:
        (after,) = position_of(kind, cursor, 1)
        ordered = [
            each for each in ordered if (key(each) < after if descending else key(each) > after)
        ]
    shown = ordered[:limit]
    more = len(ordered) > limit
    return Page([form(each) for each in shown], cursor_of(kind, key(shown[-1])) if more else None)
