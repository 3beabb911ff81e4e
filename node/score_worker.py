"""The score worker: a process of its own that follows the pair objects and computes epochs.

The computation takes seconds of pure CPU on a large network; in the validator's process it would
hold the interpreter lock and stall consensus. The worker is fed with every pair of the state at
start, then with the pair writes of each block in commit order, and answers requests for an epoch.
Edges at the end of epoch E−1 can be derived at any time within E (ledger.reputation.edges), so
neither a snapshot nor exact timing is needed.

Frames on standard input and output: 4-byte big-endian length, then one MessagePack value.

    Feed(writes)                →  nothing
    Compute(epoch, …, path)     →  Computed(epoch, commitment, seed_qualities), after the table was
                                   written to `path` (temporary file, fsync, rename)
    Explain(epoch, …, address)  →  Explained(epoch, voices)
    RatersOf(address)           →  Raters(addresses)

Answers come in the order of the questions. The worker explains the epoch that it computed last.
After a restart that is none, so the question carries what the epoch was computed from, and it is
computed again where its edges can still be derived and the result has the committed root.

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
from ledger.reputation.epoch import EpochScores, ReputationParams
from ledger.reputation.quality import Voice
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


class Explain(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Which raters move the score of `address` in `of.epoch`, `root` being the committed one.

    `of.path` is not written.
    """

    of: Compute
    root: bytes
    address: Address
    limit: U53


class RatersOf(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Who rates `address`, ascending, behind `after`."""

    address: Address
    after: bytes
    limit: U53


class Computed(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """The answer to Compute. `seed_qualities` feed the next epoch."""

    epoch: U53
    commitment: ScoreCommitment
    seed_qualities: tuple[tuple[Address, U53], ...]


class Explained(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The answer to Explain: of `epoch`, None where none is computed here."""

    epoch: U53 | None
    voices: list[Voice]


class Raters(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """The answer to RatersOf."""

    addresses: list[Address]


Request = Feed | Compute | Explain | RatersOf
Answer = Computed | Explained | Raters

_decode = msgspec.msgpack.Decoder(Request).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode


def frame(value: Request | Answer) -> bytes:
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
    scores = _scores(table, request)
    write_durably(Path(request.path), scores.blob)
    reader = scores.table
    qualities = []
    for seed in request.seeds:
        score = reader.lookup(seed)
        assert score is not None, "every governed seed has a leaf"
        qualities.append((seed, score.quality))
    return Computed(request.epoch, scores.commitment, tuple(qualities))


def explain(table: EdgeTable, request: Explain) -> Explained:
    """Explain the epoch asked for, or a newer one that was computed last."""
    epoch = request.of.epoch
    if (table.computed is None or table.computed.epoch != epoch) and table.is_open(epoch):
        _scores(table, request.of)
    computed = table.computed
    if computed is None or (computed.epoch == epoch and computed.root != request.root):
        # Not what the network computed: the seeds or the parameters were others then.
        return Explained(None, [])
    return Explained(computed.epoch, table.explain(request.address, request.limit))


def _scores(table: EdgeTable, request: Compute) -> EpochScores:
    return table.compute(
        request.seeds,
        ReputationParams(p_min=request.p_min, n0=request.n0, n_ref=request.n_ref),
        request.epoch,
        dict(request.previous_quality),
    )


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
        answer: Answer
        match request:
            case Feed():
                table.apply(request.writes)
                continue
            case Compute():
                answer = compute(table, request)
            case Explain():
                answer = explain(table, request)
            case RatersOf():
                answer = Raters(table.raters_of(request.address, request.after, request.limit))
        answers.write(frame(answer))
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
