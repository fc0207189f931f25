"""Passive ejection: when a failing backend leaves, for how long, and when it may not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from lb_core.backend import Backend
from lb_core.defaults.ejection import Ejection, EjectionSettings, build
from lb_core.errors import AttemptError, BackendReset, ConnectFailed, ConnectTimeout, HeaderTimeout, InvalidResponse
from lb_core.exchange import Exchange
from lb_core.pool import Pool
from lb_core.settings import FROM_FILE

if TYPE_CHECKING:
    from lb_core.events import Event


class Client:
    peer, scheme, port = "192.0.2.1", "http", 80


class World:
    """A pool with ejection, a clock that stands until it is moved, and the timers that were set."""

    def __init__(self, count: int = 4, jitter: float = 1.0, **settings: Any) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.events: list[Event] = []
        self.backends = [Backend(f"b{number}", "h", number + 1) for number in range(count)]
        self.pool = Pool("example.com", self.backends, notify=self.events.append)
        self.ejection = Ejection(
            self.pool,
            EjectionSettings(**settings),
            later=lambda seconds, call: self.timers.append((self.now + seconds, call)),
            clock=lambda: self.now,
            jitter=lambda: jitter,
        )

    def exchange(self, backend: Backend, status: int = 0) -> Exchange:
        route: Any = SimpleNamespace(serving=self.pool)
        it = Exchange(route, Client(), "192.0.2.1", b"GET", b"/", b"a.x", b"")
        it.backend, it.status = backend, status
        return it

    def fail(self, number: int, times: int = 1, error: AttemptError | None = None) -> None:
        for _ in range(times):
            self.ejection.on_backend_error(self.exchange(self.backends[number]), error or ConnectFailed("refused"))

    def answer(self, number: int, status: int = 200, times: int = 1) -> None:
        for _ in range(times):
            self.ejection.on_response(self.exchange(self.backends[number], status))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, call in due:
            call()

    @property
    def ejected(self) -> list[str]:
        return [backend.name for backend in self.backends if backend.ejected]


@pytest.mark.parametrize(
    "error",
    [
        ConnectFailed("refused"),
        ConnectTimeout("3s"),
        BackendReset("reset"),
        HeaderTimeout("60s"),
        InvalidResponse("not HTTP"),
    ],
)
def test_five_failures_in_a_row_eject_for_thirty_seconds(error: AttemptError) -> None:
    world = World()
    world.fail(0, 4, error)
    assert world.ejected == []
    world.fail(0, 1, error)
    assert world.ejected == ["b0"]
    assert world.backends[0] not in world.pool.candidates
    assert world.events[-1].kind == "backend_ejected"
    assert world.events[-1].message == f"5 failures in a row, the last: {error}; tried again in 30s"
    world.pass_time(29.9)
    assert world.ejected == ["b0"]
    world.pass_time(0.2)
    assert world.ejected == []
    assert world.events[-1].kind == "backend_restored"


@pytest.mark.parametrize("status", [502, 503, 504])
def test_statuses_that_say_the_backend_is_ill(status: int) -> None:
    world = World()
    world.answer(0, status, 5)
    assert world.ejected == ["b0"]
    assert f"the last: status {status}" in world.backends[0].reason


@pytest.mark.parametrize("status", [200, 404, 429, 500, 501])
def test_other_statuses_are_successes(status: int) -> None:
    world = World()
    world.answer(0, status, 20)
    assert world.ejected == []
    world.fail(0, 4)
    world.answer(0, status)
    world.fail(0, 4)
    assert world.ejected == []


def test_errors_and_statuses_count_together_and_each_backend_for_itself() -> None:
    world = World()
    for number in (0, 1):
        world.fail(number, 2)
        world.answer(number, 503, 2)
    assert world.ejected == []
    world.answer(2)
    world.fail(1)
    assert world.ejected == ["b1"]


def test_a_kept_connection_that_was_closed_neither_counts_nor_clears() -> None:
    world = World()
    world.fail(0, 20, BackendReset("closed", reused=True))
    assert world.ejected == []
    world.fail(0, 4)
    world.fail(0, 1, BackendReset("closed", reused=True))
    world.fail(0, 1)
    assert world.ejected == ["b0"]


def test_a_restored_backend_begins_again_at_zero() -> None:
    world = World()
    world.fail(0, 5)
    world.pass_time(30)
    world.fail(0, 4)
    assert world.ejected == []


def test_each_ejection_in_a_row_is_longer_up_to_five_minutes() -> None:
    world = World()
    lengths = []
    for _ in range(12):
        world.fail(0, 5)
        begin = world.now
        while world.ejected:
            world.pass_time(1)
        lengths.append(world.now - begin)
    assert lengths == pytest.approx([30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300])


def test_time_without_ejection_shortens_the_next() -> None:
    world = World()
    for _ in range(3):
        world.fail(0, 5)
        world.pass_time(100)
    world.pass_time(1000)
    world.fail(0, 5)
    assert world.timers[-1][0] - world.now == pytest.approx(30)


@pytest.mark.parametrize(("jitter", "seconds"), [(0.9, 27), (1.1, 33)])
def test_a_tenth_of_jitter(jitter: float, seconds: float) -> None:
    world = World(jitter=jitter)
    world.fail(0, 5)
    assert world.timers[0][0] - world.now == pytest.approx(seconds)


def test_jitter_of_its_own_lies_within_a_tenth() -> None:
    delays: list[float] = []
    for _ in range(50):
        world = World()
        ejection = Ejection(world.pool, EjectionSettings(), later=lambda seconds, call: delays.append(seconds))
        for _ in range(5):
            ejection.on_backend_error(world.exchange(world.backends[0]), ConnectFailed("x"))
    assert len(delays) == 50
    assert all(27 <= delay <= 33 for delay in delays)
    assert max(delays) - min(delays) > 1


@pytest.mark.parametrize(
    ("count", "share", "most"),
    [(4, 0.5, 2), (3, 0.5, 1), (2, 0.5, 1), (5, 0.1, 1), (5, 1.0, 4), (1, 1.0, 0), (4, 0.0, 0)],
)
def test_at_most_a_share_and_never_the_last(count: int, share: float, most: int) -> None:
    world = World(count, max_ejected=share)
    for number in range(count):
        world.fail(number, 7)
    assert len(world.ejected) == most
    assert len(world.pool.candidates) == count - most


def test_a_backend_that_could_not_be_ejected_is_when_there_is_room_again() -> None:
    world = World(2)
    world.fail(0, 5)
    world.fail(1, 50)
    assert world.ejected == ["b0"]
    world.pass_time(30)
    world.fail(1)
    assert world.ejected == ["b1"]


def test_others_that_are_down_cannot_take_over_but_a_backup_can() -> None:
    world = World(2)
    world.pool.set_health(world.backends[1], "down")
    world.fail(0, 10)
    assert world.ejected == []
    world.pool.replace([*world.backends, Backend("backup", "h", 9, backup=True)])
    world.fail(0)
    assert world.ejected == ["b0"]
    assert [backend.name for backend in world.pool.candidates] == ["backup"]


def test_what_somebody_else_ejected_is_left_alone() -> None:
    world = World()
    world.pool.eject(world.backends[0], "breaker open", last_resort=False)
    world.fail(0, 10)
    assert world.timers == []


def test_a_backend_that_left_the_pool_is_forgotten() -> None:
    world = World()
    world.fail(0, 5)
    gone, kept = world.backends[0], world.backends[1:]
    world.pool.replace(kept)
    world.events.clear()
    world.ejection.on_backend_error(world.exchange(gone), ConnectFailed("refused"))
    world.pass_time(31)
    assert not gone.ejected
    assert world.events == []
    world.fail(1, 5)
    assert gone not in world.ejection._ejections
    assert gone not in world.ejection._failing


def test_an_exchange_without_backend_is_ignored() -> None:
    world = World()
    it = world.exchange(world.backends[0], 503)
    it.backend = None
    for _ in range(10):
        world.ejection.on_response(it)
        world.ejection.on_backend_error(it, ConnectFailed("x"))
    assert world.ejected == []


async def test_the_loops_own_timer_restores() -> None:
    world = World()
    ejection = Ejection(world.pool, EjectionSettings(consecutive_failures=1, duration=0.02))
    ejection.on_backend_error(world.exchange(world.backends[0]), ConnectFailed("x"))
    assert world.ejected == ["b0"]
    async with asyncio.timeout(5):
        while world.ejected:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("value", "settings"),
    [
        (True, EjectionSettings()),
        ({}, EjectionSettings()),
        (False, EjectionSettings(enabled=False)),
        ("off", EjectionSettings(enabled=False)),
        (
            {"consecutive_failures": 3, "duration": "1m", "max_ejected": "20%", "statuses": [500]},
            EjectionSettings(consecutive_failures=3, duration=60.0, max_ejected=0.2, statuses=(500,)),
        ),
    ],
)
def test_settings(value: object, settings: EjectionSettings) -> None:
    read = EjectionSettings.model_validate(value, context=FROM_FILE)
    assert read == settings
    route: Any = World()
    assert (build(route, read) is None) is not settings.enabled


@pytest.mark.parametrize(
    "value",
    [
        {"consecutive_failures": 0},
        {"duration": "0s"},
        {"duration": 30},
        {"max_ejected": "120%"},
        {"statuses": [200]},
        {"unknown": 1},
        "sometimes",
    ],
)
def test_settings_that_make_no_sense(value: object) -> None:
    with pytest.raises(ValidationError):
        EjectionSettings.model_validate(value, context=FROM_FILE)


def elsewhere(world: World, count: int = 2) -> tuple[Pool, Callable[[], None]]:
    """Another pool that serves the route's requests, and a failure of its first backend."""
    pool = Pool("canary", [Backend(f"c{number}", "h", number + 1) for number in range(count)])

    def fail() -> None:
        exchange = world.exchange(pool.backends[0], 503)
        exchange.pool = pool
        world.ejection.on_response(exchange)

    return pool, fail


