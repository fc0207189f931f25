"""Strategies that draw: random and p2c."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core import Backend
from lb_strategies import PowerOfTwoChoices, WeightedRandom
from lb_strategies.weights import SHORT, Shares, reduced

if TYPE_CHECKING:
    from collections.abc import Callable

UNIT = st.floats(0, 1, exclude_max=True)
WEIGHTS = st.lists(st.integers(1, 1000), min_size=1, max_size=20)
ALMOST_ONE = 1 - 2**-53


def backends(*weights: int) -> tuple[Backend, ...]:
    return tuple(Backend(f"b{place}", "127.0.0.1", 9000 + place, weight=w) for place, w in enumerate(weights))


def draws(*numbers: float) -> Callable[[], float]:
    return iter(numbers).__next__


def shares(strategy: WeightedRandom | PowerOfTwoChoices, pool: tuple[Backend, ...], picks: int) -> list[float]:
    counts = Counter(strategy.select_backend(pool) for _ in range(picks))
    return [counts[backend] / picks for backend in pool]


@given(WEIGHTS, UNIT)
def test_random_never_leaves_the_candidates(weights: list[int], number: float) -> None:
    pool = backends(*weights)
    assert WeightedRandom(draws(number)).select_backend(pool) in pool


@pytest.mark.parametrize("weights", [[1, 1], [1] * 7, [1000, 999], [1] * 999 + [1000]])
def test_the_largest_draw_is_the_last_candidate(weights: list[int]) -> None:
    pool = backends(*weights)
    assert WeightedRandom(draws(ALMOST_ONE)).select_backend(pool) is pool[-1]


@pytest.mark.parametrize("weights", [[1, 1, 1], [5, 3, 2], [1, 9]])
@pytest.mark.parametrize("kind", [WeightedRandom, PowerOfTwoChoices])
def test_shares_follow_the_weights_when_nothing_is_in_flight(
    kind: type[WeightedRandom | PowerOfTwoChoices], weights: list[int]
) -> None:
    got = shares(kind(random.Random(7).random), backends(*weights), 20_000)
    assert got == pytest.approx([weight / sum(weights) for weight in weights], abs=0.015)


@given(st.lists(st.sampled_from([1, 2, 50, SHORT]), min_size=2, max_size=12), UNIT, UNIT, UNIT)
def test_p2c_compares_two_different_backends(weights: list[int], one: float, two: float, three: float) -> None:
    """The one drawn first is made busy, so whatever is chosen must be the other one."""
    pool = backends(*weights)
    first = PowerOfTwoChoices(draws(one, two, three)).select_backend(pool)
    first.in_flight = 1
    second = PowerOfTwoChoices(draws(one, two, three)).select_backend(pool)
    assert second in pool
    assert second is not first


@pytest.mark.parametrize("weights", [[1, 2], [1, 2 * SHORT], [2, 1], [1] * 9, [1] * 9 + [SHORT]])
def test_the_largest_draws_are_two_of_them(weights: list[int]) -> None:
    """0.999… + 2 rounds to 3, the end of the line."""
    one, two = Shares(weights).two(draws(*[ALMOST_ONE] * 3))
    assert one == len(weights) - 1
    assert 0 <= two < one
    first, last = Shares(weights).two(draws(0.0, 0.0, ALMOST_ONE))
    assert (first, 0 < last < len(weights)) == (0, True)


@pytest.mark.parametrize("weights", [[1, 2, 5], [1, 2, 5 * SHORT], [1, 1, 1]])
def test_the_second_of_two_is_drawn_by_weight_among_the_others(weights: list[int]) -> None:
    shares, chance = Shares(weights), random.Random(11)
    pairs = Counter(shares.two(chance.random) for _ in range(20_000))
    for (one, two), count in pairs.items():
        expected = weights[one] / sum(weights) * weights[two] / (sum(weights) - weights[one])
        assert count / 20_000 == pytest.approx(expected, abs=0.012)
    assert all(one != two for one, two in pairs)


def test_p2c_weighs_what_is_in_flight() -> None:
    light, heavy = pool = backends(1, 4)
    light.in_flight, heavy.in_flight = 1, 3
    assert {PowerOfTwoChoices(draws(number, 0.5, 0.5)).select_backend(pool) for number in (0.0, 0.99)} == {heavy}
    heavy.in_flight = 5
    assert {PowerOfTwoChoices(draws(number, 0.5, 0.5)).select_backend(pool) for number in (0.0, 0.99)} == {light}


def test_p2c_keeps_load_far_more_even_than_random() -> None:
    """Balls into bins: with two choices the fullest bin stays close to the mean (Mitzenmacher 1996)."""
    worst = {}
    for kind in (WeightedRandom, PowerOfTwoChoices):
        pool, strategy = backends(*[1] * 100), kind(random.Random(3).random)
        for _ in range(10_000):
            strategy.select_backend(pool).in_flight += 1
        worst[kind] = max(backend.in_flight for backend in pool)
    assert worst[PowerOfTwoChoices] <= 104
    assert worst[WeightedRandom] >= 115


def test_p2c_with_one_candidate_draws_nothing() -> None:
    pool = backends(3)
    assert PowerOfTwoChoices(draws()).select_backend(pool) is pool[0]


@given(WEIGHTS, st.data())
def test_a_line_with_a_stretch_cut_out_keeps_the_others_whole(weights: list[int], data: st.DataObject) -> None:
    line = Shares(weights)
    owner = data.draw(st.integers(0, len(weights) - 1))
    counts = Counter(line.at_without(owner, point) for point in range(0, line.without(owner)))
    assert counts == {place: weight for place, weight in enumerate(weights) if place != owner}


def test_weights_are_reduced_and_zero_counts_as_one() -> None:
    assert reduced(backends(200, 100, 300)) == [2, 1, 3]
    assert reduced(backends(0, 2)) == [1, 2]


@given(st.lists(st.tuples(st.integers(1, 1000), st.sampled_from([1.0, 0.1, 0.19, 0.55])), min_size=1, max_size=9))
def test_weights_of_a_slow_start_keep_their_ratio_to_a_hundredth(given: list[tuple[int, float]]) -> None:
    pool = backends(*(weight for weight, _ in given))
    for backend, (weight, warmth) in zip(pool, given, strict=True):
        backend.weight = weight * warmth if warmth < 1 else weight
    whole = reduced(pool)
    scale = whole[0] / pool[0].weight
    assert all(isinstance(weight, int) and weight >= 1 for weight in whole)
    assert whole == pytest.approx([backend.weight * scale for backend in pool], rel=0.06)


def test_whole_weights_of_floats_are_those_of_ints() -> None:
    pool = backends(4, 2)
    pool[0].weight = 4.0
    assert reduced(pool) == [2, 1]


@pytest.mark.parametrize("kind", [WeightedRandom, PowerOfTwoChoices])
def test_a_backend_in_its_slow_start_is_drawn_by_its_warmth(kind: type[WeightedRandom | PowerOfTwoChoices]) -> None:
    pool = backends(1, 1, 1)
    pool[2].weight = 0.1
    assert shares(kind(random.Random(5).random), pool, 20_000)[2] == pytest.approx(1 / 21, abs=0.01)


def test_a_change_of_candidates_is_seen_at_once() -> None:
    pool = backends(1, 2, 3)
    for strategy in (WeightedRandom(draws(*[0.99] * 9)), PowerOfTwoChoices(draws(*[0.99] * 9))):
        strategy.select_backend(pool)
        assert strategy.select_backend(pool[:1]) is pool[0]
