"""A virtual disk for the journal, with the promises of a real one and no more.

An append is a write into the page cache. An fsync covers the writes issued before it began; it
takes time, one runs at a time, and appends made meanwhile wait for the next (group commit). When
the power goes, everything that an fsync covered is there; of the rest a random prefix is, and the
record at its end may be torn: cut in its middle, or its place filled with zeros.

The bytes are those of the production format (consensus.journal), written and scanned by the
production code.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from consensus.errors import JournalDamaged
from consensus.journal import FrameChain, JournalTag, encode_journal, scan
from node.simulation.schedule import MS, Handle, Schedule

FSYNC_MIN_US = 1 * MS
FSYNC_MAX_US = 6 * MS


class JournalDisk:
    """The journal file of one machine. Outlives the process.

    `on_durable(sequence)` is called when an fsync completed, with the last sequence it covered.
    """

    def __init__(self, schedule: Schedule, random_stream: random.Random, tag: JournalTag) -> None:
        self.durable = bytearray()
        self.slowdown_ms = 0
        self.on_durable: Callable[[int], None] | None = None
        self._schedule = schedule
        self._random = random_stream
        self._tag = tag
        self._chain = FrameChain.behind_header(tag)
        self._unsynced: list[tuple[int, bytes]] = []
        self._covered = 0
        self._fsync: Handle | None = None

    def open(self) -> tuple[bytes, ...]:
        """Read the records as a process starts; cut off a torn tail. Raises ConsensusError."""
        found = scan(bytes(self.durable), self._tag)
        if found.size_bytes:
            del self.durable[found.size_bytes :]
        else:
            self.durable = bytearray(self._tag.header())
        self._chain = found.chain()
        return found.records

    def peek(self) -> tuple[bytes, ...]:
        """The records a process would find; none where the file is damaged."""
        try:
            return scan(bytes(self.durable), self._tag).records
        except JournalDamaged:
            return ()

    def lose(self) -> None:
        """The file is gone, or put aside."""
        self.durable = bytearray()

    def damage(self) -> None:
        """Flip one bit in the middle of what is durable."""
        if self.durable:
            place = self._random.randrange(len(self.durable))
            self.durable[place] ^= 1 << self._random.randrange(8)

    def append(self, sequence: int, record: bytes) -> None:
        """Append one record; durable some time later."""
        self._unsynced.append((sequence, self._chain.frame(record)))
        if self._fsync is None:
            self._begin_fsync()

    def reset(self, records: tuple[bytes, ...]) -> None:
        """Replace the whole file: written aside, synced, renamed, so that either version stands."""
        assert not self._unsynced, "a record that is not durable would be lost"
        self.durable = bytearray(encode_journal(self._tag, records))
        self._chain = scan(bytes(self.durable), self._tag).chain()

    def lose_power(self) -> None:
        """Keep what is durable, and as much of the rest as chance allows."""
        kept = self._random.randint(0, len(self._unsynced))
        for _, frame in self._unsynced[:kept]:
            self.durable += frame
        if kept < len(self._unsynced):
            torn = self._unsynced[kept][1]
            length = self._random.randrange(len(torn))
            match self._random.randrange(3):
                case 0:
                    self.durable += torn[:length]
                case 1:
                    self.durable += bytes(length)
                case _:
                    pass
        self._forget_unsynced()
        self.on_durable = None

    def _forget_unsynced(self) -> None:
        self._unsynced.clear()
        self._covered = 0
        if self._fsync is not None:
            self._fsync.cancel()
            self._fsync = None

    def delay_us(self) -> int:
        """What slowness adds to an fsync on this machine."""
        return self._random.randint(0, self.slowdown_ms * MS) if self.slowdown_ms else 0

    def _begin_fsync(self) -> None:
        self._covered = len(self._unsynced)
        duration_us = self._random.randint(FSYNC_MIN_US, FSYNC_MAX_US) + self.delay_us()
        self._fsync = self._schedule.after(duration_us, self._end_fsync)

    def _end_fsync(self) -> None:
        covered, self._covered = self._covered, 0
        self._fsync = None
        for _, frame in self._unsynced[:covered]:
            self.durable += frame
        sequence = self._unsynced[covered - 1][0]
        del self._unsynced[:covered]
        if self._unsynced:
            self._begin_fsync()
        if self.on_durable is not None:
            self.on_durable(sequence)
