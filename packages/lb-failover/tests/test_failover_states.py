"""When a failover begins and ends, on real routes with the clock and the timers passed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from lb_core import Backend, Event, Exchange, Pool, Route
from lb_core.config import RouteConfig
from lb_core.health import HealthResult
from lb_core.testing.together import Together
from lb_failover.failover import Failover, later
from lb_failover.settings import FailoverSettings

if TYPE_CHECKING:
    from lb_core.sharing import Sharing

OK, BAD = HealthResult(True, "status 200"), HealthResult(False, "refused")


class Timer:
    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds = seconds
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Gate:
    """A breaker that is open."""

    word = "breaker_open"
    strict = True

    def admits(self, exchange: Exchange) -> bool:
        return False

    def retry_after(self) -> float:
        return 7.0


class Scene:
    """Two routes with a backend each, and the time."""

    def __init__(self, sharing: Sharing | None = None) -> None:
        self.sharing = sharing
        self.now = 1000.0
        self.events: list[Event] = []
        self.timers: list[Timer] = []
        self.main, self.spare = Backend("main", "127.0.0.1", 1), Backend("spare", "127.0.0.1", 2)
        self.pool = Pool("main", (self.main,), notify=self.events.append)
        self.backup = Route(RouteConfig(name="backup", host="backup", pool="backup"), Pool("backup", (self.spare,)))
        self.route = self.new_route()

    def new_route(self) -> Route:
        route = Route(RouteConfig(name="main", host="main", pool="main"), self.pool, self.sharing)
        route.routes = {"backup": self.backup}
        return route

    def failover(self, route: Route | None = None, **settings: Any) -> Failover:
        def later(seconds: float, call: Callable[[], None]) -> Timer:
            self.timers.append(Timer(seconds, call))
            return self.timers[-1]

        made = FailoverSettings(backup_domain="backup", **settings)
        return Failover(route or self.route, made, later=later, clock=lambda: self.now)

    def lose(self) -> None:
        self.pool.set_health(self.main, "down")

    def find(self) -> None:
        self.pool.set_health(self.main, "up")

    def serves(self) -> Pool | None:
        """Whose backends a request would get."""
        connection: Any = object()
        exchange = Exchange(self.route, connection, "192.0.2.1", b"GET", b"/", b"main", b"")
        return exchange.pool if exchange.pool.candidates else self.route.instead(exchange)

    @property
    def told(self) -> list[str]:
        return [event.kind for event in self.events if event.kind.startswith("failover_")]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_there_and_back(scene: Scene) -> None:
    failover = scene.failover()
    failover.start()
    assert scene.serves() is scene.pool
    assert failover.describe() == "ready: backup would serve, begun 0 times so far"
    scene.lose()
    assert scene.serves() is scene.backup.pool
    scene.now += 5
    assert failover.describe() == "backup has served for 5s"
    scene.find()
    (timer,) = scene.timers
    scene.now += 3
    assert failover.describe() == "backup has served for 8s, back in 7s"
    assert (timer.seconds, scene.serves()) == (10, scene.backup.pool)
    scene.now += 7
    timer.call()
    assert (failover.active, failover.count, scene.serves()) == (False, 1, scene.pool)
    assert scene.told == ["failover_started", "failover_ended"]
    assert scene.events[-1].message == "the route's own backends serve again after 15s"


def test_a_break_begins_the_time_again(scene: Scene) -> None:
    failover = scene.failover()
    failover.start()
    scene.lose()
    scene.find()
    scene.now += 9
    scene.lose()
    assert scene.timers[0].cancelled
    scene.find()
    assert scene.timers[1].seconds == 10
    scene.pool.set_weight(scene.main, 2)
    assert len(scene.timers) == 2, "another tuple of candidates is no break"


def test_a_gate_is_reason_enough_and_no_way_back(scene: Scene) -> None:
    failover = scene.failover()
    failover.start()
    scene.route.set_gate(Gate())
    assert scene.serves() is scene.backup.pool
    assert scene.events[-1].message == "the circuit breaker is open, backup serves"
    assert not scene.timers
    scene.route.set_gate(None)
    assert len(scene.timers) == 1


def test_with_the_backup_lost_too_the_route_s_own_serve_as_soon_as_they_can(scene: Scene) -> None:
    failover = scene.failover()
    failover.start()
    scene.lose()
    scene.backup.pool.set_health(scene.spare, "down")
    assert scene.serves() is None
    scene.find()
    assert scene.serves() is scene.pool


def test_a_first_check_is_waited_for_until_it_has_failed(scene: Scene) -> None:
    scene.pool.set_health(scene.main, "starting")
    failover = scene.failover()
    failover.start()
    assert not failover.active
    failover.on_health_result(scene.main, OK)
    assert not failover.active
    failover.on_health_result(scene.main, BAD)
    failover.on_health_result(scene.main, BAD)
    assert failover.active
    assert failover.count == 1


def test_nobody_at_the_start(scene: Scene) -> None:
    scene.lose()
    failover = scene.failover()
    failover.start()
    assert scene.serves() is scene.backup.pool


def test_a_rebuilt_route_goes_on_with_the_rest_of_the_time(scene: Scene) -> None:
    old = scene.failover()
    old.start()
    scene.lose()
    scene.find()
    scene.now += 4
    scene.route = scene.new_route()
    new = scene.failover()
    new.inherit(object())
    new.inherit(old)
    old.close()
    old.close()
    assert scene.timers[0].cancelled
    new.start()
    assert (new.active, new.count, scene.timers[1].seconds) == (True, 1, 6)
    assert scene.serves() is scene.backup.pool
    assert scene.told == ["failover_started"]
    scene.timers[1].call()
    assert scene.serves() is scene.pool


def test_without_a_loop_nobody_is_served_and_nothing_waits(scene: Scene) -> None:
    failover = Failover(scene.route, FailoverSettings(backup_domain="backup"))
    failover.start()
    scene.lose()
    scene.find()
    assert not failover.active


async def test_the_usual_timer_is_the_loop_s() -> None:
    timer = later(60, lambda: None)
    assert timer is not None
    timer.cancel()


# several workers


class Workers:
    """The control process and two workers with the same routes."""

    def __init__(self) -> None:
        self.together = Together(2)
        self.scenes = [Scene(each) for each in (self.together.control, *self.together.workers)]
        self.failovers = [scene.failover(return_after=10) for scene in self.scenes]
        for failover in self.failovers:
            failover.start()

    def lose(self) -> None:
        for scene in self.scenes:
            scene.lose()

    def find(self) -> None:
        for scene in self.scenes:
            scene.find()

    def sleep(self, seconds: float) -> None:
        for scene in self.scenes:
            scene.now += seconds

    def add(self) -> tuple[Scene, Failover]:
        """A new worker: its backends wait for a check until it is told."""
        sharing = self.together.add()
        scene = Scene(sharing)
        scene.now = self.scenes[0].now
        scene.pool.set_health(scene.main, "starting")
        failover = scene.failover(return_after=10)
        failover.start()
        assert not failover.active
        scene.pool.set_health(scene.main, self.scenes[0].main.health)
        self.together.welcome(sharing)
        return scene, failover


def test_all_processes_fail_over_and_one_tells_it() -> None:
    node = Workers()
    node.lose()
    assert [each.active for each in node.failovers] == [True, True, True]
    assert [scene.told for scene in node.scenes] == [["failover_started"], [], []]


def test_a_new_worker_returns_with_the_others() -> None:
    node = Workers()
    node.lose()
    node.sleep(20)
    node.find()
    node.sleep(4)
    scene, failover = node.add()
    assert failover.active
    assert failover.describe() == node.failovers[0].describe() == "backup has served for 24s, back in 6s"
    assert scene.timers[-1].seconds == 6
    scene.timers[-1].call()
    assert scene.serves() is scene.pool
    assert scene.told == []


def test_a_new_worker_fails_over_where_nobody_is_left_and_nobody_returns() -> None:
    node = Workers()
    node.lose()
    node.sleep(5)
    scene, failover = node.add()
    assert failover.active
    assert failover.describe() == "backup has served for 5s"
    scene.find()
    assert scene.timers[-1].seconds == 10
    for each in node.failovers:
        each.close()
    assert node.together.control.snapshots(nodes=False) == []
