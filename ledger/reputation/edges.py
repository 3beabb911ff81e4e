"""What one payer thinks of one payee: the pair object, and the points that flow into it.

Theory
------
There is one state object per (payer = rater, payee = ratee, service). It must exist forever,
because it is the replay protection of the cumulative receipt (seq and sums only grow), so the
reputation edge lives in it too (ADR 0030). All times are epochs.

    points    P(paid) = min(16 * floor(log2(1 + paid // p_min)), 256), of the epoch's *total*: three
              settles of 10 are worth one of 30, so splitting gains nothing.
    unrated   pos += P * 10 / 20         rated s > 0   pos += P * (10 + s) / 20
                                         rated s < 0   neg += P * |s| / 10
    decay     pos * 62,370 >> 16 (half-life 14 epochs), neg * 63,934 >> 16 (28 epochs), once for
              each epoch passed; decay first, then add.
    cap       pos and neg stay <= HISTORY_CAP, so that no past outweighs sixteen full epochs.

Two consents are told apart. *Positive* points are computed on what both parties signed
(`paid_cosigned`). *Blame* is computed on what the payee agreed to take (`paid_ratable`): a payer
cannot force a payment on a stranger and then complain about it. Of a settle from the balance both
are the same, since the countersignature is the agreement (ADR 0032); an accepted channel can be
blamed without one.

What is stored.  `pos` and `neg` are the edge at the END of epoch `epoch` - 1; everything that
happened in `epoch` itself stands beside them (paid sums, the rating of this epoch's receipts, late
ratings). The first touch in a later epoch folds it in, and all writes of epoch E touch only the
accumulators of E. So the edge at the end of epoch E - 1 can be read from the state at ANY moment
within E, by any node, whether or not it crashed and restarted in between: no snapshot is needed.
`p_min` is kept with the sums it applies to; a governed change of it between two touches could
otherwise make the fold of an old epoch differ from what its scores were computed with.

Which receipts a rating speaks of.  Receipts are cumulative, so a rating names a sequence number and
thereby the *window* (the receipts one epoch settled, `after_seq` < seq <= `last_seq`), and it rates
that window's whole total, just as points are computed on the whole total:

    settled in E,     rated in E    the window's points are taken at that score; a later settle of
                                    the same epoch joins the window and takes the score too
    settled in E - k, rated in E    k = 1, 2: the window was credited as unrated at the end of its
                                    own epoch; that credit has decayed k times by the end of E. It
                                    is taken out as it then stands, and what the rating would have
                                    given is put in, decayed k times with its own half-life.

The result of a late rating is what an immediate one would have given, up to rounding: floor(x * d)
is superadditive, so decaying a sum leaves at least the sum of the decayed parts. Hence taking a
decayed credit out never makes `pos` negative, and what rounding leaves behind is below one point
per decay step. (The cap does not break it: both credits that can still be replaced are at most
128, far below HISTORY_CAP.)

At most one rating is accepted per pair, service and epoch, and at most one per window.
"""

from __future__ import annotations

import msgspec

from ledger import codec
from ledger.codec import U32, U53
from ledger.errors import InvalidData

PAIR_LIMIT_BYTES = 512
"""Above the longest encoding of a pair: 11 integers and two windows of 7, each at most 9 bytes."""

POINTS_PER_DOUBLING = 16
POINTS_MAX = 256
POSITIVE_DECAY = 62_370
"""2^16 * 2^(-1/14), rounded to nearest: half-life of 14 epochs."""
NEGATIVE_DECAY = 63_934
"""2^16 * 2^(-1/28), rounded to nearest: half-life of 28 epochs."""
MAX_DECAY_STEPS = 1_024
"""Bounds the loop. HISTORY_CAP itself is gone after 118 (pos) or 209 (neg) steps."""
HISTORY_CAP = 16 * POINTS_MAX
"""Sixteen full epochs. Over 32 services pos + 4 * neg stays below 2^20: rules 3 and 5 need it."""
RATING_WINDOW_EPOCHS = 2
SCORE_MAX = 10


class EdgeRefused(InvalidData):
    """A settle or a rating the pair does not allow. `reason` is a name of ledger.reasons.FAILED."""

    reason = ""

    def __init__(self, **facts: int | str) -> None:
        self.facts: dict[str, int | str] = facts
        words = ", ".join(f"{name} {value}" for name, value in facts.items())
        super().__init__(f"{self.reason}: {words}")


class ReceiptNotNewer(EdgeRefused):
    """Sequence number and both sums of a cumulative receipt must strictly grow.

    Facts: field ("seq", "cum_units" or "cum_paid"), settled, offered.
    """

    reason = "RECEIPT_NOT_NEWER"


class NothingToRate(EdgeRefused):
    """No settled receipt of this pair and service has this number. Facts: receipt_seq, last_seq."""

    reason = "NOTHING_TO_RATE"


class NotRatable(EdgeRefused):
    """The payee took less than p_min in that epoch: submitted no receipt, accepted no channel.

    Facts: receipt_seq, settled_in.
    """

    reason = "NOTHING_TO_RATE"


