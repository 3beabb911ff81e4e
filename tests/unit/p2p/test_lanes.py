"""The lane scheduler: L0 first, shares below, nobody starves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.lanes import CHUNK_BYTES, QUANTUM_BYTES, Lane, LaneScheduler


@dataclass(eq=False)
class Flow:
    lane: Lane
    left_bytes: int = 1 << 40


def serve(scheduler: LaneScheduler[Flow], picks: int, chunk: int = CHUNK_BYTES) -> list[Flow]:
    """Lets streams send, a chunk each, and returns who did."""
    served = []
    for _ in range(picks):
        flow = scheduler.pick()
        if flow is None:
            break
        size = min(chunk, flow.left_bytes)
        flow.left_bytes -= size
        served.append(flow)
        scheduler.done(flow, size, more=flow.left_bytes > 0)
    return served


def test_urgent_bytes_overtake_at_the_next_chunk() -> None:
    scheduler: LaneScheduler[Flow] = LaneScheduler()
    scheduler.add(Flow(Lane.L4))
    serve(scheduler, 10)
    vote = Flow(Lane.L0, 200)
    scheduler.add(vote)
    assert serve(scheduler, 2)[0] is vote


def test_busy_lanes_share_by_their_quanta() -> None:
    scheduler: LaneScheduler[Flow] = LaneScheduler()
    for lane in QUANTUM_BYTES:
        scheduler.add(Flow(lane))
    rounds = 100
    served = Counter(flow.lane for flow in serve(scheduler, 16 * rounds))
    for lane, quantum in QUANTUM_BYTES.items():
        assert served[lane] == pytest.approx(rounds * quantum / CHUNK_BYTES, rel=0.02)


def test_streams_of_a_lane_take_turns() -> None:
    scheduler: LaneScheduler[Flow] = LaneScheduler()
    flows = [Flow(Lane.L2) for _ in range(3)]
    for flow in flows:
        scheduler.add(flow)
    served = Counter(id(flow) for flow in serve(scheduler, 300))
    assert set(served.values()) == {100}


def test_an_idle_lane_saves_nothing_up() -> None:
    scheduler: LaneScheduler[Flow] = LaneScheduler()
    scheduler.add(Flow(Lane.L4))
    serve(scheduler, 1000)
    scheduler.add(Flow(Lane.L1))
    served = [flow.lane for flow in serve(scheduler, 110)]
    assert served.count(Lane.L4) == pytest.approx(110 * 3 / 11, abs=4)


@given(st.lists(st.tuples(st.sampled_from(list(Lane)), st.integers(1, 100_000)), max_size=30))
def test_everything_is_sent_exactly_once(flows: list[tuple[Lane, int]]) -> None:
    scheduler: LaneScheduler[Flow] = LaneScheduler()
    waiting = [Flow(lane, size) for lane, size in flows]
    for flow in waiting:
        scheduler.add(flow)
    urgent = [flow for flow in waiting if flow.lane is Lane.L0]
    chunks = sum(-(-flow.left_bytes // CHUNK_BYTES) for flow in waiting)
    served = serve(scheduler, 10**6)
    assert len(served) == chunks
    assert all(flow.left_bytes == 0 for flow in waiting)
    assert not scheduler
    assert scheduler.pick() is None
    assert set(map(id, served[: len(urgent)])) <= set(map(id, urgent)) or not urgent
