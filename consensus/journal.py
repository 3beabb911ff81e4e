"""The journal: what a validator must not forget, and the guard that reads it.

A validator that forgets a vote in a crash may cast the opposite one afterwards, and then the
safety of the whole network rests on one validator fewer. So no vote leaves before the record that
carries it is durable. This module is the pure half: bytes in, records out, and the guard.
`consensus.journal_file` owns the file.

Format. Integers are little-endian; the file only grows at its end.

    header  64 bytes   "TALLYWAL" ‖ version u32 ‖ engine name (16, zero padded) ‖ genesis hash (32)
                       ‖ CRC-32 of the preceding 60 bytes
    frame   13 + n     length n u32 ‖ head CRC u32 ‖ body CRC u32 ‖ record (n bytes) ‖ 0xA5

The checksums form a chain: the head CRC continues from the body CRC of the frame before (of the
first frame: from the header's) over the length; the body CRC continues from the head CRC over the
record. A frame is only valid behind the very bytes it was written behind, so leftovers of an
earlier file or a lost frame in the middle are seen.

What a scan may find behind the last good frame:

    nothing            the usual case
    a torn tail        the file ends inside a frame, or the frame and all behind it end in zeros
                       before its end mark. Both are what a power loss leaves of a write that nobody
                       was told is durable. It is cut off without a word.
    anything else      damage: a complete frame with a wrong checksum, a zeroed frame with data
                       behind it. Something that was reported durable may be lost, so the validator
                       must not vote from this journal. JournalDamaged; the file is put aside, and
                       the node follows as an observer until it is safe.

The separate head CRC and the end mark are there for this distinction. Without the first, one
flipped bit in a length makes a complete record look as if the file ended inside it. Without the
second, a damaged record that happens to end in zeros looks like a write that did not finish.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

from consensus.errors import ConsensusError, JournalDamaged, WrongJournal
from ledger.block import BLOCK_HARD_LIMIT_BYTES
from ledger.certificate import CERTIFICATE_LIMIT_BYTES, Vote

JOURNAL_VERSION = 1

# The largest record carries a whole block, the certificate that it is prepared, and a new round's
# justification (one VIEW-CHANGE of about 120 bytes per validator).
RECORD_LIMIT_BYTES = BLOCK_HARD_LIMIT_BYTES + 8 * CERTIFICATE_LIMIT_BYTES

_MAGIC = b"TALLYWAL"
_HEADER = struct.Struct("<8sI16s32s")
_U32 = struct.Struct("<I")
_HEAD = struct.Struct("<III")
_END_MARK = 0xA5
HEADER_BYTES = _HEADER.size + 4


@dataclass(frozen=True, slots=True)
class JournalTag:
    """Whose journal it is: the engine's mode and the network's genesis hash (32 bytes)."""

    engine: str
    genesis_hash: bytes

    def header(self) -> bytes:
        """The 64 bytes that begin the file."""
        fixed = _HEADER.pack(
            _MAGIC, JOURNAL_VERSION, self.engine.encode("ascii"), self.genesis_hash
        )
        return fixed + _U32.pack(crc32(fixed))


class FrameChain:
    """Makes frames, each chained to the one before. Starts behind the header, or behind a scan."""

    __slots__ = ("checksum",)

    def __init__(self, checksum: int) -> None:
        self.checksum = checksum

    @classmethod
    def behind_header(cls, tag: JournalTag) -> FrameChain:
        """The chain of an empty journal."""
        return cls(_U32.unpack(tag.header()[-4:])[0])

    def frame(self, record: bytes) -> bytes:
        """The next frame. The chain advances: the caller appends it or gives up the file."""
        assert 0 < len(record) <= RECORD_LIMIT_BYTES, f"record of {len(record)} bytes"
        head = crc32(_U32.pack(len(record)), self.checksum)
        body = crc32(record, head)
        self.checksum = body
        return b"".join((_HEAD.pack(len(record), head, body), record, bytes((_END_MARK,))))


def encode_journal(tag: JournalTag, records: Iterable[bytes]) -> bytes:
    """A whole journal file with these records."""
    return begin_journal(tag, records)[0]


def begin_journal(tag: JournalTag, records: Iterable[bytes]) -> tuple[bytes, FrameChain]:
    """As encode_journal, with the chain to append behind it."""
    chain = FrameChain.behind_header(tag)
    return tag.header() + b"".join([chain.frame(record) for record in records]), chain


@dataclass(frozen=True, slots=True)
class Scan:
    """What a file holds. `size_bytes` of it are good, 0 when even the header must be written;
    `torn_bytes` behind them are to be cut off; `checksum` continues the chain."""

    records: tuple[bytes, ...]
    size_bytes: int
    torn_bytes: int
    checksum: int

    def chain(self) -> FrameChain:
        """The chain behind the last good frame."""
        return FrameChain(self.checksum)


def scan(content: bytes, tag: JournalTag) -> Scan:
    """Read a journal. Raises WrongJournal or JournalDamaged, see the module."""
    header = tag.header()
    # Everything behind this is zero; what reaches past it was not written to its end.
    written_bytes = len(content.rstrip(b"\0"))
    if written_bytes < HEADER_BYTES:
        if not header.startswith(content[:written_bytes]):
            raise JournalDamaged(0, f"{len(content)} bytes that begin no journal")
        return Scan((), 0, len(content), FrameChain.behind_header(tag).checksum)
    _check_header(content[:HEADER_BYTES], tag)
    view = memoryview(content)
    records: list[bytes] = []
    offset = HEADER_BYTES
    checksum = FrameChain.behind_header(tag).checksum
    while offset < written_bytes:
        end = _frame_end(view, offset, written_bytes, checksum)
        if end is None:
            break
        record = bytes(view[offset + _HEAD.size : end - 1])
        _, head, body = _HEAD.unpack_from(view, offset)
        if crc32(record, head) != body:
            raise JournalDamaged(offset, "the record's checksum is wrong")
        records.append(record)
        checksum = body
        offset = end
    return Scan(tuple(records), offset, len(content) - offset, checksum)


def _frame_end(view: memoryview, offset: int, written_bytes: int, checksum: int) -> int | None:
    """Where the frame at `offset` ends; None when it is torn. Raises JournalDamaged."""
    if written_bytes - offset < _HEAD.size:
        # What was written ends inside the frame's head, by the end of the file or in zeros.
        return None
    length, head, _ = _HEAD.unpack_from(view, offset)
    if crc32(_U32.pack(length), checksum) != head:
        raise JournalDamaged(offset, "the checksum of the record's length is wrong")
    if not 0 < length <= RECORD_LIMIT_BYTES:
        raise JournalDamaged(offset, f"a record of {length} bytes")
    end: int = offset + _HEAD.size + length + 1
    if end > written_bytes:
        return None
    if view[end - 1] != _END_MARK:
        raise JournalDamaged(offset, "the record's end mark is wrong")
    return end


def _check_header(header: bytes, tag: JournalTag) -> None:
    if crc32(header[:-4]) != _U32.unpack(header[-4:])[0]:
        raise JournalDamaged(0, "the header's checksum is wrong")
    magic, version, engine, genesis_hash = _HEADER.unpack(header[:-4])
    if magic != _MAGIC:
        raise WrongJournal("the file is no journal")
    if version != JOURNAL_VERSION:
        raise WrongJournal(f"version {version}, this program writes {JOURNAL_VERSION}")
    if engine.rstrip(b"\0") != tag.engine.encode("ascii"):
        raise WrongJournal(f"of engine {engine.rstrip(bytes(1))!r}, not {tag.engine!r}")
    if genesis_hash != tag.genesis_hash:
        raise WrongJournal(f"of network {genesis_hash.hex()}, not {tag.genesis_hash.hex()}")


# ---- the guard ----------------------------------------------------------------------------------

# Votes that an engine may ask for again are those of the height and round it is in; four types in
# two rounds, and room for the same of a Raft term.
REMEMBERED_VOTES_COUNT = 16


class SigningForbidden(ConsensusError):
    """A vote that would contradict an earlier one is not signed."""


class DoubleSignGuard:
    """One vote at each place, and places only ascend.

    Places of PBFT are ordered (height, round, VIEW-CHANGE < PRE-PREPARE < PREPARE < COMMIT), those
    of Raft (term, height). A vote for a place above every earlier one is admitted; the very vote
    that holds a place gets the very signature it has; anything else is refused. The memory is
    rebuilt from the journal by `remember`.
    """

    def __init__(self) -> None:
        self._highest: dict[str, tuple[int, int, int]] = {}
        self._admitted: OrderedDict[Vote, None] = OrderedDict()
        self._votes: OrderedDict[Vote, bytes] = OrderedDict()

    def remember(self, vote: Vote, signature: bytes) -> None:
        """The vote is in the journal, or about to be."""
        place = _place(vote)
        if place >= self._highest.get(vote.mode, place):
            self._highest[vote.mode] = place
        self._votes[vote] = signature
        if len(self._votes) > REMEMBERED_VOTES_COUNT:
            self._votes.popitem(last=False)

    def admit(self, vote: Vote) -> bytes | None:
        """The signature the vote already has, or None: it may be signed now.

        An admitted vote takes its place at once, so that two requests cannot race; asking for it
        again before it is remembered is fine. Raises SigningForbidden.
        """
        signature = self._votes.get(vote)
        if signature is not None:
            return signature
        if vote in self._admitted:
            return None
        place = _place(vote)
        highest = self._highest.get(vote.mode)
        if highest is not None and place <= highest:
            raise SigningForbidden(f"{vote.mode} vote at {place}, voted up to {highest}")
        self._highest[vote.mode] = place
        self._admitted[vote] = None
        if len(self._admitted) > REMEMBERED_VOTES_COUNT:
            self._admitted.popitem(last=False)
        return None


def _place(vote: Vote) -> tuple[int, int, int]:
    if vote.mode == "raft":
        return (vote.round, vote.height, vote.type)
    return (vote.height, vote.round, vote.type)
