"""yamux: two sessions wired together, cut anywhere, and every kind of broken frame."""

from __future__ import annotations

import struct
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from p2p.errors import PeerFault, YamuxViolation
from p2p.yamux import (
    CONTROL_MAX_BYTES,
    INITIAL_WINDOW_BYTES,
    Event,
    GoAwayCode,
    GoneAway,
    Pong,
    StreamData,
    StreamEnded,
    StreamOpened,
    StreamReset,
    WindowGrew,
    YamuxSession,
)
from tests.unit.p2p.cutting import cut

SYN, ACK, FIN, RST = 1, 2, 4, 8
DATA, WINDOW, PING, GO_AWAY = range(4)


def header(kind: int, flags: int, stream_id: int, length: int, version: int = 0) -> bytes:
    return struct.pack(">BBHII", version, kind, flags, stream_id, length)


def session(*, dialer: bool = False, streams: int = 4, window: int = 0) -> YamuxSession:
    return YamuxSession(
        dialer=dialer,
        inbound_max_count=streams,
        receive_window_bytes=window or INITIAL_WINDOW_BYTES,
    )


def test_the_wire_form() -> None:
    # Header layout of hashicorp/yamux spec.md: version, type, flags, stream id, length.
    dialer = session(dialer=True)
    assert dialer.open_stream() == 1
    assert dialer.take_control() == bytes.fromhex("00 01 0001 00000001 00000000")
    assert dialer.data_header(1, 5) == bytes.fromhex("00 00 0000 00000001 00000005")
    dialer.finish(1)
    assert dialer.take_control() == bytes.fromhex("00 01 0004 00000001 00000000")
    dialer.ping(7)
    assert dialer.take_control() == bytes.fromhex("00 02 0001 00000000 00000007")
    dialer.go_away(GoAwayCode.PROTOCOL_ERROR)
    assert dialer.take_control() == bytes.fromhex("00 03 0000 00000000 00000001")
    listener = session()
    assert listener.open_stream() == 2


def test_a_wider_window_is_announced_with_syn_and_ack() -> None:
    listener = session(window=1 << 20)
    listener.receive(header(WINDOW, SYN, 1, 100))
    assert listener.take_control() == header(WINDOW, ACK, 1, (1 << 20) - INITIAL_WINDOW_BYTES)
    assert listener.send_window(1) == INITIAL_WINDOW_BYTES + 100
    listener.receive(header(DATA, 0, 1, 1 << 20))


def test_streams_may_open_with_data() -> None:
    events = session().receive(header(DATA, SYN | FIN, 1, 3) + b"abc")
    assert events == [StreamOpened(1), StreamData(1, b"abc"), StreamEnded(1)]


def test_consuming_widens_the_window_by_halves() -> None:
    listener = session()
    listener.receive(header(WINDOW, SYN, 1, 0))
    listener.take_control()
    half = INITIAL_WINDOW_BYTES // 2
    listener.receive(header(DATA, 0, 1, half) + bytes(half))
    listener.consumed(1, half - 1)
    assert listener.take_control() == b""
    listener.consumed(1, 1)
    assert listener.take_control() == header(WINDOW, 0, 1, half)
    listener.receive(header(DATA, 0, 1, INITIAL_WINDOW_BYTES))


def test_an_empty_window_wakes_the_sender_when_it_grows() -> None:
    dialer = session(dialer=True)
    stream = dialer.open_stream()
    dialer.data_header(stream, INITIAL_WINDOW_BYTES)
    assert dialer.send_window(stream) == 0
    assert dialer.receive(header(WINDOW, ACK, stream, 10)) == [WindowGrew(stream)]
    assert dialer.receive(header(WINDOW, 0, stream, 10)) == []
    assert dialer.send_window(stream) == 20


def test_pings_are_answered_and_pongs_reported_once() -> None:
    a = session()
    assert a.receive(header(PING, SYN, 0, 99)) == []
    assert a.take_control() == header(PING, ACK, 0, 99)
    a.ping(5)
    assert a.receive(header(PING, ACK, 0, 4)) == []
    assert a.receive(header(PING, ACK, 0, 5)) == [Pong(5)]
    assert a.receive(header(PING, ACK, 0, 5)) == []
    assert a.receive(header(GO_AWAY, 0, 0, 2)) == [GoneAway(2)]


