"""Round robin: everybody in turn, also while backends come and go."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core import Backend
from lb_strategies import RoundRobin


def backends(count: int) -> tuple[Backend, ...]:
    return tuple(Backend(f"b{number}", "127.0.0.1", 9000 + number) for number in range(count))


@given(st.integers(1, 40), st.integers(0, 200))
def test_counts_differ_by_at_most_one(count: int, picks: int) -> None:
    pool, strategy = backends(count), RoundRobin()
    counts = Counter(strategy.select_backend(pool) for _ in range(picks))
    assert max(counts.values(), default=0) - min(counts[backend] for backend in pool) <= 1


def test_each_in_turn_in_the_order_of_the_pool() -> None:
    pool, strategy = backends(3), RoundRobin()
    assert [strategy.select_backend(pool) for _ in range(7)] == [*pool, *pool, pool[0]]


@given(st.integers(3, 8), st.lists(st.tuples(st.sets(st.integers(0, 7)), st.integers(1, 5)), max_size=30))
def test_those_always_there_stay_within_one_across_changes(count: int, steps: list[tuple[set[int], int]]) -> None:
    """Backends 0 and 1 never leave; the others come and go at every step, as candidates do on ejection and retry."""
    pool, strategy = backends(count), RoundRobin()
    counts: Counter[Backend] = Counter()
    for gone, picks in steps:
        candidates = tuple(backend for place, backend in enumerate(pool) if place < 2 or place not in gone)
        for _ in range(picks):
            chosen = strategy.select_backend(candidates)
            assert chosen in candidates
            counts[chosen] += 1
            assert abs(counts[pool[0]] - counts[pool[1]]) <= 1


def test_a_retry_takes_the_next_in_line_and_the_round_goes_on_after_it() -> None:
    pool, strategy = backends(3), RoundRobin()
    a, b, c = pool
    assert strategy.select_backend(pool) is a
    assert strategy.select_backend((b, c)) is b
    assert strategy.select_backend(pool) is c
    assert strategy.select_backend(pool) is a


def test_a_backend_that_joins_gets_its_turn_within_one_round() -> None:
    pool, strategy = backends(4), RoundRobin()
    strategy.select_backend(pool[:3])
    assert pool[3] in [strategy.select_backend(pool) for _ in range(3)]


def test_a_pool_of_strangers_starts_anew() -> None:
    strategy = RoundRobin()
    strategy.select_backend(backends(3))
    other = backends(2)
    assert [strategy.select_backend(other) for _ in range(2)] == list(other)


@pytest.mark.parametrize(("warmth", "turns"), [(0.1, 10), (0.19, 19), (0.5, 50), (0.91, 91), (1.0, 100)])
def test_a_backend_in_its_slow_start_has_its_part_of_the_turns(warmth: float, turns: int) -> None:
    pool, strategy = backends(3), RoundRobin()
    pool[1].warmth = warmth
    counts = Counter(strategy.select_backend(pool) for _ in range(200 + turns))
    assert abs(counts[pool[1]] - turns) <= 1
    assert abs(counts[pool[0]] - counts[pool[2]]) <= 1


def test_what_a_backend_has_gathered_outlasts_a_step_of_its_slow_start() -> None:
    pool, strategy = backends(2), RoundRobin()
    pool[0].warmth = 0.1
    chosen = [strategy.select_backend((*pool,)) for _ in range(21)]  # every step makes a new tuple
    assert chosen.count(pool[0]) == 2


def test_a_backend_alone_serves_however_cold() -> None:
    (only,) = pool = backends(1)
    only.warmth = 0.1
    assert [RoundRobin().select_backend(pool) for _ in range(3)] == [only] * 3


def test_a_rebuilt_route_goes_on_with_the_round() -> None:
    pool, old, new = backends(3), RoundRobin(), RoundRobin()
    old.select_backend(pool)
    new.inherit(old)
    assert [new.select_backend(pool) for _ in range(3)] == [pool[1], pool[2], pool[0]]
    new.inherit(object())
    assert new.select_backend(pool) is pool[1]
