"""Token buckets: what a network may spend, and that the table of networks is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc import limits
from rpc.errors import LimitExceeded
from rpc.limits import RateLimiter, network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("192.0.2.1", "192.0.2.0/24"),
        ("::ffff:192.0.2.5", "192.0.2.0/24"),
        ("2001:db8:1:ffff::1", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", ""),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(address) == network


def test_a_bucket_empties_and_says_when_it_is_back() -> None:
    limiter = RateLimiter(rate_per_s=10, burst=20)
    limiter.charge("a", 20, 0)
    with pytest.raises(LimitExceeded) as refused:
        limiter.charge("a", 5, 0)
    assert refused.value.facts == {"retryAfterMs": 500}
    assert refused.value.retryable
    with pytest.raises(LimitExceeded):
        limiter.charge("a", 5, 499)
    limiter.charge("a", 5, 500)
    limiter.charge("b", 20, 500)


def test_a_call_dearer_than_the_bucket_is_possible_and_leaves_a_debt() -> None:
    limiter = RateLimiter(rate_per_s=10, burst=20)
    limiter.charge("a", 100, 0)
    with pytest.raises(LimitExceeded) as refused:
        limiter.charge("a", 1, 0)
    assert refused.value.facts == {"retryAfterMs": 8_100}


def test_a_clock_that_steps_back_gives_nothing() -> None:
    limiter = RateLimiter(rate_per_s=10, burst=20)
    limiter.charge("a", 20, 10_000)
    with pytest.raises(LimitExceeded):
        limiter.charge("a", 1, 5_000)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=60))
def test_never_more_than_burst_and_flow(steps: list[tuple[int, int]]) -> None:
    limiter = RateLimiter(rate_per_s=50, burst=40)
    now = spent = 0
    for wait_ms, cost in steps:
        now += wait_ms
        try:
            limiter.charge("a", cost, now)
        except LimitExceeded:
            continue
        spent += cost
    assert spent * 1_000 <= 40 * 1_000 + now * 50


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NETWORKS_COUNT", 3)
    limiter = RateLimiter(rate_per_s=1, burst=1)
    for name in "abc":
        limiter.charge(name, 1, 0)
    with pytest.raises(LimitExceeded):
        limiter.charge("a", 1, 0)
    limiter.charge("d", 1, 0)
    # "b" was the least recently seen and is the one that was forgotten.
    limiter.charge("b", 1, 0)
    with pytest.raises(LimitExceeded):
        limiter.charge("a", 1, 0)
