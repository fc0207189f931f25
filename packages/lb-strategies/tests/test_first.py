"""First: one is filled up to its limit, then the next."""

from __future__ import annotations

import pytest

from lb_core import Backend
from lb_strategies import First


def backends(count: int, limit: int = 0) -> tuple[Backend, ...]:
    return tuple(Backend(f"b{n}", "127.0.0.1", n, max_connections=limit) for n in range(count))


def test_one_is_filled_up_to_its_limit_then_the_next() -> None:
    pool, strategy = backends(3, 2), First()
    for _ in range(5):
        strategy.select_backend(pool).in_flight += 1
    assert [backend.in_flight for backend in pool] == [2, 2, 1]
    pool[0].in_flight -= 1
    assert strategy.select_backend(pool) is pool[0]


def test_without_a_limit_the_first_serves_everything() -> None:
    pool, strategy = backends(3), First()
    for _ in range(1000):
        strategy.select_backend(pool).in_flight += 1
    assert [backend.in_flight for backend in pool] == [1000, 0, 0]


def test_when_all_are_full_the_first_is_named() -> None:
    pool, strategy = backends(3, 1), First()
    for backend in pool:
        backend.in_flight = 1
    assert [strategy.select_backend(pool) for _ in range(2)] == [pool[0]] * 2


def test_another_tuple_begins_with_its_own_first() -> None:
    pool, strategy = backends(3, 1), First()
    pool[0].in_flight = 1
    assert strategy.select_backend(pool) is pool[1]
    assert strategy.select_backend(pool[2:]) is pool[2]
    pool[0].in_flight = 0
    assert strategy.select_backend(pool) is pool[0]


@pytest.mark.parametrize("count", [17, 1000])
def test_in_a_large_pool_one_that_is_free_again_is_found_within_a_few_choices(count: int) -> None:
    pool, strategy = backends(count, 1), First()
    for _ in range(count - 1):
        strategy.select_backend(pool).in_flight += 1
    assert [backend.in_flight for backend in pool] == [1] * (count - 1) + [0]
    pool[3].in_flight = 0
    chosen = [strategy.select_backend(pool) for _ in range(count // 16 + 2)]
    assert chosen[-1] is pool[3]
    assert set(chosen) <= {pool[3], pool[-1]}
