"""Where a route's requests go: its own pool, past a gate, or to a standby."""

from __future__ import annotations

from typing import Any

import pytest

from lb_core.backend import Backend
from lb_core.config import RouteConfig
from lb_core.exchange import Exchange
from lb_core.pool import Pool
from lb_core.route import Route


class Gate:
    """Admits or not, and says so."""

    word = "shut"

    def __init__(self, *, strict: bool = True, admitting: bool = False) -> None:
        self.strict = strict
        self.admitting = admitting
        self.asked = 0

    def admits(self, exchange: Exchange) -> bool:
        self.asked += 1
        return self.admitting

    def retry_after(self) -> float:
        return 3.0


class Request:
    """A request that waits."""

    def __init__(self, route: object) -> None:
        self.route = route
        self.turns = 0

    def take_turn(self) -> None:
        self.turns += 1


def route(name: str, port: int) -> Route:
    pool = Pool(name, (Backend(name, "127.0.0.1", port),))
    return Route(RouteConfig(name=name, host=name, pool=name), pool)


class Scene:
    """Three routes, each the next one's standby."""

    def __init__(self) -> None:
        self.a, self.b, self.c = route("a", 1), route("b", 2), route("c", 3)
        self.a.routes = {"b": self.b}
        self.b.routes = {"c": self.c}

    def lose(self, *routes: Route) -> None:
        for each in routes:
            each.pool.set_health(each.pool.backends[0], "down")

    def find(self, *routes: Route) -> None:
        for each in routes:
            each.pool.set_health(each.pool.backends[0], "up")

    def served(self) -> str:
        """The name of the pool that a request to the first route ends in."""
        return _served(self.a)


def _served(route: Route) -> str:
    connection: Any = object()
    exchange = Exchange(route, connection, "192.0.2.1", b"GET", b"/", b"a", b"")
    while not exchange.pool.candidates:
        instead = route.instead(exchange)
        if instead is None:
            return ""
        exchange.pool = instead
    return exchange.pool.name


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_by_itself(scene: Scene) -> None:
    assert (scene.served(), scene.a.serving, scene.a.reachable) == ("a", scene.a.pool, True)
    scene.lose(scene.a)
    assert (scene.served(), scene.a.reachable) == ("", False)


def test_a_strict_gate_turns_away_all_but_probes(scene: Scene) -> None:
    heard: list[object] = []
    scene.a.on_gate.append(lambda: heard.append(scene.a.gate))
    gate = Gate()
    scene.a.set_gate(gate)
    scene.a.set_gate(gate)
    assert (scene.served(), scene.a.shut, scene.a.reachable) == ("", True, False)
    assert scene.a.lend().candidates == (), "other routes' requests are no probes"
    gate.admitting = True
    assert scene.served() == "a"
    scene.lose(scene.a)
    asked = gate.asked
    assert scene.served() == ""
    assert gate.asked == asked, "nobody to probe"
    scene.a.set_gate(None)
    scene.find(scene.a)
    assert (scene.served(), heard) == ("a", [gate, None])


def test_a_gate_that_is_not_strict_gives_way_without_a_standby(scene: Scene) -> None:
    gate = Gate(strict=False)
    scene.a.set_gate(gate)
    assert (scene.served(), scene.a.serving) == ("a", scene.a.pool)
    scene.a.set_standby("b")
    assert scene.served() == "b"
    gate.admitting = True
    assert scene.served() == "a"
    gate.admitting = False
    scene.lose(scene.b)
    assert scene.served() == "a"


def test_a_standby_serves_and_its_own_standby_after_it(scene: Scene) -> None:
    scene.a.set_standby("b")
    assert (scene.served(), scene.a.reachable) == ("b", True)
    scene.b.set_standby("c")
    assert scene.served() == "c"
    scene.lose(scene.c)
    assert scene.served() == "b", "its own come back into use when whoever stands in is lost"
    scene.lose(scene.b)
    assert scene.served() == "a"
    scene.lose(scene.a)
    assert (scene.served(), scene.a.reachable) == ("", False)
    scene.a.set_standby(None)
    scene.find(scene.a)
    assert (scene.served(), scene.a.lent()) == ("a", None)


def test_a_standby_behind_a_strict_gate_does_not_serve(scene: Scene) -> None:
    scene.a.set_standby("b")
    scene.b.set_gate(Gate(admitting=True))
    scene.lose(scene.a)
    assert scene.served() == ""


def test_a_request_of_another_pool_comes_to_the_route_s_own(scene: Scene) -> None:
    """A split may have sent it elsewhere."""
    connection: Any = object()
    exchange = Exchange(scene.a, connection, "192.0.2.1", b"GET", b"/", b"a", b"")
    exchange.pool = Pool("canary", ())
    assert scene.a.instead(exchange) is scene.a.pool
    scene.a.serving = scene.c.pool
    assert scene.a.instead(exchange) is scene.c.pool
    assert scene.a.reachable


def test_who_waits_for_the_route_s_pool_has_its_turn_at_once(scene: Scene) -> None:
    mine, other = Request(scene.a), Request(scene.b)
    backend = scene.a.pool.backends[0]
    backend.limit = 0
    scene.a.pool.wait(mine)
    scene.a.pool.wait(other)
    scene.a.set_standby("b")
    assert (mine.turns, other.turns, list(scene.a.pool.queue)) == (1, 0, [other])
    assert backend.freed is not None
    scene.a.pool.dismiss([mine, other])
    assert (mine.turns, other.turns, backend.freed) == (1, 1, None)


def test_backups_serve_beside_primaries_that_are_all_restricted() -> None:
    one, spare = Backend("one", "127.0.0.1", 1), Backend("spare", "127.0.0.1", 2, backup=True)
    two = Backend("two", "127.0.0.1", 3)
    pool = Pool("p", (one, two, spare))
    assert pool.candidates == (one, two)
    pool.restrict(one, 1)
    assert pool.candidates == (one, two)
    pool.restrict(two, 1)
    assert pool.candidates == (one, two, spare)
    pool.restrict(one, None)
    assert pool.candidates == (one, two)


def test_a_pool_tells_when_there_is_nobody_left_to_wait_for() -> None:
    backend = Backend("one", "127.0.0.1", 1)
    backend.health = "starting"
    pool = Pool("p", (backend,))
    told: list[bool] = []
    pool.on_change.append(lambda: told.append(pool.starting))
    pool.set_mode(backend, "maintenance")
    assert told == [False]
