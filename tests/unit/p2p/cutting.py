"""Cuts a byte string at arbitrary places, as a network does."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st


def cut(data: st.DataObject, whole: bytes) -> list[bytes]:
    """Non-empty pieces of `whole`, in order, cut at places that hypothesis draws."""
    places = data.draw(
        st.lists(st.integers(1, max(1, len(whole) - 1)), max_size=12, unique=True), label="cuts"
    )
    edges = [0, *sorted(p for p in places if p < len(whole)), len(whole)]
    return [whole[a:b] for a, b in itertools.pairwise(edges) if a < b]
