"""The lookup table: shares, and how little moves when backends come and go."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb_strategies.maglev import LARGE, MANY, SMALL, fill, size_for


def names(count: int) -> list[str]:
    return [f"example.com/web{number}" for number in range(count)]


def owners(of: list[str], size: int = SMALL) -> list[str]:
    return [of[place] for place in fill(of, [1] * len(of), size)]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_sizes_are_prime(size: int) -> None:
    """Only then does every step visit every slot."""
    assert all(size % divisor for divisor in range(2, int(size**0.5) + 1))


def test_more_backends_get_more_slots() -> None:
    assert (size_for(1), size_for(MANY - 1), size_for(MANY)) == (SMALL, SMALL, LARGE)


@settings(max_examples=20, deadline=None)
@given(st.sets(st.text(max_size=20), min_size=1, max_size=30))
def test_equal_backends_own_equal_parts(of: set[str]) -> None:
    counts = Counter(owners(sorted(of)))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len(counts) == len(of)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=20))
def test_slots_follow_the_weights_and_nobody_has_none(weights: list[int]) -> None:
    counts = Counter(fill(names(len(weights)), weights, SMALL))
    for place, weight in enumerate(weights):
        fair = SMALL * weight / sum(weights)
        assert abs(counts[place] - fair) <= 1 + len(weights) * weight / sum(weights)
        assert counts[place] >= 1


@pytest.mark.parametrize(("count", "bound"), [(2, 0.0), (3, 0.01), (5, 0.02), (16, 0.03), (63, 0.04)])
def test_a_backend_that_leaves_moves_few_keys_of_the_others(count: int, bound: float) -> None:
    everybody = names(count)
    before = owners(everybody)
    for gone in everybody[:8]:
        after = owners([name for name in everybody if name != gone])
        moved = sum(old not in (gone, new) for old, new in zip(before, after, strict=True))
        assert moved / SMALL <= bound
        assert gone not in after


@pytest.mark.parametrize("count", [2, 5, 16])
def test_a_backend_that_joins_takes_its_share_and_little_else_moves(count: int) -> None:
    before, after = owners(names(count)), owners(names(count + 1))
    newcomer = names(count + 1)[-1]
    moved = sum(old != new != newcomer for old, new in zip(before, after, strict=True))
    assert moved / SMALL <= 0.03
    assert after.count(newcomer) == pytest.approx(SMALL / (count + 1), abs=1)


def test_the_order_of_the_pool_hardly_matters() -> None:
    """Another worker or node may list the backends in another order."""
    everybody = names(8)
    differing = sum(a != b for a, b in zip(owners(everybody), owners(everybody[::-1]), strict=True))
    assert differing / SMALL <= 0.05


def test_the_table_is_the_same_in_every_process() -> None:
    assert fill(["a", "b", "c"], [1, 1, 1], 13) == [1, 2, 0, 1, 0, 0, 2, 2, 2, 0, 1, 1, 0]
