"""Consistent hash: where keys go, who helps when a backend is busy, what a change of candidates costs."""

from __future__ import annotations

from collections import Counter
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb_core import Backend, Exchange, Pool
from lb_strategies import ConsistentHash, ConsistentHashSettings, consistent_hash
from lb_strategies.rendezvous import SLOTS, Rendezvous

KEYS = [f"user-{number}" for number in range(2000)]


def backends(number: int, weight: int = 1) -> tuple[Backend, ...]:
    return tuple(Backend(f"b{n}", "127.0.0.1", 9000 + n, id=f"*/b{n}", weight=weight) for n in range(number))


def request(key: str, failed: Backend | None = None) -> Exchange:
    where: Any = SimpleNamespace(peer="", scheme="http", port=80, serving=None)
    target = f"/?id={key}".encode()
    exchange = Exchange(where, where, "10.0.0.1", b"GET", target, b"example.com", b"")
    exchange.backend = failed
    return exchange


def strategy(bounded: float = 0) -> ConsistentHash:
    return ConsistentHash(ConsistentHashSettings(on="query:id", bounded=bounded))


def test_a_key_keeps_its_backend_in_every_process() -> None:
    one, other = strategy(), strategy()
    for key in KEYS[:100]:
        assert (
            one.select_backend(request(key), backends(7)).name == other.select_backend(request(key), backends(7)).name
        )


def test_removing_one_of_ten_moves_at_most_eleven_percent_of_the_keys() -> None:
    pool, hashed = backends(10), strategy()
    before = {key: hashed.select_backend(request(key), pool) for key in KEYS}
    for gone in pool:
        rest = tuple(backend for backend in pool if backend is not gone)
        moved = {key for key in KEYS if hashed.select_backend(request(key), rest) is not before[key]}
        assert moved == {key for key in KEYS if before[key] is gone}
        assert len(moved) / len(KEYS) <= 0.12  # 10 % and what 2,000 keys deviate from it; 0.105 of all slots
    assert {key: hashed.select_backend(request(key), pool) for key in KEYS} == before


def test_keys_follow_the_configured_weights_and_not_the_warmth() -> None:
    light, heavy = *backends(1), Backend("heavy", "127.0.0.1", 1, weight=3)
    pool = Pool("*", (light, heavy))
    hashed = strategy()
    before = [hashed.select_backend(request(key), pool.candidates) for key in KEYS]
    assert before.count(heavy) / len(KEYS) == pytest.approx(0.75, abs=0.04)
    pool.set_warmth(heavy, 0.1)
    assert [hashed.select_backend(request(key), pool.candidates) for key in KEYS] == before
    assert light in before


@given(st.integers(2, 9), st.sampled_from(KEYS))
@settings(max_examples=40, deadline=None)
def test_a_retry_goes_where_the_key_goes_when_its_backend_is_gone(number: int, key: str) -> None:
    pool, hashed = backends(number), strategy()
    failed = hashed.select_backend(request(key), pool)
    others = tuple(backend for backend in pool if backend is not failed)
    second = hashed.select_backend(request(key, failed), others)
    assert second is strategy().select_backend(request(key), others)
    assert hashed.select_backend(request(key), pool) is failed


def test_another_pool_after_a_failure_is_no_retry() -> None:
    pool, hashed = backends(3), strategy()
    failed = hashed.select_backend(request("a"), pool)
    elsewhere = (Backend("x", "127.0.0.1", 1), Backend("y", "127.0.0.1", 2))
    assert hashed.select_backend(request("a", failed), elsewhere) in elsewhere


# bounded load


def load(*in_flight: int) -> tuple[Backend, ...]:
    pool = backends(len(in_flight))
    for backend, busy in zip(pool, in_flight, strict=True):
        backend.in_flight = busy
    return pool


def test_a_hot_key_is_passed_on_in_its_own_order() -> None:
    pool = backends(10)
    order = Rendezvous([backend.id for backend in pool], (1,) * 10).order(slot_of("hot"))
    hashed = strategy(1.25)
    for _ in range(200):
        hashed.select_backend(request("hot"), pool).in_flight += 1
    busy = [pool[place].in_flight for place in order]
    assert busy == sorted(busy, reverse=True)
    assert max(busy) <= 1.25 * 20 + 2
    assert sum(busy) == 200


