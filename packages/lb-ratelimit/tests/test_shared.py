"""A limit of several workers: one count for all of them, through reloads, and when nodes cannot ask each other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from lb_core.testing import exchange
from lb_core.testing.fakes import route_over
from lb_core.testing.together import Together
from lb_ratelimit import RateLimit, RateLimitSettings
from lb_ratelimit.limiter import build

if TYPE_CHECKING:
    from lb_core import Event, Exchange
    from lb_core.sharing import Sharing

WINDOWS = ["sliding_window", "fixed_window"]
ALGORITHMS = pytest.mark.parametrize("algorithm", [*WINDOWS, "token_bucket", "concurrency"])


class Process:
    """One process of a node and its part of a route."""

    def __init__(self, sharing: Sharing, *limits: dict[str, Any]) -> None:
        self.events: list[Event] = []
        self.route = route_over(())
        self.route.sharing = sharing
        self.route.pool.notify = self.events.append
        self.feature = self._made(*limits)
        self.feature.start()

    def reload(self, *limits: dict[str, Any]) -> None:
        before, self.feature = self.feature, self._made(*limits)
        self.feature.inherit(before)
        before.close()
        self.feature.start()

    def ask(self, now: float, client: str = "192.0.2.1") -> Exchange | None:
        """The exchange, where it passes."""
        it = exchange(client=client)
        it.started = now
        return it if self.feature.before_request(it) is None else None

    def passing(self, now: float, count: int, client: str = "192.0.2.1") -> int:
        return sum(self.ask(now, client) is not None for _ in range(count))

    def _made(self, *limits: dict[str, Any]) -> RateLimit:
        return build(self.route, RateLimitSettings.model_validate(list(limits)))


class Node:
    """A control process and two workers, and a time at which no window is about to end."""

    def __init__(self, *limits: dict[str, Any]) -> None:
        self.together = Together(workers=2)
        memory = self.together.control.memory
        assert memory is not None
        memory.shared = True
        self.processes = [Process(each, *limits) for each in (self.together.control, *self.together.workers)]
        self.control, self.one, self.two = self.processes
        self.now = time.monotonic()

    def reload(self, *limits: dict[str, Any]) -> None:
        for each in self.processes:
            each.reload(*limits)

    @property
    def areas(self) -> list[str]:
        memory = self.together.control.memory
        assert memory is not None
        return [name for name in memory.areas if name.startswith("counts/")]


def limit(**options: Any) -> dict[str, Any]:
    return {"requests": 10, "window": 100_000.0, **options}


@ALGORITHMS
def test_workers_have_one_count(algorithm: str) -> None:
    node = Node(limit(algorithm=algorithm))
    assert [node.one.passing(node.now, 6), node.two.passing(node.now, 6), node.one.passing(node.now, 6)] == [6, 4, 0]
    assert node.two.passing(node.now, 20, client="192.0.2.2") == 10
    said = {line.partition(": ")[2].partition(", ")[2] for each in node.processes for line in each.feature.describe()}
    assert said == {f"{algorithm}: 2 keys, 18 refused"}


def test_one_counts_while_it_is_under_way() -> None:
    node = Node(limit(algorithm="concurrency", requests=2))
    first, second = node.one.ask(node.now), node.two.ask(node.now)
    assert first is not None
    assert second is not None
    assert node.two.ask(node.now) is None
    node.one.feature.on_complete(first)  # type: ignore[attr-defined]  # this one has it
    assert node.two.ask(node.now) is not None
    assert node.one.ask(node.now) is None


@ALGORITHMS
def test_reloads_keep_the_count(algorithm: str) -> None:
    node = Node(limit(algorithm=algorithm))
    assert [node.one.passing(node.now, 3), node.two.passing(node.now, 3)] == [3, 3]
    areas = node.areas
    node.reload(limit(algorithm=algorithm, requests=8, burst=8 if algorithm == "token_bucket" else None))
    assert node.areas == areas
    assert [node.one.passing(node.now, 1), node.two.passing(node.now, 3)] == [1, 1]
    newcomer = Process(node.together.add(), limit(algorithm=algorithm, requests=8))
    assert newcomer.passing(node.now, 3) == 0


@pytest.mark.parametrize("algorithm", WINDOWS)
def test_another_number_of_keys_keeps_the_count(algorithm: str) -> None:
    node = Node(limit(algorithm=algorithm, max_keys=100))
    assert [node.one.passing(node.now, 3), node.two.passing(node.now, 3)] == [3, 3]
    node.reload(limit(algorithm=algorithm, max_keys=1000))
    assert [node.one.passing(node.now, 3), node.two.passing(node.now, 3)] == [3, 1]
    assert len(node.areas) == 1


def test_limits_that_count_the_same_stay_apart() -> None:
    node = Node(limit(requests=3), limit(requests=6), limit(requests=9, key="route"))
    assert len(node.areas) == 3
    assert [node.one.passing(node.now, 2), node.two.passing(node.now, 2)] == [2, 1]
    node.reload(limit(requests=9, key="route"), limit(requests=5, name="first"), limit(requests=6, name="second"))
    assert len(node.areas) == 3
    assert [node.one.passing(node.now, 1), node.two.passing(node.now, 5)] == [1, 1]


def test_a_limit_that_is_gone_gives_its_memory_back() -> None:
    node = Node(limit())
    node.one.passing(node.now, 3)
    node.reload(limit(key="path"))
    assert len(node.areas) == 1
    for each in node.processes:
        each.feature.close()
    assert node.areas == []
    assert node.together.control.counts == {}
    assert node.together.control.on_share == []


def test_one_event_when_it_begins_in_whatever_process() -> None:
    node = Node(limit(requests=1))
    node.one.passing(node.now, 3)
    node.two.passing(node.now + 5, 3)
    node.one.passing(node.now + 14, 3)
    assert [len(each.events) for each in node.processes] == [0, 1, 0]
    node.two.passing(node.now + 30, 3)
    assert [len(each.events) for each in node.processes] == [0, 1, 1]


def test_the_share_of_a_node_that_cannot_ask_the_others() -> None:
    node = Node(limit(requests=10), limit(requests=9, algorithm="token_bucket", burst=6, key="route"))
    node.together.control.set_share(1 / 3)
    assert [node.one.passing(node.now, 2), node.two.passing(node.now, 9)] == [2, 0], "a bucket of two"
    node.together.control.set_share(1.0)
    assert [node.two.passing(node.now, 9), node.one.passing(node.now, 9)] == [4, 0], "four more in one of six"
    for each in node.processes:
        each.feature.close()
    assert [len(each.route.sharing.on_share) for each in node.processes] == [0, 0, 0]


def test_windows_move_with_the_clock_of_the_cluster() -> None:
    node = Node(limit(algorithm="fixed_window", window=100.0))
    node.one.passing(node.now, 6)
    algorithm = node.one.feature.limits[0].algorithm
    ends = algorithm.reset("192.0.2.1", node.now)
    assert ends is not None
    node.together.control.set_offset(ends + 10.0)
    assert algorithm.reset("192.0.2.1", node.now) == pytest.approx(90.0, abs=0.5)
    assert [node.two.passing(node.now, 6), node.one.passing(node.now, 6)] == [6, 4]
