"""CPU time of a process and everything it started, from /proc (proc(5), field numbers there).

A process's own time is utime + stime; the time of its ended and waited-for children stands in
cutime + cstime; living descendants are found by their parent pids. Clock ticks are 10 ms, which is
nothing over the seconds that are measured.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# Indexes of a stat line after the command: field 4 is the parent, 14–17 are the times, 24 is the
# resident size in pages.
_PARENT = 4 - 3
_TIMES = slice(14 - 3, 18 - 3)
_RESIDENT = 24 - 3


def parse_stat(line: str) -> tuple[int, int, int]:
    """(parent pid, ticks of itself and its ended children, resident pages) of a stat line."""
    # The command stands in brackets and may hold anything, brackets and spaces too.
    fields = line.rpartition(")")[2].split()
    return int(fields[_PARENT]), sum(map(int, fields[_TIMES])), int(fields[_RESIDENT])


class Usage:
    """CPU seconds by root pid, descendants included; taken at one moment."""

    def __init__(self, roots: Iterable[int]) -> None:
        table = _processes()
        children: dict[int, list[int]] = defaultdict(list)
        for pid, (parent, _, _) in table.items():
            children[parent].append(pid)
        self.by_root: dict[int, float] = {}
        self.resident_bytes: dict[int, int] = {}
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        for root in roots:
            ticks, waiting = 0, [root]
            while waiting:
                pid = waiting.pop()
                if pid in table:
                    ticks += table[pid][1]
                    waiting += children[pid]
            self.by_root[root] = ticks / _TICKS_PER_S
            self.resident_bytes[root] = table[root][2] * page_bytes if root in table else 0

    @property
    def total_s(self) -> float:
        """Of all roots together."""
        return sum(self.by_root.values())


def parse_busy(stat: str) -> float:
    """CPU seconds the machine was not idle, of the text of /proc/stat."""
    words = stat.splitlines()[0].split()
    assert words[0] == "cpu"
    # user, nice, system, idle, iowait, irq, softirq, steal; guest times are part of user.
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, words[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S


def machine_busy_s() -> float:
    """CPU seconds the whole machine was not idle since it started."""
    return parse_busy((_PROC / "stat").read_text("ascii"))


def _processes() -> dict[int, tuple[int, int, int]]:
    table = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                table[int(entry.name)] = parse_stat((entry / "stat").read_text("utf-8", "replace"))
            except (OSError, ProcessLookupError):
                continue
    return table
