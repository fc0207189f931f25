"""Peak EWMA through its hooks: who is chosen, what is measured, who is tried again."""

from __future__ import annotations

from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from lb_core import AttemptError, Backend, Exchange
from lb_core.errors import BackendReset, ConnectFailed
from lb_strategies import Ewma, EwmaSettings, P2cSettings, PowerOfTwoChoices
from lb_strategies.p2c import build


class World:
    """Backends, a clock, and a strategy with both."""

    def __init__(self, *weights: int, explore: float = 0, decay: float = 10, **options: Any) -> None:
        settings = EwmaSettings(decay=decay, explore=explore)
        self.now = 1000.0
        self.strategy = Ewma(settings, clock=lambda: self.now, random=Random(3), **options)
        self.pool = tuple(Backend(f"b{n}", "127.0.0.1", n, weight=w) for n, w in enumerate(weights))

    def exchange(self) -> Exchange:
        where: Any = SimpleNamespace(peer="", scheme="http", port=80, serving=None)
        exchange = Exchange(where, where, "10.0.0.1", b"GET", b"/", b"example.com", b"")
        exchange.started = self.now
        return exchange

    def choose(self, exchange: Exchange | None = None, pool: tuple[Backend, ...] | None = None) -> Backend:
        """Begin an attempt, as the engine does."""
        exchange = exchange or self.exchange()
        exchange.backend = self.strategy.select_backend(exchange, pool or self.pool)
        exchange.attempts += 1
        return exchange.backend

    def answer(self, exchange: Exchange, after: float, status: int = 200) -> None:
        self.now += after
        exchange.first_byte, exchange.status = self.now, status
        self.strategy.on_response(exchange)
        exchange.ended = self.now
        self.strategy.on_complete(exchange)

    def fail(self, exchange: Exchange, after: float, error: AttemptError) -> None:
        self.now += after
        exchange.error = error
        self.strategy.on_backend_error(exchange, error)

    def measure(self, *latencies: float) -> None:
        """Let each backend answer once, in so many seconds."""
        for backend, seconds in zip(self.pool, latencies, strict=True):
            exchange = self.exchange()
            self.choose(exchange)
            exchange.backend = backend
            self.answer(exchange, seconds)

    @property
    def known(self) -> list[float]:
        measured = self.strategy._latencies.measured()
        return [measured.get(backend, 0.0) for backend in self.pool]


def test_the_fastest_is_chosen_until_its_queue_costs_more() -> None:
    world = World(1, 1, 1)
    world.measure(0.1, 0.25, 0.9)
    chosen = []
    for _ in range(6):
        backend = world.choose()
        backend.in_flight += 1
        chosen.append(backend.name)
    assert "".join(chosen).replace("b", "") == "001001"


def test_a_heavier_backend_costs_less() -> None:
    world = World(1, 4)
    world.measure(0.1, 0.3)
    assert world.choose() is world.pool[1]


def test_before_anything_is_known_requests_in_flight_decide() -> None:
    world = World(1, 1, 1, 1)
    for _ in range(8):
        world.choose().in_flight += 1
    assert [backend.in_flight for backend in world.pool] == [2, 2, 2, 2]


@pytest.mark.parametrize("scanned", [0, 16])
def test_everybody_is_asked_before_one_that_was_slow_is_again(scanned: int) -> None:
    world = World(1, 1, 1, scanned=scanned)
    for _ in range(12):
        exchange = world.exchange()
        world.answer(exchange, 0.9 if world.choose(exchange) is world.pool[2] else 0.1)
    assert all(world.known)
    assert world.strategy._latencies.measured()[world.pool[2]] == pytest.approx(0.9)


def test_a_failure_costs_a_second_and_so_does_a_502_however_fast() -> None:
    world = World(1, 1, 1)
    world.measure(0.1, 0.1, 0.1)
    for status, backend in ((502, world.pool[0]), (200, world.pool[1])):
        exchange = world.exchange()
        world.choose(exchange)
        exchange.backend = backend
        world.answer(exchange, 0.001, status)
    assert world.known[0] == 1.0
    exchange = world.exchange()
    world.choose(exchange)
    exchange.backend = world.pool[2]
    world.fail(exchange, 0.001, ConnectFailed("refused"))
    assert world.known[2] == 1.0
    assert world.choose() is world.pool[1]


def test_a_slow_failure_costs_what_it_took() -> None:
    world = World(1)
    exchange = world.exchange()
    world.choose(exchange)
    world.answer(exchange, 3.0, 504)
    assert world.known == [3.0]


def test_a_kept_connection_that_was_closed_says_nothing() -> None:
    world = World(1)
    exchange = world.exchange()
    world.choose(exchange)
    world.fail(exchange, 0.1, BackendReset("closed", reused=True))
    assert world.known == [0.0]


def test_a_retry_counts_from_its_own_choice() -> None:
    world = World(1, 1)
    exchange = world.exchange()
    failed = world.choose(exchange)
    world.fail(exchange, 4.0, ConnectFailed("timed out"))
    others = tuple(backend for backend in world.pool if backend is not failed)
    second = world.choose(exchange, others)
    world.answer(exchange, 0.2)
    measured = world.strategy._latencies.measured()
    assert measured == {failed: 4.0, second: pytest.approx(0.2)}


def test_waiting_for_a_turn_does_not_count() -> None:
    world = World(1)
    exchange = world.exchange()
    world.choose(exchange)
    exchange.attempts = 0  # it was full: the request went to the queue
    world.now += 2.0
    world.choose(exchange)
    world.answer(exchange, 0.1)
    assert world.known == [pytest.approx(0.1)]


