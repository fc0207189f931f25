"""Figures: quantiles, how a time is shown, when a backlog grows."""

from __future__ import annotations

import json
from array import array
from math import nan
from typing import Any

import pytest

from lb_core.testing.figures import Result, Tally, show_time


def result(latencies: list[float], **changed: Any) -> Result:
    given: dict[str, Any] = {
        "strategy": "p2c",
        "requests": 100,
        "errors": 0,
        "refused": 0,
        "seconds": 10.0,
        "shares": {"b0": 1.0},
        "imbalance": 1.0,
        "diverges": False,
        "latencies": array("d", latencies),
        "pick_ns": 200.0,
    }
    return Result(**{**given, **changed})


def test_quantiles_are_the_nearest_rank() -> None:
    figures = result([number / 100 for number in range(1, 101)])
    assert (figures.p50, figures.p95, figures.p99, figures.max) == (0.5, 0.95, 0.99, 1.0)
    assert figures.quantile(0.0) == 0.01
    assert figures.mean == pytest.approx(0.505)


def test_throughput_counts_good_answers() -> None:
    assert result([0.1], errors=20, refused=30).throughput == 5.0
    assert result([], seconds=0.0).throughput == 0.0


def test_a_pick_s_cost_does_not_make_figures_differ() -> None:
    assert result([0.1]) == result([0.1], pick_ns=900.0)
    assert result([0.1]) != result([0.2])


def test_json_carries_it() -> None:
    data = json.loads(json.dumps(result([0.1, 0.2]).as_data()))
    assert data["p50"] == 0.1
    assert data["shares"] == {"b0": 1.0}
    assert json.loads(json.dumps(result([]).as_data()))["mean"] is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00085, "0.85 ms"),
        (0.0342, "34 ms"),
        (0.00999, "9.99 ms"),
        (0.265, "265 ms"),
        (0.9994, "999 ms"),
        (0.9999, "1.00 s"),
        (1.3, "1.30 s"),
        (12.34, "12.3 s"),
        (193.2, "193 s"),
        (nan, "-"),
    ],
)
def test_times_have_three_digits(seconds: float, text: str) -> None:
    assert show_time(seconds) == text


def test_a_backlog_grows_when_it_is_large_and_rising() -> None:
    def backlog(halfway: int, last: int) -> bool:
        tally = Tally(10_000)
        tally.halfway, tally.last = halfway, last
        return tally.diverges(32)

    assert backlog(300, 600)
    assert not backlog(600, 600), "large, and steady"
    assert not backlog(50, 100), "not more than 1 % of all requests, or than the backends work on anyway"


def test_the_first_to_end_are_left_out() -> None:
    tally = Tally(10)
    for number in range(10):
        tally.begin()
        tally.end(200, 10.0 - number)
    assert list(tally.sorted(0.2)) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert tally.open == 0
