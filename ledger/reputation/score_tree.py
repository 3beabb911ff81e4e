"""An epoch's scores: one file of fixed-size leaves, and the Merkle tree that commits to them.

A score leaf is 70 bytes, integers big-endian:

    address 33 | epoch u64 | trust u64 | quality u32
    standing u64 | rank u32 | raters u32 | flags u8

Leaves are sorted by address. The tree over them is RFC 6962's (ledger.merkle), with a tag of its
own before each leaf, so that no leaf of another tree can pass for a score. Its root and size are
the state object `ScoreCommitment`. Membership is an inclusion proof; absence (a newcomer) is shown
by the two leaves between which the address would stand, adjacent by index, or by the first or last
leaf. An address has exactly one valid proof.

The blob, which a node keeps as a file and maps into memory:

    header      magic 8 | epoch u64 | count u32 | root 32
    leaves      count * 70, ascending by address
    by rank     count * u32, index of the leaf of rank 1, 2, ...
    level 1..h  32 bytes a node, level by level, the root last; leaf hashes are computed when asked

At 10^6 peers that is 107 MB; a lookup is a binary search of 20 comparisons, a proof reads one node
a level.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from ledger import codec, merkle
from ledger.codec import U53, Hash
from ledger.errors import InvalidData, MalformedData

ADDRESS_BYTES = 33
LEAF_TAG = b"tally/score/1".ljust(16, b"\0")
FLAG_SEED = 1
"""A governed seed."""
FLAG_SUSPENDED = 2
"""A governed seed that does not act as one in this epoch: its quality had fallen."""
FLAG_CUT = 4
"""Quality below 0.6: no standing, whatever the trust."""

_LEAF = struct.Struct(">33sQQIQIIB")
_HEADER = struct.Struct(">8sQI32s")
_MAGIC = b"TALLYSC1"
_NODE_BYTES = 32
PEERS_MAX = 2**32 - 1
PROOF_LIMIT_BYTES = 4_096
"""Two leaves with paths of at most 32 nodes, and framing, are below 2,400 bytes."""


class InvalidScoreProof(InvalidData):
    """A proof that does not lead to the commitment. `rule` is a stable name."""

    reason = "INVALID_SCORE_PROOF"

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class InvalidScoreTable(MalformedData):
    """A blob that is no score table, or not the committed one."""

    reason = "INVALID_SCORE_TABLE"

    def __init__(self, detail: str) -> None:
        super().__init__("score table", detail)


class Score(NamedTuple):
    """What the epoch says of one peer. Trust and standing are parts of 2^40, quality of 2^16."""

    address: bytes
    epoch: int
    trust: int
    quality: int
    standing: int
    rank: int
    """1 is the largest standing."""
    raters: int
    """Raters with a voice: trust and experience above zero."""
    flags: int

    def encode(self) -> bytes:
        """The leaf, 70 bytes."""
        return _LEAF.pack(*self)


def decode_score(leaf: bytes | memoryview) -> Score:
    """The score in a leaf. Raises MalformedData."""
    if len(leaf) != _LEAF.size:
        raise MalformedData("score", f"{len(leaf)} bytes instead of {_LEAF.size}")
    return Score(*_LEAF.unpack(leaf))


class ScoreCommitment(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """State object: what an epoch's scores are checked against."""

    epoch: U53
    root: Hash
    count: U53


