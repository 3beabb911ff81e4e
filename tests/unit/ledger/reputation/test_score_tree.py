"""The score file and its proofs: what is written is found, and nothing else can be proven."""

import pytest

from ledger import merkle
from ledger.codec import encode
from ledger.errors import InvalidData, MalformedData
from ledger.reputation import score_tree
from ledger.reputation.score_tree import (
    InvalidScoreProof,
    InvalidScoreTable,
    Score,
    ScoreCommitment,
    ScoreProof,
    ScoreTable,
    score_proof_codec,
    verify_score_proof,
)

EPOCH = 3
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 33]


def address(number: int) -> bytes:
    return b"\x02" + number.to_bytes(32, "big")


def leaves(count: int) -> list[Score]:
    """Addresses 10, 20, ...; the rank order is the reverse of the address order."""
    return [
        Score(address(10 * n), EPOCH, 1_000 + n, 65_536, 900 + n, count + 1 - n, n, 0)
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("count", [0, *SIZES])
def test_the_table_gives_back_what_was_built(count: int) -> None:
    scores = leaves(count)
    table = ScoreTable(score_tree.build(EPOCH, scores))
    assert len(table) == count
    assert [table.at(n) for n in range(count)] == scores
    assert table.top(count + 5) == scores[::-1]
    assert table.top(2, 1) == scores[::-1][1:3]
    assert table.top(2, count + 3) == []
    for score in scores:
        assert table.lookup(score.address) == score
    assert table.lookup(address(5)) is None
    assert table.lookup(address(10 * count + 5)) is None
    records = [score_tree.LEAF_TAG + score.encode() for score in scores]
    assert table.commitment == ScoreCommitment(EPOCH, merkle.root(records), count)
    table.check(table.commitment)


@pytest.mark.parametrize("count", [0, *SIZES])
def test_every_address_is_provably_there_or_not(count: int) -> None:
    scores = {score.address: score for score in leaves(count)}
    table = ScoreTable(score_tree.build(EPOCH, list(scores.values())))
    for number in range(10 * count + 20):
        proof = score_proof_codec.decode(encode(table.prove(address(number))))
        proven = verify_score_proof(table.commitment, address(number), proof)
        assert proven == scores.get(address(number))


@pytest.mark.parametrize("number", [10, 50, 90, 5, 45, 95])
def test_every_flipped_byte_of_a_proof_is_refused(number: int) -> None:
    table = ScoreTable(score_tree.build(EPOCH, leaves(9)))
    raw = encode(table.prove(address(number)))
    for place in range(len(raw)):
        for flip in (0x01, 0x80, 0xFF):
            forged = raw[:place] + bytes((raw[place] ^ flip,)) + raw[place + 1 :]
            with pytest.raises(InvalidData):
                verify_score_proof(
                    table.commitment, address(number), score_proof_codec.decode(forged)
                )


def test_a_proof_for_one_address_says_nothing_about_another() -> None:
    table = ScoreTable(score_tree.build(EPOCH, leaves(9)))
    numbers = range(0, 100, 5)
    for number in numbers:
        proof = table.prove(address(number))
        for other in numbers:
            if table.prove(address(other)) != proof:
                with pytest.raises(InvalidScoreProof):
                    verify_score_proof(table.commitment, address(other), proof)


def test_absence_needs_neighbours() -> None:
    table = ScoreTable(score_tree.build(EPOCH, leaves(9)))
    left, right = table.prove(address(45)).leaves
    further = table.prove(address(60)).leaves[0]
    for forged in ((), (left,), (right,), (left, further), (right, left), (left, left, right)):
        with pytest.raises(InvalidScoreProof) as refused:
            verify_score_proof(table.commitment, address(45), ScoreProof(forged))
        assert refused.value.rule == "leaves_do_not_decide"


def test_a_present_address_cannot_be_proven_absent() -> None:
    table = ScoreTable(score_tree.build(EPOCH, leaves(9)))
    left, right = (table.prove(address(n)).leaves[0] for n in (40, 60))
    with pytest.raises(InvalidScoreProof):
        verify_score_proof(table.commitment, address(50), ScoreProof((left, right)))


def test_a_proof_of_another_epoch_or_size_is_refused() -> None:
    table = ScoreTable(score_tree.build(EPOCH, leaves(8)))
    proof = table.prove(address(50))
    commitment = table.commitment
    other = ScoreCommitment(EPOCH + 1, commitment.root, commitment.count)
    with pytest.raises(InvalidScoreProof) as refused:
        verify_score_proof(other, address(50), proof)
    assert refused.value.rule == "epoch"
    other = ScoreCommitment(EPOCH, commitment.root, commitment.count + 1)
    with pytest.raises(InvalidScoreProof) as refused:
        verify_score_proof(other, address(50), proof)
    assert refused.value.rule == "path"


def test_an_interior_node_cannot_pass_for_a_leaf() -> None:
    table = ScoreTable(score_tree.build(EPOCH, leaves(4)))
    proven = table.prove(address(10)).leaves[0]
    node = merkle.leaf_hash(score_tree.LEAF_TAG + proven.leaf) + proven.path[0]
    forged = score_tree.ProvenLeaf(0, node, proven.path[1:])
    with pytest.raises(InvalidScoreProof) as refused:
        verify_score_proof(
            ScoreCommitment(EPOCH, table.commitment.root, 2), address(10), ScoreProof((forged,))
        )
    assert refused.value.rule == "leaf_size"


def test_a_damaged_table_is_noticed() -> None:
    blob = score_tree.build(EPOCH, leaves(5))
    commitment = ScoreTable(blob).commitment
    for place in range(len(blob)):
        damaged = blob[:place] + bytes((blob[place] ^ 1,)) + blob[place + 1 :]
        with pytest.raises(InvalidScoreTable):
            ScoreTable(damaged).check(commitment)
    for size in (0, 10, len(blob) - 1):
        with pytest.raises(InvalidScoreTable):
            ScoreTable(blob[:size])
    with pytest.raises(InvalidScoreTable):
        ScoreTable(blob + b"\0")


def test_a_table_whose_order_is_wrong_is_noticed_although_its_root_fits() -> None:
    scores = leaves(4)
    disordered = [scores[1], scores[0], *scores[2:]]
    doubled = [scores[0]._replace(rank=2), *scores[1:]]
    for wrong in (disordered, doubled):
        by_rank = b"".join(n.to_bytes(4, "big") for n in range(4))
        blob = score_tree.build_encoded(EPOCH, b"".join(s.encode() for s in wrong), by_rank)
        table = ScoreTable(blob)
        with pytest.raises(InvalidScoreTable):
            table.check(table.commitment)


def test_a_leaf_has_one_size() -> None:
    (score,) = leaves(1)
    assert len(score.encode()) == 70
    assert score_tree.decode_score(score.encode()) == score
    with pytest.raises(MalformedData):
        score_tree.decode_score(score.encode() + b"\0")
    table = ScoreTable(score_tree.build(EPOCH, [score]))
    with pytest.raises(IndexError):
        table.at(1)
