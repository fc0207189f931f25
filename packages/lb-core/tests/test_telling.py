"""The same event of several processes is told once."""

from __future__ import annotations

import pytest

from lb_core.events import Event
from lb_core.telling import MOST, Once


def event(kind: str, time: float = 100.0, backend: str = "a") -> Event:
    return Event(kind, "", route="api", backend=backend, time=time)


def test_the_same_of_another_process_is_no_news() -> None:
    once = Once()
    assert [once.admits(event("backend_restored"), seat) for seat in (1, 2, 0)] == [True, False, False]


def test_the_same_of_the_same_process_is() -> None:
    once = Once()
    assert [once.admits(event("backend_down"), 1) for _ in range(2)] == [True, True]


def test_another_backend_is() -> None:
    once = Once()
    assert all(once.admits(event("backend_down", backend=name), seat) for seat, name in enumerate("ab"))


def test_after_a_while_it_is_news_again() -> None:
    once = Once(seconds=2)
    times = ((1, 100.0), (2, 101.9), (2, 102.0), (1, 103.9))
    assert [once.admits(event("rate_limited", time), seat) for seat, time in times] == [True, False, True, False]


def test_a_clock_that_was_set_back_silences_nobody() -> None:
    once = Once(seconds=2)
    assert once.admits(event("rate_limited", 5000.0), 1)
    assert once.admits(event("rate_limited", 100.0), 2)


@pytest.mark.parametrize(
    ("first", "between"), [("breaker_opened", "breaker_half_open"), ("backend_ejected", "backend_restored")]
)
def test_it_is_news_again_after_something_else_of_its_family(first: str, between: str) -> None:
    once = Once()
    assert once.admits(event(first, 100.0), 1)
    assert not once.admits(event(first, 100.01), 2)
    assert once.admits(event(between, 100.5), 1)
    assert not once.admits(event(between, 100.51), 2)
    assert once.admits(event(first, 101.0), 2)
    assert not once.admits(event(first, 101.01), 1)
    assert once.admits(event(between, 101.5), 2)


def test_what_comes_late_is_compared_by_when_it_happened() -> None:
    once = Once()
    assert once.admits(event("backend_ejected", 100.0), 1)
    assert once.admits(event("backend_restored", 100.5), 1)
    assert not once.admits(event("backend_ejected", 100.01), 2)
    assert not once.admits(event("backend_restored", 100.51), 2)


def test_another_family_and_another_backend_do_not_make_it_news() -> None:
    once = Once()
    told = [
        once.admits(event(kind, 100 + number / 100, backend), seat)
        for number, (kind, seat, backend) in enumerate(
            [
                ("backend_ejected", 1, "a"),
                ("breaker_opened", 1, "a"),
                ("backend_restored", 1, "b"),
                ("backend_ejected", 2, "a"),
                ("breaker_opened", 2, "a"),
            ]
        )
    ]
    assert told == [True, True, True, False, False]


def test_it_remembers_a_bounded_number() -> None:
    once = Once()
    for number in range(MOST * 2):
        once.admits(event("backend_down", backend=str(number)), 1)
    assert len(once._families) == MOST
