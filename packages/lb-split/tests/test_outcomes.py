"""Counts over a sliding window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lb_split.outcomes import SLICES, Outcomes
from lb_split.rollback import verdict
from lb_split.settings import RollbackSettings

STEPS = st.lists(st.tuples(st.floats(0, 40), st.booleans()), max_size=60)


@given(STEPS)
def test_what_is_counted_lies_within_the_window(steps: list[tuple[float, bool]]) -> None:
    seconds, now = 60.0, 1000.0
    counts, seen = Outcomes(seconds), list[tuple[float, bool]]()
    for step, failed in steps:
        now += step
        counts.add(now, failed)
        seen.append((now, failed))
        inside = [each for each in seen if now - each[0] < seconds]
        surely = [each for each in seen if now - each[0] < seconds * (SLICES - 1) / SLICES]
        assert len(surely) <= counts.requests <= len(inside)
        assert sum(each[1] for each in surely) <= counts.failed <= sum(each[1] for each in inside)
    counts.advance(now + 2 * seconds)
    assert (counts.requests, counts.failed, counts.ratio) == (0, 0, 0.0)


def test_a_clock_that_stands_still_or_goes_back_loses_nothing() -> None:
    counts = Outcomes(60)
    for now in (100.0, 100.0, 99.0):
        counts.add(now, True)
    assert (counts.requests, counts.ratio) == (3, 1.0)
    counts.clear()
    assert (counts.requests, counts.failed) == (0, 0)


def outcomes(requests: int, failed: int) -> Outcomes:
    counts = Outcomes(60)
    for number in range(requests):
        counts.add(100.0, number < failed)
    return counts


def test_the_verdict() -> None:
    rules = RollbackSettings()
    for canary, stable, expected in (
        ((20, 2), (100, 0), True),
        ((19, 19), (100, 0), False),  # too few to tell
        ((20, 1), (100, 0), False),  # five points over it, not more
        ((100, 20), (100, 10), False),  # twice as much, not more
        ((100, 21), (100, 10), True),
        ((100, 50), (100, 50), False),
        ((20, 20), (0, 0), True),  # nobody has complained about the stable one
    ):
        assert verdict(outcomes(*canary), outcomes(*stable), rules) is expected, (canary, stable)
