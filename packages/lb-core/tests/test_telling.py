"""The same event of several processes is told once."""

from __future__ import annotations

from lb_core.events import Event
from lb_core.telling import MOST, Once


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_same_of_another_process_is_no_news() -> None:
    once = Once(clock=Clock())
    event = Event("backend_restored", "", route="api", backend="a")
    assert [once.admits(event, seat) for seat in (1, 2, 0)] == [True, False, False]


def test_the_same_of_the_same_process_is() -> None:
    once = Once(clock=Clock())
    assert [once.admits(Event("backend_down", ""), 1) for _ in range(2)] == [True, True]


def test_another_backend_is() -> None:
    once = Once(clock=Clock())
    assert all(once.admits(Event("backend_down", "", backend=name), seat) for seat, name in enumerate("ab"))


def test_after_a_while_it_is_news_again() -> None:
    clock = Clock()
    once = Once(seconds=2, clock=clock)
    event = Event("rate_limited", "")
    assert once.admits(event, 1)
    clock.now += 1.9
    assert not once.admits(event, 2)
    clock.now += 0.1
    assert once.admits(event, 2)


def test_it_remembers_a_bounded_number() -> None:
    once = Once()
    for number in range(MOST * 2):
        once.admits(Event("backend_down", "", backend=str(number)), 1)
    assert len(once._told) == MOST
