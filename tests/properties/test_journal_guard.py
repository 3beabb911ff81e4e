"""The double-sign guard as a rule-based machine, against the list of all it ever admitted."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from consensus.journal import REMEMBERED_VOTES_COUNT, DoubleSignGuard, SigningForbidden
from ledger.certificate import Mode, Vote

hashes = st.sampled_from([bytes(32), b"\1" * 32, b"\2" * 32])


@st.composite
def votes(draw: st.DrawFn) -> Vote:
    """Votes of a small world, so that places meet often."""
    mode: Mode = draw(st.sampled_from(["pbft", "raft"]))
    kind = draw(st.integers(0, 3)) if mode == "pbft" else 4
    prepared = draw(st.integers(-1, 1)) if kind == 0 else -1
    return Vote(
        "c", mode, kind, draw(st.integers(1, 3)), draw(st.integers(0, 2)), draw(hashes), prepared
    )


def place(vote: Vote) -> tuple[int, int, int]:
    """Where a vote stands in the order of its mode."""
    if vote.mode == "pbft":
        return (vote.height, vote.round, vote.type)
    return (vote.round, vote.height, 0)


def signature_of(vote: Vote) -> bytes:
    """A signature that tells the vote."""
    return vote.digest(bytes(32)) * 2


class Guard(RuleBasedStateMachine):
    """`signed` is what left the signer; `journal` what reached the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.guard = DoubleSignGuard()
        self.signed: list[Vote] = []
        self.since_start: list[Vote] = []
        self.journal: list[Vote] = []

    def top(self, mode: str) -> tuple[int, int, int]:
        return max(
            (place(each) for each in self.since_start if each.mode == mode), default=(0,) * 3
        )

    @rule(vote=votes(), written=st.booleans())
    def ask(self, vote: Vote, written: bool) -> None:
        above = place(vote) > self.top(vote.mode)
        known = vote in self.since_start
        try:
            signature = self.guard.admit(vote)
        except SigningForbidden:
            assert not above
            # What was signed lately is not refused: an engine may ask again for what it has.
            recent = [each for each in self.since_start if each.mode == vote.mode]
            assert vote not in recent[-REMEMBERED_VOTES_COUNT // 2 :]
            return
        assert above or known
        assert signature in (None, signature_of(vote))
        if vote not in self.since_start:
            self.since_start.append(vote)
        if written:
            self.guard.remember(vote, signature_of(vote))
            self.journal.append(vote)
            self.signed.append(vote)

    @rule(data=st.data())
    def ask_for_a_written_vote(self, data: st.DataObject) -> None:
        if self.journal:
            vote = data.draw(st.sampled_from(self.journal[-4:]))
            assert self.guard.admit(vote) == signature_of(vote)

    @rule()
    def restart(self) -> None:
        """Votes that were admitted and not written were never sent: they are forgotten."""
        self.guard = DoubleSignGuard()
        for vote in self.journal:
            self.guard.remember(vote, signature_of(vote))
        self.since_start = list(self.journal)

    @invariant()
    def one_vote_at_each_place(self) -> None:
        for mode in ("pbft", "raft"):
            places: dict[tuple[int, int, int], Vote] = {}
            for vote in self.signed:
                if vote.mode == mode:
                    assert places.setdefault(place(vote), vote) == vote


Guard.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestGuard = Guard.TestCase