def test_too_many_streams_are_reset_and_places_come_back() -> None:
    listener = session(streams=1)
    assert listener.receive(header(WINDOW, SYN, 1, 0)) == [StreamOpened(1)]
    listener.take_control()
    assert listener.receive(header(DATA, SYN, 3, 2) + b"xx") == []
    assert listener.take_control() == header(WINDOW, RST, 3, 0)
    assert listener.receive(header(WINDOW, RST, 1, 0)) == [StreamReset(1)]
    assert listener.receive(header(WINDOW, SYN, 5, 0)) == [StreamOpened(5)]
    assert listener.stream_count == 1


def test_frames_for_a_stream_we_reset_are_dropped() -> None:
    listener = session()
    listener.receive(header(WINDOW, SYN, 1, 0) + header(DATA, 0, 1, 4) + b"ab")
    listener.reset(1)
    rest = b"cd" + header(DATA, FIN, 1, 2) + b"xx" + header(WINDOW, RST, 1, 5)
    assert listener.receive(rest) == []


OPEN = header(WINDOW, SYN, 1, 0)

VIOLATIONS = {
    "version": header(DATA, 0, 0, 0, version=1),
    "type": header(4, 0, 0, 0),
    "flags": header(DATA, 16, 1, 0),
    "data without a stream": header(DATA, 0, 0, 1),
    "window without a stream": header(WINDOW, 0, 0, 1),
    "stream never opened": header(DATA, 0, 3, 1),
    "our stream never opened": header(DATA, 0, 2, 1),
    "even id": header(WINDOW, SYN, 2, 0),
    "id 0": header(WINDOW, SYN, 0, 0),
    "id used": OPEN + OPEN,
    "id going back": header(WINDOW, SYN, 5, 0) + header(WINDOW, SYN, 3, 0),
    "ack of its own stream": OPEN + header(WINDOW, ACK, 1, 0),
    "window breached": OPEN + header(DATA, 0, 1, INITIAL_WINDOW_BYTES + 1),
    "window breached in parts": OPEN
    + header(DATA, 0, 1, INITIAL_WINDOW_BYTES)
    + bytes(INITIAL_WINDOW_BYTES)
    + header(DATA, 0, 1, 1),
    "data behind the end": OPEN + header(DATA, FIN, 1, 0) + header(DATA, 0, 1, 1),
    "second end": OPEN + header(DATA, FIN, 1, 0) + header(WINDOW, FIN, 1, 0),
    "window past 2^32": OPEN + header(WINDOW, 0, 1, 2**32 - 1),
    "ping on a stream": header(PING, SYN, 1, 0),
    "ping with both flags": header(PING, SYN | ACK, 0, 0),
    "go away on a stream": header(GO_AWAY, 0, 1, 0),
    "pings unread": header(PING, SYN, 0, 0) * (CONTROL_MAX_BYTES // 12 + 1),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_violations_end_the_session(name: str) -> None:
    with pytest.raises(YamuxViolation):
        session().receive(VIOLATIONS[name])


frames = st.tuples(
    st.integers(0, 4),
    st.integers(0, 16),
    st.integers(0, 9),
    st.one_of(st.integers(0, 40), st.just(INITIAL_WINDOW_BYTES), st.just(2**32 - 1)),
    st.integers(0, 3),
)


@given(st.lists(frames, max_size=20), st.data())
def test_fuzz_of_frames_gives_only_violations(
    parts: list[tuple[int, int, int, int, int]], data: st.DataObject
) -> None:
    noise = b"".join(
        header(kind, flags, stream, length) + bytes(body)
        for kind, flags, stream, length, body in parts
    )
    listener = session()
    opened: set[int] = set()
    try:
        for piece in cut(data, noise):
            for event in listener.receive(piece):
                if isinstance(event, StreamOpened):
                    opened.add(event.stream_id)
                elif not isinstance(event, Pong | GoneAway):
                    assert event.stream_id in opened  # type: ignore[attr-defined]
            assert listener.control_bytes <= CONTROL_MAX_BYTES
            assert listener.stream_count <= 4
    except PeerFault:
        pass


class TwoSessions(RuleBasedStateMachine):
    """Two sessions, a pipe each way; the model is the bytes written to each stream."""

    @initialize(window=st.sampled_from([INITIAL_WINDOW_BYTES, 2 * INITIAL_WINDOW_BYTES]))
    def wire(self, window: int) -> None:
        self.sides = [session(dialer=True, window=window), session(window=window)]
        self.pipes = [b"", b""]  # To the side of that index.
        self.sent: list[dict[int, bytes]] = [defaultdict(bytes), defaultdict(bytes)]
        self.got: list[dict[int, bytes]] = [defaultdict(bytes), defaultdict(bytes)]
        self.finished: list[set[int]] = [set(), set()]
        self.ended: list[set[int]] = [set(), set()]
        self.known: list[set[int]] = [set(), set()]
        self.dropped: set[int] = set()
        self.pings: list[list[int]] = [[], []]

    def flush(self, side: int) -> None:
        self.pipes[1 - side] += self.sides[side].take_control()

    @rule(side=st.integers(0, 1))
    def open_stream(self, side: int) -> None:
        mine = [s for s in self.known[side] if s % 2 == 1 - side and s not in self.dropped]
        if len(mine) < 4:
            stream = self.sides[side].open_stream()
            self.known[side].add(stream)
            self.flush(side)

    @rule(side=st.integers(0, 1), data=st.data(), size=st.sampled_from([1, 100, 70_000]))
    def write(self, side: int, data: st.DataObject, size: int) -> None:
        streams = sorted(self.known[side] - self.dropped - self.finished[side])
        if not streams:
            return
        stream = data.draw(st.sampled_from(streams))
        size = min(size, self.sides[side].send_window(stream))
        if size:
            body = bytes((len(self.sent[side][stream]) % 256,)) * size
            self.pipes[1 - side] += self.sides[side].data_header(stream, size) + body
            self.sent[side][stream] += body

    @rule(side=st.integers(0, 1), data=st.data())
    def finish(self, side: int, data: st.DataObject) -> None:
        streams = sorted(self.known[side] - self.dropped - self.finished[side])
        if streams:
            stream = data.draw(st.sampled_from(streams))
            self.sides[side].finish(stream)
            self.finished[side].add(stream)
            self.flush(side)

    @rule(side=st.integers(0, 1), data=st.data())
    def reset(self, side: int, data: st.DataObject) -> None:
        streams = sorted(self.known[side] - self.dropped)
        if streams:
            stream = data.draw(st.sampled_from(streams))
            self.sides[side].reset(stream)
            self.dropped.add(stream)
            self.flush(side)

    @rule(side=st.integers(0, 1), value=st.integers(0, 2**32 - 1))
    def ping(self, side: int, value: int) -> None:
        self.sides[side].ping(value)
        self.flush(side)
        self.deliver_all()
        assert self.pings[side].pop() == value

    @precondition(lambda self: any(self.pipes))
    @rule(side=st.integers(0, 1), part=st.floats(0, 1))
    def deliver(self, side: int, part: float) -> None:
        size = int(len(self.pipes[side]) * part)
        piece, self.pipes[side] = self.pipes[side][:size], self.pipes[side][size:]
        for event in self.sides[side].receive(piece):
            self.note(side, event)
        self.flush(side)

    def deliver_all(self) -> None:
        while any(self.pipes):
            for side in (0, 1):
                piece, self.pipes[side] = self.pipes[side], b""
                for event in self.sides[side].receive(piece):
                    self.note(side, event)
                self.flush(side)

    def note(self, side: int, event: Event) -> None:
        match event:
            case StreamOpened(stream):
                self.known[side].add(stream)
            case StreamData(stream, body):
                self.got[side][stream] += body
                self.sides[side].consumed(stream, len(body))
            case StreamEnded(stream):
                self.ended[side].add(stream)
            case StreamReset(stream):
                assert stream in self.dropped
            case Pong(value):
                self.pings[side].append(value)

    @invariant()
    def what_arrives_is_a_prefix_of_what_was_sent(self) -> None:
        for side in (0, 1):
            for stream, body in self.got[side].items():
                assert self.sent[1 - side][stream].startswith(body)

    def teardown(self) -> None:
        if not hasattr(self, "sides"):
            return
        self.deliver_all()
        for side in (0, 1):
            for stream, body in self.sent[1 - side].items():
                if stream not in self.dropped:
                    assert self.got[side][stream] == body
            assert self.ended[side] - self.dropped == self.finished[1 - side] - self.dropped
        alive = (self.known[0] | self.known[1]) - self.dropped
        gone = self.finished[0] & self.finished[1]
        for muxer in self.sides:
            assert muxer.stream_count == len(alive - gone)


TestTwoSessions = TwoSessions.TestCase
TestTwoSessions.settings = settings(deadline=None, max_examples=40, stateful_step_count=40)
