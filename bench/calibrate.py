"""The yardstick: what one signature check costs on this machine, now.

One check is coincurve's public interface alone, from bytes to a verdict, as the cheapest program
that checks a stranger's signature would do it:

    PublicKey(key33).verify(der_signature, digest32, hasher=None)

It includes parsing the key (a field square root) and the DER signature; it leaves out hashing and
the conversion from our 64-byte signatures. CPU time of the thread is measured, not wall time, so
that other programs on the machine do not make the yardstick longer; the median of several rounds is
taken against what remains (frequency changes, a neighbour in the cache).

A node that checks the same signature with less work (a key parsed once, a faster binding) earns a
lower ratio by it: that is a saving, not a trick.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import coincurve

from ledger.crypto import sha256

ROUNDS_COUNT = 9
CHECKS_COUNT = 2_000
"""Checks a round: about 0.1 s. Each has its own key and digest, as strangers' transactions have."""

_KEYS_COUNT = 200


@dataclass(frozen=True, slots=True)
class Calibration:
    """µs of CPU for one check: the median of the rounds, and their extremes."""

    verify_us: float
    least_us: float
    most_us: float


def calibrate(rounds: int = ROUNDS_COUNT, checks: int = CHECKS_COUNT) -> Calibration:
    """Measure. Takes about a second."""
    cases = []
    for number in range(_KEYS_COUNT):
        secret = sha256(b"calibration %d" % number)
        key = coincurve.PrivateKey(secret)
        digest = sha256(secret)
        cases.append((key.public_key.format(), key.sign(digest, hasher=None), digest))
    costs = sorted(_round(cases, checks) for _ in range(rounds))
    return Calibration(statistics.median(costs), costs[0], costs[-1])


def _round(cases: list[tuple[bytes, bytes, bytes]], checks: int) -> float:
    public_key = coincurve.PublicKey
    before_ns = time.thread_time_ns()
    good = 0
    for number in range(checks):
        key, signature, digest = cases[number % len(cases)]
        good += public_key(key).verify(signature, digest, hasher=None)
    spent_ns = time.thread_time_ns() - before_ns
    assert good == checks
    return spent_ns / checks / 1_000
