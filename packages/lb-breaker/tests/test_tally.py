"""What is counted while a circuit is closed, and when that is too bad."""

from __future__ import annotations

import random

import pytest

from lb_breaker.settings import BreakerSettings
from lb_breaker.tally import STEPS, Tally, Window


def tally(**settings: object) -> Tally:
    return Tally(BreakerSettings.model_validate(settings))


def test_failures_in_a_row_open_and_one_success_begins_again() -> None:
    counted = tally(threshold=3)
    assert [counted.failed(0, "refused") for _ in range(2)] == ["", ""]
    assert counted.passed(0, 0.1) == ""
    assert counted.row == 0
    assert [counted.failed(0, "refused") for _ in range(3)] == ["", "", "3 failures in a row, the last: refused"]


def test_a_threshold_of_one() -> None:
    assert tally(threshold=1).failed(0, "status 503") == "a failure: status 503"


def test_a_ratio_waits_for_enough_requests_and_counts_from_there() -> None:
    counted = tally(error_ratio=0.5, min_requests=10)
    for n in range(4):
        assert counted.failed(n, "reset") == ""
    for _ in range(4):
        assert counted.passed(2.9, 0.0) == "", "a little late"
    assert counted.failed(4, "reset") == ""
    assert counted.failed(4, "reset") == "6 of 10 requests failed within 10s, the last: reset"


def test_a_success_may_be_the_one_that_makes_enough() -> None:
    counted = tally(error_ratio=0.5, min_requests=4)
    assert [counted.failed(0, "reset") for _ in range(3)] == ["", "", ""]
    assert counted.passed(0, 0.0) == "3 of 4 requests failed within 10s"


def test_below_the_ratio_it_stays_closed() -> None:
    counted = tally(error_ratio=0.5, min_requests=10)
    for _ in range(100):
        assert counted.passed(0, 0.0) == counted.passed(0, 0.0) == counted.failed(0, "reset") == ""


def test_old_failures_leave_the_window() -> None:
    counted = tally(error_ratio=0.5, min_requests=10, window=10.0)
    for _ in range(9):
        counted.failed(100.0, "reset")
    assert counted.passed(111.0, 0.0) == ""
    assert [counted.failed(111.0, "reset") for _ in range(3)] == ["", "", ""]


def test_only_the_ratio_where_only_the_ratio_is_written() -> None:
    counted = tally(error_ratio=0.5, min_requests=20)
    assert [counted.failed(0, "x") for _ in range(19)] == [""] * 19
    both = tally(error_ratio=0.5, threshold=2)
    assert both.failed(0, "x") == ""
    assert both.failed(0, "x") == "2 failures in a row, the last: x"


def test_slow_responses_open_and_failures_in_a_row_do_so_too() -> None:
    counted = tally(slow_call=2.0, slow_ratio=0.5, min_requests=4)
    assert [counted.passed(0, seconds) for seconds in (2.1, 0.1, 2.0)] == ["", "", ""]
    assert counted.passed(0, 3.0) == "2 of 4 requests took longer than 2s within 10s"
    assert [tally(slow_call=2.0).failed(0, "x") for _ in range(4)] == [""] * 4
    again = tally(slow_call=2.0)
    assert [again.failed(0, "x") for _ in range(5)][-1] == "5 failures in a row, the last: x"
    assert [again.passed(0, 0.1) for _ in range(30)] == [""] * 30


@pytest.mark.parametrize("seed", range(5))
def test_the_window_counts_what_a_list_of_all_requests_counts(seed: int) -> None:
    rng = random.Random(seed)
    window = Window(10.0)
    seen: list[tuple[int, bool, bool]] = []
    now = 1000.0
    for _ in range(2000):
        now += rng.choice([0.0, 0.01, 0.3, 1.0, 2.5, 7.0]) * rng.random()
        failed, slow = rng.random() < 0.3, rng.random() < 0.2
        if now >= window.ends:
            window.advance(now)
        window.requests += 1
        window.failures += failed
        window.slow += slow
        step = int(now / (10.0 / STEPS))
        seen.append((step, failed, slow))
        kept = [each for each in seen if each[0] > step - STEPS]
        assert window.requests == len(kept)
        assert (window.failures, window.slow) == (sum(each[1] for each in kept), sum(each[2] for each in kept))
