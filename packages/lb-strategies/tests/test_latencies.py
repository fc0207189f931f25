"""The average of a backend's latencies: peaks at once, recovery by time."""

from __future__ import annotations

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core import Backend
from lb_strategies.latencies import FORGOTTEN, LEAST, NOTHING_KNOWN, Latencies

A, B, C = (Backend(name, "127.0.0.1", 1) for name in "abc")
HEAVY = Backend("heavy", "127.0.0.1", 2, weight=4)


def latencies(*backends: Backend, decay: float = 10.0) -> Latencies:
    made = Latencies(decay)
    made.of(backends, 100.0, lambda: 0.0)
    return made


def cost(of: Latencies, backend: Backend, now: float = 100.0) -> float:
    return of.of([backend], now, lambda: 0.0)[0].cost


def test_a_peak_counts_at_once_and_decays_by_time_as_finagles_does() -> None:
    known = latencies(A)
    known.observe(A, 0.1, 100.0)
    known.observe(A, 0.5, 101.0)
    assert known.measured() == {A: 0.5}
    known.observe(A, 0.1, 106.0)
    weight = exp(-5 / 10)
    assert known.measured() == {A: pytest.approx(0.5 * weight + 0.1 * (1 - weight))}


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 60)), min_size=1, max_size=30), st.floats(0.1, 100))
def test_the_average_stays_between_the_latest_and_the_highest(samples: list[tuple[float, float]], decay: float) -> None:
    known, now, highest = latencies(A, decay=decay), 100.0, 0.0
    for seconds, passed in samples:
        now += passed
        known.observe(A, seconds, now)
        highest = max(highest, seconds, LEAST)
        assert max(seconds, LEAST) * (1 - 1e-12) <= known.measured()[A] <= highest * (1 + 1e-12)


def test_more_samples_in_the_same_time_make_no_difference() -> None:
    few, many = latencies(A), latencies(A)
    for known, steps in ((few, 2), (many, 200)):
        known.observe(A, 1.0, 100.0)
        for step in range(1, steps + 1):
            known.observe(A, 0.01, 100.0 + 10 * step / steps)
    assert many.measured()[A] == pytest.approx(few.measured()[A])


def test_the_cost_is_the_average_for_the_weight() -> None:
    known = latencies(A, HEAVY)
    for backend in (A, HEAVY):
        known.observe(backend, 0.2, 100.0)
    assert (cost(known, A), cost(known, HEAVY)) == (0.2, 0.05)
    HEAVY.weight = 2.0
    assert cost(known, HEAVY) == 0.1
    HEAVY.weight = 4


def test_everybody_is_equal_until_something_is_measured_and_those_not_measured_cost_less_then() -> None:
    known = latencies(A, B, C)
    assert {cost(known, each) for each in (A, B, C)} == {NOTHING_KNOWN}
    known.observe(B, 0.3, 100.0)
    assert [cost(known, each) for each in (A, B, C)] == [0.15, 0.3, 0.15]
    known.observe(A, 0.1, 100.0)
    assert [cost(known, each) for each in (A, B, C)] == [0.1, 0.3, 0.05]


def test_a_failure_stands_for_nobody_else() -> None:
    known = latencies(A, B, C)
    known.observe(A, 1.0, 100.0, failed=True)
    assert [cost(known, each) for each in (A, B, C)] == [1.0, NOTHING_KNOWN, NOTHING_KNOWN]
    known.observe(B, 0.1, 100.0)
    assert [cost(known, each) for each in (A, B, C)] == [1.0, 0.1, 0.05]


def test_a_backend_that_joins_begins_at_the_mean_of_the_others() -> None:
    known = latencies(A, B)
    known.observe(A, 0.1, 100.0)
    known.observe(B, 0.3, 100.0)
    assert cost(known, C) == pytest.approx(0.2)
    known.observe(C, 0.05, 100.1)
    assert cost(known, C) == 0.05


def test_one_that_joins_keeps_that_mean_when_another_turns_out_to_be_fast() -> None:
    known = latencies(A, B)
    known.observe(A, 0.3, 100.0)
    assert cost(known, C) == 0.3
    known.observe(B, 0.1, 100.0)
    assert cost(known, C) == 0.3


def test_a_latency_without_length_still_costs_something() -> None:
    known = latencies(A)
    known.observe(A, 0.0, 100.0)
    assert cost(known, A) == LEAST


def test_at_least_raises_and_never_lowers() -> None:
    known = latencies(A)
    known.observe(A, 0.1, 100.0)
    known.at_least(A, 0.05, 200.0)
    assert known.measured() == {A: 0.1}
    known.at_least(A, 3.0, 200.0)
    assert known.measured() == {A: 3.0}


def test_strangers_are_not_measured_and_those_long_gone_are_forgotten() -> None:
    known = latencies(A)
    known.observe(B, 0.1, 100.0)
    known.at_least(B, 0.1, 100.0)
    assert known.measured() == {}
    known.observe(A, 0.1, 100.0)
    known.of([B], 100.0 + FORGOTTEN, lambda: 0.0)
    assert A in known.measured()
    known.of([B], 101.0 + FORGOTTEN, lambda: 0.0)
    assert known.measured() == {}


def test_another_can_go_on_with_what_is_known() -> None:
    old, new = latencies(A, B), Latencies(1.0)
    old.observe(A, 0.1, 100.0)
    new.inherit(old)
    old.observe(B, 0.2, 100.0)  # a request that began before
    assert new.measured() == {A: 0.1, B: 0.2}