def slot_of(key: str) -> int:
    from zlib import crc32

    return crc32(key.encode()) % SLOTS


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.sampled_from(KEYS))
@settings(max_examples=100, deadline=None)
def test_nobody_above_the_bound_is_chosen_while_somebody_is_below(busy: list[int], key: str) -> None:
    pool = load(*busy)
    chosen = strategy(1.25).select_backend(request(key), pool)
    bound = -(-5 * sum(busy) // (4 * len(busy)))
    assert chosen.in_flight <= max(bound, 1)


def test_two_requests_of_a_key_stay_together_however_little_there_is_to_do() -> None:
    pool, hashed = backends(10), strategy(1.25)
    owner = hashed.select_backend(request("a"), pool)
    owner.in_flight = 1
    assert hashed.select_backend(request("a"), pool) is owner


def test_the_bound_is_one_of_the_backends_share() -> None:
    pool = (Backend("light", "127.0.0.1", 1, weight=1), Backend("heavy", "127.0.0.1", 2, weight=9))
    pool[0].in_flight, pool[1].in_flight = 3, 9
    hashed = strategy(1.25)
    assert {hashed.select_backend(request(key), pool) for key in KEYS[:200]} == {pool[1]}


def test_without_a_bound_nothing_is_passed_on() -> None:
    pool, hashed = backends(3), strategy()
    owner = hashed.select_backend(request("a"), pool)
    owner.in_flight = 1000
    assert hashed.select_backend(request("a"), pool) is owner


def test_a_backend_at_its_limit_passes_on_in_the_same_order_and_serves_when_all_are_full() -> None:
    pool, hashed = backends(5), strategy()
    owner = hashed.select_backend(request("a"), pool)
    owner.limit = owner.in_flight = 1
    second = hashed.select_backend(request("a"), pool)
    assert second is strategy().select_backend(request("a"), tuple(b for b in pool if b is not owner))
    for backend in pool:
        backend.limit = backend.in_flight = 1
    assert hashed.select_backend(request("a"), pool) is owner
    others = tuple(backend for backend in pool if backend is not owner)
    assert hashed.select_backend(request("a", owner), others) is second


def test_a_large_pool_sums_what_is_in_flight_only_now_and_then() -> None:
    class Counted(Backend):
        """Counts who asks."""

        __slots__ = ()
        asked = count()

        @property
        def in_flight(self) -> int:
            next(self.asked)
            return 2

        @in_flight.setter
        def in_flight(self, value: int) -> None: ...

    pool, hashed = tuple(Counted(f"b{n}", "127.0.0.1", n) for n in range(800)), strategy(1.25)
    for _ in range(100):
        hashed.select_backend(request("a"), pool)
    assert next(Counted.asked) <= 2 * 800 + 100 * 3


# tables


def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes = []

    def counted(names: list[str], weights: tuple[int, ...]) -> Rendezvous:
        sizes.append(len(names))
        return Rendezvous(names, weights)

    monkeypatch.setattr(consistent_hash, "Rendezvous", counted)
    return sizes


def test_steps_of_a_slow_start_and_backends_that_come_back_build_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, pool, hashed = built(monkeypatch), Pool("*", backends(5)), strategy()
    first = pool.candidates[0]
    for share in (0.1, 0.5, 1.0):
        pool.set_warmth(first, share)
        hashed.select_backend(request("a"), pool.candidates)
    for _ in range(3):
        pool.eject(first, "")
        hashed.select_backend(request("a"), pool.candidates)
        pool.restore(first)
        hashed.select_backend(request("a"), pool.candidates)
    assert sizes == [5, 4]


def test_a_changed_weight_builds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, pool, hashed = built(monkeypatch), Pool("*", backends(5)), strategy()
    hashed.select_backend(request("a"), pool.candidates)
    pool.set_weight(pool.candidates[0], 3)
    hashed.select_backend(request("a"), pool.candidates)
    assert sizes == [5, 5]


def test_a_large_pool_that_loses_one_keeps_what_is_known_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, pool, hashed = built(monkeypatch), backends(100), strategy()
    before = {key: hashed.select_backend(request(key), pool) for key in KEYS}
    rest = pool[:40] + pool[41:]
    after = {key: hashed.select_backend(request(key), rest) for key in KEYS}
    assert {key for key in KEYS if before[key] is not after[key]} == {key for key in KEYS if before[key] is pool[40]}
    assert sizes == [100]
    rest[0].configured_weight = 2
    hashed.select_backend(request("a"), rest[:-1])
    hashed.select_backend(request("a"), (*rest[:-1], Backend("new", "127.0.0.1", 1)))
    assert sizes == [100, 98, 99]


def test_a_rebuilt_route_goes_on_with_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, pool, old, new = built(monkeypatch), backends(4), strategy(), strategy()
    old.select_backend(request("a"), pool)
    new.inherit(old)
    new.inherit(object())
    assert new.select_backend(request("a"), pool) is old.select_backend(request("a"), pool)
    assert sizes == [4]


def test_keys_are_spread_over_a_thousand_backends() -> None:
    pool, hashed = backends(1000), strategy()
    counts = Counter(hashed.select_backend(request(key), pool) for key in KEYS)
    assert len(counts) > 800