class ProvenLeaf(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One leaf with its audit path, from the leaf's neighbour up."""

    index: U53
    leaf: bytes
    path: tuple[Hash, ...]


class ScoreProof(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The leaf itself, or what stands left and right of its place, ascending."""

    leaves: tuple[ProvenLeaf, ...]


score_proof_codec: codec.Codec[ScoreProof] = codec.Codec(
    "score proof", ScoreProof, PROOF_LIMIT_BYTES
)


def verify_score_proof(
    commitment: ScoreCommitment, address: bytes, proof: ScoreProof
) -> Score | None:
    """The score of `address`, or None if it is proven to have none. Raises InvalidScoreProof."""
    scores = [_verify_leaf(commitment, proven) for proven in proof.leaves]
    indexes = [proven.index for proven in proof.leaves]
    last = commitment.count - 1
    match scores:
        case [score] if score.address == address:
            return score
        case [] if commitment.count == 0:
            return None
        case [score] if indexes[0] == 0 and address < score.address:
            return None
        case [score] if indexes[0] == last and score.address < address:
            return None
        case [left, right] if (
            indexes[0] + 1 == indexes[1] and left.address < address < right.address
        ):
            return None
        case _:
            raise InvalidScoreProof("leaves_do_not_decide")


def _verify_leaf(commitment: ScoreCommitment, proven: ProvenLeaf) -> Score:
    if len(proven.leaf) != _LEAF.size:
        raise InvalidScoreProof("leaf_size")
    if not merkle.verify_inclusion(
        commitment.root, LEAF_TAG + proven.leaf, proven.index, commitment.count, proven.path
    ):
        raise InvalidScoreProof("path")
    score = decode_score(proven.leaf)
    if score.epoch != commitment.epoch:
        raise InvalidScoreProof("epoch")
    return score


def build(epoch: int, leaves: Sequence[Score]) -> bytes:
    """The blob of an epoch. `leaves` ascend strictly by address and have ranks 1..count."""
    records = [score.encode() for score in leaves]
    by_rank = [0] * len(leaves)
    for index, score in enumerate(leaves):
        by_rank[score.rank - 1] = index
    return build_encoded(epoch, b"".join(records), struct.pack(f">{len(leaves)}I", *by_rank))


def build_encoded(epoch: int, leaves: bytes, by_rank: bytes) -> bytes:
    """The blob from leaves and rank order that are already encoded."""
    count = len(leaves) // _LEAF.size
    assert len(leaves) == count * _LEAF.size
    assert len(by_rank) == count * 4
    assert count <= PEERS_MAX
    level = merkle.leaf_hashes(
        LEAF_TAG + leaves[place : place + _LEAF.size] for place in range(0, len(leaves), _LEAF.size)
    )
    levels = []
    while len(level) > 1:
        level = merkle.parents(level)
        levels.append(b"".join(level))
    header = _HEADER.pack(_MAGIC, epoch, count, merkle.root_hashed(level))
    return b"".join((header, leaves, by_rank, *levels))


class ScoreTable:
    """Reads a blob made by `build`, in place. Nothing is copied but what is returned.

    `lookup` and `top` answer only with leaves that lead to the root of the header, so that damage
    on disk is noticed before anybody is told a wrong score: about 0.1 ms each at 10^6 peers.
    """

    __slots__ = ("_buffer", "_levels", "_ranks_at", "commitment")

    def __init__(self, buffer: bytes | memoryview) -> None:
        """Raises InvalidScoreTable if the sizes do not fit; `check` looks at the content."""
        self._buffer = memoryview(buffer)
        if len(self._buffer) < _HEADER.size:
            raise InvalidScoreTable("shorter than its header")
        magic, epoch, count, root = _HEADER.unpack_from(self._buffer)
        if magic != _MAGIC:
            raise InvalidScoreTable("another kind of file")
        self.commitment = ScoreCommitment(epoch, root, count)
        self._ranks_at = _HEADER.size + count * _LEAF.size
        place = self._ranks_at + count * 4
        self._levels: list[int] = []
        """Offsets of level 1, 2, ..."""
        width = count
        while width > 1:
            width = (width + 1) // 2
            self._levels.append(place)
            place += width * _NODE_BYTES
        if len(self._buffer) != place:
            raise InvalidScoreTable(f"{len(self._buffer)} bytes instead of {place}")

    def __len__(self) -> int:
        return self.commitment.count

    def at(self, index: int) -> Score:
        """The score at a place in the order of addresses."""
        return Score(*_LEAF.unpack_from(self._buffer, self._leaf_at(index)))

    def lookup(self, address: bytes) -> Score | None:
        """The score of an address; None is a newcomer. Raises InvalidScoreTable."""
        try:
            return verify_score_proof(self.commitment, address, self.prove(address))
        except InvalidScoreProof as error:
            raise InvalidScoreTable(f"damaged near {address.hex()}: {error.rule}") from error

    def top(self, limit: int, offset: int = 0) -> list[Score]:
        """Scores of the ranks offset + 1 .. offset + limit. Raises InvalidScoreTable."""
        stop = min(offset + limit, len(self))
        return [self._ranked(rank) for rank in range(offset + 1, stop + 1)]

    def prove(self, address: bytes) -> ScoreProof:
        """Membership, or absence by the neighbours."""
        index = self._find(address)
        if index < len(self) and self.at(index).address == address:
            places: tuple[int, ...] = (index,)
        else:
            places = tuple(place for place in (index - 1, index) if 0 <= place < len(self))
        return ScoreProof(
            tuple(
                ProvenLeaf(place, bytes(self._leaf(place)), tuple(self._path(place)))
                for place in places
            )
        )

    def check(self, commitment: ScoreCommitment) -> None:
        """Recompute everything, as for a blob from a peer. Raises InvalidScoreTable."""
        if self.commitment != commitment:
            raise InvalidScoreTable("another commitment")
        scores = [self.at(index) for index in range(len(self))]
        if any(a.address >= b.address for a, b in pairwise(scores)):
            raise InvalidScoreTable("addresses do not ascend")
        if sorted(score.rank for score in scores) != list(range(1, len(self) + 1)):
            raise InvalidScoreTable("ranks are not 1..count")
        if build(commitment.epoch, scores) != self._buffer:
            raise InvalidScoreTable("the tree is not that of the leaves")

    def _ranked(self, rank: int) -> Score:
        at = self._ranks_at + (rank - 1) * 4
        index = int.from_bytes(self._buffer[at : at + 4], "big")
        if index >= len(self):
            raise InvalidScoreTable(f"rank {rank} is damaged")
        leaf = ProvenLeaf(index, bytes(self._leaf(index)), tuple(self._path(index)))
        try:
            score = _verify_leaf(self.commitment, leaf)
        except InvalidScoreProof as error:
            raise InvalidScoreTable(f"leaf {index} is damaged: {error.rule}") from error
        if score.rank != rank:
            raise InvalidScoreTable(f"rank {rank} is damaged")
        return score

    def _leaf_at(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return _HEADER.size + index * _LEAF.size

    def _leaf(self, index: int) -> memoryview:
        start = self._leaf_at(index)
        return self._buffer[start : start + _LEAF.size]

    def _find(self, address: bytes) -> int:
        """Index of the first leaf not below `address`."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            start = self._leaf_at(middle)
            if self._buffer[start : start + ADDRESS_BYTES].tobytes() < address:
                low = middle + 1
            else:
                high = middle
        return low

    def _path(self, index: int) -> list[bytes]:
        path = []
        width = len(self)
        for level in range(len(self._levels)):
            sibling = index ^ 1
            if sibling < width:
                path.append(self._node(level, sibling))
            index, width = index // 2, (width + 1) // 2
        return path

    def _node(self, level: int, index: int) -> bytes:
        if level == 0:
            return merkle.leaf_hash(LEAF_TAG + bytes(self._leaf(index)))
        start = self._levels[level - 1] + index * _NODE_BYTES
        return self._buffer[start : start + _NODE_BYTES].tobytes()