def test_a_client_that_does_not_wait_shows_how_slow_a_backend_is_at_least() -> None:
    world = World(1, 1)
    world.measure(0.1, 0.1)
    exchange = world.exchange()
    hanging = world.choose(exchange)
    world.now += 5.0
    exchange.flags, exchange.ended = ("client_gone",), world.now
    world.strategy.on_complete(exchange)
    assert world.strategy._latencies.measured()[hanging] == 5.0


@pytest.mark.parametrize("flags", [(), ("client_gone",)])
def test_a_client_that_goes_after_a_failure_shows_nothing(flags: tuple[str, ...]) -> None:
    world = World(1)
    exchange = world.exchange()
    world.choose(exchange)
    world.fail(exchange, 0.1, BackendReset("closed", reused=True))
    world.now += 5.0
    exchange.flags, exchange.ended = flags, world.now
    world.strategy.on_complete(exchange)
    assert world.known == [0.0]


def test_nothing_is_remembered_of_exchanges_that_have_ended() -> None:
    world = World(1)
    for end in ("answer", "give up"):
        exchange = world.exchange()
        world.now += 1.0
        world.choose(exchange)
        if end == "answer":
            world.answer(exchange, 0.1)
        else:
            exchange.ended = world.now
            world.strategy.on_complete(exchange)
    assert not world.strategy._late
    lost = world.exchange()  # answered without a backend
    lost.first_byte = world.now
    world.strategy.on_response(lost)


# exploration


@pytest.mark.parametrize("count", [4, 40])
def test_nobody_is_left_alone_for_longer_than_explore(count: int) -> None:
    world = World(*[1] * count, explore=5.0)
    world.measure(0.01, *[9.0] * (count - 1))
    last, longest = dict.fromkeys(world.pool, world.now), 0.0
    counts: Counter[Backend] = Counter()
    for _ in range(3000):
        world.now += 0.01
        chosen = world.choose()
        counts[chosen] += 1
        longest = max(longest, world.now - last[chosen])
        last[chosen] = world.now
    assert longest <= 5.0 + 0.01 * count
    assert min(counts.values()) >= 5
    assert count > 4 or counts[world.pool[0]] > 3000 - 3 * 13


def test_a_backend_that_recovers_serves_again() -> None:
    world = World(1, 1, explore=5.0, decay=1.0)
    world.measure(0.01, 2.0)
    served: Counter[int] = Counter()
    for turn in range(4000):
        pair = [world.exchange(), world.exchange()]
        for exchange in pair:
            chosen = world.choose(exchange)
            chosen.in_flight += 1
            served[turn // 100] += chosen is world.pool[1]
        for exchange, seconds in zip(pair, (0.01, 0.0), strict=True):
            world.answer(exchange, seconds)
        for backend in world.pool:
            backend.in_flight = 0
    assert served[0] <= 2  # in the first second
    assert served[39] > 90  # of 200 in the fortieth


def test_new_backends_are_tried_at_different_moments() -> None:
    world = World(*[1] * 10, explore=5.0)
    chosen = [each.chosen for each in world.strategy._latencies.of(world.pool, world.now, Random(1).random)]
    assert len(set(chosen)) == 10
    world.choose()


def test_after_silence_everybody_is_tried_once() -> None:
    world = World(1, 1, 1, explore=5.0)
    world.measure(0.01, 9.0, 9.0)
    world.now += 60.0
    assert {world.choose() for _ in range(3)} == set(world.pool)
    assert {world.choose() for _ in range(3)} == {world.pool[0]}


# many backends, and p2c by the same measure


def test_of_many_the_cheaper_of_two_is_taken() -> None:
    world = World(*[1] * 100)
    world.measure(*[0.01] * 50, *[1.0] * 50)
    counts = Counter(world.choose() for _ in range(4000))
    slow = sum(counts[backend] for backend in world.pool[50:])
    assert slow / 4000 == pytest.approx(0.25, abs=0.03)  # both drawn are slow
    assert len([backend for backend in world.pool[:50] if counts[backend]]) == 50


def test_p2c_draws_two_of_few_too() -> None:
    world = World(1, 1, 1, scanned=0)
    world.measure(0.01, 0.02, 9.0)
    counts = Counter(world.choose() for _ in range(600))
    assert counts[world.pool[0]] == pytest.approx(400, abs=50)
    assert counts[world.pool[2]] == 0
    assert world.choose(pool=world.pool[2:]) is world.pool[2]


def test_p2c_by_its_metric() -> None:
    assert isinstance(build(), PowerOfTwoChoices)
    assert isinstance(build(P2cSettings()), PowerOfTwoChoices)
    assert isinstance(build(P2cSettings(metric="ewma")), Ewma)


# candidates that change, routes that are rebuilt


def test_a_change_of_candidates_and_of_weights_is_seen_at_once() -> None:
    world = World(1, 1)
    world.measure(0.1, 0.15)
    assert world.choose() is world.pool[0]
    assert world.choose(pool=world.pool[1:]) is world.pool[1]
    world.pool[0].weight = 0.1  # a slow start
    assert world.choose(pool=(*world.pool,)) is world.pool[1]


def test_a_rebuilt_route_keeps_what_was_measured() -> None:
    old, new = World(1, 1), World(1, 1)
    old.measure(0.1, 0.2)
    new.strategy.inherit(old.strategy)
    new.strategy.inherit(object())
    assert new.choose(pool=old.pool) is old.pool[0]
    assert new.strategy.describe() == ["latency of b0: 100 ms", "latency of b1: 200 ms"]
