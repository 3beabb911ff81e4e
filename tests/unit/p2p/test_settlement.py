"""Simultaneous dials: every interleaving ends with one link that both sides hold.

The network is a model: a dial is three messages (Hello, Verdict, final Verdict) whose deliveries
hypothesis orders freely against dials, lost links and restarts of either node.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from p2p.settlement import REFUSED_DUPLICATE, Settlement
from p2p.status import ConnectionClass

IDS = ("alice", "bob")  # alice is the lower one.
BULK = ConnectionClass.BULK


@dataclass(eq=False)
class End:
    """One node's end of a link."""

    wire: Wire
    side: int
    dialed: bool
    suspected: bool = False

    def suspect(self) -> None:
        self.suspected = True


@dataclass(eq=False)
class Wire:
    """A link between the two nodes. `instances` are those of the processes that made it."""

    dialer: int
    instances: tuple[int, int]
    # What is on its way next: hello, verdict, final, or nothing.
    pending: str = "hello"
    closed: set[int] = field(default_factory=set)
    ends: list[End] = field(default_factory=list)


class Nodes(RuleBasedStateMachine):
    """Two nodes that follow the rules of p2p.links."""

    def __init__(self) -> None:
        super().__init__()
        self.instances = [0, 100]
        self.books: list[Settlement[End]] = [Settlement(name) for name in IDS]
        self.wires: list[Wire] = []

    def key(self, side: int) -> tuple[str, ConnectionClass]:
        return (IDS[1 - side], BULK)

    def standing(self, side: int) -> End | None:
        return self.books[side].standing(self.key(side))

    def close(self, wire: Wire, side: int) -> None:
        """One side closes; the other learns it when `notice` runs."""
        if side not in wire.closed and self.instances[side] == wire.instances[side]:
            self.books[side].forget(self.key(side), wire.ends[side])
        wire.closed.add(side)

    def accept(self, wire: Wire, side: int) -> None:
        other = str(wire.instances[1 - side]).encode()
        used = {end.wire for end in [self.standing(side)] if end and self.in_use(end.wire)}
        replaced = self.books[side].accept(self.key(side), wire.ends[side], other)
        if replaced is not None:
            assert replaced.wire not in used, "a link that both sides use is replaced"
            self.close(replaced.wire, side)

    def in_use(self, wire: Wire) -> bool:
        """Both sides have accepted the link, both processes live, and none has closed it."""
        current = wire.instances == (self.instances[0], self.instances[1])
        return current and not wire.closed and not wire.pending

    @rule(side=st.integers(0, 1))
    def dial(self, side: int) -> None:
        if self.standing(side) is not None:
            return
        wire = Wire(side, (self.instances[0], self.instances[1]))
        wire.ends = [End(wire, end, dialed=end == side) for end in (0, 1)]
        if self.books[side].try_greet(self.key(side), wire.ends[side]):
            self.wires.append(wire)

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        moving = [w for w in self.wires if w.pending]
        if moving:
            self.step(data.draw(st.sampled_from(moving)))

    def step(self, wire: Wire) -> None:
        receiver = wire.dialer if wire.pending == "verdict" else 1 - wire.dialer
        if wire.closed:
            # The receiver finds the link closed.
            self.close(wire, 0)
            self.close(wire, 1)
            wire.pending = ""
        elif wire.pending == "hello":
            instance = str(wire.instances[wire.dialer]).encode()
            end = wire.ends[receiver]
            refusal = self.books[receiver].judge(self.key(receiver), end, instance)
            if refusal is not None:
                assert refusal.code == REFUSED_DUPLICATE
                self.close(wire, receiver)
            wire.pending = "verdict"
        elif wire.pending == "verdict":
            self.accept(wire, receiver)
            wire.pending = "final"
        else:
            self.accept(wire, receiver)
            wire.pending = ""

    @rule(data=st.data(), side=st.integers(0, 1))
    def lose(self, data: st.DataObject, side: int) -> None:
        """One side loses a link, the other does not know yet."""
        if self.wires:
            self.close(data.draw(st.sampled_from(self.wires)), side)

    @rule(side=st.integers(0, 1))
    def notice(self, side: int) -> None:
        """A side finds that the other has closed, at once or because it was told to ask."""
        for wire in self.wires:
            if wire.closed:
                self.close(wire, side)

    @rule(side=st.integers(0, 1))
    def restart(self, side: int) -> None:
        self.instances[side] += 1
        self.books[side] = Settlement(IDS[side])
        for wire in self.wires:
            wire.closed.add(side)

    @invariant()
    def both_sides_never_use_two_links(self) -> None:
        used = [w for w in self.wires if not w.closed and not w.pending]
        both = [w for w in used if all(self.standing(side) is w.ends[side] for side in (0, 1))]
        assert len(both) <= 1
        # A link that both accepted and nobody closed is the one that both hold.
        assert used == both

    def teardown(self) -> None:
        """Left alone, dialling as the dialers do, the two end with one link on both sides."""
        for _ in range(6):
            for side in (0, 1):
                self.dial(side)
            while moving := [w for w in self.wires if w.pending]:
                self.step(moving[0])
            for side in (0, 1):
                self.notice(side)
        ends = [self.standing(side) for side in (0, 1)]
        assert ends[0] is not None
        assert ends[1] is not None
        assert ends[0].wire is ends[1].wire
        assert not ends[0].wire.closed


TestNodes = Nodes.TestCase
TestNodes.settings = settings(deadline=None, max_examples=100, stateful_step_count=30)


def test_a_simultaneous_dial_ends_with_the_lower_ones_link() -> None:
    nodes = Nodes()
    for side in (1, 0):
        nodes.dial(side)
    for wire in list(nodes.wires) * 3:
        if wire.pending:
            nodes.step(wire)
    for side in (0, 1):
        nodes.notice(side)
        standing = nodes.standing(side)
        assert standing is not None
        assert standing.wire.dialer == 0


def test_a_restarted_peer_gets_a_new_link_at_once() -> None:
    nodes = Nodes()
    nodes.dial(0)
    for _ in range(3):
        nodes.step(nodes.wires[0])
    nodes.restart(1)
    nodes.wires[0].closed.clear()  # The old process died without a word.
    nodes.dial(1)
    for _ in range(3):
        nodes.step(nodes.wires[1])
    for side in (0, 1):
        standing = nodes.standing(side)
        assert standing is not None
        assert standing.wire is nodes.wires[1]


def test_a_doubted_link_is_asked_for_a_sign_of_life() -> None:
    nodes = Nodes()
    nodes.dial(0)
    for _ in range(3):
        nodes.step(nodes.wires[0])
    nodes.close(nodes.wires[0], 1)
    nodes.dial(1)
    standing = nodes.standing(0)
    assert standing is not None
    assert not standing.suspected
    nodes.step(nodes.wires[1])
    assert standing.suspected
