"""Requests under way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lb_ratelimit.concurrency import Concurrency


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=100), st.integers(1, 4))
def test_never_more_than_the_limit_and_exactly_those_under_way(steps: list[tuple[str, bool]], requests: int) -> None:
    limit = Concurrency(requests)
    under_way = {"a": 0, "b": 0}
    for key, begins in steps:
        if begins:
            assert limit.take(key, 0.0) == (under_way[key] < requests)
            under_way[key] = min(requests, under_way[key] + 1)
        elif under_way[key]:
            limit.give_back(key, 0.0)
            under_way[key] -= 1
        assert limit.remaining(key, 0.0) == requests - under_way[key]
    assert len(limit.counters) == sum(count > 0 for count in under_way.values())


def test_time_does_not_matter() -> None:
    limit = Concurrency(1)
    assert limit.take("a", 0.0)
    assert not limit.take("a", 1e9)
    assert limit.retry_after("a", 0.0) == 1.0
    limit.resize(2)
    assert limit.remaining("a", 0.0) == 0
    limit.requests = 2
    assert limit.take("a", 0.0)
