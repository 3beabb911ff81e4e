"""Telemetry: every room's events are known, lines can be read, figures stay few."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

import consensus.trace
import node.trace
import p2p.trace
from ledger.crypto import PrivateKey, sha256
from ledger.identity import peer_id
from ledger.trace import TraceEvent
from node.telemetry import (
    LABEL_VALUES_COUNT,
    REACTIONS,
    Level,
    StandardLogging,
    Telemetry,
    make_logger,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def make(stream: io.StringIO, level: Level = "info", format_: str = "json") -> Telemetry:
    return Telemetry(make_logger(level, format_, stream), node="north", version="1", chain_id="c")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def figure(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(name, labels)


def applied(height: int, round_: int = 0, how: str = "agreed") -> TraceEvent:
    return consensus.trace.BlockApplied(height, round_, b"\x01" * 32, how)


def stored(height: int) -> TraceEvent:
    return node.trace.BlockStored(height, 5_000, 12, 2, 3_000, b"\x02" * 32)


def event_types(kind: type[TraceEvent] = TraceEvent) -> set[type[TraceEvent]]:
    """Every event class of the program, wherever it is defined; not those of tests."""
    found = {kind} - {TraceEvent}
    for each in kind.__subclasses__():
        found |= event_types(each)
    return {each for each in found if not each.__module__.startswith(("tests", "test_"))}


def test_every_event_of_every_room_is_in_the_table() -> None:
    import node.runner  # noqa: F401 - brings in every room

    missing = {each for each in event_types() if "simulation" not in each.__module__}
    assert missing - set(REACTIONS) == set()


def test_one_info_line_a_block(stream: io.StringIO) -> None:
    telemetry = make(stream)
    telemetry.trace(consensus.trace.RoundStatus(7, 0, 1, "prepare"))
    telemetry.trace(stored(7))
    telemetry.trace(applied(7))
    (line,) = lines(stream)
    assert line["event"] == "block"
    assert line["level"] == "info"
    assert line["node"] == "north"
    assert line["height"] == 7
    assert (line["txs"], line["failed"], line["bytes"]) == (12, 2, 3_000)
    assert line["block_hash"] == "0x" + "01" * 32
    assert line["timestamp"].endswith("Z")


def test_a_block_line_without_its_facts_is_still_a_line(stream: io.StringIO) -> None:
    telemetry = make(stream)
    telemetry.trace(stored(6))
    telemetry.trace(applied(7, how="synced"))
    (line,) = lines(stream)
    assert "txs" not in line
    assert line["how"] == "synced"


def test_figures_of_blocks(stream: io.StringIO) -> None:
    clock = Clock()
    telemetry = Telemetry(make_logger("info", "json", stream), monotonic_s=clock)
    for height, round_ in ((1, 0), (2, 3)):
        telemetry.trace(stored(height))
        telemetry.trace(applied(height, round_))
        clock.now_s += 2
    assert figure(telemetry, "tally_height") == 2
    assert figure(telemetry, "tally_blocks_total", how="agreed") == 2
    assert figure(telemetry, "tally_transactions_total", result="ok") == 20
    assert figure(telemetry, "tally_transactions_total", result="failed") == 4
    assert figure(telemetry, "tally_consensus_late_rounds_total") == 3
    assert figure(telemetry, "tally_block_interval_seconds_sum") == 2
    assert figure(telemetry, "tally_block_time_seconds") == 5


def test_peers_come_and_go(stream: io.StringIO) -> None:
    telemetry = make(stream)
    for name in ("a", "b"):
        telemetry.trace(p2p.trace.PeerUp(name))
    telemetry.trace(p2p.trace.PeerDown("a", "lost"))
    assert figure(telemetry, "tally_peers") == 1


def test_every_reaction_counts_without_error(stream: io.StringIO) -> None:
    telemetry = make(stream, "debug")
    samples: dict[str, Any] = {"int": 1, "str": "x", "bytes": b"\x02" * 32, "float": 1.0}
    samples |= {"bool": True, "int | None": None}
    for kind in REACTIONS:
        fields = [samples[str(kind.__annotations__[name])] for name in kind.__struct_fields__]
        telemetry.trace(kind(*fields))
    assert len(lines(stream)) == len(REACTIONS)
    assert all(name.startswith(("tally_", "process_")) for name in telemetry.metric_names())


class Unheard(TraceEvent, frozen=True):
    detail: str


def test_unknown_events_are_debug_lines(stream: io.StringIO) -> None:
    make(stream).trace(Unheard("x"))
    assert stream.getvalue() == ""
    telemetry = make(stream, "debug")
    telemetry.trace(Unheard("x"))
    assert lines(stream)[0]["event"] == "Unheard"
    assert figure(telemetry, "tally_trace_events_total", event="Unheard") == 1


def test_labels_stay_few_whatever_peers_say(stream: io.StringIO) -> None:
    telemetry = make(stream)
    for index in range(1_000):
        telemetry.trace(p2p.trace.PeerCharged("a", f"kind {index}", 1.0, 1.0))
    text = telemetry.metrics_text().decode()
    assert text.count('tally_peer_faults_total{kind="') == LABEL_VALUES_COUNT + 1
    other = figure(telemetry, "tally_peer_faults_total", kind="other")
    assert other == 1_000 - LABEL_VALUES_COUNT


@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_peers_words_cannot_steer_the_terminal(stream: io.StringIO, format_: str) -> None:
    telemetry = make(stream, "debug", format_)
    telemetry.trace(p2p.trace.StatusRefused("a", "chain", "\x1b[2J\nfake line\r\x9b", True))
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert all(each == "\n" or each.isprintable() for each in written)


def test_bytes_are_written_as_people_know_them(stream: io.StringIO) -> None:
    key = PrivateKey(sha256(b"node")).public_key
    telemetry = make(stream)
    telemetry.trace(consensus.trace.SyncPeerFailed(key, "timeout"))
    assert lines(stream)[0]["node_key"] == peer_id(key)


def test_text_on_a_terminal_and_json_elsewhere() -> None:
    for stream, is_json in ((io.StringIO(), True), (Terminal(), False)):
        make_logger("info", "auto", stream).info("hello", height=1)
        assert stream.getvalue().startswith("{") is is_json


def test_levels_filter(stream: io.StringIO) -> None:
    make(stream, "warning").trace(applied(1))
    assert stream.getvalue() == ""


def test_watched_figures_are_read_when_asked(stream: io.StringIO) -> None:
    telemetry = make(stream)
    waiting = [3]
    telemetry.watch("tally_mempool_transactions", "Waiting", lambda: waiting[0])
    assert b"\ntally_mempool_transactions 3.0\n" in telemetry.metrics_text()
    waiting[0] = 4
    assert b"\ntally_mempool_transactions 4.0\n" in telemetry.metrics_text()


def test_two_nodes_in_one_process_keep_their_figures_apart(stream: io.StringIO) -> None:
    first, second = make(stream), make(stream)
    first.trace(applied(9))
    assert figure(first, "tally_height") == 9
    assert figure(second, "tally_height") == 0


def test_build_and_process_are_shown(stream: io.StringIO) -> None:
    text = make(stream).metrics_text().decode()
    assert 'tally_build_info{chain_id="c",version="1"} 1.0' in text
    assert "process_resident_memory_bytes" in text


def test_libraries_speak_through_our_logger(stream: io.StringIO) -> None:
    library = logging.Logger("library")  # noqa: LOG001 - one of our own, so nothing global changes
    library.addHandler(StandardLogging(make_logger("info", "json", stream)))
    library.info("chatter")
    library.warning("careful %s", "now")
    try:
        raise ValueError("inner")
    except ValueError:
        library.exception("broken")
    first, second = lines(stream)
    assert (first["event"], first["library"], first["level"]) == (
        "careful now",
        "library",
        "warning",
    )
    assert "ValueError: inner" in second["exception"]
