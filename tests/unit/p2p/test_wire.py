"""Varints, protobuf fields and length-prefixed frames, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import FrameTooLarge, MalformedFrame, PeerFault
from p2p.wire import (
    FrameReader,
    decode_uvarint,
    encode_uvarint,
    frame,
    proto_bytes,
    proto_fields,
    proto_uint,
)
from tests.unit.p2p.cutting import cut


@given(st.integers(0, 2**63 - 1))
def test_uvarint_round_trip_and_every_prefix_is_incomplete(value: int) -> None:
    encoded = encode_uvarint(value)
    assert decode_uvarint(encoded) == (value, len(encoded))
    assert decode_uvarint(b"\xff" + encoded, 1) == (value, len(encoded) + 1)
    for size in range(len(encoded)):
        assert decode_uvarint(encoded[:size]) is None


@pytest.mark.parametrize(
    # The examples of multiformats/unsigned-varint.
    ("value", "encoded"),
    [(1, "01"), (127, "7f"), (128, "8001"), (255, "ff01"), (300, "ac02"), (16384, "808001")],
)
def test_uvarint_examples(value: int, encoded: str) -> None:
    assert encode_uvarint(value).hex() == encoded


@pytest.mark.parametrize("bad", ["8000", "ff8000", "80808080808080808001", "ff" * 9])
def test_uvarint_refuses_long_forms(bad: str) -> None:
    with pytest.raises(MalformedFrame):
        decode_uvarint(bytes.fromhex(bad))


@given(st.lists(st.binary(max_size=400), max_size=20), st.data())
def test_frames_survive_any_cutting(payloads: list[bytes], data: st.DataObject) -> None:
    reader = FrameReader("test", 400)
    found: list[bytes] = []
    for piece in cut(data, b"".join(frame(payload) for payload in payloads)):
        found += reader.feed(piece)
    assert found == payloads
    assert reader.buffered_bytes == 0


def test_a_frame_is_refused_at_its_prefix_not_at_its_end() -> None:
    reader = FrameReader("test", 10)
    assert reader.feed(frame(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(FrameTooLarge) as refused:
        reader.feed(encode_uvarint(11))
    assert (refused.value.size_bytes, refused.value.limit_bytes) == (11, 10)


def test_a_reader_holds_what_came_not_what_was_announced() -> None:
    reader = FrameReader("test", 1 << 30)
    reader.feed(encode_uvarint(1 << 30) + b"abc")
    assert reader.buffered_bytes == 3


@given(st.binary(max_size=200), st.data())
def test_frame_reader_fuzz(noise: bytes, data: st.DataObject) -> None:
    reader = FrameReader("test", 50)
    try:
        for piece in cut(data, noise):
            for payload in reader.feed(piece):
                assert len(payload) <= 50
            assert reader.buffered_bytes <= 60
    except PeerFault:
        pass


def test_protobuf_fields() -> None:
    message = proto_uint(1, 300) + b"\x0d\0\0\0\0" + b"\x11" + bytes(8) + proto_bytes(20, b"abc")
    assert list(proto_fields("test", message)) == [(1, 300), (20, b"abc")]


@pytest.mark.parametrize("bad", ["00", "08", "0a05aa", "0b", "0d0000", "ffffffffffffffffffff01"])
def test_protobuf_refuses(bad: str) -> None:
    with pytest.raises(MalformedFrame):
        list(proto_fields("test", bytes.fromhex(bad)))


@given(st.binary(max_size=100))
def test_protobuf_fuzz(noise: bytes) -> None:
    try:
        for number, value in proto_fields("test", noise):
            assert number > 0
            assert isinstance(value, int) or len(value) <= len(noise)
    except MalformedFrame:
        pass
