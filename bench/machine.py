"""What a figure was measured on: processor, cores, memory, system, versions, disk, commit."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("coincurve", "msgspec", "aiohttp", "plyvel", "uvloop", "orjson", "numpy")

_FSYNC_ROUNDS_COUNT = 50
_FSYNC_BYTES = 1_024
"""About what a vote makes a validator write. On a file that is there already, as a journal is."""


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def facts(folder: Path) -> dict[str, Any]:
    """The machine, in plain values. `folder` is on the file system that is measured."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "load_1m": round(os.getloadavg()[0], 2),
        "fsync_ms": round(fsync_ms(folder), 3),
    }


def fsync_ms(folder: Path) -> float:
    """Median time to append 1 KiB to a file and make it durable, ms."""
    path = folder / "fsync-probe"
    taken = []
    try:
        with path.open("wb", buffering=0) as file:
            os.fsync(file.fileno())
            for _ in range(_FSYNC_ROUNDS_COUNT):
                before_ns = time.perf_counter_ns()
                file.write(bytes(_FSYNC_BYTES))
                os.fdatasync(file.fileno())
                taken.append((time.perf_counter_ns() - before_ns) / 1e6)
    finally:
        path.unlink(missing_ok=True)
    return statistics.median(taken)


def commit() -> str:
    """The commit the code was measured at, "-dirty" where files differ, "" outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