class RatingTooLate(EdgeRefused):
    """The receipt was settled more than RATING_WINDOW_EPOCHS epochs ago.

    Facts: receipt_seq, oldest_seq.
    """

    reason = "RATING_TOO_LATE"


class AlreadyRated(EdgeRefused):
    """This pair and service was rated in this epoch, or the receipt's window was rated before.

    Facts: receipt_seq, rated_in.
    """

    reason = "ALREADY_RATED"


class Window(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The receipts settled in one past epoch which a rating may still speak of."""

    epoch: U53
    after_seq: U53
    """Receipts with after_seq < seq <= last_seq belong to the window."""
    last_seq: U53
    points: U32
    """P of what both parties signed."""
    blame: U32
    """P of what the payee took; 0 means that the window cannot be rated."""
    score: int = 0
    """-10..+10, 0 while unrated."""
    rated_in: U53 = 0
    """Epoch of the rating; without meaning while `score` is 0."""


class PairState(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """State object under ledger.state.pair_key(payer, payee, service)."""

    seq: U53
    """Sequence number of the newest settled receipt that the payee consented to."""
    cum_units: U53
    """Its units."""
    cum_paid: U53
    """µT; also what the payer paid ahead on its own."""
    epoch: U53
    """Epoch of the last touch."""
    pos: U32
    neg: U32
    """Points at the end of `epoch` - 1."""
    p_min: U53
    """µT for the first doubling, as it was in `epoch`."""
    after_seq: U53
    """Receipts with after_seq < seq were settled in `epoch`."""
    paid_cosigned: U53
    """µT settled in `epoch` under both signatures."""
    paid_ratable: U53
    """µT settled in `epoch` that the payee submitted or accepted a channel for."""
    score: int
    """Rating given in `epoch` to receipts of `epoch`; 0 is none."""
    windows: tuple[Window, ...]
    """Past windows that were ratable in `epoch`, oldest first; at most RATING_WINDOW_EPOCHS."""


pair_codec: codec.Codec[PairState] = codec.Codec("pair", PairState, PAIR_LIMIT_BYTES)
"""For bytes from outside."""
decode_pair = msgspec.msgpack.Decoder(PairState).decode
"""For bytes out of our own state."""


def points_of(paid: int, p_min: int) -> int:
    """Points for an epoch's total of `paid` µT. 16 for each doubling of p_min, at most 256."""
    doublings = (1 + paid // p_min).bit_length() - 1  # floor(log2(...)), exact
    return min(POINTS_PER_DOUBLING * doublings, POINTS_MAX)


def credit(points: int, blame: int, score: int) -> tuple[int, int]:
    """(pos, neg) that a window gives at `score`; 0 is unrated. Floors, so never more than due."""
    if score < 0:
        return 0, blame * -score // SCORE_MAX
    return points * (SCORE_MAX + score) // (2 * SCORE_MAX), 0


def decay(value: int, factor: int, epochs: int) -> int:
    """`value` after `epochs` epochs, one floored step for each."""
    if epochs > MAX_DECAY_STEPS:
        return 0
    for _ in range(epochs):
        if value == 0:
            break
        value = value * factor >> 16
    return value


def decay_edge(edge: tuple[int, int], epochs: int) -> tuple[int, int]:
    """(pos, neg) after `epochs` epochs without any event."""
    pos, neg = edge
    return decay(pos, POSITIVE_DECAY, epochs), decay(neg, NEGATIVE_DECAY, epochs)


def settle_edge(
    pair: PairState | None,
    *,
    epoch: int,
    seq: int,
    cum_units: int,
    cum_paid: int,
    cosigned: bool,
    ratable: bool,
    p_min: int,
) -> PairState:
    """Take a newer cumulative receipt into the pair.

    cosigned: both parties signed. ratable: the payee submitted it, or it ran through a channel the
    payee accepted. One that is neither moves the sum paid and nothing else (ADR 0110).
    p_min: µT, the parameter of this epoch (constant within an epoch). Raises ReceiptNotNewer.
    """
    if pair is None:
        pair = PairState(0, 0, 0, epoch, 0, 0, p_min, 0, 0, 0, 0, ())
    for field, settled, offered in (
        ("seq", pair.seq, seq),
        ("cum_units", pair.cum_units, cum_units),
        ("cum_paid", pair.cum_paid, cum_paid),
    ):
        if offered <= settled:
            raise ReceiptNotNewer(field=field, settled=settled, offered=offered)
    pair = roll_forward(pair, epoch, p_min)
    paid = cum_paid - pair.cum_paid
    if not (cosigned or ratable):
        # The payer's word alone: it may pay ahead, but number and units are what receipts in the
        # payee's hands are compared with, and must not be moved past them without the payee.
        return msgspec.structs.replace(pair, cum_paid=cum_paid)
    return msgspec.structs.replace(
        pair,
        seq=seq,
        cum_units=cum_units,
        cum_paid=cum_paid,
        paid_cosigned=pair.paid_cosigned + (paid if cosigned else 0),
        paid_ratable=pair.paid_ratable + (paid if ratable else 0),
    )


def rate_edge(
    pair: PairState | None, *, epoch: int, receipt_seq: int, score: int, p_min: int
) -> PairState:
    """Take a rating, -10..+10 without 0, of the window that settled `receipt_seq`.

    Raises NothingToRate, RatingTooLate, AlreadyRated or NotRatable.
    """
    assert score != 0
    assert -SCORE_MAX <= score <= SCORE_MAX
    if pair is None or not 0 < receipt_seq <= pair.seq:
        raise NothingToRate(receipt_seq=receipt_seq, last_seq=pair.seq if pair else 0)
    pair = roll_forward(pair, epoch, p_min)
    if pair.score or any(w.score and w.rated_in == epoch for w in pair.windows):
        raise AlreadyRated(receipt_seq=receipt_seq, rated_in=epoch)
    if receipt_seq > pair.after_seq:
        if points_of(pair.paid_ratable, pair.p_min) == 0:
            raise NotRatable(receipt_seq=receipt_seq, settled_in=epoch)
        return msgspec.structs.replace(pair, score=score)
    window = _window_of(pair, receipt_seq)
    if window.score:
        raise AlreadyRated(receipt_seq=receipt_seq, rated_in=window.rated_in)
    if window.blame == 0:
        raise NotRatable(receipt_seq=receipt_seq, settled_in=window.epoch)
    rated = msgspec.structs.replace(window, score=score, rated_in=epoch)
    windows = tuple(rated if w is window else w for w in pair.windows)
    return msgspec.structs.replace(pair, windows=windows)


def _window_of(pair: PairState, receipt_seq: int) -> Window:
    """The past window that settled `receipt_seq`. Raises RatingTooLate."""
    for window in pair.windows:
        if window.after_seq < receipt_seq <= window.last_seq:
            return window
    oldest = pair.windows[0].after_seq if pair.windows else pair.after_seq
    raise RatingTooLate(receipt_seq=receipt_seq, oldest_seq=oldest + 1)


def edge_at_end_of(pair: PairState, epoch: int) -> tuple[int, int]:
    """(pos, neg) at the end of `epoch`, derivable until the end of `epoch` + 1.

    A pair touched later than that no longer knows; asking is a bug of the caller.
    """
    assert pair.epoch <= epoch + 1, (pair.epoch, epoch)
    if pair.epoch == epoch + 1:
        return pair.pos, pair.neg
    return decay_edge(end_of_own_epoch(pair), epoch - pair.epoch)


def end_of_own_epoch(pair: PairState) -> tuple[int, int]:
    """(pos, neg) at the end of `pair.epoch`: decay, replace late-rated credits, then add."""
    pos, neg = decay_edge((pair.pos, pair.neg), 1)
    for window in pair.windows:
        if window.score and window.rated_in == pair.epoch:
            age = pair.epoch - window.epoch
            was_pos, _ = decay_edge(credit(window.points, window.blame, 0), age)
            now_pos, now_neg = decay_edge(credit(window.points, window.blame, window.score), age)
            pos += now_pos - was_pos
            neg += now_neg
    points = points_of(pair.paid_cosigned, pair.p_min)
    blame = points_of(pair.paid_ratable, pair.p_min)
    new_pos, new_neg = credit(points, blame, pair.score)
    pos, neg = pos + new_pos, neg + new_neg
    assert pos >= 0
    return min(pos, HISTORY_CAP), min(neg, HISTORY_CAP)


def roll_forward(pair: PairState, epoch: int, p_min: int) -> PairState:
    """The same pair seen from `epoch`: what was pending is folded, its accumulators are empty.

    Unchanged if it was already touched in `epoch`. Block time never runs backwards, so `epoch` is
    never below `pair.epoch`.
    """
    assert epoch >= pair.epoch
    if epoch == pair.epoch:
        return pair
    pos, neg = edge_at_end_of(pair, epoch - 1)
    windows = (*pair.windows, *_closed_window(pair))
    return PairState(
        seq=pair.seq,
        cum_units=pair.cum_units,
        cum_paid=pair.cum_paid,
        epoch=epoch,
        pos=pos,
        neg=neg,
        p_min=p_min,
        after_seq=pair.seq,
        paid_cosigned=0,
        paid_ratable=0,
        score=0,
        windows=tuple(w for w in windows if w.epoch + RATING_WINDOW_EPOCHS >= epoch),
    )


def _closed_window(pair: PairState) -> tuple[Window, ...]:
    """The window of `pair.epoch`, or nothing if no receipt was settled in it."""
    if pair.seq == pair.after_seq:
        return ()
    return (
        Window(
            epoch=pair.epoch,
            after_seq=pair.after_seq,
            last_seq=pair.seq,
            points=points_of(pair.paid_cosigned, pair.p_min),
            blame=points_of(pair.paid_ratable, pair.p_min),
            score=pair.score,
            rated_in=pair.epoch if pair.score else 0,
        ),
    )
