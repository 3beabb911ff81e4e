"""The journal's bytes: whatever a power loss or a bad disk does to them is told apart."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consensus.errors import JournalDamaged, WrongJournal
from consensus.journal import (
    HEADER_BYTES,
    JOURNAL_VERSION,
    FrameChain,
    JournalTag,
    encode_journal,
    scan,
)

TAG = JournalTag("pbft", bytes(range(32)))

# Records that end in zeros, or are nothing else, look most like a tail that was never written.
records = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=60),
        st.integers(1, 40).map(bytes),
        st.binary(min_size=1, max_size=20).map(lambda head: head + bytes(12)),
    ),
    max_size=6,
).map(tuple)


def frame_starts(written: tuple[bytes, ...]) -> list[int]:
    """Where each frame begins, and where the last one ends."""
    starts = [HEADER_BYTES]
    for record in written:
        starts.append(starts[-1] + 13 + len(record))
    return starts


@given(records)
def test_what_is_written_is_read(written: tuple[bytes, ...]) -> None:
    content = encode_journal(TAG, written)
    found = scan(content, TAG)
    assert found.records == written
    assert (found.size_bytes, found.torn_bytes) == (len(content), 0)
    # Appending goes on where the scan ended.
    chain = found.chain()
    longer = content + chain.frame(b"next")
    assert scan(longer, TAG).records == (*written, b"next")


@given(records, st.data())
def test_a_file_cut_anywhere_gives_the_records_before_the_cut(
    written: tuple[bytes, ...], data: st.DataObject
) -> None:
    content = encode_journal(TAG, written)
    cut = data.draw(st.integers(0, len(content)))
    found = scan(content[:cut], TAG)
    whole = sum(start <= cut for start in frame_starts(written)[1:])
    assert found.records == written[:whole]
    assert found.size_bytes + found.torn_bytes == cut
    # What is left after the cut is a journal that goes on.
    if found.size_bytes:
        again = content[: found.size_bytes] + found.chain().frame(b"next")
        assert scan(again, TAG).records == (*written[:whole], b"next")


@given(records, st.integers(0, 5_000), st.data())
def test_a_tail_of_zeros_is_cut_off(
    written: tuple[bytes, ...], further: int, data: st.DataObject
) -> None:
    content = encode_journal(TAG, written)
    cut = data.draw(st.integers(0, len(content)))
    zeroed = content[:cut] + bytes(len(content) - cut + further)
    found = scan(zeroed, TAG)
    whole = sum(start <= cut for start in frame_starts(written)[1:])
    assert found.records == written[:whole]


@given(records.filter(bool), st.data())
@example((bytes(10),), None)
def test_any_flipped_bit_is_seen(written: tuple[bytes, ...], data: st.DataObject | None) -> None:
    content = encode_journal(TAG, written)
    places = (
        range(8 * len(content))
        if data is None
        else [data.draw(st.integers(0, 8 * len(content) - 1))]
    )
    for place in places:
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises((JournalDamaged, WrongJournal)) as caught:
            scan(bytes(damaged), TAG)
        if isinstance(caught.value, JournalDamaged):
            starts = [0, *frame_starts(written)]
            frame = max(start for start in starts if start <= place // 8)
            assert caught.value.offset_bytes == frame


@given(records.filter(lambda written: len(written) > 1), st.data())
def test_a_lost_or_repeated_record_in_the_middle_is_damage(
    written: tuple[bytes, ...], data: st.DataObject
) -> None:
    content = encode_journal(TAG, written)
    starts = frame_starts(written)
    which = data.draw(st.integers(0, len(written) - 2))
    before, middle, behind = (
        content[: starts[which]],
        content[starts[which] : starts[which + 1]],
        content[starts[which + 1] :],
    )
    for broken in (before + behind, before + middle + middle + behind):
        with pytest.raises(JournalDamaged):
            scan(broken, TAG)
    with pytest.raises(JournalDamaged):
        scan(before + bytes(len(middle)) + behind, TAG)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_pass_for_records(content: bytes) -> None:
    try:
        found = scan(content, TAG)
    except (JournalDamaged, WrongJournal):
        return
    assert found.records == ()
    assert not content.strip(b"\0") or TAG.header().startswith(content.rstrip(b"\0"))


@pytest.mark.parametrize(
    "other", [JournalTag("raft", TAG.genesis_hash), JournalTag("pbft", bytes(32))]
)
def test_a_journal_of_something_else_is_refused(other: JournalTag) -> None:
    with pytest.raises(WrongJournal):
        scan(encode_journal(other, [b"x"]), TAG)


def test_a_journal_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.journal.JOURNAL_VERSION", JOURNAL_VERSION + 1)
    later = encode_journal(TAG, [b"x"])
    monkeypatch.undo()
    with pytest.raises(WrongJournal, match="version"):
        scan(later, TAG)


def test_leftovers_of_an_earlier_file_are_damage() -> None:
    # A frame is valid only behind the bytes it was written behind.
    first = FrameChain.behind_header(TAG)
    first.frame(b"earlier")
    leftover = first.frame(b"left over")
    with pytest.raises(JournalDamaged):
        scan(encode_journal(TAG, [b"another"]) + leftover, TAG)
