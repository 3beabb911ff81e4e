"""The score worker: a process of its own that follows the pair objects and computes epochs.

The computation takes seconds of pure CPU on a large network; in the validator's process it would
hold the interpreter lock and stall consensus. The worker is fed with every pair of the state at
start, then with the pair writes of each block in commit order, and answers requests for an epoch.
Edges at the end of epoch E−1 can be derived at any time within E (ledger.reputation.edges), so
neither a snapshot nor exact timing is needed.

Frames on standard input and output: 4-byte big-endian length, then one MessagePack value.

    Feed(writes)                       → nothing Compute(epoch, …, path)            →
    Computed(epoch, commitment, seed_qualities), after the score
                                         table was written to `path` (temporary file, fsync, rename)

The parent ends the worker by closing its input.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from ledger.codec import U53, Address
from ledger.reputation.edge_table import EdgeTable
from ledger.reputation.epoch import ReputationParams
from ledger.reputation.score_tree import ScoreCommitment

# One frame holds at most one slice of pairs or the writes of one block.
FRAME_MAX_BYTES = 256 << 20


class Feed(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Pair writes in commit order: (state key, encoded PairState or None)."""

    writes: list[tuple[bytes, bytes | None]]


class Compute(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Compute `epoch`. `previous_quality`: q of the seeds in the last scored epoch."""

    epoch: U53
    seeds: tuple[Address, ...]
    p_min: U53
    n0: U53
    n_ref: U53
    previous_quality: tuple[tuple[Address, U53], ...]
    path: str


class Computed(msgspec.Struct, array_like=True, frozen=True):
    """The answer to Compute. `seed_qualities` feed the next epoch."""

    epoch: U53
    commitment: ScoreCommitment
    seed_qualities: tuple[tuple[Address, U53], ...]


_decode = msgspec.msgpack.Decoder(Feed | Compute).decode


def frame(value: Feed | Compute | Computed) -> bytes:
    """One framed value."""
    body = msgspec.msgpack.encode(value)
    return len(body).to_bytes(4, "big") + body


def write_durably(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: all of it or nothing, also across a power cut."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def compute(table: EdgeTable, request: Compute) -> Computed:
    """Compute, write the score table, answer."""
    scores = table.compute(
        request.seeds,
        ReputationParams(p_min=request.p_min, n0=request.n0, n_ref=request.n_ref),
        request.epoch,
        dict(request.previous_quality),
    )
    write_durably(Path(request.path), scores.blob)
    reader = scores.table
    qualities = []
    for seed in request.seeds:
        score = reader.lookup(seed)
        assert score is not None, "every governed seed has a leaf"
        qualities.append((seed, score.quality))
    return Computed(request.epoch, scores.commitment, tuple(qualities))


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the input ends."""
    table = EdgeTable()
    while True:
        prefix = requests.read(4)
        if len(prefix) < 4:
            return
        size_bytes = int.from_bytes(prefix, "big")
        assert size_bytes <= FRAME_MAX_BYTES
        request = _decode(requests.read(size_bytes))
        if isinstance(request, Feed):
            table.apply(request.writes)
        else:
            answers.write(frame(compute(table, request)))
            answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
