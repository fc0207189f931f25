"""Sliding and fixed windows: what they promise, over any sequence of requests."""

from __future__ import annotations

from collections import Counter
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_ratelimit.fixed_window import FixedWindow
from lb_ratelimit.sliding_window import SlidingWindow

EACH = pytest.mark.parametrize("kind", [SlidingWindow, FixedWindow])
Kind = type[SlidingWindow] | type[FixedWindow]

WINDOW = 8.0
GAPS = st.lists(st.integers(0, 40).map(lambda eighths: eighths / 8), min_size=1, max_size=150)
"""Times between requests in eighths of a second, so that every sum is exact."""


def times(gaps: list[float]) -> list[float]:
    now, found = 100.0, []
    for gap in gaps:
        now += gap
        found.append(now)
    return found


def passed(limit: SlidingWindow | FixedWindow, gaps: list[float]) -> list[float]:
    return [now for now in times(gaps) if limit.take("a", now)]


@EACH
@given(gaps=GAPS, requests=st.integers(1, 12), phase=st.sampled_from([0.0, 3.5, 1e9]))
def test_never_more_than_the_limit_in_an_aligned_window(
    kind: Kind, gaps: list[float], requests: int, phase: float
) -> None:
    found = passed(kind(requests, WINDOW, phase=phase), gaps)
    per_window = Counter(floor((now + phase) / WINDOW) for now in found)
    assert max(per_window.values()) <= requests


@given(gaps=GAPS, requests=st.integers(1, 12))
def test_a_fixed_window_lets_exactly_the_first_ones_pass(gaps: list[float], requests: int) -> None:
    found = Counter(floor(now / WINDOW) for now in passed(FixedWindow(requests, WINDOW), gaps))
    came = Counter(floor(now / WINDOW) for now in times(gaps))
    assert found == {window: min(count, requests) for window, count in came.items()}


@given(gaps=GAPS, requests=st.integers(1, 12))
def test_the_bound_of_the_sliding_window(gaps: list[float], requests: int) -> None:
    """In any span of `window` that ends the share f into a window: at most `requests` + f * previous."""
    found = passed(SlidingWindow(requests, WINDOW), gaps)
    for end in found:
        aligned = floor(end / WINDOW) * WINDOW
        share = (end - aligned) / WINDOW
        previous = sum(aligned - WINDOW <= now < aligned for now in found)
        count = sum(end - WINDOW < now <= end for now in found)
        assert count <= requests + share * previous
        assert count < 2 * requests or requests == count == 1


@given(gaps=GAPS, requests=st.integers(1, 12))
def test_how_early_the_sliding_window_refuses(gaps: list[float], requests: int) -> None:
    """Whoever is refused has used all but (1 - f) * previous of the limit within the last `window`, at least."""
    limit = SlidingWindow(requests, WINDOW)
    found: list[float] = []
    for now in times(gaps):
        aligned = floor(now / WINDOW) * WINDOW
        previous = sum(aligned - WINDOW <= each < aligned for each in found)
        if limit.take("a", now):
            found.append(now)
        else:
            true = sum(now - WINDOW < each <= now for each in found)
            assert true + 1 > requests - (1 - (now - aligned) / WINDOW) * previous


def test_evenly_spread_requests_below_the_limit_all_pass() -> None:
    limit = SlidingWindow(61, 60.0)
    assert all(limit.take("a", float(second)) for second in range(1000, 1600))


def test_constant_demand_above_the_limit_gets_the_limit() -> None:
    limit = SlidingWindow(60, 60.0)
    found = [now for now in (6000 + number / 4 for number in range(4 * 600)) if limit.take("a", now)]
    for start in range(6120, 6540, 7):
        assert abs(sum(start <= now < start + 60 for now in found) - 60) <= 1


def test_the_worst_case_is_below_twice_the_limit() -> None:
    limit = SlidingWindow(100, 60.0)
    burst = sum(limit.take("a", 59.999) for _ in range(500))
    after = sum(limit.take("a", 60 + number / 100) for number in range(5999))
    assert burst == 100
    assert 95 <= after <= 100


