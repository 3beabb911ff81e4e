"""The lazy pair object against a ledger that closes every epoch of every pair, one by one."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidData
from ledger.reputation import edges
from ledger.reputation.edges import PairState

P_MIN = 1_000
EPOCHS = 12


@dataclass
class Diary:
    """Keeps every event for ever and recomputes the edge from the first epoch on."""

    paid: dict[int, int] = field(default_factory=dict)  # epoch -> co-signed µT
    taken: dict[int, int] = field(default_factory=dict)  # epoch -> µT the payee took
    settled_in: list[tuple[int, int]] = field(default_factory=list)  # (last seq, epoch)
    ratings: dict[int, tuple[int, int]] = field(default_factory=dict)  # settled in -> (in, score)

    def edge(self, epoch: int) -> tuple[int, int]:
        pos = neg = 0
        for now in range(epoch + 1):
            pos, neg = pos * 62_370 >> 16, neg * 63_934 >> 16
            for then, (rated_in, score) in self.ratings.items():
                if rated_in == now and then < now:
                    pos -= self._decayed(self._credit(then, 0)[0], 62_370, now - then)
                    pos += self._decayed(self._credit(then, score)[0], 62_370, now - then)
                    neg += self._decayed(self._credit(then, score)[1], 63_934, now - then)
            rated_in, score = self.ratings.get(now, (now, 0))
            new_pos, new_neg = self._credit(now, score if rated_in == now else 0)
            pos, neg = min(pos + new_pos, 4_096), min(neg + new_neg, 4_096)
        return pos, neg

    def window(self, seq: int) -> int | None:
        return next((epoch for last, epoch in self.settled_in if seq <= last), None)

    def may_rate(self, seq: int, epoch: int) -> bool:
        settled = self.window(seq)
        return (
            settled is not None
            and epoch - settled <= 2
            and settled not in self.ratings
            and all(rated_in != epoch for rated_in, _ in self.ratings.values())
            and self.taken.get(settled, 0) >= P_MIN
        )

    def _credit(self, epoch: int, score: int) -> tuple[int, int]:
        points = self._points(self.paid.get(epoch, 0))
        blame = self._points(self.taken.get(epoch, 0))
        if score < 0:
            return 0, blame * -score // 10
        return points * (10 + score) // 20, 0

    @staticmethod
    def _points(paid: int) -> int:
        doublings = 0
        while 2 ** (doublings + 1) <= 1 + paid // P_MIN:
            doublings += 1
        return min(16 * doublings, 256)

    @staticmethod
    def _decayed(value: int, factor: int, epochs: int) -> int:
        for _ in range(epochs):
            value = value * factor >> 16
        return value


settles = st.tuples(
    st.just("settle"), st.integers(1, 2**28), st.tuples(st.booleans(), st.booleans())
)
rates = st.tuples(
    st.just("rate"),
    st.integers(0, 5),
    st.integers(-10, 10).filter(bool).map(lambda score: (score, 0)),
)
histories = st.lists(
    st.tuples(st.integers(0, EPOCHS - 1), st.one_of(settles, rates)), max_size=40
).map(lambda events: sorted(events, key=lambda event: event[0]))


@given(histories)
def test_lazy_folding_equals_closing_every_epoch(history: list) -> None:
    pair: PairState | None = None
    diary = Diary()
    seq = paid = 0
    for epoch, (kind, amount, (first, second)) in history:
        if kind == "settle":
            # What the payer settles alone moves the sum only, so its number is used again.
            seq = max((last for last, _ in diary.settled_in), default=0) + 1
            paid += amount
            pair = edges.settle_edge(
                pair,
                epoch=epoch,
                seq=seq,
                cum_units=seq,
                cum_paid=paid,
                cosigned=first,
                ratable=second,
                p_min=P_MIN,
            )
            diary.paid[epoch] = diary.paid.get(epoch, 0) + (amount if first else 0)
            diary.taken[epoch] = diary.taken.get(epoch, 0) + (amount if second else 0)
            if first or second:
                diary.settled_in.append((seq, epoch))
        else:
            target = seq - amount
            allowed = target >= 1 and diary.may_rate(target, epoch)
            try:
                pair = edges.rate_edge(
                    pair, epoch=epoch, receipt_seq=target, score=first, p_min=P_MIN
                )
            except InvalidData:
                assert not allowed
            else:
                assert allowed
                settled = diary.window(target)
                assert settled is not None
                diary.ratings[settled] = (epoch, first)
        if pair is not None:
            # Derived at any time within an epoch, the end of the epoch before is the same value.
            assert edges.edge_at_end_of(pair, epoch) == diary.edge(epoch)
            if epoch:
                assert edges.edge_at_end_of(pair, epoch - 1) == diary.edge(epoch - 1)
    if pair is not None:
        for later in (EPOCHS, EPOCHS + 5, EPOCHS + 300):
            assert edges.edge_at_end_of(pair, later) == diary.edge(later)


@given(
    st.lists(st.integers(P_MIN, 2**26), min_size=1, max_size=8),
    st.lists(st.integers(1, 2**26), max_size=8),
    st.integers(-10, 10),
)
def test_splitting_a_payment_gains_nothing(parts: list[int], cuts: list[int], score: int) -> None:
    def edge(payments: list[int]) -> tuple[int, int]:
        pair: PairState | None = None
        paid = 0
        for seq, payment in enumerate(payments, 1):
            paid += payment
            pair = edges.settle_edge(
                pair,
                epoch=3,
                seq=seq,
                cum_units=seq,
                cum_paid=paid,
                cosigned=True,
                ratable=True,
                p_min=P_MIN,
            )
        assert pair is not None
        if score:
            pair = edges.rate_edge(pair, epoch=3, receipt_seq=1, score=score, p_min=P_MIN)
        return edges.edge_at_end_of(pair, 3)

    assert edge(parts) == edge([sum(parts)])
    pos, neg = edge([*parts, *cuts])
    whole_pos, whole_neg = edge(parts)
    assert pos >= whole_pos  # paying more never gives less
    assert neg >= whole_neg


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 40))
def test_decay_is_superadditive(a: int, b: int, epochs: int) -> None:
    """What `end_of_own_epoch` rests on when it takes a decayed credit out."""
    for factor in (edges.POSITIVE_DECAY, edges.NEGATIVE_DECAY):
        together = edges.decay(a + b, factor, epochs)
        apart = edges.decay(a, factor, epochs) + edges.decay(b, factor, epochs)
        assert apart <= together <= apart + max(epochs, 0)
