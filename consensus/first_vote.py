"""When a validator whose journal is empty may vote.

An empty journal is that of a validator that never voted, or of one that has forgotten what it
voted: the disk was replaced, the home folder wiped, a damaged journal put aside. The two look the
same, and the second must not vote where it may have voted before. So both begin by listening:

1. Until validators of more than two thirds of the power, this one included, have said since the
   start that their chains are no higher than the own one, nothing is voted. Blocks are followed.
2. Let T be the own height then. If it is 0, the network begins: vote at once. Otherwise the first
   vote is cast at height T + 3.

Why T + 3. Let H be the highest height this validator ever voted at. It had applied H − 1, so a
quorum had sent COMMIT at H − 1, and each of its members had applied H − 2 before that. This quorum
shares a correct validator with those of rule 1, which says at least H − 2: hence T ≥ H − 2, and
T + 3 is above H. Whoever exaggerates is only not counted.

What was found out is written down as the journal's first record, so that it is found out once; a
vote is never durable without it. What remains: while the whole network stands at height 0,
forgotten votes of heights 1 and 2 could be cast again otherwise. And a journal that is not empty
but old (restored from a backup) is not noticed here.

Two heights must be decided without this validator, so it counts among the faulty meanwhile.
"""

from __future__ import annotations

from ledger.validators import ValidatorSet

SILENT_HEIGHTS = 3
"""See the module."""


_MARK = b"tally/first vote"


class FirstVote:
    """See the module. Memory: one height per validator that reported."""

    def __init__(self) -> None:
        self._from_height: int | None = None
        self._reports: dict[bytes, int] = {}

    def restore(self, records: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Read the journal; the records that are the engine's."""
        marks = [record for record in records if record.startswith(_MARK)]
        if marks:
            self._from_height = int.from_bytes(marks[-1][len(_MARK) :], "big")
        elif records:
            # The mark was trimmed away with the votes of decided heights.
            self._from_height = 0
        return tuple(record for record in records if not record.startswith(_MARK))

    def record(self) -> bytes:
        """What is written into the journal once the height is known."""
        assert self._from_height is not None
        return _MARK + self._from_height.to_bytes(8, "big")

    @property
    def is_settled(self) -> bool:
        """Whether the height of the first vote is known."""
        return self._from_height is not None

    def report(self, node_key: bytes, height: int) -> None:
        """A validator says how high its chain is; its first word since the start is kept."""
        if self._from_height is None:
            self._reports.setdefault(node_key, height)

    def settle(self, validators: ValidatorSet, own_key: bytes, own_height: int) -> bool:
        """Find the height of the first vote; whether that was possible.

        `own_key` is this validator's node key, `own_height` the height of its tip.
        """
        # Who is no longer a validator does not count, nor stay in memory.
        known = validators.index_of_node_key
        self._reports = {key: at for key, at in self._reports.items() if key in known}
        power = sum(
            validators[known[key]].power
            for key, height in {**self._reports, own_key: own_height}.items()
            if height <= own_height
        )
        if not validators.has_quorum(power):
            return False
        self._from_height = own_height + SILENT_HEIGHTS if own_height else 1
        return True

    def allows(self, height: int) -> bool:
        """Whether this validator may vote at `height`."""
        return self._from_height is not None and height >= self._from_height
