"""When a node exchanges, when it goes away and comes back, and whose clock it goes by."""

from __future__ import annotations

import random

import pytest

from lb_redis.clock import Clock
from lb_redis.policy_pace import EVERY, LONGEST, SOONEST, Pace


def test_regular_and_urgent_times() -> None:
    pace = Pace()
    assert pace.next(urgent=False) < 0
    pace.begin(10.0, 3)
    assert pace.next(urgent=False) == pytest.approx(10.0 + EVERY)
    assert pace.next(urgent=True) == pytest.approx(10.0 + SOONEST)


def test_what_is_urgent_all_the_time_is_not() -> None:
    """One key at every opportunity for two seconds, then not more than the budget allows."""
    pace, now, times = Pace(), 100.0, []
    while now < 120.0:
        now = max(now, pace.next(urgent=True))
        pace.begin(now, 1)
        times.append(now)
    assert sum(time < 102.0 for time in times) > 400
    later = sum(110.0 <= time < 120.0 for time in times)
    assert later * 0.0003 <= 0.021 * 10.0 + 0.01
    assert later >= 10.0 / EVERY


def test_a_failure_is_away_at_once_and_three_answers_are_back() -> None:
    pace = Pace()
    assert not pace.good(10.0)
    assert pace.late()
    assert pace.away
    assert not pace.late()
    assert not pace.good(10.0)
    assert not pace.good(10.0)
    assert pace.good(10.0)
    assert not pace.away


def test_an_answer_now_and_then_does_not_bring_it_back() -> None:
    pace = Pace()
    pace.late()
    for _ in range(20):
        pace.good(10.0)
        pace.good(10.0)
        pace.late()
        assert pace.away


def test_failures_are_tried_again_more_and_more_seldom() -> None:
    pace, waits = Pace(), []
    for _ in range(8):
        pace.begin(10.0, 0)
        pace.late()
        waits.append(pace.next(urgent=True) - 10.0)
    assert waits[0] == pytest.approx(EVERY)
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST
    pace.rejoined(20.0)
    assert pace.next(urgent=False) < 0


def test_after_a_lost_connection_the_others_get_time_to_say_theirs() -> None:
    pace = Pace()
    pace.rejoined(10.0)
    pace.late()
    assert [pace.good(10.0 + step / 10) for step in range(3)] == [False, False, True]
    pace.late()
    pace.rejoined(20.0)
    assert [pace.good(20.0 + step / 4) for step in range(5)] == [False, False, False, False, True]


def test_the_clock_is_found_from_uneven_ways() -> None:
    chance, clock = random.Random(3), Clock()
    for _ in range(30):
        there, back = chance.random() * 0.02, chance.random() * 0.02
        clock.sample(90.0 + (there - back) / 2, (there + back) / 2)
    assert clock.offset == pytest.approx(90.0, abs=0.01)


def test_the_clock_jumps_when_one_is_set_and_creeps_otherwise() -> None:
    clock = Clock()
    assert clock.sample(5.0, 0.001)
    assert clock.offset == 5.0
    assert not clock.sample(5.0005, 0.001)
    clock.sample(5.004, 0.0005)
    assert 5.0 <= clock.offset < 5.01
    assert clock.sample(-3600.0, 0.01)
    assert clock.offset == -3600.0


def test_a_bad_sample_does_not_move_the_clock() -> None:
    clock = Clock()
    clock.sample(2.0, 0.0005)
    assert not clock.sample(2.4, 0.5)
    assert clock.offset == 2.0
