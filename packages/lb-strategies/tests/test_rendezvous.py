"""Who owns a slot: shares, and that nothing moves that need not."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb_strategies.rendezvous import ORDERS, SLOTS, UNKNOWN, Rendezvous

SOME = range(0, SLOTS, 8)


def names(count: int) -> tuple[str, ...]:
    return tuple(f"example.com/web{number}" for number in range(count))


@cache
def owners(of: tuple[str, ...], weights: tuple[int, ...] = (), slots: range = SOME) -> tuple[str, ...]:
    table = Rendezvous(of, weights or (1,) * len(of))
    return tuple(of[table.owner(slot)] for slot in slots)


@pytest.mark.parametrize("count", [1, 2, 5, 16, 40])
def test_equal_backends_own_equal_parts(count: int) -> None:
    counts = Counter(owners(names(count)))
    fair = len(SOME) / count
    deviation = (fair * (1 - 1 / count)) ** 0.5
    assert len(counts) == count
    assert all(abs(owned - fair) <= 4 * deviation for owned in counts.values())


def test_a_tenth_is_a_tenth_within_half_a_percent_of_all() -> None:
    counts = Counter(owners(names(10), (), range(SLOTS)))
    assert [count / SLOTS for count in counts.values()] == pytest.approx([0.1] * 10, abs=0.005)


@pytest.mark.parametrize("weights", [(1, 3), (5, 1, 1), (1, 2, 3, 4), (1000, 1)])
def test_slots_follow_the_weights(weights: tuple[int, ...]) -> None:
    of = names(len(weights))
    counts = Counter(owners(of, weights))
    for name, weight in zip(of, weights, strict=True):
        assert counts[name] / len(SOME) == pytest.approx(weight / sum(weights), abs=0.02)


@pytest.mark.parametrize("weights", [(), (1, 2, 3, 1, 2, 3, 1, 2, 3, 1)])
def test_a_backend_that_leaves_moves_its_own_slots_only_and_to_all_others(weights: tuple[int, ...]) -> None:
    everybody = names(10)
    before = owners(everybody, weights)
    for gone in (0, 4, 9):
        rest = everybody[:gone] + everybody[gone + 1 :]
        after = owners(rest, weights[:gone] + weights[gone + 1 :])
        moved = [new for old, new in zip(before, after, strict=True) if old != new]
        assert len(moved) == before.count(everybody[gone])
        assert set(moved) == set(rest)


def test_removing_one_of_ten_moves_at_most_eleven_percent_of_all_slots() -> None:
    everybody = names(10)
    before = owners(everybody, (), range(SLOTS))
    for gone in (0, 3, 7):
        after = owners(everybody[:gone] + everybody[gone + 1 :], (), range(SLOTS))
        assert sum(a != b for a, b in zip(before, after, strict=True)) / SLOTS <= 0.105


def test_a_backend_that_joins_takes_its_share_and_nothing_else_moves() -> None:
    before, after = owners(names(7)), owners(names(8))
    assert {new for old, new in zip(before, after, strict=True) if old != new} == {names(8)[-1]}
    assert after.count(names(8)[-1]) / len(SOME) == pytest.approx(1 / 8, abs=0.015)


def test_a_heavier_weight_only_gains() -> None:
    before, after = owners(names(4), (2, 2, 2, 2)), owners(names(4), (2, 3, 2, 2))
    assert {new for old, new in zip(before, after, strict=True) if old != new} == {names(4)[1]}


def test_the_order_of_the_pool_does_not_matter() -> None:
    """Another worker or node may list the backends in another order."""
    assert owners(names(8)) == owners(names(8)[::-1])


def test_the_table_is_the_same_in_every_process() -> None:
    assert "".join(owners(("a", "b", "c"), (), range(24))) == "acacacaccbbacbccccccccbc"
    assert "".join(owners(("a", "b", "c"), (1, 2, 30), range(24))) == "ccaccccccccaccccccccccbc"


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(0, SLOTS - 1), st.data())
def test_a_slots_order_says_who_owns_it_when_others_are_gone(count: int, slot: int, data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    of = names(count)
    table = Rendezvous(of, weights)
    order = table.order(slot)
    assert sorted(order) == list(range(count))
    while order:
        left = sorted(order)
        some = Rendezvous([of[place] for place in left], [weights[place] for place in left])
        assert left[some.owner(slot)] == order[0]
        order = order[1:]


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 9), st.booleans(), st.data())
def test_a_table_of_some_is_that_of_their_names(count: int, equal: bool, data: st.DataObject) -> None:
    weights = [1] * count if equal else data.draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    staying = data.draw(st.permutations(range(count)))[: count - 1]
    of, table = names(count), Rendezvous(names(count), weights)
    known = [slot for slot in range(0, 400, 2) if table.owner(slot) in staying]
    some = table.only(staying)
    fresh = Rendezvous([of[place] for place in staying], [weights[place] for place in staying])
    assert all(some.owners[slot] != UNKNOWN for slot in known)
    assert all(some.owner(slot) == fresh.owner(slot) for slot in range(400))
    assert [some.order(slot) for slot in range(9)] == [fresh.order(slot) for slot in range(9)]


def test_the_orders_that_are_kept_are_bounded() -> None:
    table = Rendezvous(names(1000), [1] * 1000)
    for slot in range(100):
        table.order(slot)
    assert len(table._orders) <= ORDERS // 1000 + 1
