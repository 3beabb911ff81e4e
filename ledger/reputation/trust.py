"""Trust: where a token ends up that starts at the seeds and walks along real service.

Theory
------
The eigenvector idea is EigenTrust's (S. Kamvar, M. Schlosser, H. Garcia-Molina, "The EigenTrust
Algorithm for Reputation Management in P2P Networks", WWW 2003, sections 4.2-4.5): t = (1 - a) C^T t
+ a p, where C holds each peer's normalised local trust and p the pre-trusted seeds. What differs:

- A peer's opinion of another is s = max(pos - 4 * neg, 0): one bad service takes back four good
  ones, and a distrusted peer is simply not trusted (negative opinions do not flow onwards).
- A row is the 64 largest s (ties: lower address), so one account cannot spread trust over
  thousands of Sybils, and work per rater is bounded.
- a = 2/5 is large, so influence is local to the seeds. For any set S of accounts that holds k of
  |P| seeds, T(S) <= ((1 - a) / a) * f + k / |P|, with f the trust flowing into S from outside:
  whatever S does inside, it multiplies what it was given by at most 3/2, where honest accounts that
  pass their trust on keep 3/5 of it: at most 2.5 times, whether it has one account or a thousand.
- K = 20 rounds, fixed: the rest is (3/5)^20, about 4e-5 of the total, and nobody has to agree on
  when a floating iteration has converged.

Everything is integer. The total S = 2^40 is conserved exactly: a round floors what flows along the
rows,
    v_j = 3 * ((sum of t_i * c_ij) >> 20) // 5,
and hands whatever is missing from S to the seeds in equal parts, the remainder of the division one
each to the first seeds in index order. What is missing is the teleport a * S, the trust of
peers with an empty row (spread by p, as EigenTrust does) and the rounding; all three go to p, so
they are one sum.

Bounds: c_ij <= 2^20 and sum_j c_ij <= 2^20, hence sum_i t_i * c_ij <= 2^60 < 2^63, which lets the
int64 path (ledger.reputation.fast) give the same bits. Asserted here.

Peers are indexes into the ascending list of addresses, so "lower address" is "lower index".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

TRUST_TOTAL = 1 << 40
"""S: the trust of all peers together, in every round."""
ROW_UNIT = 1 << 20
ROUNDS = 20
ROW_LIMIT = 64
NEGATIVE_WEIGHT = 4
OPINION_LIMIT = 1 << 20
INT64_LIMIT = 1 << 63
GAIN_UNIT = 1 << 16

Edge = tuple[int, int, int]
"""(ratee, pos, neg) in the list of its rater."""
Row = list[tuple[int, int]]
"""(ratee, c) with the sum of c at most ROW_UNIT."""


def opinion(pos: int, neg: int) -> int:
    """s: how much of its trust a rater would pass on, before normalising."""
    s = max(pos - NEGATIVE_WEIGHT * neg, 0)
    assert s <= OPINION_LIMIT
    return s


def trust_rows(edges: Sequence[Sequence[Edge]], gain: Sequence[int] | None = None) -> list[Row]:
    """Rule 3. `edges[i]` are the kept edges of rater i; `gain[j]` weighs opinions of j by 2^-16."""
    rows = []
    for own in edges:
        opinions = []
        for ratee, pos, neg in own:
            s = opinion(pos, neg)
            if gain is not None:
                s = s * gain[ratee] >> 16
            if s > 0:
                opinions.append((-s, ratee))
        opinions.sort()
        del opinions[ROW_LIMIT:]
        total = -sum(s for s, _ in opinions)
        rows.append([(ratee, -s * ROW_UNIT // total) for s, ratee in opinions])
    return rows


def spread_over_seeds(size: int, seeds: Sequence[int], amount: int) -> list[int]:
    """`amount` in equal parts over the seeds, the remainder one each in index order."""
    share, remainder = divmod(amount, len(seeds))
    values = [0] * size
    for place, seed in enumerate(sorted(seeds)):
        values[seed] = share + (place < remainder)
    return values


def step(rows: Sequence[Row], trust: Sequence[int], seeds: Sequence[int]) -> list[int]:
    """Rule 4, one round. The sum of the result is TRUST_TOTAL again."""
    flow = [0] * len(rows)
    for amount, row in zip(trust, rows, strict=True):
        if amount:
            for ratee, share in row:
                flow[ratee] += amount * share
    assert max(flow) < INT64_LIMIT
    flow = [3 * (value >> 20) // 5 for value in flow]
    missing = TRUST_TOTAL - sum(flow)
    assert missing >= 2 * TRUST_TOTAL // 5
    seeded = spread_over_seeds(len(rows), seeds, missing)
    return [value + extra for value, extra in zip(flow, seeded, strict=True)]


def propagate(rows: Sequence[Row], seeds: Sequence[int]) -> list[int]:
    """t after ROUNDS rounds from p. `seeds` are 1-21 indexes of active seeds."""
    trust = spread_over_seeds(len(rows), seeds, TRUST_TOTAL)
    for _ in range(ROUNDS):
        trust = step(rows, trust, seeds)
    assert sum(trust) == TRUST_TOTAL
    return trust


def active_seeds(
    governed: Sequence[bytes], previous_quality: Mapping[bytes, int], threshold: int
) -> list[bytes]:
    """The governed seeds, ascending, without those whose quality fell below `threshold`.

    Quality is the previous epoch's; a seed without a score counts as unrated, hence good. At least
    two thirds of the governed set stay, the best of the fallen first (ties: lower address), so that
    slandering seeds cannot hand the rest of them the whole network.
    """
    keep = -(-2 * len(governed) // 3)
    ordered = sorted(governed, key=lambda seed: (-previous_quality.get(seed, GAIN_UNIT), seed))
    good = [seed for seed in ordered if previous_quality.get(seed, GAIN_UNIT) >= threshold]
    return sorted(ordered[: max(keep, len(good))])
