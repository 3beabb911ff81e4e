"""One spelling: everything else is refused by name."""

import msgspec
import pytest

from ledger.codec import LIMIT_53, U53, Codec, encode
from ledger.errors import MalformedData, NotCanonical, Oversized, TrailingBytes


class Pair(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    name: str
    count: U53


CODEC = Codec[Pair]("pair", Pair, 32)
PAIR = Pair("a", 7)
RAW = bytes.fromhex("92a16107")


def test_the_canonical_bytes() -> None:
    assert encode(PAIR) == RAW
    assert CODEC.decode(RAW) == PAIR


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("92a161cc07", NotCanonical),  # an integer in two bytes that fits one
        ("92a161cd0007", NotCanonical),
        ("92d9016107", NotCanonical),  # a string with a longer length than needed
        ("dc0002a16107", NotCanonical),  # an array with a longer length than needed
        ("92a16107c0", TrailingBytes),
        ("92a1610792", TrailingBytes),
        ("93a1610700", MalformedData),  # a field too many
        ("91a161", MalformedData),  # a field too few
        ("82a1610708", MalformedData),  # a map
        ("92a161e0", MalformedData),  # −32
        ("92a161ff", MalformedData),  # −1
        ("92c4016107", MalformedData),  # bytes for a string
        ("92a1ff07", MalformedData),  # not UTF-8
        ("92a161cb401c000000000000", MalformedData),  # 7.0
        ("92a161cf0020000000000000", MalformedData),  # 2^53
        ("", MalformedData),
        ("92a1", MalformedData),
    ],
)
def test_every_other_spelling_is_refused(raw: str, kind: type[MalformedData]) -> None:
    with pytest.raises(MalformedData) as caught:
        CODEC.decode(bytes.fromhex(raw))
    assert type(caught.value) is kind
    assert caught.value.kind == "pair"


def test_the_largest_number() -> None:
    assert CODEC.decode(encode(Pair("a", LIMIT_53 - 1))).count == LIMIT_53 - 1


def test_size_is_checked_before_anything_else() -> None:
    with pytest.raises(Oversized) as caught:
        CODEC.decode(b"\xff" * 33)
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (33, 32)


def test_deep_nesting_is_malformed_and_harmless() -> None:
    codec = Codec[Pair]("pair", Pair, 1 << 20)
    with pytest.raises(MalformedData):
        codec.decode(b"\x91" * 100_000)
    with pytest.raises(MalformedData):
        codec.decode(b"\x92\xa1a" + b"\x91" * 100_000)
