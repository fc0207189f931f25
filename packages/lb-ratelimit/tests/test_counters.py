"""Counters: adding and reading, also out of order and from elsewhere."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from lb_ratelimit.counters import Arrivals, InFlight, WindowCounters


def test_windows_move_on() -> None:
    counters = WindowCounters(100)
    assert counters.peek("a", 5) == (5, 0, 0)
    assert counters.add("a", 5) == (5, 1, 0)
    assert counters.add("a", 5, 3) == (5, 4, 0)
    assert counters.peek("a", 6) == (6, 0, 4)
    assert counters.peek("a", 7) == (7, 0, 0)
    assert counters.add("a", 6) == (6, 1, 4)
    assert counters.add("a", 6, -1) == (6, 0, 4)
    assert counters.peek("a", 5) == (6, 0, 4), "a request that is late counts in the window that is there"
    assert counters.add("a", 5) == (6, 1, 4)
    assert counters.add("a", 9) == (9, 1, 0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(-3, 5)), max_size=30), st.randoms())
def test_additions_of_a_window_come_in_any_order(added: list[tuple[str, int]], shuffle: random.Random) -> None:
    here, there = WindowCounters(100), WindowCounters(100)
    for key, amount in added:
        here.add(key, 3, amount)
    shuffle.shuffle(added)
    for key, amount in added:
        there.add(key, 3, amount)
    assert {key: here.peek(key, 3) for key in "ab"} == {key: there.peek(key, 3) for key in "ab"}


def test_arrivals_pay_off_with_time() -> None:
    arrivals = Arrivals(100)
    assert arrivals.peek("a", 10.0) == 10.0
    assert arrivals.add("a", 10.0, 2.0) == 12.0
    assert arrivals.add("a", 11.0, 2.0) == 14.0
    assert arrivals.peek("a", 11.0) == 14.0
    assert arrivals.peek("a", 20.0) == 20.0
    assert arrivals.add("a", 20.0, 2.0) == 22.0
    arrivals.turn()
    assert arrivals.add("a", 20.0, -2.0) == 20.0


def test_only_what_is_under_way_is_kept() -> None:
    flying = InFlight()
    assert flying.add("a") == 1
    assert flying.add("a") == 2
    assert flying.add("b") == 1
    assert (flying.peek("a"), flying.peek("c"), len(flying)) == (2, 0, 2)
    assert flying.add("a", -1) == 1
    assert flying.add("a", -1) == 0
    assert flying.add("b", -1) == 0
    assert flying.add("b", -1) == 0, "never below none"
    assert len(flying) == 0
