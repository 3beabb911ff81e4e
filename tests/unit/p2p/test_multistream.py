"""multistream-select 1.0.0, both sides, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import MultistreamViolation, PeerFault
from p2p.multistream import (
    LINE_MAX_BYTES,
    PROPOSALS_MAX_COUNT,
    MultistreamDialer,
    MultistreamListener,
    encode_line,
)
from p2p.wire import encode_uvarint
from tests.unit.p2p.cutting import cut

NAMES = ["/a/1", "/b/1", "/c/1", "/d/1"]


def test_the_wire_form() -> None:
    # The example of the multistream-select README: 0x13 is the length with the newline.
    assert encode_line("/multistream/1.0.0") == b"\x13/multistream/1.0.0\n"
    dialer = MultistreamDialer(["/a/1", "/b/1"])
    assert dialer.start() == b"\x13/multistream/1.0.0\n\x05/a/1\n"
    progress = dialer.receive(b"\x13/multistream/1.0.0\n\x03na\n")
    assert (progress.output, progress.agreed) == (b"\x05/b/1\n", None)
    progress = dialer.receive(b"\x05/b/1\nrest")
    assert (progress.output, progress.agreed, progress.rest) == (b"", "/b/1", b"rest")


@given(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
    st.sets(st.sampled_from(NAMES)),
    st.binary(max_size=50),
    st.data(),
)
def test_both_sides_agree_on_the_first_common_protocol(
    proposals: list[str], supported: set[str], tail: bytes, data: st.DataObject
) -> None:
    dialer, listener = MultistreamDialer(proposals), MultistreamListener(supported.__contains__)
    to_listener, to_dialer = dialer.start(), b""
    agreed: list[str] = []
    refused = False
    while to_listener or to_dialer:
        pieces, to_listener = cut(data, to_listener), b""
        for index, piece in enumerate(pieces):
            progress = listener.receive(piece)
            to_dialer += progress.output
            if progress.agreed:
                agreed.append(progress.agreed)
                assert progress.rest + b"".join(pieces[index + 1 :]) == b""
                to_dialer += tail
                break
        pieces, to_dialer = cut(data, to_dialer), b""
        for index, piece in enumerate(pieces):
            progress = dialer.receive(piece)
            to_listener += progress.output
            refused |= progress.refused
            if progress.agreed:
                agreed.append(progress.agreed)
                assert progress.rest + b"".join(pieces[index + 1 :]) == tail
                break
    common = [name for name in proposals if name in supported]
    assert agreed == common[:1] * 2
    assert refused == (not common)


def test_bytes_behind_an_optimistic_proposal_are_kept() -> None:
    listener = MultistreamListener(NAMES.__contains__)
    progress = listener.receive(MultistreamDialer(["/a/1"]).start() + b"payload")
    assert (progress.agreed, progress.rest) == ("/a/1", b"payload")


@given(st.binary(max_size=2000), st.data())
def test_payload_behind_a_declined_proposal_is_not_an_error(
    payload: bytes, data: st.DataObject
) -> None:
    listener = MultistreamListener({"/b/1"}.__contains__)
    output = b""
    for piece in cut(data, MultistreamDialer(["/a/1"]).start() + b"\x00" + payload):
        progress = listener.receive(piece)
        output += progress.output
        assert progress.agreed is None
    assert output == encode_line("/multistream/1.0.0") + encode_line("na")


def test_ls_is_not_available() -> None:
    listener = MultistreamListener(NAMES.__contains__)
    progress = listener.receive(encode_line("/multistream/1.0.0") + encode_line("ls"))
    assert progress.output.endswith(encode_line("na"))
    assert progress.agreed is None


GREETING = encode_line("/multistream/1.0.0")


@pytest.mark.parametrize(
    "bad",
    [
        encode_line("/multistream/2.0.0"),
        encode_line("/a/1"),
        b"\x04abcd",
        b"\x00",
        encode_uvarint(LINE_MAX_BYTES + 1),
        GREETING + b"\x03\xff\xff\n",
        GREETING + b"\x00",
        GREETING + encode_line("no") * (PROPOSALS_MAX_COUNT + 1),
    ],
)
def test_a_listener_refuses(bad: bytes) -> None:
    with pytest.raises(MultistreamViolation):
        MultistreamListener(NAMES.__contains__).receive(bad)


@pytest.mark.parametrize("bad", [encode_line("/a/1"), GREETING + encode_line("/b/1")])
def test_a_dialer_refuses(bad: bytes) -> None:
    dialer = MultistreamDialer(["/a/1"])
    dialer.start()
    with pytest.raises(MultistreamViolation):
        dialer.receive(bad)


@given(st.binary(max_size=80), st.booleans(), st.data())
def test_fuzz(noise: bytes, greeted: bool, data: st.DataObject) -> None:
    for side in (MultistreamDialer(["/a/1"]), MultistreamListener(NAMES.__contains__)):
        try:
            for piece in cut(data, GREETING * greeted + noise):
                if side.receive(piece).agreed:
                    break
        except PeerFault:
            pass
