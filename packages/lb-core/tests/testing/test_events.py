"""The agenda: order, the clock, timers."""

from __future__ import annotations

from lb_core.testing.events import BEGIN, Agenda


def test_events_happen_in_the_order_of_their_moments() -> None:
    agenda = Agenda()
    seen: list[tuple[float, str]] = []
    for when, what in ((3.0, "c"), (1.0, "a"), (2.0, "b"), (1.0, "a2")):
        agenda.at(BEGIN + when, lambda it: seen.append((agenda.clock() - BEGIN, it)), what)
    agenda.run()
    assert seen == [(1.0, "a"), (1.0, "a2"), (2.0, "b"), (3.0, "c")]


def test_what_happens_may_enter_more() -> None:
    agenda = Agenda(0.0)
    ticks: list[float] = []

    def tick(left: int) -> None:
        ticks.append(agenda.now)
        if left:
            agenda.at(agenda.now + 0.5, tick, left - 1)

    agenda.at(1.0, tick, 2)
    agenda.run()
    assert ticks == [1.0, 1.5, 2.0]


def test_later_counts_from_now_and_may_be_cancelled() -> None:
    agenda = Agenda(10.0)
    rung: list[float] = []
    agenda.later(2.0, lambda: rung.append(agenda.now))
    agenda.later(1.0, lambda: rung.append(agenda.now)).cancel()
    agenda.run()
    assert rung == [12.0]


def test_it_stops_when_told() -> None:
    agenda = Agenda()
    seen: list[int] = []
    for number in range(5):
        agenda.at(BEGIN + number, seen.append, number)
    agenda.run(lambda: len(seen) < 3)
    assert seen == [0, 1, 2]
