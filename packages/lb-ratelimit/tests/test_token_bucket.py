"""GCRA decides as a token bucket does."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_ratelimit.token_bucket import TokenBucket

GAPS = st.lists(st.integers(0, 64).map(lambda part: part / 16), min_size=1, max_size=150)


class Bucket:
    """A token bucket as the textbook has it, in fractions."""

    def __init__(self, rate: Fraction, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self.tokens, self.at = Fraction(burst), Fraction(0)

    def level(self, now: float) -> Fraction:
        return min(Fraction(self.burst), self.tokens + (Fraction(now) - self.at) * self.rate)

    def take(self, now: float) -> bool:
        self.tokens, self.at = self.level(now), Fraction(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@given(gaps=GAPS, requests=st.sampled_from([1, 2, 4, 8, 16]), burst=st.integers(1, 12))
def test_it_is_a_token_bucket(gaps: list[float], requests: int, burst: int) -> None:
    limit, bucket = TokenBucket(requests, 8.0, burst), Bucket(Fraction(requests, 8), burst)
    now = 1024.0
    for gap in gaps:
        now += gap
        assert limit.take("a", now) == bucket.take(now)
        assert limit.remaining("a", now) == int(bucket.level(now))
        assert limit.reset("a", now) == pytest.approx(float((burst - bucket.level(now)) / bucket.rate))
        wait = float(max(Fraction(0), 1 - bucket.level(now)) / bucket.rate)
        assert limit.retry_after("a", now) == pytest.approx(wait, abs=0.002 * 8 / requests)


@given(gaps=GAPS, requests=st.integers(1, 20), burst=st.integers(1, 12))
def test_the_bound(gaps: list[float], requests: int, burst: int) -> None:
    """In any span of t seconds at most `burst` + t * `requests` / `window`."""
    limit, now, found = TokenBucket(requests, 8.0, burst), 1000.0, []
    for gap in gaps:
        now += gap
        if limit.take("a", now):
            found.append(now)
    for first, begin in enumerate(found):
        for last, end in enumerate(found[first:], first):
            assert last - first + 1 <= burst + (end - begin) * requests / 8 + 0.002


@pytest.mark.parametrize(("requests", "window", "burst"), [(1000, 60.0, 1000), (7, 3.0, 7), (100_000, 1.0, 50)])
def test_a_burst_is_never_one_short(requests: int, window: float, burst: int) -> None:
    limit = TokenBucket(requests, window, burst)
    for begin in (123_456.789, 9_999_999.1):
        assert sum(limit.take("a", begin) for _ in range(burst + 10)) == burst
        assert limit.remaining("a", begin) == 0


def test_one_taken_back() -> None:
    limit = TokenBucket(10, 10.0, 2)
    assert [limit.take("a", 5.0) for _ in range(3)] == [True, True, False]
    limit.give_back("a", 5.0)
    assert limit.remaining("a", 5.0) == 1
    assert [limit.take("a", 5.0) for _ in range(2)] == [True, False]


def test_a_changed_rate_and_burst_apply_at_once() -> None:
    limit = TokenBucket(10, 10.0, 10)
    assert sum(limit.take("a", 5.0) for _ in range(20)) == 10
    limit.requests = 100
    assert not limit.take("a", 5.0)
    limit.burst = 150
    assert limit.burst == 150
    assert sum(limit.take("a", 5.0) for _ in range(200)) == 50
    assert limit.take("a", 5.2)


def test_full_buckets_are_forgotten() -> None:
    limit = TokenBucket(10, 10.0, 5)
    for number in range(100):
        limit.take(f"k{number}", 1.0)
    limit.take("a", 8.0)
    assert len(limit.counters) == 101
    limit.take("a", 20.0)
    assert len(limit.counters) == 1
    limit.resize(4)
    for number in range(100):
        limit.take(f"k{number}", 21.0)
    assert len(limit.counters) <= 4
