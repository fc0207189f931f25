"""A bounded mapping: what is kept, what is forgotten, and that a million keys take no more room than the bound."""

from __future__ import annotations

import sys
import tracemalloc
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_ratelimit.counters import Arrivals, WindowCounters
from lb_ratelimit.recent import Recent
from lb_ratelimit.sliding_window import SlidingWindow
from lb_ratelimit.token_bucket import TokenBucket

KEYS = st.sampled_from([f"k{number}" for number in range(12)])


def use(recent: Recent[int], key: str) -> int:
    """Count a use, as a counter does."""
    count = (recent.get(key) or 0) + 1
    recent.put(key, count)
    return count


@given(st.lists(KEYS, max_size=200), st.integers(2, 9))
def test_keeps_the_recent_half_exactly_and_never_more_than_the_bound(used: list[str], most: int) -> None:
    recent: Recent[int] = Recent(most)
    exact: OrderedDict[str, int] = OrderedDict()
    for key in used:
        known = recent.get(key)
        assert known in (None, exact.get(key)), "a count is right or forgotten"
        if known is None:
            exact.pop(key, None)
        assert use(recent, key) == exact.get(key, 0) + 1
        exact[key] = exact.get(key, 0) + 1
        exact.move_to_end(key)
        assert len(recent) <= most
        assert recent.held <= most + 1
    for key in list(exact)[max(0, len(exact) - (most // 2 - 1)) :]:
        assert recent.get(key) == exact[key], "one of the most recently used"


@given(st.lists(KEYS, max_size=60), st.integers(6, 20), st.integers(2, 20))
def test_resize_keeps_the_recent_ones(used: list[str], most: int, then: int) -> None:
    recent: Recent[int] = Recent(most)
    for key in used:
        use(recent, key)
    young, known = dict(recent._young), {**recent._old, **recent._young}
    recent.resize(then)
    assert len(recent) <= max(then, 1)
    if len(known) < then - 1:
        assert {**recent._old, **recent._young} == known
    elif len(young) < then - 1:
        assert young.items() <= {**recent._old, **recent._young}.items(), "the older generation goes first"
    for number in range(3 * then):
        use(recent, f"n{number}")
        assert len(recent) <= max(then, 1)


def test_turning_forgets_what_was_not_used_for_two_generations() -> None:
    recent: Recent[int] = Recent(100)
    for key in ("a", "b", "c"):
        use(recent, key)
    recent.turn()
    assert use(recent, "a") == 2
    recent.turn()
    assert len(recent) == 1
    assert recent.held == 3
    assert use(recent, "b") == 1, "it was forgotten"
    assert recent.held == 2, "what is retired goes two at a time"
    assert use(recent, "a") == 3


def addresses(count: int) -> list[str]:
    return [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(count)]


def limit_of(kind: str, most: int) -> SlidingWindow | TokenBucket:
    return SlidingWindow(10, 60.0, most=most) if kind == "window" else TokenBucket(10, 60.0, 10, most=most)


def test_under_a_million_keys_there_are_never_more_than_the_bound() -> None:
    most, keys = 100_000, addresses(1_000_000)
    counters = WindowCounters(most)
    for begin in range(0, len(keys), 9_973):
        for key in keys[begin : begin + 9_973]:
            counters.add(key, 7)
        assert len(counters) <= counters.held <= most
    assert counters.peek(keys[-1], 7) == (7, 1, 0), "the last one is known"
    assert counters.peek(keys[0], 7) == (7, 0, 0), "the first one is not"


@pytest.mark.parametrize("kind", ["window", "bucket"])
def test_a_key_takes_less_than_250_bytes(kind: str) -> None:
    most = 5_000
    limit = limit_of(kind, most)
    tracemalloc.start()
    try:
        for number in range(4 * most):
            limit.take(f"10.0.{number >> 8}.{number & 255}", 1000.0)
        size, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size <= peak < 250 * most


def test_each_request_takes_constant_time_whatever_came_before() -> None:
    """Half of the keys come again and again among a stream of new ones, and keep their counts."""
    limiter = SlidingWindow(1000, 60.0, most=2000)
    known = addresses(900)
    for number in range(50):
        for key in known:
            assert limiter.take(key, 1000.0)
        for fresh in range(50):
            limiter.take(f"{number}.{fresh}", 1000.0)
    assert all(limiter.remaining(key, 1000.0) == 950 for key in known)


def test_an_entry_is_small() -> None:
    counters = WindowCounters(1000)
    counters.add("192.0.2.1", 7)
    entry = counters.peek("192.0.2.1", 7)
    assert entry == (7, 1, 0)
    assert sys.getsizeof(entry) <= 64
    arrivals = Arrivals(1000)
    assert sys.getsizeof(arrivals.add("192.0.2.1", 5.0, 1.0)) <= 24
