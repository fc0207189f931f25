"""Turns by weight: never a whole turn away from what is due."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb_split.turns import LONGEST_CYCLE, turns

WHOLE = st.lists(st.integers(1, 1000), min_size=1, max_size=8)
BROKEN = st.lists(st.floats(0.01, 100), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(WHOLE | BROKEN)
def test_everybody_has_its_share_after_any_number_of_turns(weights: list[float]) -> None:
    total = sum(weights)
    had = [0] * len(weights)
    for number, place in enumerate(islice(turns(weights), 500), 1):
        had[place] += 1
        for count, weight in zip(had, weights, strict=True):
            assert abs(count - number * weight / total) < 1 + 1e-6


def test_a_cycle_is_even_at_its_end_and_begins_again() -> None:
    taken = list(islice(turns([70, 20, 10]), 200))
    assert Counter(taken[:100]) == Counter(taken[100:]) == {0: 70, 1: 20, 2: 10}
    assert taken[:100] == taken[100:]


def test_what_is_rare_is_spread_out() -> None:
    at = [number for number, place in enumerate(islice(turns([95, 5]), 1000)) if place == 1]
    assert {after - before for before, after in pairwise(at)} == {20}


@pytest.mark.parametrize("weights", [[1.0], [LONGEST_CYCLE, 1], [0.5, 0.25]])
def test_weights_without_a_short_cycle(weights: list[float]) -> None:
    assert len(list(islice(turns(weights), 10))) == 10
