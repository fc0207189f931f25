"""Counts of several nodes: what is told of others, what is told to them, and how far a node goes in between."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from lb_core.sharing import Sharing
from lb_core.sharing.counts_arrivals import ArrivalCounts
from lb_core.sharing.counts_by_name import arrivals, gauge, windows
from lb_core.sharing.memory import Memory
from lb_core.testing.together import Together

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.sharing.counts import SharedCounts

REFUSED = 1 << 30


class Node:
    """A node with a control process and two workers, their timers fired by hand."""

    def __init__(self, make: Callable[[Sharing], Any]) -> None:
        self.together = Together(workers=2)
        self.urgent: list[str] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        for sharing in (self.together.control, *self.together.workers):
            sharing.clustered = True
        self.together.control.on_urgent.append(self.urgent.append)
        self.control, self.one, self.two = (
            self._held(make(each)) for each in (self.together.control, *self.together.workers)
        )

    def _held(self, counts: SharedCounts) -> Any:
        counts.hold()
        counts.changes.later = lambda seconds, call: self.timers.append((seconds, call))
        return counts

    def fire(self) -> None:
        timers, self.timers = self.timers, []
        for _, call in timers:
            call()


def by_window(sharing: Sharing, limit: float = 1000) -> Any:
    return windows(sharing, "limit", most=100, limit=limit, window=60.0)


def small(sharing: Sharing) -> Any:
    return by_window(sharing, limit=10)


# what is told to other nodes


def test_additions_reach_the_control_process_as_sums() -> None:
    node = Node(by_window)
    node.one.add("a", 5)
    node.one.add("a", 5)
    node.two.add("a", 5)
    node.two.add(b"\xff", 5)
    node.one.add("a", 6)
    node.one.add("back", 6)
    node.one.add("back", 6, -1)
    assert [seconds for seconds, _ in node.timers] == [0.02, 0.02]
    assert node.control.take_changes() == []
    node.fire()
    assert sorted(node.control.take_changes(), key=str) == [
        ("a", 5, 3),
        ("a", 6, 1),
        ("back", 6, 0),
        (b"\xff", 5, 1),
    ]
    assert node.control.take_changes() == []
    node.fire()
    assert node.urgent == []


def test_much_of_a_limit_is_urgent_once() -> None:
    node = Node(by_window)
    for _ in range(9):
        node.one.add("a", 5)
    assert len(node.timers) == 1
    node.one.add("a", 5)
    node.one.add("a", 5)
    assert [seconds for seconds, _ in node.timers] == [0.02, 0.0]
    node.fire()
    assert node.urgent == ["limit"]
    assert node.control.take_changes() == [("a", 5, 11)]


def test_no_worker_sends_more_often_than_every_two_milliseconds() -> None:
    node = Node(by_window)
    for _ in range(2):
        for _ in range(10):
            node.one.add("a", 5)
        soon = node.timers[-1][0]
        node.fire()
    assert 0.0 < soon <= 0.002


def test_more_than_half_of_what_is_left_is_urgent() -> None:
    node = Node(lambda sharing: by_window(sharing, limit=7))
    node.control.set_elsewhere("a", 5, 2, 0, inf)
    node.one.add("a", 5)
    node.one.add("a", 5)
    assert len(node.timers) == 1, "2 of 5, and 3 are left"
    node.one.add("a", 5)
    assert len(node.timers) == 2


def test_requests_that_are_refused_are_not_urgent() -> None:
    node = Node(small)
    node.control.set_elsewhere("a", 5, 10, 0, 0)
    for _ in range(50):
        assert node.one.add("a", 5)[1] > 10
        node.one.add("a", 5, -1)
    node.fire()
    assert node.urgent == []


def test_a_process_alone_tells_its_exchange_itself() -> None:
    sharing = Sharing(memory=Memory())
    sharing.clustered = True
    urgent: list[str] = []
    sharing.on_urgent.append(urgent.append)
    it = small(sharing)
    it.hold()
    for count in range(1, 6):
        assert it.add("a", 5) == (5, count, 0)
    assert urgent == ["limit"]
    assert it.take_changes() == [("a", 5, 5)]
    it.set_elsewhere("a", 5, 3, 1, inf)
    assert it.add("a", 5) == (5, 9, 1)
    assert it.node_total("a", 5) == 6


def test_what_is_left_is_told_at_the_end() -> None:
    node = Node(by_window)
    node.one.add("a", 5)
    node.one.drop()
    assert node.control.take_changes() == [("a", 5, 1)]
    node.fire()


def test_without_a_cluster_nothing_is_told() -> None:
    node = Together(workers=1)
    it = by_window(node.workers[0])
    it.hold()
    it.add("a", 5)
    it.drop()
    assert node.sent == []


# what is told of other nodes


def test_what_others_counted_is_part_of_the_sum() -> None:
    node = Node(by_window)
    assert node.one.add("a", 5) == (5, 1, 0)
    node.control.set_elsewhere("a", 5, 20, 7, inf)
    assert node.one.add("a", 5) == (5, 22, 7)
    assert node.two.add("a", 5) == (5, 23, 7)
    assert node.two.peek("a", 6) == (6, 0, 23)
    assert node.control.node_total("a", 5) == 3
    node.control.set_elsewhere("a", 6, 1, 30, inf)
    assert node.two.peek("a", 6) == (6, 1, 33)


def test_a_node_goes_no_further_than_its_cap_and_asks_for_more() -> None:
    node = Node(small)
    node.control.set_elsewhere("a", 5, 2, 0, 3)
    assert [node.one.add("a", 5)[1], node.two.add("a", 5)[1], node.one.add("a", 5)[1]] == [3, 4, 5]
    node.fire()
    node.control.take_changes()
    node.urgent.clear()
    assert node.two.add("a", 5)[1] == REFUSED
    node.two.add("a", 5, -1)
    node.fire()
    assert node.urgent == ["limit"]
    assert node.control.take_changes() == [("a", 5, 0)]
    node.control.set_elsewhere("a", 5, 2, 0, 5)
    assert node.two.add("a", 5)[1] == 6
    assert node.one.add("a", 6)[1] == 1, "a cap is for its window"


def test_a_cap_of_none_lets_nobody_pass() -> None:
    node = Node(small)
    node.control.set_elsewhere("a", 5, 2, 0, 0)
    assert node.one.add("a", 5)[1] == REFUSED


def test_while_nobody_can_be_asked_the_others_do_not_count() -> None:
    node = Node(small)
    node.control.set_elsewhere("a", 5, 8, 0, 1)
    node.one.add("a", 5)
    node.together.control.set_share(0.5)
    assert (node.one.allowed, node.two.allowed) == (5, 5)
    assert node.two.add("a", 5) == (5, 2, 0)
    node.fire()
    assert node.control.take_changes() == [("a", 5, 2)], "it is told when they can be"
    node.together.control.set_share(1.0)
    assert node.two.peek("a", 5) == (5, 10, 0)


def test_settled_sums_are_those_of_all_nodes() -> None:
    node = Node(small)
    node.control.set_elsewhere("a", 5, 2, 1, 3)
    node.one.add("a", 5)
    node.two.add("a", 5)
    assert node.one.settled("a", 5) == (5, 4, 1)
    node.control.set_elsewhere("a", 5, 2, 1, 1)
    assert node.one.settled("a", 5) == (5, REFUSED, 1)
    assert node.one.peek("a", 5) == (5, 4, 1), "what clients are told is not what the cap says"
    node.together.control.set_share(0.5)
    assert node.one.settled("a", 5) == node.one.peek("a", 5) == (5, 2, 0)


def test_only_the_control_process_hears_what_a_worker_added() -> None:
    node = Node(by_window)
    node.one.add("a", 5)
    node.fire()
    assert node.together.sent == [("counts/limit", [False, [["sa", 5, 1]]])]
    assert node.two.take_changes() == []
    assert node.control.take_changes() == [("a", 5, 1)]


# arrivals


def bucket(sharing: Sharing) -> Any:
    return arrivals(sharing, "bucket", most=100, limit=10, window=10.0)


def test_an_arrival_time_of_the_cluster_is_in_force() -> None:
    node = Node(bucket)
    phase = node.one.node.phase()
    assert node.one.take("a", 100.0, 5.0)
    node.control.set_elsewhere("a", 0, 104.0 + phase, 0, inf)
    assert node.two.peek("a", 100.0) == pytest.approx(104.0)
    assert [bool(each.take("a", 100.0, 5.0)) for each in (node.two, node.one, node.two)] == [True, True, False]
    assert node.one.peek("a", 100.0) == pytest.approx(106.0)
    assert node.control.node_total("a", 0) == pytest.approx(106.0 + phase)
    node.control.set_elsewhere("a", 0, 120.0 + phase, 0, inf)
    assert not node.one.take("a", 100.0, 5.0)
    assert node.one.take("a", 116.0, 5.0)
    node.fire()
    assert node.control.take_changes() == [("a", 0, 4.0)]


def test_a_bucket_goes_no_further_than_its_cap() -> None:
    node = Node(bucket)
    node.control.set_elsewhere("a", 0, 102.0 + node.one.node.phase(), 0, 103.5 + node.one.node.phase())
    assert [bool(each.take("a", 100.0, 9.0)) for each in (node.one, node.two)] == [True, False]
    node.fire()
    assert node.urgent == ["bucket"]
    assert node.one.peek("a", 100.0) == pytest.approx(103.0)
    node.together.control.set_share(0.5)
    assert node.two.take("a", 100.0, 9.0)
    assert node.two.add("a", 100.0, -2.0) == pytest.approx(104.0), "a token takes two seconds now"


def test_a_time_of_the_cluster_that_is_too_far_ahead() -> None:
    node = Node(bucket)
    node.control.set_elsewhere("a", 0, 104.5 + node.one.node.phase(), 0, inf)
    assert not node.one.take("a", 100.0, 4.0)
    assert node.one.take("a", 100.5, 4.0) == pytest.approx(105.5)


def test_two_workers_go_on_from_a_time_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(bucket)
    node.control.set_elsewhere("a", 0, 103.5 + node.one.node.phase(), 0, inf)
    enter, passed = ArrivalCounts._enter, list[float]()

    def entering(*args: Any) -> None:
        monkeypatch.setattr(ArrivalCounts, "_enter", enter)
        passed.append(node.two.take("a", 100.0, 4.0))
        enter(*args)

    monkeypatch.setattr(ArrivalCounts, "_enter", entering)
    passed.append(node.one.take("a", 100.0, 4.0))
    assert passed == [pytest.approx(104.5), 0.0], "one token was left"
    node.fire()
    assert node.control.take_changes() == [("a", 0, 1.0)]


# gauges


def under_way(sharing: Sharing) -> Any:
    return gauge(sharing, "under way", limit=10)


def test_requests_under_way_in_all_nodes() -> None:
    node = Node(under_way)
    assert node.one.add("a") == 1
    node.control.set_elsewhere("a", 0, 4, 0, 3)
    assert [node.two.add("a"), node.one.add("a"), node.two.peek("a")] == [6, 7, 7]
    assert node.two.add("a") == REFUSED
    node.two.add("a", -1)
    assert node.control.node_total("a", 0) == 3
    node.together.control.set_share(0.5)
    assert node.two.add("a") == 4
    node.together.control.set_share(1.0)
    node.control.set_elsewhere("a", 0, 0, 0, inf)
    assert node.two.add("a", -1) == 3
    node.fire()
    assert node.control.take_changes() == [("a", 0, 3)]


def test_the_offset_of_the_cluster_s_clock_is_one_for_the_node() -> None:
    node = Node(by_window)
    before = node.one.node.phase()
    node.together.control.set_offset(120.0)
    assert node.one.node.phase() == node.two.node.phase() == pytest.approx(before + 120.0, abs=0.1)
