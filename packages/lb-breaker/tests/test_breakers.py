"""The two scopes on a real pool and route, with the clock and the timers passed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lb_breaker.backends import BackendBreaker
from lb_breaker.guard import Guard, Guards
from lb_breaker.settings import BreakerSettings
from lb_breaker.whole_route import RouteBreaker
from lb_core import AttemptError, Backend, Event, Exchange, Pool, Route
from lb_core.config import RouteConfig
from lb_core.errors import BackendReset, ConnectFailed


class Timer:
    """One that fires when it is told to."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds = seconds
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Scene:
    """A pool of two backends, a route to it, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.events: list[Event] = []
        self.timers: list[Timer] = []
        self.one, self.two = Backend("one", "127.0.0.1", 1), Backend("two", "127.0.0.1", 2)
        self.pool = Pool("shop", (self.one, self.two), notify=self.events.append)
        self.route = self.new_route()
        self.guards: dict[Pool, Guard] = {}
        self.guard = self.guard_of(self.pool)

    def new_route(self) -> Route:
        return Route(RouteConfig(name="shop", host="shop", pool="shop"), self.pool)

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(seconds, call))
        return self.timers[-1]

    def backend(self, route: Route | None = None, **settings: Any) -> BackendBreaker:
        return BackendBreaker(route or self.route, BreakerSettings(**settings), self.guard_of)

    def guard_of(self, pool: Pool) -> Guard:
        return self.guards.setdefault(pool, Guard(pool, later=self.later, clock=lambda: self.now))

    def whole(self, route: Route | None = None, **settings: Any) -> RouteBreaker:
        settings = {"scope": "route", **settings}
        clock = lambda: self.now  # noqa: E731
        return RouteBreaker(route or self.route, BreakerSettings(**settings), later=self.later, clock=clock)

    def exchange(self, backend: Backend | None, status: int = 200, *, seconds: float = 0.0) -> Exchange:
        where: Any = object()
        exchange = Exchange(self.route, where, "192.0.2.1", b"GET", b"/", b"shop", b"")
        exchange.pool = self.pool
        exchange.backend = backend
        exchange.status = status
        exchange.started = self.now - seconds
        exchange.first_byte = self.now
        return exchange

    def answer(self, breaker: Any, backend: Backend | None, status: int = 200, *, seconds: float = 0.0) -> None:
        breaker.on_response(self.exchange(backend, status, seconds=seconds))

    def fail(self, breaker: Any, backend: Backend | None, error: AttemptError | None = None) -> None:
        breaker.on_backend_error(self.exchange(backend), error or ConnectFailed("refused"))

    @property
    def told(self) -> list[str]:
        return [f"{e.kind} {e.backend}".strip() for e in self.events if e.kind.startswith("breaker_")]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_open_half_open_closed(scene: Scene) -> None:
    breaker = scene.backend(threshold=2, timeout=30, probes=3)
    scene.fail(breaker, scene.one)
    scene.fail(breaker, scene.one, ConnectFailed(""))
    assert scene.pool.candidates == (scene.two,)
    assert breaker.states() == {"one": 2, "two": 0}
    assert scene.events[0].message == "breaker open: 2 failures in a row, the last: connect_failed"
    assert breaker.opened == 1
    (timer,) = scene.timers
    assert timer.seconds == 30
    scene.answer(breaker, scene.one)
    assert breaker.states()["one"] == 2, "an answer that was under way says nothing while it is open"
    timer.call()
    assert breaker.states()["one"] == 1
    assert (scene.one.limit, scene.pool.candidates) == (3, (scene.one, scene.two))
    assert scene.one.reason == "breaker half open, 3 at a time"
    scene.answer(breaker, scene.one)
    scene.answer(breaker, scene.one)
    assert breaker.states()["one"] == 0
    assert (scene.one.limit, scene.one.reason) == (scene.one.max_connections, "")
    assert scene.told == ["breaker_opened one", "breaker_half_open one", "breaker_closed one"]


def test_what_says_nothing_about_a_backend_is_not_counted(scene: Scene) -> None:
    breaker = scene.backend(threshold=1)
    scene.fail(breaker, scene.one, BackendReset("closed while idle", reused=True))
    scene.fail(breaker, None)
    scene.answer(breaker, None, 503)
    scene.fail(breaker, Backend("stranger", "127.0.0.1", 3))
    assert scene.told == []
    scene.answer(breaker, scene.one, 503)
    assert scene.told == ["breaker_opened one"]
    scene.answer(breaker, None)


def test_a_canary_s_backends_and_those_of_a_backup_have_circuits_too(scene: Scene) -> None:
    sick, well = Backend("sick", "127.0.0.1", 3, id="canary/sick"), Backend("well", "127.0.0.1", 4)
    canary = Pool("canary", (sick, well), notify=scene.events.append)
    breaker = scene.backend(threshold=2)
    exchange = scene.exchange(sick, 503)
    exchange.pool = canary
    breaker.on_response(exchange)
    assert breaker.describe() == ["canary/sick: closed, 1 of 2 failures"]
    breaker.on_backend_error(exchange, ConnectFailed("refused"))
    assert (canary.candidates, scene.pool.candidates) == ((well,), (scene.one, scene.two))
    assert scene.route.gate is None
    scene.timers[0].call()
    exchange.status = 200
    for _ in range(2):
        breaker.on_response(exchange)
    assert scene.told == ["breaker_opened sick", "breaker_half_open sick", "breaker_closed sick"]


def test_a_rebuilt_route_keeps_the_circuits_of_pools_it_still_uses(scene: Scene) -> None:
    pools = [Pool(name, [Backend(name, "127.0.0.1", 3), Backend("well", "127.0.0.1", 4)]) for name in ("kept", "left")]
    old = scene.backend(threshold=1)
    for pool in pools:
        exchange = scene.exchange(pool.backends[0], 503)
        exchange.pool = pool
        old.on_response(exchange)
    route = scene.new_route()
    route.pools = {"kept": pools[0]}
    new = scene.backend(route, threshold=1)
    new.inherit(old)
    old.close()
    assert [len(pool.candidates) for pool in pools] == [1, 2]
    new.close()
    assert [len(pool.candidates) for pool in pools] == [2, 2]


def test_a_backend_that_leaves_half_open_is_forgotten(scene: Scene) -> None:
    breaker = scene.backend(threshold=1)
    scene.fail(breaker, scene.one)
    scene.timers[0].call()
    scene.pool.replace([scene.two])
    assert breaker.describe() == ["every circuit is closed"]


def test_requests_of_routes_without_a_breaker_close_a_circuit_that_no_other_is_sent_to(scene: Scene) -> None:
    breaker = scene.backend(threshold=1, passes=2)
    scene.fail(breaker, scene.one)
    scene.timers[-1].call()
    scene.one.requests += 1
    scene.timers[-1].call()
    assert breaker.states()["one"] == 1, "one is not enough"
    scene.one.requests += 3
    scene.one.failures += 1
    scene.timers[-1].call()
    assert breaker.states()["one"] == 1, "one has failed"
    scene.one.requests += 2
    scene.timers[-1].call()
    assert breaker.states()["one"] == 0
    assert (scene.one.limit, scene.events[-1].message) == (
        scene.one.max_connections,
        "2 answered for other routes, none failed",
    )
    scene.timers[-1].call()
    assert scene.told == ["breaker_opened one", "breaker_half_open one", "breaker_closed one"]


def test_what_lasts_takes_no_probe_s_place(scene: Scene) -> None:
    breaker = scene.backend(threshold=1, passes=4)
    scene.one.in_flight = 50
    scene.fail(breaker, scene.one)
    scene.timers[-1].call()
    assert scene.one.limit == 51, "WebSockets from before it opened"
    scene.one.in_flight = 21
    scene.answer(breaker, scene.one)
    assert scene.one.limit == 21, "30 of them have ended"
    scene.answer(breaker, scene.one, 101)
    assert scene.one.limit == 22
    events = scene.exchange(scene.one)
    events.response_head = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream\r\n\r\n"
    scene.one.in_flight = 22
    breaker.on_response(events)
    assert scene.one.limit == 23


def test_a_tunnel_does_not_keep_the_route_s_other_probes_out(scene: Scene) -> None:
    breaker = scene.whole(threshold=1)
    scene.fail(breaker, scene.one)
    scene.timers[-1].call()
    tunnel = scene.exchange(scene.one, 101)
    assert breaker.admits(tunnel)
    breaker.on_response(tunnel)
    assert breaker.admits(scene.exchange(scene.one))


def test_an_ejection_of_somebody_else_goes_on_when_the_circuit_is_tried(scene: Scene) -> None:
    breaker = scene.backend(threshold=1)
    scene.pool.eject(scene.one, "failed too often")
    scene.fail(breaker, scene.one)
    scene.fail(breaker, scene.two)
    assert scene.pool.candidates == (), "no last resort behind an open circuit"
    scene.pool.restore(scene.one, "tried again")
    assert scene.pool.candidates == (), "only its own end lets it in"
    scene.timers[0].call()
    assert scene.pool.candidates == (scene.one,)


def test_failures_while_open_change_nothing(scene: Scene) -> None:
    breaker = scene.backend(threshold=1)
    scene.fail(breaker, scene.one)
    scene.fail(breaker, scene.one)
    assert (len(scene.timers), breaker.opened) == (1, 1)


def test_a_slow_probe_is_a_failure(scene: Scene) -> None:
    breaker = scene.backend(threshold=1, slow_call=2.0)
    scene.fail(breaker, scene.one)
    scene.timers[0].call()
    scene.answer(breaker, scene.one, seconds=3.0)
    assert breaker.states()["one"] == 2
    assert scene.events[-1].message == "a probe took 3.0s; tried again in 60s"


def test_slow_answers_open(scene: Scene) -> None:
    breaker = scene.backend(slow_call=2.0, min_requests=2)
    for _ in range(2):
        scene.answer(breaker, scene.one, seconds=3.0)
    assert scene.told == ["breaker_opened one"]


def test_a_gate_stands_while_nobody_is_left(scene: Scene) -> None:
    breaker = scene.backend(threshold=1)
    scene.fail(breaker, scene.one)
    assert scene.route.gate is None
    scene.now += 10
    scene.fail(breaker, scene.two)
    gate = scene.route.gate
    assert gate is breaker
    assert breaker.retry_after() == 50
    assert not breaker.admits(scene.exchange(None))
    scene.timers[0].call()
    assert scene.route.gate is breaker, "a half-open one is not enough"
    assert breaker.admits(scene.exchange(None))
    scene.one.in_flight = 1
    assert not breaker.admits(scene.exchange(None))
    for _ in range(2):
        scene.answer(breaker, scene.one)
    assert scene.route.gate is None


def test_a_backend_that_left_the_pool_is_forgotten(scene: Scene) -> None:
    breaker = scene.backend(threshold=2)
    scene.fail(breaker, scene.two)
    for _ in range(2):
        scene.fail(breaker, scene.one)
    scene.pool.replace([Backend("three", "127.0.0.1", 3)])
    scene.timers[0].call()
    assert scene.guard.circuits == {}
    three = scene.pool.backends[0]
    scene.fail(breaker, three)
    assert breaker.describe() == ["three: closed, 1 of 2 failures"]
    assert breaker.states() == {"three": 0}


def test_two_routes_share_what_is_counted_and_what_is_open(scene: Scene) -> None:
    first, second = scene.backend(threshold=2), scene.backend(scene.new_route(), threshold=2)
    other = scene.backend(scene.new_route(), threshold=9)
    scene.fail(first, scene.one)
    scene.fail(other, scene.one)
    scene.fail(second, scene.one)
    assert scene.told == ["breaker_opened one"]
    scene.timers[0].call()
    scene.answer(other, scene.one)
    scene.answer(first, scene.one)
    assert first.states() == second.states() == other.states() == {"one": 0, "two": 0}


def test_the_last_route_to_leave_gives_everything_back(scene: Scene) -> None:
    route = scene.new_route()
    first, second = scene.backend(threshold=1), scene.backend(route, threshold=1)
    scene.fail(first, scene.one)
    scene.fail(second, scene.two)
    assert (scene.route.gate, route.gate) == (first, second)
    first.close()
    first.close()
    assert scene.route.gate is None
    assert breaker_states(second) == [2, 2]
    second.close()
    assert scene.pool.candidates == (scene.one, scene.two)
    assert all(timer.cancelled for timer in scene.timers)
    assert scene.pool.on_change == []
    scene.fail(second, scene.one)
    scene.answer(second, scene.one, 200)
    assert scene.pool.candidates == (scene.one, scene.two), "an old route's exchanges count no more"


def breaker_states(breaker: BackendBreaker) -> list[int]:
    return [*breaker.states().values()]


def test_a_rebuilt_route_goes_on_with_the_pool_s_circuits(scene: Scene) -> None:
    old = scene.backend(threshold=1)
    for backend in scene.pool.backends:
        scene.fail(old, backend)
    route = scene.new_route()
    new = scene.backend(route, threshold=1)
    new.inherit(object())
    new.inherit(old)
    old.close()
    new.start()
    assert breaker_states(new) == [2, 2]
    assert (route.gate, scene.route.gate) == (new, None)
    assert not any(timer.cancelled for timer in scene.timers)


def test_a_guard_lives_as_long_as_somebody_refers_to_it(scene: Scene) -> None:
    guards = Guards()
    first = guards.of(scene.pool)
    assert guards.of(scene.pool) is first
    assert first.tallies(BreakerSettings()) is not first.tallies(BreakerSettings(threshold=2))
    counted = first.tallies(BreakerSettings())
    assert first.tallies(BreakerSettings()) is counted


# scope route


def test_the_route_opens_and_admits_probes_one_by_one(scene: Scene) -> None:
    breaker = scene.whole(threshold=2, timeout=30)
    scene.answer(breaker, scene.one)
    scene.fail(breaker, scene.one)
    scene.answer(breaker, scene.one)
    scene.fail(breaker, scene.one, BackendReset("stale", reused=True))
    scene.fail(breaker, scene.one, ConnectFailed(""))
    assert breaker.describe() == "closed, 1 of 2 failures"
    scene.answer(breaker, scene.two, 503)
    assert scene.route.gate is breaker
    assert scene.route.serving is not scene.pool
    assert scene.pool.candidates == (scene.one, scene.two), "others may use the pool"
    assert (breaker.retry_after(), breaker.states(), breaker.opened) == (30, {"": 2}, 1)
    assert not breaker.admits(scene.exchange(None))
    scene.fail(breaker, scene.one)
    scene.timers[0].call()
    probe, other = scene.exchange(scene.one), scene.exchange(scene.one)
    assert breaker.admits(probe)
    assert not breaker.admits(other)
    breaker.on_response(other)
    breaker.on_backend_error(other, ConnectFailed("refused"))
    breaker.on_response(probe)
    probe.ended = scene.now
    assert breaker.admits(other)
    breaker.on_response(other)
    assert (scene.route.gate, scene.route.serving) == (None, scene.pool)
    assert breaker.describe() == "closed"
    assert scene.told == ["breaker_opened", "breaker_half_open", "breaker_closed"]


def test_a_probe_of_the_route_that_fails_or_is_slow_opens_it_again(scene: Scene) -> None:
    breaker = scene.whole(threshold=1, slow_call=2.0)
    scene.fail(breaker, scene.one)
    for count, (status, seconds) in enumerate([(503, 0.0), (200, 3.0)], 2):
        scene.timers[-1].call()
        probe = scene.exchange(scene.one, status, seconds=seconds)
        assert breaker.admits(probe)
        breaker.on_response(probe)
        assert (breaker.states(), breaker.opened) == ({"": 2}, count)


def test_the_route_s_ratio(scene: Scene) -> None:
    breaker = scene.whole(error_ratio=0.5, min_requests=4)
    for status in (503, 200, 503):
        scene.answer(breaker, scene.one, status)
    assert scene.route.gate is None
    scene.answer(breaker, scene.two)
    assert scene.route.gate is breaker


def test_what_other_pools_meet_is_not_the_route_s(scene: Scene) -> None:
    breaker = scene.whole(threshold=1, slow_call=1.0)
    for status in (503, 200):
        exchange = scene.exchange(scene.one, status)
        exchange.pool = Pool("another", ())
        breaker.on_response(exchange)
    assert scene.told == []


def test_a_rebuilt_route_goes_on_with_its_circuit(scene: Scene) -> None:
    old = scene.whole(threshold=1, timeout=30)
    scene.fail(old, scene.one)
    scene.now += 10
    route = scene.new_route()
    new = scene.whole(route, threshold=1, timeout=30)
    new.inherit(old)
    old.close()
    new.start()
    assert scene.timers[0].cancelled
    assert (route.gate, scene.route.gate, scene.timers[1].seconds) == (new, None, 20)
    scene.timers[1].call()
    new.close()
    assert route.gate is None
    scene.fail(new, scene.one)
    other = scene.whole(scene.new_route(), threshold=2)
    other.inherit(scene.backend())
    other.inherit(new)
    other.start()
    assert other.states() == {"": 1}


def test_a_closed_one_starts_without_a_gate(scene: Scene) -> None:
    breaker = scene.whole()
    breaker.start()
    assert scene.route.gate is None
    breaker.close()
    scene.backend().start()
