"""What the algorithms have in common."""

from __future__ import annotations

import pytest

from lb_ratelimit import Concurrency, FixedWindow, SlidingWindow, TokenBucket
from lb_ratelimit.algorithm import Algorithm

ALGORITHMS: list[Algorithm] = [
    SlidingWindow(3, 60.0),
    FixedWindow(3, 60.0),
    TokenBucket(3, 60.0, 3),
    Concurrency(3),
]
"""The list is typed, so that mypy compares each with the protocol."""


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda each: type(each).__name__)
def test_one_does_what_every_other_does(algorithm: Algorithm) -> None:
    assert all(hasattr(algorithm, name) for name in vars(Algorithm) if not name.startswith("_"))
    assert algorithm.requests == 3
    assert [algorithm.take("a", 1000.0) for _ in range(4)] == [True, True, True, False]
    assert (algorithm.remaining("a", 1000.0), algorithm.remaining("b", 1000.0)) == (0, 3)
    assert algorithm.retry_after("a", 1000.0) > 0
    reset = algorithm.reset("a", 1000.0)
    assert reset is None or 0 < reset <= 60
    algorithm.give_back("a", 1000.0)
    assert algorithm.remaining("a", 1000.0) == 1
    algorithm.requests = 5
    assert algorithm.requests == 5
    assert len(algorithm.counters) == 1
    algorithm.resize(10)
    assert len(algorithm.counters) == 1