def test_the_pool_that_served_is_the_one_that_counts() -> None:
    world = World()
    pool, fail = elsewhere(world)
    for _ in range(5):
        fail()
    assert [backend.name for backend in pool.candidates] == ["c1"]
    world.pass_time(31)
    assert len(pool.candidates) == 2
    alone, fail = elsewhere(world, 1)
    for _ in range(9):
        fail()
    assert len(alone.candidates) == 1, "the last one stays, however many others the route has"


def test_a_rebuilt_route_goes_on_counting() -> None:
    world = World()
    world.fail(0, 5)
    world.fail(1, 4)
    old, world.ejection = (
        world.ejection,
        Ejection(
            world.pool,
            EjectionSettings(),
            later=lambda seconds, call: world.timers.append((world.now + seconds, call)),
            clock=lambda: world.now,
            jitter=lambda: 1.0,
        ),
    )
    world.ejection.inherit(object())
    world.ejection.inherit(old)
    old.close()
    assert world.ejected == ["b0"]
    world.fail(1)
    assert world.ejected == ["b0", "b1"]
    world.pass_time(30)
    assert world.ejected == []
    world.fail(0, 5)
    world.pass_time(59)
    assert world.ejected == ["b0"], "the second time takes twice as long"


def test_switched_off_it_lets_everybody_in() -> None:
    world = World()
    world.fail(0, 5)
    world.ejection.close()
    assert world.ejected == []
    world.pool.eject(world.backends[0], "somebody else's")
    world.pass_time(31)
    assert world.ejected == ["b0"], "a timer of before ends nobody else's ejection"
