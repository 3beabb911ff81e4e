"""The journal on disk: what was reported durable is there after any end of the process."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

import consensus.journal_file as module
from consensus.errors import JournalDamaged, JournalFailed, JournalInUse, WrongJournal
from consensus.journal import JournalTag, encode_journal, scan
from consensus.journal_file import JournalFile, put_aside

TAG = JournalTag("pbft", bytes(range(32)))


class Ears:
    """Collects what a journal reports."""

    def __init__(self) -> None:
        self.durable: list[int] = []
        self.failures: list[JournalFailed] = []
        self.heard = asyncio.Event()

    def on_durable(self, sequence: int) -> None:
        self.durable.append(sequence)
        self.heard.set()

    def on_failure(self, failure: JournalFailed) -> None:
        self.failures.append(failure)
        self.heard.set()

    async def until(self, sequence: int) -> None:
        async with asyncio.timeout(10):
            while not self.durable or self.durable[-1] < sequence:
                self.heard.clear()
                await self.heard.wait()

    async def until_failure(self) -> JournalFailed:
        async with asyncio.timeout(10):
            while not self.failures:
                self.heard.clear()
                await self.heard.wait()
        return self.failures[0]


def begin(path: Path) -> tuple[JournalFile, Ears]:
    journal = JournalFile(path, TAG)
    ears = Ears()
    journal.start(on_durable=ears.on_durable, on_failure=ears.on_failure)
    return journal, ears


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


async def test_records_are_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal, ears = begin(path)
    journal.append(1, b"one")
    journal.append(2, b"two")
    await ears.until(2)
    # Durable means in the file, not in this process.
    assert scan(path.read_bytes(), TAG).records == (b"one", b"two")
    await journal.close()
    journal, ears = begin(path)
    assert journal.records == (b"one", b"two")
    journal.append(1, b"three")
    await ears.until(1)
    await journal.close()
    assert scan(path.read_bytes(), TAG).records == (b"one", b"two", b"three")


async def test_close_writes_what_is_queued(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal, _ = begin(path)
    for sequence in range(1, 50):
        journal.append(sequence, b"%d" % sequence)
    await journal.close()
    assert len(scan(path.read_bytes(), TAG).records) == 49


async def test_records_that_wait_share_one_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = threading.Event(), threading.Event()
    syncs = []

    def slow_sync(descriptor: int) -> None:
        syncs.append(descriptor)
        entered.set()
        assert go.wait(10)
        os.fsync(descriptor)

    monkeypatch.setattr(module, "_sync_data", slow_sync)
    journal, ears = begin(tmp_path / "journal")
    journal.append(1, b"first")
    assert entered.wait(10)
    for sequence in range(2, 12):
        journal.append(sequence, b"behind it")
    assert ears.durable == []
    go.set()
    await ears.until(11)
    assert ears.durable == [1, 11]
    assert len(syncs) == 2
    await journal.close()


async def test_reset_replaces_and_appends_go_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal, ears = begin(path)
    journal.append(1, b"old")
    journal.append(2, b"kept")
    journal.reset((b"kept",))
    journal.append(3, b"new")
    await ears.until(3)
    assert scan(path.read_bytes(), TAG).records == (b"kept", b"new")
    await journal.close()
    assert names_in(tmp_path) == ["journal", "journal.lock"]


async def test_a_torn_tail_is_cut_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    whole = encode_journal(TAG, [b"kept", b"torn away"])
    path.write_bytes(whole[:-4])
    journal, ears = begin(path)
    assert journal.records == (b"kept",)
    assert journal.torn_bytes > 0
    journal.append(1, b"next")
    await ears.until(1)
    await journal.close()
    assert scan(path.read_bytes(), TAG).records == (b"kept", b"next")


def test_damage_is_refused_and_left_for_inspection(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    content = bytearray(encode_journal(TAG, [b"first", b"second"]))
    content[80] ^= 1
    path.write_bytes(content)
    with pytest.raises(JournalDamaged):
        JournalFile(path, TAG)
    assert path.read_bytes() == content
    aside = put_aside(path)
    assert aside.read_bytes() == content
    assert not path.exists()


def test_another_networks_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(encode_journal(JournalTag("pbft", bytes(32)), [b"x"]))
    with pytest.raises(WrongJournal):
        JournalFile(path, TAG)
    # The lock was given back: the right network's program may open it.
    with pytest.raises(WrongJournal):
        JournalFile(path, TAG)


async def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    journal, _ = begin(tmp_path / "journal")
    with pytest.raises(JournalInUse):
        JournalFile(tmp_path / "journal", TAG)
    await journal.close()
    again, _ = begin(tmp_path / "journal")
    await again.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_a_failing_disk_stops_all_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "journal"
    journal, ears = begin(path)
    journal.append(1, b"good")
    await ears.until(1)

    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "_sync_data", fail)
    journal.append(2, b"never reported")
    failure = await ears.until_failure()
    assert failure.errno == number
    assert str(path) in str(failure)
    monkeypatch.undo()
    size_bytes = path.stat().st_size
    journal.append(3, b"never written")
    await journal.close()
    assert ears.durable == [1]
    assert path.stat().st_size == size_bytes


async def test_a_failing_disk_on_opening_is_an_environment_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(JournalFailed):
        JournalFile(tmp_path / "journal", TAG)
    monkeypatch.undo()
    journal, _ = begin(tmp_path / "journal")
    await journal.close()
