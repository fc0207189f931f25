"""Smooth weighted round robin: exact shares over a cycle, close to them at every moment."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core import Backend
from lb_strategies import WeightedRoundRobin
from lb_strategies.weighted_round_robin import COST, TURN, smooth_cycle, spread

if TYPE_CHECKING:
    from collections.abc import Iterable

WEIGHTS = st.lists(st.integers(1, 30), min_size=1, max_size=10)


def backends(*weights: int) -> tuple[Backend, ...]:
    return tuple(Backend(f"b{place}", "127.0.0.1", 9000 + place, weight=w) for place, w in enumerate(weights))


def furthest_from_share(turns: Iterable[int], weights: list[int]) -> tuple[Fraction, Fraction]:
    """The most turns anybody was behind and ahead of its share, at any moment."""
    total, counts = sum(weights), [0] * len(weights)
    behind = ahead = Fraction(0)
    for moment, place in enumerate(turns, 1):
        counts[place] += 1
        off = [count - Fraction(moment * weight, total) for count, weight in zip(counts, weights, strict=True)]
        behind, ahead = min(behind, *off), max(ahead, *off)
    return -behind, ahead


def test_the_order_is_nginx_s() -> None:
    assert "".join("abc"[place] for place in smooth_cycle([5, 1, 1])) == "aabacaa"


@given(WEIGHTS)
def test_a_cycle_gives_everybody_exactly_its_weight(weights: list[int]) -> None:
    assert Counter(smooth_cycle(weights)) == dict(enumerate(weights))


@given(WEIGHTS)
def test_nobody_in_a_cycle_is_a_turn_ahead_nor_much_more_than_one_behind(weights: list[int]) -> None:
    behind, ahead = furthest_from_share(smooth_cycle(weights), weights)
    assert ahead < 1
    assert behind < Fraction(3, 2)


@given(WEIGHTS)
def test_the_spread_of_large_pools_never_strays_a_turn_from_the_shares(weights: list[int]) -> None:
    turns = list(islice(spread(weights), 2 * sum(weights)))
    assert Counter(turns) == {place: 2 * weight for place, weight in enumerate(weights)}
    behind, ahead = furthest_from_share(turns, weights)
    assert behind < 1
    assert ahead < 1


@given(WEIGHTS, st.integers(1, 33))
def test_weights_count_by_their_ratio(weights: list[int], factor: int) -> None:
    one, many = WeightedRoundRobin(), WeightedRoundRobin()
    small, large = backends(*weights), backends(*(weight * factor for weight in weights))
    picks = range(sum(weights))
    assert [one.select_backend(small).name for _ in picks] == [many.select_backend(large).name for _ in picks]


def test_equal_weights_are_plain_turns_whatever_they_are() -> None:
    pool, strategy = backends(*[7] * 1000), WeightedRoundRobin()
    assert [strategy.select_backend(pool) for _ in range(2000)] == [*pool, *pool]


@pytest.mark.parametrize("weights", [[1000, 1], [997, 991, 3], list(range(1, 101)), [1] * 999 + [1000]])
def test_shares_are_exact_however_long_the_cycle(weights: list[int]) -> None:
    pool, strategy = backends(*weights), WeightedRoundRobin()
    counts = Counter(strategy.select_backend(pool).weight for _ in range(sum(weights)))
    assert all(count == weight * weights.count(weight) for weight, count in counts.items())


def test_a_stored_cycle_is_bounded() -> None:
    longest = COST // (TURN + 2)
    assert len(smooth_cycle([longest - 1, 1])) <= COST // TURN


def test_going_on_where_it_was_after_a_retry() -> None:
    pool = backends(3, 1)
    straight, interrupted = WeightedRoundRobin(), WeightedRoundRobin()
    expected = [straight.select_backend(pool) for _ in range(8)]
    got = []
    for _ in range(8):
        got.append(interrupted.select_backend(pool))
        assert interrupted.select_backend(pool[1:]) is pool[1]
        pool_without = pool[:1]
        assert interrupted.select_backend(pool_without) is pool[0]
    assert got == expected


def test_a_backend_in_its_slow_start_has_its_part_of_the_turns() -> None:
    pool, strategy = backends(1, 1, 2), WeightedRoundRobin()
    pool[1].weight = 0.19
    counts = Counter(strategy.select_backend(pool) for _ in range(319))
    assert counts == {pool[0]: 100, pool[1]: 19, pool[2]: 200}
