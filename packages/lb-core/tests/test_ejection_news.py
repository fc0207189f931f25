"""Ejections as several workers and nodes share them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest

import lb_core.defaults
from lb_core.balancer import LoadBalancer
from lb_core.config import config_from_tree
from lb_core.defaults.ejection_news import NOTES, Budget, News
from lb_core.errors import ConnectFailed
from lb_core.exchange import Exchange
from lb_core.features import Feature, Use
from lb_core.hooks import hookimpl
from lb_core.locality import Locality, locality_of
from lb_core.plugins import Plugins
from lb_core.settings import Settings
from lb_core.testing.together import Together, joined

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.defaults.ejection import Ejection
    from lb_core.events import Event
    from lb_core.pool import Pool
    from lb_core.sharing import Sharing

BACKENDS = {name: f"127.0.0.1:{port}" for port, name in enumerate("abcd", 9001)}
ROUTE = {"backends": BACKENDS, "ejection": {"consecutive_failures": 3, "duration": "20s"}}


class Client:
    peer, scheme, port = "192.0.2.1", "http", 80


class Spread(Settings):
    """A feature that sends requests to another pool, too."""

    short = "pool"

    pool: str


class Process:
    """One process of a node, with its routes."""

    def __init__(self, sharing: Sharing, role: Literal["control", "worker"], routes: dict[str, Any]) -> None:
        self.events: list[Event] = []
        plugins = Plugins()
        plugins.add(lb_core.defaults, "defaults")
        plugins.add(self, "test")
        self.balancer = LoadBalancer(plugins=plugins, role=role, sharing=sharing)
        self.balancer.tell_control = self.events.append
        self.apply(routes)

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.events.append(event)

    @hookimpl
    def register_features(self) -> Iterator[Feature]:
        yield Feature("spread", lambda *_: None, Spread, uses=lambda settings: [Use("pool", settings.pool)])

    def apply(self, routes: dict[str, Any], **tree: Any) -> None:
        document = {"workers": 2, "routes": routes, **tree}
        self.balancer.apply(config_from_tree(document, self.balancer.plugins, source="test"))

    def part(self, route: str) -> Ejection:
        part: Any = dict(self.balancer.routes[route].parts)["ejection"]
        return part

    def exchange(self, route: str, backend: str, pool: str = "") -> Exchange:
        found = self.balancer.routes[route]
        it = Exchange(found, Client(), "192.0.2.1", b"GET", b"/", b"a.x", b"")  # type: ignore[arg-type]
        it.pool = self.balancer.pools[pool or route]
        it.backend = it.pool.find(backend)
        return it

    def fail(self, backend: str, times: int = 1, route: str = "x", pool: str = "") -> None:
        for _ in range(times):
            self.part(route).on_backend_error(self.exchange(route, backend, pool), ConnectFailed("refused"))

    def answer(self, backend: str, route: str = "x") -> None:
        it = self.exchange(route, backend)
        it.status = 200
        self.part(route).on_response(it)

    def pool(self, name: str = "x") -> Pool:
        return self.balancer.pools[name]

    def out(self, pool: str = "x") -> str:
        return "".join(each.name for each in self.pool(pool).backends if each.ejected)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events if event.kind.startswith("backend_")]


class Node:
    """A control process and its workers."""

    def __init__(
        self, routes: dict[str, Any] | None = None, workers: int = 2, locality: Locality | None = None
    ) -> None:
        self.routes = routes or {"x": ROUTE}
        self.together = Together(workers, locality)
        self.together.control.clustered = True
        self.control = Process(self.together.control, "control", self.routes)
        self.workers = [Process(each, "worker", self.routes) for each in self.together.workers]

    def out(self, pool: str = "x") -> list[str]:
        return [each.out(pool) for each in (self.control, *self.workers)]

    def apply(self, routes: dict[str, Any]) -> None:
        for each in (self.control, *self.workers):
            each.apply(routes)


def one(process: Process, name: str = "a") -> Backend:
    return process.pool().find(name)


async def test_what_one_worker_ejects_is_ejected_in_all_processes_and_told_once() -> None:
    node = Node()
    node.workers[0].fail("a", 3)
    assert node.out() == ["a", "a", "a"]
    assert node.workers[0].kinds() == ["backend_ejected"]
    assert node.workers[1].kinds() == node.control.kinds() == []
    assert one(node.workers[1]).reason == one(node.workers[0]).reason
    assert "3 failures in a row, the last: refused; tried again in" in one(node.control).reason


async def test_every_process_lets_it_in_again_by_itself() -> None:
    node = Node({"x": {**ROUTE, "ejection": {"consecutive_failures": 1, "duration": "100ms"}}})
    node.workers[0].fail("a")
    assert node.out() == ["a", "a", "a"]
    await asyncio.sleep(0.2)
    assert node.out() == ["", "", ""]


async def test_the_number_in_a_row_is_shared() -> None:
    node = Node({"x": {**ROUTE, "ejection": {"consecutive_failures": 1, "duration": "50ms"}}})
    node.workers[0].fail("a")
    await asyncio.sleep(0.07)
    node.workers[1].fail("a")
    assert [message["times"] for topic, message in node.together.sent if topic == "ejection/x"] == [1, 2]


async def test_failures_count_together_and_an_answer_anywhere_clears_them() -> None:
    node = Node()
    node.workers[0].fail("a")
    node.workers[1].fail("a")
    assert node.out() == ["", "", ""]
    node.workers[1].fail("a")
    assert node.out() == ["a", "a", "a"]
    node.workers[0].fail("b", 2)
    node.workers[1].answer("b")
    node.workers[0].fail("b", 2)
    assert node.out() == ["a", "a", "a"]
    node.workers[0].fail("b")
    assert node.out() == ["ab", "ab", "ab"]


async def test_what_goes_well_tells_nobody() -> None:
    node = Node()
    for _ in range(100):
        node.workers[0].answer("a")
    assert node.together.sent == []


async def test_two_that_eject_at_once_end_up_with_the_longer_one() -> None:
    node = Node()
    parts = [process.part("x") for process in node.workers]
    parts[0]._jitter, parts[1]._jitter = (lambda: 1.1), (lambda: 0.9)
    with node.together.held():
        node.workers[0].fail("a", 3)
        node.workers[1].fail("a", 3)
    left = [seconds for part in parts for _, seconds, _, _ in part.out(part._serving.pool)]  # type: ignore[union-attr]
    assert left == [pytest.approx(22, abs=0.1)] * 2
    assert node.out() == ["a", "a", "a"]


async def test_the_rules_hold_for_what_is_heard() -> None:
    node = Node({"x": {**ROUTE, "ejection": {"consecutive_failures": 1, "max_ejected": "25%"}}})
    with node.together.held():
        node.workers[0].fail("a")
        node.workers[1].fail("b")
    assert sorted(node.out()[1:]) == ["a", "b"]  # one of four, in each
    lonely = Node({"x": {**ROUTE, "ejection": {"consecutive_failures": 1}}})
    for name in "bcd":
        lonely.workers[1].pool().set_health(lonely.workers[1].pool().find(name), "down")
    lonely.workers[0].fail("a")
    assert lonely.out() == ["a", "a", ""]  # it is the last one that worker has


async def test_a_newcomer_is_told() -> None:
    node = Node()
    node.workers[0].fail("a", 3)
    newcomer = Process(node.together.add(), "worker", node.routes)
    assert newcomer.out() == ""
    node.together.welcome(newcomer.balancer.sharing)
    assert newcomer.out() == "a"
    node.together.welcome(newcomer.balancer.sharing)
    assert newcomer.out() == "a"
    assert newcomer.kinds() == []


async def test_other_nodes_hear_of_it_where_the_address_is_the_same_backend() -> None:
    backends = {**BACKENDS, "f": "10.0.0.1:80", "u": "unix:/run/u.sock", "v": "[::1]:9001"}
    routes = {"x": {**ROUTE, "backends": backends, "ejection": {"consecutive_failures": 3, "max_ejected": "60%"}}}
    here = Node(routes)
    for name in "afu":
        here.workers[0].fail(name, 3)
    assert here.out() == ["afu", "afu", "afu"]
    for locality, heard in (
        (locality_of("another boot", 1, 1), "f"),
        (locality_of("", 1, 1), "f"),
        (Locality(Locality.here().network, ""), "af"),
        (Locality("", Locality.here().files), "fu"),
        (None, "afu"),
    ):
        late = Node(routes, locality=locality)
        joined(here.together, late.together)
        assert late.out() == [heard] * 3
        newcomer = Process(late.together.add(), "worker", routes)
        late.together.welcome(newcomer.balancer.sharing)
        assert newcomer.out() == heard


async def test_what_happens_later_reaches_the_same_ones() -> None:
    routes = {"x": {**ROUTE, "backends": {**BACKENDS, "f": "10.0.0.1:80"}}}
    here, there, beside = Node(routes), Node(routes, locality=locality_of("another boot", 1, 1)), Node(routes)
    for other in (there, beside):
        joined(here.together, other.together)
        here.workers[0].fail("f" if other is there else "a", 3)
    assert there.out() == ["f", "f", "f"]
    assert beside.out() == ["af", "af", "af"]


async def test_nodes_count_failures_for_themselves() -> None:
    here, there = Node(), Node()
    joined(here.together, there.together)
    there.workers[0].fail("b", 2)
    here.workers[0].fail("b", 2)
    assert here.out() == there.out() == ["", "", ""]


async def test_a_backend_of_another_address_is_another_backend() -> None:
    node = Node()
    node.workers[1].apply({"x": {**ROUTE, "backends": {**BACKENDS, "a": "127.0.0.1:9999"}}})
    node.workers[0].fail("a", 3)
    assert node.out() == ["a", "a", ""]


async def test_a_reload_that_switches_it_off_lets_everybody_in_everywhere() -> None:
    node = Node()
    node.workers[0].fail("a", 3)
    node.apply({"x": {**ROUTE, "ejection": False}})
    assert node.out() == ["", "", ""]


async def test_a_reload_goes_on_with_what_is_out_and_hears_more() -> None:
    node = Node()
    node.workers[0].fail("a", 3)
    node.apply({"x": {**ROUTE, "queue": 7}})
    assert node.out() == ["a", "a", "a"]
    node.workers[1].fail("b", 3)
    assert node.out() == ["ab", "ab", "ab"]


async def test_pools_that_a_feature_uses_take_part() -> None:
    together = Together(2)
    processes = []
    for sharing in (together.control, *together.workers):
        process = Process(sharing, "worker" if sharing.seat else "control", {"x": ROUTE})
        process.apply({"x": {**ROUTE, "spread": "canary"}}, pools={"canary": {"backends": BACKENDS}})
        processes.append(process)
    processes[1].fail("c", 3, pool="canary")
    assert [process.out("canary") for process in processes] == ["c", "c", "c"]
    assert [process.out() for process in processes] == ["", "", ""]


async def test_two_routes_over_one_pool_keep_one_ejection() -> None:
    tree = {"pools": {"p": {"backends": BACKENDS}}}
    settings = {"use": "p", "ejection": {"consecutive_failures": 1, "duration": "100ms"}}
    together = Together(2)
    processes = []
    for sharing in (together.control, *together.workers):
        process = Process(sharing, "worker" if sharing.seat else "control", {"x": ROUTE})
        process.apply({"one": settings, "two": settings}, **tree)
        processes.append(process)
    processes[1].fail("a", route="two", pool="p")
    assert [process.out("p") for process in processes] == ["a", "a", "a"]
    await asyncio.sleep(0.2)
    assert [process.out("p") for process in processes] == ["", "", ""]


async def test_what_makes_no_sense_is_ignored() -> None:
    node = Node()
    for message in ({}, {"ejected": "a"}, {"ejected": "zz", "seconds": 3, "times": 1, "reason": ""}, {"failed": "a"}):
        node.together.control.deliver("ejection/x", message)
    node.together.control.deliver("ejection/x", {"failed": "a", "route": "other", "address": BACKENDS["a"]})
    assert node.out() == ["", "", ""]


async def test_a_flood_of_failures_is_not_a_flood_of_messages() -> None:
    node = Node({"x": {**ROUTE, "ejection": {"consecutive_failures": 1000}}})
    node.workers[0].fail("a", 500)
    assert NOTES <= len(node.together.sent) <= 2 * NOTES  # a second may have ended meanwhile


def test_a_budget_is_one_of_each_second() -> None:
    now = [7.2]
    budget = Budget(lambda: now[0])
    assert [budget.allows() for _ in range(NOTES + 2)] == [True] * NOTES + [False] * 2
    now[0] = 8.0
    assert budget.allows()


async def test_a_pool_nobody_takes_part_in_hears_nothing() -> None:
    together = Together(1)
    process = Process(together.workers[0], "worker", {"x": ROUTE})
    news = News(process.pool(), together.control)
    news.ejected(process.pool().find("a"), 1.0, 1, "nobody hears")
    assert together.sent == []
