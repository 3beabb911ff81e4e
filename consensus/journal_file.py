"""The journal on disk: appends that survive power loss, many for one fsync.

One of the room's named exceptions from purity. The format is that of `consensus.journal`.

A single worker thread owns the file. The event loop queues records and returns; the worker takes
all that wait, writes them with one call, makes them durable with one fdatasync, and reports the
last sequence number back into the loop. While it syncs, further records gather for the next turn
(group commit), so that the number of fsyncs follows the disk and not the number of votes.

The file is replaced, never rewritten in place: written aside, synced, renamed over the old one, and
the folder synced, so that after a power loss either version stands whole. Opening does this too.
What a killed process wrote may still be in the page cache only, and records must be durable before
the engine repeats the votes in them; and a torn tail is gone by the same step.

After any I/O error the worker writes nothing more. A failed fsync may have dropped the very pages
it was to write and report success the next time (Rebello et al., "Can Applications Recover from
fsync Failures?", USENIX ATC 2020), so trying again would lie. The node stops.

A lock on a file beside the journal keeps a second process out: two with one key would vote against
each other.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from consensus.errors import JournalFailed, JournalInUse
from consensus.journal import JournalTag, begin_journal, scan

# An engine has a handful of votes under way at a time; more waiting than this is a defect.
QUEUE_LIMIT_RECORDS = 1_024

# fdatasync leaves out what is not needed to read the data back (times). macOS has no such call.
_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


@dataclass(frozen=True, slots=True)
class _Append:
    sequence: int
    record: bytes


@dataclass(frozen=True, slots=True)
class _Reset:
    records: tuple[bytes, ...]


class JournalFile:
    """See the module. Implements consensus.ports.JournalWriter.

    Open it, hand `records` to the replica, then `start`. `append` and `reset` are called from the
    event loop's thread only.
    """

    def __init__(self, path: Path, tag: JournalTag) -> None:
        """Open or create the journal. Blocks for a few fsyncs.

        Raises JournalInUse, WrongJournal, JournalDamaged or JournalFailed.
        """
        self.path = path
        self.torn_bytes = 0
        self.records: tuple[bytes, ...] = ()
        self._tag = tag
        self._condition = threading.Condition()
        self._queue: deque[_Append | _Reset] = deque()
        self._closing = False
        self._failed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._on_durable: Callable[[int], None] | None = None
        self._on_failure: Callable[[JournalFailed], None] | None = None
        self._descriptor = -1
        self._lock_descriptor = _lock(path)
        try:
            found = scan(path.read_bytes() if path.exists() else b"", tag)
            self.records = found.records
            self.torn_bytes = found.torn_bytes
            self._replace(found.records)
        except OSError as error:
            self._close_files()
            raise JournalFailed(str(path), error) from error
        except BaseException:
            self._close_files()
            raise

    # ---- the event loop's side -------------------------------------------------------------------

    def start(
        self,
        *,
        on_durable: Callable[[int], None],
        on_failure: Callable[[JournalFailed], None],
    ) -> None:
        """Begin to write. Both are called in the event loop that runs now."""
        assert self._thread is None
        self._loop = asyncio.get_running_loop()
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def append(self, sequence: int, record: bytes) -> None:
        """Queue a record; reported by `on_durable` once it would survive a power loss."""
        self._put(_Append(sequence, record))

    def reset(self, records: tuple[bytes, ...]) -> None:
        """Queue the replacement of the whole journal by these records."""
        self._put(_Reset(records))

    async def close(self) -> None:
        """Write what is queued, then close the file and free the lock."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
            self._thread = None
        self._close_files()

    def _put(self, item: _Append | _Reset) -> None:
        with self._condition:
            assert not self._closing, "the journal is closed"
            if self._failed:
                # The node is being stopped; nothing is reported durable any more.
                return
            assert len(self._queue) < QUEUE_LIMIT_RECORDS, "records arrive faster than is possible"
            self._queue.append(item)
            self._condition.notify()

    # ---- the worker's side -----------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: bool(self._queue) or self._closing)
                items = list(self._queue)
                self._queue.clear()
            if not items:
                return
            try:
                last = self._carry_out(items)
            except OSError as error:
                with self._condition:
                    self._failed = True
                self._report(self._on_failure, JournalFailed(str(self.path), error))
                return
            if last is not None:
                self._report(self._on_durable, last)

    def _carry_out(self, items: list[_Append | _Reset]) -> int | None:
        """Do what was queued, in order; the last sequence number that is durable now."""
        last: int | None = None
        frames: list[bytes] = []
        for item in items:
            if isinstance(item, _Append):
                frames.append(self._chain.frame(item.record))
                last = item.sequence
            else:
                self._write(frames)
                frames = []
                self._replace(item.records)
        self._write(frames)
        return last

    def _write(self, frames: list[bytes]) -> None:
        if frames:
            _write_all(self._descriptor, b"".join(frames))
            _sync_data(self._descriptor)

    def _replace(self, records: tuple[bytes, ...]) -> None:
        content, chain = begin_journal(self._tag, records)
        aside = self.path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(aside, flags, 0o600)
        try:
            _write_all(descriptor, content)
            os.fsync(descriptor)
            aside.replace(self.path)
            _sync_folder(self.path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._chain = chain

    def _report(self, callback: Callable[..., None] | None, fact: int | JournalFailed) -> None:
        assert self._loop is not None
        assert callback is not None
        try:
            self._loop.call_soon_threadsafe(callback, fact)
        except RuntimeError:
            # The loop is closed: nobody is left to tell, and the record is durable all the same.
            assert self._loop.is_closed()

    def _close_files(self) -> None:
        for descriptor in (self._descriptor, self._lock_descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock_descriptor = -1


def put_aside(path: Path) -> Path:
    """Rename a damaged journal so that it stays for inspection; its new path."""
    number = 1
    while (aside := path.with_suffix(f".damaged-{number}")).exists():
        number += 1
    path.rename(aside)
    _sync_folder(path.parent)
    return aside


def _lock(path: Path) -> int:
    """The descriptor that holds the lock. Raises JournalInUse or JournalFailed."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path.with_suffix(".lock"), flags, 0o600)
    except OSError as error:
        raise JournalFailed(str(path), error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise JournalInUse(str(path)) from error
    return descriptor


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
