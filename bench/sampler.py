"""A sampling profiler for one validator: python -m bench.sampler start --home DIR.

Runs the `tally` command with a timer that fires every few milliseconds of CPU time (ITIMER_PROF,
setitimer(2)), and notes the main thread's stack each time. Time the process waits is not sampled,
time in C counts for the Python line that called. SIGUSR1 forgets what was sampled so far. At the
end the stacks are written to DIR/profile.txt, one line a stack (frames from the outside in, joined
by ";") and its number of samples, as flame graph tools read it, and the costliest functions to
DIR/profile-top.txt.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

from node.cli import main as tally

INTERVAL_S = 0.002
"""Of CPU time: 500 samples a busy second, some 1 % of overhead."""

# Distinct stacks kept; a validator has a few thousand.
STACKS_MAX_COUNT = 100_000
FRAMES_MAX_COUNT = 100

TOP_COUNT = 60

STACKS_FILE = "profile.txt"
TOP_FILE = "profile-top.txt"

FORGET = signal.SIGUSR1

Stack = tuple[str, ...]


class Sampler:
    """Counts stacks of the main thread until `stop`."""

    def __init__(self) -> None:
        self.stacks: Counter[Stack] = Counter()

    def start(self) -> None:
        """Begin; the main thread only."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(FORGET, lambda *_: self.stacks.clear())
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def stop(self) -> None:
        """No more samples."""
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        frames: list[str] = []
        while frame is not None and len(frames) < FRAMES_MAX_COUNT:
            code = frame.f_code
            frames.append(f"{code.co_qualname} ({_short(code.co_filename)}:{frame.f_lineno})")
            frame = frame.f_back
        stack = tuple(reversed(frames))
        if stack in self.stacks or len(self.stacks) < STACKS_MAX_COUNT:
            self.stacks[stack] += 1


def _short(path: str) -> str:
    return "/".join(path.rsplit("/", 2)[-2:])


def folded(stacks: Counter[Stack]) -> str:
    """One line a stack."""
    return "".join(f"{';'.join(stack)} {count}\n" for stack, count in sorted(stacks.items()))


def top(stacks: Counter[Stack], count: int = TOP_COUNT) -> str:
    """Functions by their share of the samples: alone, and with all they call."""
    total = sum(stacks.values()) or 1
    alone: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for stack, samples in stacks.items():
        functions = [frame.rpartition(":")[0] + ")" for frame in stack]
        alone[functions[-1]] += samples
        for function in set(functions):
            whole[function] += samples
    lines = [f"{total} samples", "", "  alone   whole  function"]
    lines += _rows(alone.most_common(count), alone, whole, total)
    lines += ["", "  alone   whole  function, by the whole"]
    lines += _rows(whole.most_common(count), alone, whole, total)
    return "\n".join(lines) + "\n"


def _rows(
    chosen: Iterable[tuple[str, int]], alone: Counter[str], whole: Counter[str], total: int
) -> list[str]:
    return [
        f"{100 * alone[name] / total:6.1f}% {100 * whole[name] / total:6.1f}%  {name}"
        for name, _ in chosen
    ]


def main() -> None:
    """Run `tally` with our arguments, sampled."""
    folder = Path(sys.argv[sys.argv.index("--home") + 1])
    sampler = Sampler()
    sampler.start()
    try:
        tally()
    finally:
        sampler.stop()
        (folder / STACKS_FILE).write_text(folded(sampler.stacks), "utf-8")
        (folder / TOP_FILE).write_text(top(sampler.stacks), "utf-8")


if __name__ == "__main__":
    main()
