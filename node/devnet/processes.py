"""Validator processes: started in sessions of their own, found by their homes' locks.

Signals go only to a pid that holds the lock of one of our homes at that moment, so a stale file or
a reused pid can never hit another program.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import node
from node.devnet.state import DevnetError, ValidatorFacts

# A node closes its store and links within a second or two; a busy machine may take longer.
STOP_TIMEOUT_S = 15.0
_POLL_S = 0.05

# A log beyond this is moved aside at the next start; one older file is kept.
LOG_LIMIT_BYTES = 64 << 20

LOG_TAIL_LINES = 20


@dataclass(frozen=True, slots=True)
class Process:
    """A validator's process that we started, and where its own part of the log begins."""

    validator: ValidatorFacts
    popen: subprocess.Popen[bytes]
    log_start_bytes: int

    def check(self) -> None:
        """Raise DevnetError with its last words if it has ended."""
        code = self.popen.poll()
        if code is None:
            return
        with self.validator.log.open("rb") as file:
            file.seek(self.log_start_bytes)
            said = file.read().decode(errors="replace").splitlines()
        lines = "\n".join(f"    {line}" for line in said[-LOG_TAIL_LINES:])
        raise DevnetError(
            f"validator {self.validator.number} ended with exit code {code}; it said:\n{lines}",
            f"the whole log: {self.validator.log}",
        )


def start(validator: ValidatorFacts, module: str = "node.cli") -> Process:
    """Start a validator; it logs to its own file and outlives us unless it is stopped.

    `module` takes the command's arguments: another one may watch while it runs the same program.
    """
    log = validator.log
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    command = [sys.executable, "-m", module, "start", "--home", validator.home]
    with log.open("ab") as output:
        popen = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=validator.home,
            env=_environment(),
            start_new_session=True,
        )
        return Process(validator, popen, output.tell())


def stop(validators: Iterable[ValidatorFacts], timeout_s: float = STOP_TIMEOUT_S) -> list[int]:
    """End the running ones: SIGTERM, and SIGKILL after the time-out. The numbers that were killed.

    Blocks until all are gone.
    """
    waiting = [each for each in validators if send_signal(each, signal.SIGTERM)]
    deadline = time.monotonic() + timeout_s
    while waiting and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        waiting = [each for each in waiting if each.pid is not None]
    killed = [each.number for each in waiting if send_signal(each, signal.SIGKILL)]
    while any(each.pid is not None for each in waiting):
        time.sleep(_POLL_S)
    return killed


def kill(validator: ValidatorFacts) -> bool:
    """SIGKILL, as a crash would be. Whether it ran."""
    ran = send_signal(validator, signal.SIGKILL)
    while ran and validator.pid is not None:
        time.sleep(_POLL_S)
    return ran


def send_signal(validator: ValidatorFacts, number: signal.Signals) -> bool:
    """Signal the process that holds the validator's home. Whether there is one."""
    pid = validator.pid
    if pid is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def tail(path: Path, count: int = LOG_TAIL_LINES) -> list[str]:
    """The last lines of a log."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=count)]


def _environment() -> dict[str, str]:
    """Ours without what is meant for us: settings of this shell must not reach the nodes."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TALLY_") and name not in ("PYTHONOPTIMIZE", "CREDENTIALS_DIRECTORY")
    }
    # The packages also when they are not installed but run from their source folder.
    source = str(Path(node.__file__).resolve().parents[1])
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (source, kept.get("PYTHONPATH"))))
    # Four nodes share the machine's cores already.
    kept.setdefault("OPENBLAS_NUM_THREADS", "1")
    return kept
