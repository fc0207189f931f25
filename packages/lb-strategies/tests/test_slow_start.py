"""Slow start: who is warmed up, how, and when it does not begin."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from lb_core import Backend, ConfigError, Pool, Route
from lb_core.config import RouteConfig, config_from_tree, json_schema
from lb_core.plugins import Plugins
from lb_core.testing.together import Together
from lb_strategies import SlowStart, SlowStartSettings
from lb_strategies.slow_start import build

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.sharing import Sharing


class Later:
    """One timer of a loop whose time the test moves."""

    def __init__(self, moment: float, call: Callable[[], None]) -> None:
        self.moment, self.call, self.cancelled = moment, call, False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """A pool that has served for long enough, a clock and its timers."""

    def __init__(self, count: int = 3, serving: float = 60.0, **settings: Any) -> None:
        self.now = 1000.0
        self.timers: list[Later] = []
        self.backends = [Backend(f"b{n}", "127.0.0.1", n) for n in range(count)]
        self.pool = Pool("*", self.backends, clock=lambda: self.now)
        self.settings = SlowStartSettings(**settings)
        self.feature = self.build()
        self.now += serving

    def build(self) -> SlowStart:
        return SlowStart(self.pool, self.settings, later=self.later, clock=lambda: self.now)

    def later(self, delay: float, call: Callable[[], None]) -> Later:
        self.timers.append(Later(self.now + delay, call))
        return self.timers[-1]

    @property
    def waiting(self) -> list[Later]:
        return [timer for timer in self.timers if not timer.cancelled]

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while self.waiting and min(timer.moment for timer in self.waiting) <= end + 1e-9:
            timer = min(self.waiting, key=lambda timer: timer.moment)
            self.timers.remove(timer)
            self.now = timer.moment
            timer.call()
        self.now = end

    def bounce(self, backend: Backend) -> None:
        self.pool.eject(backend, "")
        self.pool.restore(backend)

    @property
    def warmth(self) -> list[float]:
        return [backend.warmth for backend in self.backends]


def join(world: World) -> Backend:
    world.pool.replace([*world.backends, new := Backend("new", "127.0.0.1", 9)])
    return new


def down(world: World) -> Backend:
    world.pool.set_health(world.backends[0], "down")
    world.pool.set_health(world.backends[0], "up")
    return world.backends[0]


def ejected(world: World) -> Backend:
    world.bounce(world.backends[0])
    return world.backends[0]


def drained(world: World) -> Backend:
    world.pool.set_mode(world.backends[0], "draining")
    world.pool.set_mode(world.backends[0], "active")
    return world.backends[0]


def weighed(world: World) -> Backend:
    world.pool.set_weight(world.backends[0], 0)
    world.pool.set_weight(world.backends[0], 1)
    return world.backends[0]


@pytest.mark.parametrize("comes", [join, down, ejected, drained, weighed])
def test_who_joins_or_recovers_begins_at_a_tenth_and_is_whole_after_thirty_seconds(
    comes: Callable[[World], Backend],
) -> None:
    world = World()
    backend = comes(world)
    seen = [backend.warmth]
    for _ in range(10):
        world.sleep(3.0)
        seen.append(backend.warmth)
    assert seen == pytest.approx([0.1, 0.19, 0.28, 0.37, 0.46, 0.55, 0.64, 0.73, 0.82, 0.91, 1.0])
    assert (backend.weight, world.waiting) == (1, [])


def test_duration_and_begin_are_settings() -> None:
    world = World(duration=10.0, **{"from": 0.5})
    world.bounce(world.backends[0])
    assert world.warmth == [0.5, 1.0, 1.0]
    world.sleep(5.0)
    assert world.warmth == [0.75, 1.0, 1.0]
    world.sleep(5.0)
    assert world.warmth == [1.0, 1.0, 1.0]


def test_one_timer_serves_all_and_none_runs_when_nobody_warms_up() -> None:
    world = World(5)
    assert world.timers == []
    for backend in world.backends[:3]:
        world.bounce(backend)
        world.sleep(1.0)
        assert len(world.waiting) == 1
    world.sleep(33.0)
    assert world.warmth == [1.0] * 5
    assert world.waiting == []


def test_nothing_warms_up_after_a_start() -> None:
    world = World(serving=29.0)
    world.bounce(world.backends[0])
    assert world.warmth == [1.0] * 3
    world.now += 1.0
    world.bounce(world.backends[0])
    assert world.warmth == [0.1, 1.0, 1.0]


def test_the_first_backends_of_an_empty_pool_do_not_warm_up() -> None:
    world = World(0)
    world.pool.replace([*world.backends, Backend("one", "127.0.0.1", 1)])
    world.now += 20.0
    world.pool.replace([*world.pool.backends, Backend("two", "127.0.0.1", 2)])
    assert [backend.warmth for backend in world.pool.backends] == [1.0, 1.0]


def test_after_everybody_was_gone_it_is_as_after_a_start() -> None:
    world = World(2)
    for backend in world.backends:
        world.pool.set_health(backend, "down")
    for backend in world.backends:
        world.pool.set_health(backend, "up")
        world.now += 5.0
    assert world.warmth == [1.0, 1.0]


def test_without_another_warm_candidate_nobody_warms_up() -> None:
    world = World(2)
    one, two = world.backends
    world.pool.set_mode(two, "maintenance")
    world.pool.set_mode(one, "maintenance")
    world.pool.set_mode(one, "active")
    assert world.warmth == [1.0, 1.0]
    world.now += 60.0
    world.pool.set_mode(two, "active")
    assert world.warmth == [1.0, 0.1]
    world.bounce(one)
    assert world.warmth == [1.0, 0.1]


def test_a_backup_that_steps_in_serves_at_once() -> None:
    world = World(2)
    world.backends[1].backup = True
    world.pool.rebuild()
    world.pool.set_health(world.backends[0], "down")
    assert world.pool.candidates == (world.backends[1],)
    world.pool.set_health(world.backends[0], "up")
    assert world.warmth == [1.0, 1.0]


def test_one_that_goes_while_it_warms_up_begins_anew() -> None:
    world = World(2)
    world.bounce(world.backends[0])
    world.sleep(15.0)
    world.pool.set_health(world.backends[0], "down")
    assert (world.warmth, world.waiting) == ([1.0, 1.0], [])
    world.pool.set_health(world.backends[0], "up")
    assert world.warmth == [0.1, 1.0]


def test_the_candidates_change_with_every_step() -> None:
    world, seen = World(2), set()
    world.bounce(world.backends[0])
    for _ in range(10):
        seen.add(id(world.pool.candidates))
        world.sleep(3.0)
    assert len(seen) >= 2
    assert len(world.pool.on_change) == 1


def test_a_rebuilt_route_goes_on_and_the_old_one_leaves_it_alone() -> None:
    world = World()
    world.bounce(world.backends[0])
    world.sleep(9.0)
    new = world.build()
    world.pool.replace([*world.backends, late := Backend("late", "127.0.0.1", 9)])
    new.inherit(world.feature)
    new.inherit(object())
    world.feature.close()
    assert (world.warmth[0], late.warmth) == (0.37, 0.1)
    assert new.describe() == [
        "b0 starts slowly: at 37% of its weight",
        "late starts slowly: at 10% of its weight",
    ]
    world.sleep(30.0)
    assert (world.warmth[0], late.warmth, world.waiting) == (1.0, 1.0, [])


def test_a_route_that_ends_leaves_backends_whole_and_hears_no_more() -> None:
    world = World()
    world.bounce(world.backends[0])
    world.feature.close()
    assert (world.warmth, world.waiting, world.pool.on_change) == ([1.0] * 3, [], [])
    world.bounce(world.backends[1])
    assert world.warmth == [1.0] * 3
    world.feature.close()


def test_what_was_built_for_nothing_hears_no_more() -> None:
    world = World()
    refused = world.build()
    assert len(world.pool.on_change) == 2
    del refused
    gc.collect()
    world.bounce(world.backends[0])
    assert len(world.pool.on_change) == 1


def test_routes_that_share_a_pool_do_not_warm_up_twice() -> None:
    world = World()
    other = world.build()
    world.now += 60.0
    world.bounce(world.backends[0])
    assert (len(world.waiting), other.describe()) == (1, [])


def test_outside_an_event_loop_nothing_begins() -> None:
    pool = Pool("*", [Backend(name, "127.0.0.1", 1) for name in "ab"])
    times = iter([0.0, 60.0, 60.0, 60.0])
    feature = SlowStart(pool, SlowStartSettings(), clock=lambda: next(times))
    pool.eject(pool.backends[0], "")
    pool.restore(pool.backends[0])
    assert pool.backends[0].warmth == 1.0
    feature.close()


async def test_in_a_loop_its_timer_is_used() -> None:
    pool = Pool("*", [Backend(name, "127.0.0.1", 1) for name in "ab"])
    feature = SlowStart(pool, SlowStartSettings(duration=0.05))
    await asyncio.sleep(0.06)
    pool.eject(pool.backends[0], "")
    pool.restore(pool.backends[0])
    assert pool.backends[0].warmth == 0.1
    await asyncio.sleep(0.2)
    assert pool.backends[0].warmth == 1.0
    feature.close()


@pytest.mark.parametrize(("strategy", "slow"), [("round_robin", True), ("ip_hash", False), ("consistent_hash", False)])
def test_strategies_that_hash_do_without(strategy: str, slow: bool) -> None:
    route: Any = SimpleNamespace(pool=Pool("*", ()), config=SimpleNamespace(strategy=SimpleNamespace(name=strategy)))
    assert (build(route, SlowStartSettings()) is not None) == slow


# in a configuration


def features(**route: object) -> dict[str, object]:
    tree = {"routes": {"*": {"backends": ["127.0.0.1:9001"], **route}}}
    (made,) = config_from_tree(tree, Plugins.discover(), source="").routes
    return {feature.name: feature.settings for feature in made.features}


def test_it_is_on_unless_it_is_switched_off() -> None:
    assert features()["slow_start"] == SlowStartSettings()
    assert features(slow_start="10s")["slow_start"] == SlowStartSettings(duration=10)
    long = {"duration": "1m", "from": "20%"}
    assert features(slow_start=long)["slow_start"] == SlowStartSettings(duration=60, **{"from": 0.2})
    assert "slow_start" not in features(slow_start=False)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("0s", "slow_start.duration: this cannot be 0"),
        ({"from": "0%"}, "slow_start.from: "),
        ({"from": 10}, "slow_start.from: a share needs its unit: write 10%"),
        ({"begin": "10%"}, "slow_start.begin: "),
    ],
)
def test_a_mistake_is_named_with_its_place(written: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        features(slow_start=written)
    assert message in str(caught.value)


def test_the_schema_knows_the_keys() -> None:
    text = str(json_schema(Plugins.discover()))
    assert "'from': {" in text
    assert "'default': '10%'" in text


# several workers


class Workers:
    """The control process and two workers, with a pool and a slow start each, and one clock."""

    def __init__(self) -> None:
        self.together = Together(2)
        self.worlds = [self.world(each) for each in (self.together.control, *self.together.workers)]

    def world(self, sharing: Sharing) -> World:
        world = World(serving=0.0)
        route = Route(RouteConfig(name="*", host="*", pool="*"), world.pool, sharing)
        world.feature = SlowStart(world.pool, world.settings, route, later=world.later, clock=lambda: world.now)
        world.feature.start()
        return world

    def sleep(self, seconds: float) -> None:
        for world in self.worlds:
            world.sleep(seconds)

    def bounce(self, number: int) -> None:
        for world in self.worlds:
            world.bounce(world.backends[number])

    def add(self) -> World:
        """A new worker: backends wait for their checks until it is told."""
        sharing = self.together.add()
        new = self.world(sharing)
        new.now = self.worlds[0].now
        for backend in new.backends:
            new.pool.set_health(backend, "starting")
        for backend in new.backends:
            new.pool.set_health(backend, "up")
        self.together.welcome(sharing)
        self.worlds.append(new)
        return new

    @property
    def warmth(self) -> list[list[float]]:
        """That of the backends; one list where all processes agree."""
        found: list[list[float]] = []
        for world in self.worlds:
            if world.warmth not in found:
                found.append(world.warmth)
        return found


def test_a_new_worker_goes_on_where_the_others_are() -> None:
    node = Workers()
    node.sleep(60.0)
    node.bounce(0)
    assert node.warmth == [[0.1, 1.0, 1.0]]
    node.sleep(15.0)
    late = node.add()
    assert node.warmth == [[0.55, 1.0, 1.0]], "the warm ones do not begin anew"
    for _ in range(5):
        node.sleep(3.0)
    assert node.warmth == [[1.0, 1.0, 1.0]]
    assert late.waiting == []


def test_a_new_worker_warms_up_who_joins_right_after_it() -> None:
    node = Workers()
    node.sleep(60.0)
    node.add()
    node.bounce(1)
    assert node.warmth == [[1.0, 0.1, 1.0]]


def test_a_new_worker_is_told_that_the_pool_has_only_begun() -> None:
    node = Workers()
    node.sleep(10.0)
    node.add()
    node.bounce(1)
    assert node.warmth == [[1.0, 1.0, 1.0]]


def test_who_has_just_become_warm_is_warm_for_a_new_worker_too() -> None:
    node = Workers()
    node.sleep(60.0)
    node.bounce(0)
    node.worlds[0].now += 40.0  # its timer is late
    late = node.add()
    assert late.warmth == [1.0, 1.0, 1.0]
    late.sleep(3.0)
    assert late.waiting == []
    for world in node.worlds:
        world.feature.close()
    assert node.together.control.snapshots(nodes=False) == []
