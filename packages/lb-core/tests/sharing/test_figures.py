"""Figures of all processes together, which outlive the workers that counted."""

from __future__ import annotations

from lb_core.sharing import Sharing
from lb_core.sharing.figures import Figures
from lb_core.testing.together import Together


def test_what_an_ended_worker_had_counted_is_kept_and_its_seat_begins_at_zero() -> None:
    together = Together(2)
    control, first, second = (Figures(each, "copies", 2) for each in (together.control, *together.workers))
    first.write((3, 1))
    second.write((4, 0))
    assert control.totals() == [7, 1]
    together.control.seat_gone(1)
    assert list(first.mine[:2]) == [0, 0]
    assert control.totals() == [7, 1]
    Figures(together.workers[0], "copies", 2).write((1, 1))
    assert control.totals() == [8, 2]
    together.control.seat_gone(1)
    together.control.seat_gone(2)
    assert control.totals() == [8, 2]


def test_a_process_alone_has_its_own() -> None:
    figures = Figures(Sharing(), "copies", 1)
    figures.write((5,))
    figures.seat_gone(3)
    assert figures.totals() == [5]
