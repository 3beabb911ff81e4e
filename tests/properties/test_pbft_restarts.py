"""A validator dies at every record it ever writes, before and after the record is durable."""

from __future__ import annotations

import pytest

from consensus.engine import Effect, Persist
from consensus.pbft.engine import PbftEngine
from tests.kit.engines import START_MS, Cluster
from tests.properties.test_pbft_schedules import Watch

HEIGHTS = 2

# A restart costs at most the round it falls into, and the wait for a repetition.
LIMIT_MS = 8_000


class Run:
    """Two heights of four validators; the `strike`-th record written takes its writer down."""

    def __init__(self, strike: int, *, kept: bool, dead_leader: bool) -> None:
        self.cluster = Cluster([1, 1, 1, 1], PbftEngine)
        self.cluster.write_at_once = False
        self.cluster.log = self.log
        Watch(self.cluster, set())
        self.strike = strike
        self.kept = kept
        self.records = 0
        self.struck: int | None = None
        self.cluster.start()
        if dead_leader:
            self.cluster.crash(1)

    def log(self, index: int, effect: Effect) -> None:
        if isinstance(effect, Persist):
            if self.records == self.strike:
                self.struck = index
            self.records += 1

    def pause(self) -> None:
        """Between two events: the power goes where it was to go, everybody else writes."""
        if self.struck is not None:
            index, self.struck = self.struck, None
            # `kept`: the record reached the disk, and its writer never heard so.
            unwritten = len(self.cluster.host(index).unwritten)
            self.cluster.crash(index, unwritten if self.kept else unwritten - 1)
            self.cluster.start(index)
        for host in self.cluster.up():
            host.write()

    def lowest(self) -> int:
        return min(host.disk.tip.height for host in self.cluster.up())

    def go(self) -> None:
        """Until everybody who runs has both heights."""
        cluster = self.cluster
        while (lowest := self.lowest()) < HEIGHTS:
            cluster.set_work([host.index for host in cluster.up()], waiting=True)
            self.pause()
            while cluster.flying:
                cluster.deliver(cluster.flying.pop(0))
                self.pause()
            if self.lowest() > lowest:
                continue
            due = cluster.next_due()
            assert due is not None
            cluster.now_ms = max(due, cluster.now_ms)
            for host in cluster.up():
                for timer_id in sorted(host.timers):
                    if host.timers.get(timer_id, due + 1) <= cluster.now_ms:
                        host.fire(timer_id)
                self.pause()
            elapsed_ms = cluster.now_ms - START_MS
            assert elapsed_ms < LIMIT_MS, "no progress after the restart"


@pytest.mark.parametrize("dead_leader", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_a_restart_at_any_record_contradicts_nothing_and_stops_nothing(
    kept: bool, dead_leader: bool
) -> None:
    count = 0
    strike = 0
    while True:
        run = Run(strike, kept=kept, dead_leader=dead_leader)
        run.go()
        if run.records <= strike:
            break
        count = strike = strike + 1
    # Two records of each of the validators at each of the heights, at the least.
    assert count >= HEIGHTS * 2 * (3 if dead_leader else 4)
