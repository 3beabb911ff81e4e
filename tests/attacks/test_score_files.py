"""What a disk can do to the score tables, and what a node must then not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.reputation.score_tree import (
    InvalidScoreProof,
    InvalidScoreTable,
    Score,
    ScoreTable,
    build,
    verify_score_proof,
)
from ledger.trace import TraceEvent
from node.scores import ScoreKeeper
from node.trace import ScoreTableDamaged

EPOCH = 4


def address(number: int) -> bytes:
    return b"\x02" + number.to_bytes(32, "big")


SCORES = [
    Score(address(10 * place), EPOCH, 2**30 - place, 60_000, 2**29 - place, place, 3, 0)
    for place in range(1, 14)
]
BLOB = build(EPOCH, SCORES)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"TALLY",
        BLOB[:-1],
        BLOB + b"\0",
        BLOB[: len(BLOB) // 2],
        bytes(len(BLOB)),
        build(EPOCH + 1, [score._replace(epoch=EPOCH + 1) for score in SCORES]),
        BLOB[:16] + b"\xff\xff\xff\xff" + BLOB[20:],
    ],
)
def test_a_file_that_is_no_whole_table_is_put_aside(tmp_path: Path, content: bytes) -> None:
    # A power cut, a full disk, a backup of another day. The node lives on and says that it does not
    # hold the scores; it neither dies of the file at every start nor answers from it.
    events: list[TraceEvent] = []
    (tmp_path / f"epoch-{EPOCH}.scores").write_bytes(content)
    keeper = ScoreKeeper(tmp_path, events.append)
    assert keeper.table(EPOCH) is None
    assert keeper.table(EPOCH) is None
    (event,) = events
    assert isinstance(event, ScoreTableDamaged)
    assert event.epoch == EPOCH
    assert (tmp_path / f"epoch-{EPOCH}.damaged").read_bytes() == content
    keeper.forget_before(EPOCH + 1)
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_was_deleted_is_not_held(tmp_path: Path) -> None:
    (tmp_path / f"epoch-{EPOCH}.scores").write_bytes(BLOB)
    keeper = ScoreKeeper(tmp_path)
    table = keeper.table(EPOCH)
    assert table is not None
    (tmp_path / f"epoch-{EPOCH}.scores").unlink()
    assert table.lookup(SCORES[0].address) == SCORES[0], "what is mapped goes on"
    assert ScoreKeeper(tmp_path).table(EPOCH) is None


def test_foreign_files_in_the_folder_harm_nobody(tmp_path: Path) -> None:
    for name in ("epoch-.scores", "epoch-x.scores", "epoch-²3.scores", "epoch-3.scores"):
        (tmp_path / name).write_bytes(b"")
    ScoreKeeper(tmp_path).forget_before(100)
    assert not (tmp_path / "epoch-3.scores").exists()


def test_no_flipped_bit_of_a_table_becomes_a_wrong_answer() -> None:
    # Every second byte in turn is damaged. A node answers as before, or not at all; it never says
    # that a peer has another score, or none, and what it proves leads to the committed root.
    true = ScoreTable(BLOB)
    asked = [SCORES[0].address, SCORES[6].address, SCORES[-1].address, address(35), address(999)]
    answers = [true.lookup(each) for each in asked]
    ranking = true.top(20)
    silent = 0
    for place in range(0, len(BLOB), 2):
        bent = bytearray(BLOB)
        bent[place] ^= 0x10
        try:
            table = ScoreTable(bytes(bent))
        except InvalidScoreTable:
            continue
        if table.commitment != true.commitment:
            continue  # the node compares this with the state before it uses the table
        for each, answer in zip(asked, answers, strict=True):
            try:
                assert table.lookup(each) == answer, place
                assert verify_score_proof(true.commitment, each, table.prove(each)) == answer
            except (InvalidScoreTable, InvalidScoreProof):
                silent += 1
        try:
            assert table.top(20) == ranking, place
        except InvalidScoreTable:
            silent += 1
    assert silent > len(BLOB) / 8
