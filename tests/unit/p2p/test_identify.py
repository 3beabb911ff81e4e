"""identify messages, ours and strangers'."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import MalformedFrame
from p2p.identify import (
    LIST_MAX_COUNT,
    TEXT_MAX_CHARACTERS,
    Identification,
    decode_identification,
    encode_identification,
    tcp_multiaddr,
)
from p2p.wire import proto_bytes, proto_uint


def test_round_trip() -> None:
    facts = Identification(
        public_key=b"key",
        agent="tally/1",
        protocol_version="tally/1.0.0",
        protocols=("/a/1", "/b/1"),
        listen_addresses=(tcp_multiaddr("127.0.0.1", 4001), tcp_multiaddr("::1", 4002)),
        observed_address=tcp_multiaddr("10.0.0.1", 80),
    )
    assert decode_identification(encode_identification(facts)) == facts


def test_multiaddr_bytes() -> None:
    # /ip4/127.0.0.1/tcp/4001: codes 4 and 6 of the multiaddr protocol table.
    assert tcp_multiaddr("127.0.0.1", 4001).hex() == "047f000001060fa1"
    assert tcp_multiaddr("::1", 4001).hex() == "29" + "00" * 15 + "01" + "060fa1"
    assert tcp_multiaddr("localhost", 4001) == b""


def test_unknown_fields_are_skipped_and_hostile_text_is_tamed() -> None:
    message = (
        proto_bytes(8, b"signed record")
        + proto_uint(99, 5)
        + proto_bytes(6, b"\x1b[31mred\xff\n" + b"x" * 1000)
    )
    agent = decode_identification(message).agent
    assert len(agent) == TEXT_MAX_CHARACTERS
    assert agent.isprintable()
    assert agent.startswith("�[31mred��x")


@pytest.mark.parametrize(
    "bad", [proto_uint(6, 1), proto_bytes(3, b"/a/1") * (LIST_MAX_COUNT + 1), b"\x32\x05ab"]
)
def test_refused(bad: bytes) -> None:
    with pytest.raises(MalformedFrame):
        decode_identification(bad)


@given(st.binary(max_size=200))
def test_noise(noise: bytes) -> None:
    try:
        found = decode_identification(noise)
    except MalformedFrame:
        return
    assert len(found.agent) <= TEXT_MAX_CHARACTERS