@EACH
def test_a_request_given_back_did_not_happen(kind: Kind) -> None:
    limit = kind(2, WINDOW)
    assert [limit.take("a", 1.0) for _ in range(3)] == [True, True, False]
    limit.give_back("a", 1.0)
    assert limit.remaining("a", 1.0) == 1
    assert [limit.take("a", 1.0) for _ in range(2)] == [True, False]
    assert limit.take("b", 1.0)


@EACH
@given(gaps=GAPS, requests=st.integers(1, 12))
def test_what_is_said_is_true(kind: Kind, gaps: list[float], requests: int) -> None:
    """As many pass as `remaining` says, and after `retry_after` the next one does."""
    limit, told = kind(requests, WINDOW), kind(requests, WINDOW)
    for now in times(gaps):
        assert limit.take("a", now) == told.take("a", now)
    left = limit.remaining("a", now)
    assert [limit.take("a", now) for _ in range(left + 1)] == [True] * left + [False]
    for _ in range(left):
        told.take("a", now)
    wait = told.retry_after("a", now)
    assert 0 < wait <= 2 * WINDOW
    assert 0 < told.reset("a", now) <= WINDOW
    assert not kind_copy(told, kind, requests, gaps, left).take("a", now + wait - 0.01)
    assert told.take("a", now + wait + 1e-6)


def kind_copy(
    told: SlidingWindow | FixedWindow, kind: Kind, requests: int, gaps: list[float], more: int
) -> SlidingWindow | FixedWindow:
    """The same limit after the same requests."""
    copy = kind(requests, WINDOW)
    for now in times(gaps):
        copy.take("a", now)
    for _ in range(more):
        copy.take("a", now)
    assert copy.remaining("a", now) == told.remaining("a", now) == 0
    return copy


@EACH
def test_who_has_room_need_not_wait(kind: Kind) -> None:
    limit = kind(3, WINDOW)
    assert limit.retry_after("new", 17.0) == 0
    assert limit.remaining("new", 30.0) == 3
    assert limit.reset("new", 41.0) == 7


def test_a_changed_limit_applies_at_once() -> None:
    limit = SlidingWindow(100, WINDOW)
    assert sum(limit.take("a", 1.0) for _ in range(60)) == 60
    limit.requests = 50
    assert not limit.take("a", 2.0)
    assert limit.remaining("a", 2.0) == 0
    wait = limit.retry_after("a", 2.0)
    limit.requests = 70
    assert limit.take("a", 2.0)
    limit.requests = 50
    assert limit.take("a", 2.0 + wait + WINDOW / 10)


@EACH
def test_a_request_that_is_late_counts_now(kind: Kind) -> None:
    """One that waited for something else before it was asked about, and began in the window before."""
    limit = kind(4, WINDOW)
    assert limit.take("a", 7.0)
    assert limit.take("a", 8.5)
    assert [limit.take("a", 7.9) for _ in range(4)].count(True) in (2, 3)
    assert limit.counters.peek("a", 1)[1] <= 4


@EACH
def test_a_window_that_ends_between_two_floats(kind: Kind) -> None:
    for window in (0.1, 0.3, 1 / 3, 60.0):
        limit = kind(1, window)
        now = 0.0
        for number in range(1, 3000):
            now = number * window
            limit.take("a", now)
            assert limit.end > now
            assert limit.end - now <= window * 1.000001


@EACH
def test_idle_keys_are_forgotten_when_their_window_is_over(kind: Kind) -> None:
    limit = kind(5, WINDOW)
    for number in range(1000):
        limit.take(f"k{number}", 1.0)
    limit.take("a", 9.0)
    assert len(limit.counters) == 1001, "they are the previous window"
    limit.take("a", 17.0)
    assert len(limit.counters) == 1
    for number in range(1000):
        limit.take(f"k{number}", 17.0)
    limit.take("a", 100.0)
    assert len(limit.counters) == 1
    limit.resize(2)
    assert [limit.take(key, 100.0) for key in ("b", "c", "d", "e")] == [True] * 4
    assert len(limit.counters) <= 2
