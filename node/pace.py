"""How large a block to propose: as many transactions as the network digests in a fraction of a
round.

The parameters bound a block by bytes and count, for any machine. A proposal near those bounds can
take slow or busy validators longer to execute than a round lasts; then the round fails, the work
is lost, and the next leader proposes as much again. So each proposer keeps its own limit, which
follows what it sees: the time from one applied block to the next while blocks are full. It
shrinks in proportion when blocks take longer than the target or needed more than one round, and
grows by a quarter while full blocks are quick. This is a proposer's own choice; nothing in the
protocol depends on it.
"""

from __future__ import annotations

# Full blocks should take this long from one to the next: well within a usual round, long enough
# that the fixed cost of a block (votes, fsyncs, headers) is a small part of it.
TARGET_MS = 300

# Under this many transactions the fixed cost of a block rules; shrinking further gains nothing.
LEAST_COUNT = 256

# Where it starts: right for one slow core.
FIRST_COUNT = 512


class ProposalPace:
    """See the module. Counts are transactions, times wall ms."""

    def __init__(self) -> None:
        self._count = FIRST_COUNT
        self._applied_ms: int | None = None

    def limit_count(self, block_max_txs: int) -> int:
        """How many transactions to propose now."""
        return min(self._count, block_max_txs)

    def block_applied(self, count: int, round_number: int, now_ms: int) -> None:
        """A block with `count` transactions, decided in `round_number`, was applied."""
        before_ms, self._applied_ms = self._applied_ms, now_ms
        if round_number > 0:
            self._count = max(LEAST_COUNT, min(self._count, count) // 2)
            return
        if before_ms is None or 2 * count < self._count:
            return
        taken_ms = now_ms - before_ms
        if taken_ms > TARGET_MS:
            self._count = max(LEAST_COUNT, self._count * TARGET_MS // taken_ms, self._count // 2)
        elif 10 * count >= 9 * self._count:
            self._count += self._count // 4
