"""Quality: what the trusted say about a peer's service, and what standing follows from it.

Trust alone says who is well connected to the seeds; it would let a traitor live on its past
(EigenTrust's threat model C). Quality asks the raters, each weighing by its own trust:

    r    rater weight, 0..2^10: its trust, saturating at four times the fair share S / N_ref, so
         that nobody outvotes a crowd. N_ref is governed and never an account count, which an
         attacker controls. A rater without trust has weight 0 and exactly no effect.
    cf   confidence n / (n + n0), 0..2^10, with n = pos + 4 * neg: little experience says little.
    fr   good share pos / n, 0..2^10.
    q    (sum of r * cf * fr + prior) / (sum of r * cf + prior), 2^16 = 1. The prior, half a rater
         of full weight and confidence, makes an unrated peer q = 1: that alone gives nothing,
         because standing needs trust.
    g    q^8, and 0 below q = 0.6: good service must be the rule, not the majority.
    W    t * g >> 16: the standing that drives selection, rewards and peer scoring, in units of t.

Bounds: cf <= 2^10 and the sum of r over all raters is at most 2^10 * N_ref / 4 (the trust of all is
S), so numerator and denominator stay below 2^18 * 10^7 + 2^19 < 2^42, and shifted by 16 below 2^58.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ledger.reputation.trust import GAIN_UNIT, INT64_LIMIT, NEGATIVE_WEIGHT, TRUST_TOTAL, Edge

WEIGHT_UNIT = 1 << 10
WEIGHT_SHARES = 4
"""A rater's weight saturates at this many fair shares S / N_ref."""
PRIOR = 1 << 19
QUALITY_UNIT = 1 << 16
QUALITY_THRESHOLD = 39_322
"""0.6 of QUALITY_UNIT, rounded up: below it a peer has no standing and a seed is suspended."""


def rater_weight(trust: int, n_ref: int) -> int:
    """r of rule 5, 0..2^10."""
    full = WEIGHT_SHARES * TRUST_TOTAL // n_ref
    return min(trust, full) * WEIGHT_UNIT // full


def edge_voice(weight: int, pos: int, neg: int, n0: int) -> tuple[int, int]:
    """(what a rater of this weight adds to numerator and denominator of q); n = 0 adds nothing."""
    n = pos + NEGATIVE_WEIGHT * neg
    if n == 0:
        return 0, 0
    confidence = n * WEIGHT_UNIT // (n + n0)
    good_share = pos * WEIGHT_UNIT // n
    return weight * confidence * good_share >> 10, weight * confidence


def quality_of(good: int, heard: int) -> int:
    """q from the sums over the raters, 2^16 = 1."""
    numerator = (good + PRIOR) << 16
    assert numerator < INT64_LIMIT
    return numerator // (heard + PRIOR)


def qualities(
    edges: Sequence[Sequence[Edge]], weights: Sequence[int], n0: int
) -> tuple[list[int], list[int]]:
    """Rules 5 and 6: (q, number of raters with a voice) of each peer.

    `edges[i]` are the kept edges of rater i, `weights[i]` its rater weight.
    """
    size = len(edges)
    good, heard, raters = [0] * size, [0] * size, [0] * size
    for weight, own in zip(weights, edges, strict=True):
        if weight == 0:
            continue
        for ratee, pos, neg in own:
            share, voice = edge_voice(weight, pos, neg, n0)
            good[ratee] += share
            heard[ratee] += voice
            raters[ratee] += voice > 0
    return [quality_of(a, b) for a, b in zip(good, heard, strict=True)], raters


class Voice(NamedTuple):
    """One rater's part in the quality of one peer."""

    rater: bytes
    weight: int
    """Rater weight, 0..2^10."""
    pos: int
    neg: int
    effect: int
    """Quality now minus quality without this rater; 2^16 = 1."""


def explain(voices: Iterable[tuple[bytes, int, int, int]], n0: int) -> list[Voice]:
    """What moves a score: the raters (address, weight, pos, neg) of one peer, largest effect first.

    Ties go to the lower address. A rater without weight or experience has the effect 0.
    """
    known = [(voice, edge_voice(*voice[1:], n0)) for voice in voices]
    good = sum(share for _, (share, _) in known)
    heard = sum(voice for _, (_, voice) in known)
    now = quality_of(good, heard)
    moved = [
        Voice(*facts, now - quality_of(good - share, heard - voice))
        for facts, (share, voice) in known
    ]
    return sorted(moved, key=lambda voice: (-abs(voice.effect), voice.rater))


def gain_of(quality: int) -> int:
    """g = q^8 by three squarings, and 0 below the threshold."""
    if quality < QUALITY_THRESHOLD:
        return 0
    gain = quality
    for _ in range(3):
        gain = gain * gain >> 16
    assert gain <= GAIN_UNIT
    return gain


def standing_of(trust: int, gain: int) -> int:
    """W = t * g, in units of t."""
    return trust * gain >> 16


def ranks(standings: Sequence[int]) -> list[int]:
    """Rank of each peer, 1 for the largest standing; ties go to the lower address."""
    order = sorted(range(len(standings)), key=lambda peer: (-standings[peer], peer))
    places = [0] * len(standings)
    for place, peer in enumerate(order, 1):
        places[peer] = place
    return places
