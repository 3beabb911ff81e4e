"""How long a round may take: T(r) = min(base · 1.5^r, cap), cap doubling every 16 capped rounds.

Growth makes a round long enough for the network as it is (Castro and Liskov 1999, 4.4: liveness
needs time-outs that outgrow the delay). The cap keeps the way back short after an outage. A network
slower than the cap would then never converge, hence the doubling.
"""

from __future__ import annotations

CAPPED_ROUNDS_PER_DOUBLING = 16

# A round of an hour is no longer a matter of time-outs; the bound also keeps the numbers small.
LONGEST_ROUND_MS = 3_600_000

# Own votes are repeated at this pace while a height lasts: the loss of a message costs at most this
# long, and a validator that waits is cheap for the others.
REBROADCAST_MS = 2_000


def round_timeout_ms(round_: int, base_ms: int, cap_ms: int) -> int:
    """T(round) in whole ms. `cap_ms` is at least `base_ms`."""
    numerator, denominator = base_ms, 1
    for uncapped in range(round_):
        if numerator >= cap_ms * denominator:
            return _doubled(cap_ms, round_ - uncapped)
        numerator, denominator = numerator * 3, denominator * 2
    if numerator >= cap_ms * denominator:
        return min(cap_ms, LONGEST_ROUND_MS)
    return min(numerator // denominator, LONGEST_ROUND_MS)


def _doubled(cap_ms: int, capped_rounds: int) -> int:
    """The cap after this many rounds at it."""
    doublings = min(capped_rounds // CAPPED_ROUNDS_PER_DOUBLING, LONGEST_ROUND_MS.bit_length())
    return min(cap_ms << doublings, LONGEST_ROUND_MS)
