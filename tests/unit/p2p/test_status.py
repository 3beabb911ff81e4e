"""The status exchange: both sides see the same outcome, and the reason."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import PeerFault, StatusViolation
from p2p.status import (
    PROTOCOL_VERSION,
    ConnectionClass,
    Hello,
    Judge,
    Phase,
    Refusal,
    StatusExchange,
)
from p2p.wire import frame
from tests.unit.p2p.cutting import cut

HELLO = Hello(PROTOCOL_VERSION, "net", bytes(32), 7, ConnectionClass.URGENT, b"instance")


def yes(_hello: Hello) -> Refusal | None:
    return None


def no(_hello: Hello) -> Refusal | None:
    return Refusal("full", "no room for another peer")


def pair(
    dialer: Hello = HELLO, listener: Hello = HELLO, judges: tuple[Judge, Judge] = (yes, yes)
) -> tuple[StatusExchange, StatusExchange]:
    return (
        StatusExchange(dialer, dialer=True, judge=judges[0]),
        StatusExchange(listener, dialer=False, judge=judges[1]),
    )


def run(a: StatusExchange, b: StatusExchange, data: st.DataObject | None = None) -> None:
    to_b, to_a = a.start(), b""
    while to_a or to_b:
        for piece in cut(data, to_b) if data else [to_b]:
            to_a += b.receive(piece)
        to_b = b""
        for piece in cut(data, to_a) if data else [to_a]:
            to_b += a.receive(piece)
        to_a = b""


@given(st.data())
def test_same_ledger_is_accepted(data: st.DataObject) -> None:
    listening = msgspec.structs.replace(
        HELLO, height=9, instance=b"another!", connection_class=ConnectionClass.BULK
    )
    a, b = pair(HELLO, listening)
    run(a, b, data)
    assert (a.phase, b.phase) == (Phase.ACCEPTED, Phase.ACCEPTED)
    assert (a.peer_height, b.peer_height) == (9, 7)
    # The listener repeats the class that the dialer named.
    assert a.peer == msgspec.structs.replace(listening, connection_class=ConnectionClass.URGENT)
    assert b.peer == HELLO
    assert b.receive(a.height_update(12)) == b""
    assert b.peer_height == 12


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"network": "other"}, "network"),
        ({"genesis": b"\1" * 32}, "genesis"),
        ({"version": PROTOCOL_VERSION + 1}, "version"),
    ],
)
def test_foreign_ledgers_are_refused_and_both_sides_know_why(
    change: dict[str, object], code: str
) -> None:
    a, b = pair(HELLO, msgspec.structs.replace(HELLO, **change))
    run(a, b)
    assert (a.phase, b.phase) == (Phase.REFUSED, Phase.REFUSED)
    assert a.refusal is not None
    assert b.refusal is not None
    assert a.refusal == b.refusal
    assert a.refusal.code == code
    assert (a.refused_by_peer, b.refused_by_peer) == (True, False)


@pytest.mark.parametrize("refusing", [0, 1])
def test_a_judge_refuses_and_both_sides_know_why(refusing: int) -> None:
    sides = pair(judges=(no, yes) if refusing == 0 else (yes, no))
    run(*sides)
    assert [side.phase for side in sides] == [Phase.REFUSED, Phase.REFUSED]
    assert sides[0].refusal == sides[1].refusal == Refusal("full", "no room for another peer")
    assert [side.refused_by_peer for side in sides] == [refusing == 1, refusing == 0]


def test_long_reasons_are_cut_to_the_wire() -> None:
    a, b = pair(judges=(yes, lambda _hello: Refusal("x" * 100, "y" * 1000)))
    run(a, b)
    assert a.refusal == Refusal("x" * 32, "y" * 200)


def hello_bytes() -> bytes:
    return pair()[0].start()


@pytest.mark.parametrize(
    "bad",
    [
        hello_bytes() * 2,
        frame(msgspec.msgpack.encode([1, True, "", ""])),
        frame(msgspec.msgpack.encode([2, 5])),
        frame(msgspec.msgpack.encode([3])),
        frame(msgspec.msgpack.encode([0, 1, "net", bytes(31), 7, "bulk", b"instance"])),
        frame(msgspec.msgpack.encode([0, 1, "net", bytes(32), -1, "bulk", b"instance"])),
        frame(msgspec.msgpack.encode([0, 1, "net", bytes(32), 7, "fast", b"instance"])),
        frame(msgspec.msgpack.encode([0, 1, "net", bytes(32), 7, "bulk", b"instance", 0])),
        frame(b""),
        frame(b"\xc1"),
    ],
)
def test_violations(bad: bytes) -> None:
    _, listener = pair()
    with pytest.raises(StatusViolation):
        listener.receive(bad)


@given(st.binary(max_size=200), st.booleans(), st.data())
def test_noise_gives_only_faults(noise: bytes, greeted: bool, data: st.DataObject) -> None:
    _, listener = pair()
    try:
        for piece in cut(data, hello_bytes() * greeted + noise):
            listener.receive(piece)
    except PeerFault:
        pass
    assert listener.phase is not Phase.ACCEPTED
