"""The state cache: right, bounded, and keeping what is used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.state_cache import ENTRY_OVERHEAD_BYTES, MISSING, StateCache

KEYS = st.binary(min_size=1, max_size=2)
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.one_of(st.none(), st.binary(max_size=60))),
    st.tuples(st.sampled_from(["get", "drop"]), KEYS, st.none()),
)


def held_bytes(cache: StateCache) -> int:
    generations = (cache._young, cache._old)
    return sum(
        len(key) + ENTRY_OVERHEAD_BYTES + len(value or b"")
        for generation in generations
        for key, value in generation.items()
    )


@given(st.lists(STEPS, max_size=60), st.integers(0, 2_000))
def test_what_is_found_is_what_was_put_last_and_never_too_much(
    steps: list[tuple[str, bytes, bytes | None]], limit: int
) -> None:
    cache = StateCache(limit)
    model: dict[bytes, bytes | None] = {}
    for action, key, value in steps:
        if action == "put":
            cache.put(key, value)
            model[key] = value
        elif action == "drop":
            cache.drop(key)
            model.pop(key, None)
        found = cache.get(key)
        if found is not MISSING:
            assert key in model
            assert found == model[key]
        assert held_bytes(cache) <= limit
        assert cache._young_bytes <= limit // 2


def test_what_is_used_stays_and_what_is_not_goes() -> None:
    cache = StateCache(100 * (ENTRY_OVERHEAD_BYTES + 10))
    cache.put(b"hot", b"value")
    cache.put(b"cold", b"value")
    for number in range(1_000):
        cache.put(b"%d" % number, b"filler")
        assert cache.get(b"hot") == b"value"
    assert cache.get(b"cold") is MISSING
    assert 40 <= len(cache) <= 100


def test_absence_is_remembered_and_too_large_is_not() -> None:
    cache = StateCache(1_000)
    cache.put(b"gone", None)
    assert cache.get(b"gone") is None
    cache.put(b"big", b"small")
    cache.put(b"big", bytes(2_000))
    assert cache.get(b"big") is MISSING
    cache.clear()
    assert cache.get(b"gone") is MISSING
    assert len(cache) == 0
