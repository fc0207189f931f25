"""Every so many of a hundred."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lb_split.sampling import Sampling


@given(st.floats(0, 100), st.integers(1, 400))
def test_exactly_so_many_are_chosen(percent: float, calls: int) -> None:
    chosen = Sampling(percent)
    count = sum(chosen() for _ in range(calls))
    assert abs(count - calls * percent / 100) < 1


def test_none_and_all() -> None:
    assert [Sampling(0)() for _ in range(9)] == [False] * 9
    everybody = Sampling(100)
    assert [everybody() for _ in range(9)] == [True] * 9
