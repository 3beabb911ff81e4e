"""Fault points: decay, the limit, doubling bans, a bounded memory."""

from __future__ import annotations

from p2p.limits import Limits
from p2p.offenders import Offenders

LIMITS = Limits(fault_limit_points=100, ban_first_s=60, ban_cap_s=200, offenders_max_count=3)


def test_points_decay_and_bring_a_ban_at_the_limit() -> None:
    offenders = Offenders(LIMITS)
    assert offenders.charge("a", 50, 1000.0) == (50, 0)
    assert offenders.charge("a", 50, 1030.0) == (70, 0)
    assert offenders.banned_for_s("a", 1030.0) == 0
    assert offenders.charge("a", 30, 1030.0) == (100, 60)
    assert offenders.banned_for_s("a", 1040.0) == 50
    assert offenders.banned_for_s("a", 1090.0) == 0
    assert offenders.banned_for_s("b", 1040.0) == 0


def test_bans_double_up_to_the_cap() -> None:
    offenders = Offenders(LIMITS)
    bans = [offenders.charge("a", 100, 1000.0)[1] for _ in range(5)]
    assert bans == [60, 120, 200, 200, 200]


def test_the_identity_charged_longest_ago_is_forgotten() -> None:
    offenders = Offenders(LIMITS)
    for name in ("a", "b", "c"):
        offenders.charge(name, 100, 1000.0)
    offenders.charge("a", 1, 1001.0)
    offenders.charge("d", 100, 1002.0)
    banned = [n for n in "abcd" if offenders.banned_for_s(n, 1002.0) > 0]
    assert banned == ["a", "c", "d"]
