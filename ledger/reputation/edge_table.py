"""The edges of all pairs in memory: fed with state writes block by block, asked once an epoch.

The epoch computation runs in a process of its own, which follows the chain through an `EdgeTable`.
After a start it is fed with every pair of the state, then with the writes of each block. For a pair
it keeps what `edges.edge_at_end_of` needs: the epoch of the last touch, the edge at the end of the
epoch before, and the edge at the end of that epoch itself. The edges at the end of E - 1 can
therefore be asked for at any time within E, and the answer does not depend on when.

Addresses become numbers in order of appearance and pairs become rows of plain columns, so 2 * 10^6
pairs take about 0.4 GB, nearly all of it the index from pair to row.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ledger.reputation import edges, fast, quality, score_tree, trust
from ledger.reputation.epoch import EpochScores, PairEdge, ReputationParams
from ledger.state import PAIR_PREFIX, split_pair_key

_NUMBER_BITS = 31
_SERVICE_BITS = 5


class EdgeTable:
    """All edges, and the computation of an epoch from them."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        """Address -> number; the dict keeps the order of appearance."""
        self._rows: dict[int, int] = {}
        """(rater, ratee, service) packed into one integer -> row."""
        self._raters = array("i")
        self._ratees = array("i")
        self._epochs = array("q")
        self._before = (array("i"), array("i"))
        """pos, neg at the end of the epoch before the last touch."""
        self._after = (array("i"), array("i"))
        """pos, neg at the end of the epoch of the last touch."""
        self._last: tuple[fast.FastComputation, ReputationParams] | None = None
        self.computed: score_tree.ScoreCommitment | None = None
        """What was computed last, which `explain` speaks of."""

    def __len__(self) -> int:
        return len(self._raters)

    def apply(self, writes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take in the state writes of a block, (key, value or None); other objects are skipped."""
        for key, raw in writes:
            if key.startswith(PAIR_PREFIX):
                self._put(key, None if raw is None else edges.decode_pair(raw))

    def _put(self, key: bytes, pair: edges.PairState | None) -> None:
        row = self._row(key)
        if pair is None:
            self._epochs[row] = 0
            before = after = (0, 0)
        else:
            self._epochs[row] = pair.epoch
            before = (pair.pos, pair.neg)
            after = edges.end_of_own_epoch(pair)
        self._before[0][row], self._before[1][row] = before
        self._after[0][row], self._after[1][row] = after

    def _row(self, key: bytes) -> int:
        payer, payee, service = split_pair_key(key)
        numbers = self._numbers
        rater = numbers.setdefault(payer, len(numbers))
        ratee = numbers.setdefault(payee, len(numbers))
        packed = ((rater << _NUMBER_BITS) | ratee) << _SERVICE_BITS | service
        row = self._rows.setdefault(packed, len(self._rows))
        if row == len(self._raters):
            self._raters.append(rater)
            self._ratees.append(ratee)
            for column in (self._epochs, *self._before, *self._after):
                column.append(0)
        return row

    def edges_at_end_of(self, epoch: int) -> Iterator[PairEdge]:
        """The edges as the reference wants them, in order of appearance."""
        addresses = list(self._numbers)
        pos, neg = self._derive(epoch)
        for packed, row in self._rows.items():
            service = packed & ((1 << _SERVICE_BITS) - 1)
            rater, ratee = addresses[self._raters[row]], addresses[self._ratees[row]]
            yield rater, ratee, service, int(pos[row]), int(neg[row])

    def compute(
        self,
        seeds: Sequence[bytes],
        params: ReputationParams,
        epoch: int,
        previous_quality: Mapping[bytes, int],
    ) -> EpochScores:
        """The scores of `epoch`; no pair may have been touched after `epoch` + 1.

        Same bits as ledger.reputation.epoch.compute_epoch on `edges_at_end_of(epoch)`.
        """
        for seed in seeds:
            self._numbers.setdefault(seed, len(self._numbers))
        active = trust.active_seeds(seeds, previous_quality, quality.QUALITY_THRESHOLD)
        graph = fast.build_graph(
            np.frombuffer(b"".join(self._numbers), dtype=fast.ADDRESS_DTYPE),
            (_column(self._raters), _column(self._ratees), *self._derive(epoch)),
            seeds,
            active,
        )
        result = fast.compute(graph, params)
        self._last = result, params
        blob = fast.encode(result, epoch)
        self.computed = score_tree.ScoreTable(blob).commitment
        return EpochScores(epoch, blob, self.computed)

    def is_open(self, epoch: int) -> bool:
        """Whether the edges at the end of `epoch` can still be derived."""
        return not np.any(_column(self._epochs) > epoch + 1)

    def raters_of(self, address: bytes, after: bytes, limit: int) -> list[bytes]:
        """Who has a pair with `address` as its payee, ascending, behind the address `after`."""
        number = self._numbers.get(address)
        if number is None:
            return []
        addresses = list(self._numbers)
        rows = np.flatnonzero(_column(self._ratees) == number)
        raters = {addresses[rater] for rater in np.unique(_column(self._raters)[rows])}
        return sorted(rater for rater in raters if rater > after)[:limit]

    def explain(self, address: bytes, limit: int) -> list[quality.Voice]:
        """The raters that move the score of `address` most, in the epoch computed last.

        Empty before the first computation and for peers without a leaf.
        """
        if self._last is None:
            return []
        result, params = self._last
        graph = result.graph
        peer = int(np.searchsorted(graph.addresses, np.array(address, dtype=fast.ADDRESS_DTYPE)))
        if peer == len(graph.addresses) or _address_at(graph, peer) != address:
            return []
        voices = (
            (
                _address_at(graph, int(graph.rater[edge])),
                int(result.weights[graph.rater[edge]]),
                int(graph.pos[edge]),
                int(graph.neg[edge]),
            )
            for edge in np.flatnonzero(graph.ratee == peer)
        )
        return quality.explain(voices, params.n0)[:limit]

    def _derive(self, epoch: int) -> tuple[fast.Ints, fast.Ints]:
        """pos and neg of every row at the end of `epoch`; see edges.edge_at_end_of."""
        touched = _column(self._epochs)
        assert not np.any(touched > epoch + 1)
        age = np.maximum(epoch - touched, np.int64(0))
        open_epoch = touched == epoch + 1
        pos, neg = (
            np.where(open_epoch, _column(before), table[np.minimum(age, len(table) - 1), after])
            for before, after, table in zip(
                self._before,
                (_column(column) for column in self._after),
                _DECAY_TABLES,
                strict=True,
            )
        )
        return pos, neg


def _address_at(graph: fast.FastGraph, peer: int) -> bytes:
    """An array of bytes gives its items back without trailing zero bytes."""
    return bytes(graph.addresses[peer]).ljust(score_tree.ADDRESS_BYTES, b"\0")


def _column(column: array[int]) -> fast.Ints:
    """A copy as int64: an array that lends its memory could not grow."""
    return np.array(column, dtype=np.int64)


def _decay_table(factor: int) -> fast.Ints:
    """table[k, v]: what is left of v <= HISTORY_CAP after k epochs; the last row is all zero."""
    rows = [np.arange(edges.HISTORY_CAP + 1, dtype=np.int64)]
    while rows[-1].any():
        rows.append(rows[-1] * factor >> 16)
    assert len(rows) <= edges.MAX_DECAY_STEPS
    return np.stack(rows)


_DECAY_TABLES = (_decay_table(edges.POSITIVE_DECAY), _decay_table(edges.NEGATIVE_DECAY))
"""4,097 values by 119 and 210 steps, 11 MB: decaying a column is one lookup."""
