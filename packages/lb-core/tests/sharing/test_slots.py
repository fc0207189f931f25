"""Slots: a row for each process, and the sum of the others'."""

from __future__ import annotations

from lb_core.sharing import Sharing
from lb_core.sharing.slots import Slots
from lb_core.testing.together import Together


def test_each_has_a_row_and_reads_those_of_the_others() -> None:
    node = Together(workers=2)
    control, first, second = (Slots(each, "in_flight", 3) for each in (node.control, *node.workers))
    first.mine[0] += 2
    second.mine[0] += 1
    second.mine[2] = 7
    assert (first.others(0), second.others(0), control.others(0)) == (1, 2, 3)
    assert first.total(2) == second.total(2) == control.total(2) == 7
    assert control.totals() == first.totals() == [3, 0, 7]


def test_alone_the_others_have_nothing() -> None:
    slots = Slots(Sharing(), "in_flight", 2)
    slots.mine[1] = 5
    assert (slots.others(1), slots.total(1), slots.totals()) == (0, 5, [0, 5])
    slots.seat_gone(1)
    slots.close(release=True)


def test_the_rows_of_two_processes_share_no_line_of_the_cache() -> None:
    assert [len(Slots(each, "one", 1).mine) for each in Together(workers=2).workers] == [8, 8]


def test_what_a_worker_had_is_no_more_when_it_is_gone() -> None:
    node = Together(workers=2)
    control, first, second = (Slots(each, "in_flight", 2) for each in (node.control, *node.workers))
    first.mine[1] = 4
    second.mine[1] = 2
    node.control.seat_gone(2)
    assert (first.others(1), control.others(1)) == (0, 4)


def test_another_worker_takes_part_and_none_after_close() -> None:
    node = Together(workers=1)
    first = Slots(node.workers[0], "in_flight", 1)
    third = Slots(node.add(), "in_flight", 1)
    third.mine[0] = 3
    assert first.others(0) == 3
    first.close()
    first.close()
    node.workers[0].set_seats((0,))
    assert first.others(0) == 3, "it follows nobody any more"
