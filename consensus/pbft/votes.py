"""Counting votes: a bounded book per type, and who is known to be in which round.

A validator has one vote per height, round and type. A book keeps each validator's votes of its
highest rounds (`kept` of them) and, per round, the first content seen; a second content in the same
round is equivocation and is returned with the first. Signature bytes play no part in this, since
anybody who has a signature could send the vote twice. Tallies are kept up as votes come and go, so
that asking costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from ledger.validators import ValidatorSet

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Entry(Generic[Content]):
    """A vote in a book. `content` is what it is for: a block hash, or a VIEW-CHANGE's claim."""

    round: int
    content: Content
    signature: bytes


class VoteBook(Generic[Content]):
    """See the module. Memory: `kept` entries per validator."""

    def __init__(self, validators: ValidatorSet, kept: int) -> None:
        self._validators = validators
        self._kept = kept
        self._entries: dict[int, tuple[Entry[Content], ...]] = {}
        self._power: dict[tuple[int, Content], int] = {}
        self._round_power: dict[int, int] = {}

    def wants(self, validator: int, round_: int, content: Content) -> bool:
        """Whether such a vote would change the book or prove equivocation. O(kept)."""
        entries = self._entries.get(validator, ())
        for entry in entries:
            if entry.round == round_:
                return entry.content != content
        return len(entries) < self._kept or round_ > entries[-1].round

    def add(
        self, validator: int, round_: int, content: Content, signature: bytes
    ) -> Entry[Content] | None:
        """Enter a vote. Returns the entry it contradicts, which stays; the new one is dropped."""
        entries = self._entries.get(validator, ())
        for entry in entries:
            if entry.round == round_:
                return entry if entry.content != content else None
        added = Entry(round_, content, signature)
        ordered = sorted((*entries, added), key=lambda each: -each.round)
        for dropped in ordered[self._kept :]:
            if dropped is not added:
                self._count(validator, dropped, -1)
        if added in ordered[: self._kept]:
            self._count(validator, added, 1)
        self._entries[validator] = tuple(ordered[: self._kept])
        return None

    def entry(self, validator: int, round_: int) -> Entry[Content] | None:
        """The validator's vote in this round, if it is kept."""
        for entry in self._entries.get(validator, ()):
            if entry.round == round_:
                return entry
        return None

    def entries(self, validator: int) -> tuple[Entry[Content], ...]:
        """The validator's kept votes, highest round first."""
        return self._entries.get(validator, ())

    def has_quorum(self, round_: int, content: Content) -> bool:
        """Whether more than two thirds of power voted for this in this round."""
        return self._validators.has_quorum(self._power.get((round_, content), 0))

    def round_has_quorum(self, round_: int) -> bool:
        """Whether more than two thirds of power voted for anything in this round."""
        return self._validators.has_quorum(self._round_power.get(round_, 0))

    def voters(self, round_: int, content: Content) -> dict[int, bytes]:
        """Validator → signature of the votes for this in this round, by index."""
        return {
            validator: entry.signature
            for validator in sorted(self._entries)
            for entry in self._entries[validator]
            if entry.round == round_ and entry.content == content
        }

    def round_votes(self, round_: int) -> dict[int, Entry[Content]]:
        """Validator → vote in this round, by index."""
        return {
            validator: entry
            for validator in sorted(self._entries)
            for entry in self._entries[validator]
            if entry.round == round_
        }

    def quorum_in(self, round_: int) -> Content | None:
        """What a quorum voted for in this round, if anything. At most one content can have it."""
        for (at, content), power in self._power.items():
            if at == round_ and self._validators.has_quorum(power):
                return content
        return None

    def any_quorum(self) -> tuple[int, Content] | None:
        """The lowest round in which one content has a quorum, with that content."""
        found = [key for key, power in self._power.items() if self._validators.has_quorum(power)]
        return min(found, key=lambda key: key[0]) if found else None

    def _count(self, validator: int, entry: Entry[Content], sign: int) -> None:
        change = sign * self._validators[validator].power
        key = (entry.round, entry.content)
        power = self._power.get(key, 0) + change
        if power:
            self._power[key] = power
        else:
            del self._power[key]
        round_power = self._round_power.get(entry.round, 0) + change
        if round_power:
            self._round_power[entry.round] = round_power
        else:
            del self._round_power[entry.round]


class RoundWatch:
    """The highest round each validator is known to be in: it voted there, in any way."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._rounds: dict[int, int] = {}
        self.highest = -1
        """The highest round anybody is known to be in."""

    def see(self, validator: int, round_: int) -> None:
        """The validator signed something in this round."""
        if round_ > self._rounds.get(validator, -1):
            self._rounds[validator] = round_
            self.highest = max(self.highest, round_)

    def quorum_reached(self, round_: int) -> bool:
        """Whether more than two thirds of power are in this round or a later one."""
        return self._validators.has_quorum(
            sum(
                self._validators[validator].power
                for validator, at in self._rounds.items()
                if at >= round_
            )
        )

    def highest_with_one_honest(self) -> int:
        """The highest round such that more than a third of power is in it or later; −1 for none.

        At least one correct validator is there, so a correct validator may follow.
        """
        power = 0
        for round_, validator in sorted(
            ((round_, validator) for validator, round_ in self._rounds.items()), reverse=True
        ):
            power += self._validators[validator].power
            if self._validators.has_one_honest(power):
                return round_
        return -1
