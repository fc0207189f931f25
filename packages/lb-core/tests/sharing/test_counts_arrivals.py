"""Arrival times that processes share: a token bucket of all of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb_core.sharing import counts_arrivals
from lb_core.sharing.counts_arrivals import ArrivalCounts
from lb_core.sharing.counts_by_name import arrivals
from lb_core.testing.together import Together

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.sharing import Sharing


def counts(sharing: Sharing, *, limit: float = 10, window: float = 10.0) -> ArrivalCounts:
    made = arrivals(sharing, "bucket", most=100, limit=limit, window=window)
    made.hold()
    return made


def test_all_take_from_one_bucket() -> None:
    one, two = (counts(each) for each in Together(workers=2).workers)
    taken = [bool(each.take("a", 100.0, 4.0)) for each in (one, two, two, one, two, one, two)]
    assert taken == [True] * 5 + [False] * 2
    assert one.peek("a", 100.0) == two.peek("a", 100.0) == 105.0
    assert [two.take("a", 101.0, 4.0), one.take("a", 101.0, 4.0)] == [106.0, 0.0]
    assert one.peek("a", 102.0) == 106.0


def test_a_full_bucket_begins_again() -> None:
    one, two = (counts(each) for each in Together(workers=2).workers)
    for when in (100.0, 200.0, 300.0):
        assert sum(bool(each.take("a", when, 4.0)) for each in (two, one) for _ in range(5)) == 5
        one, two = two, one
    assert one.peek("a", 400.0) == 400.0


def test_one_is_taken_back() -> None:
    one, two = (counts(each) for each in Together(workers=2).workers)
    one.take("a", 100.0, 9.0)
    two.take("a", 100.0, 9.0)
    assert two.add("a", 100.0, -1.0) == 101.0
    assert two.add("a", 100.0, -1.0) == 101.0, "it has no other here"
    assert one.add("a", 100.0, 1.0) == 102.0


def test_what_a_worker_took_is_kept_when_it_is_gone() -> None:
    node = Together(workers=2)
    control, one, two = (counts(each) for each in (node.control, *node.workers))
    now = time.monotonic()
    two.take("a", now, 9.0)
    two.take("a", now, 9.0)
    one.take("a", now, 9.0)
    two.take("full again", now - 100.0, 9.0)
    for _ in range(2):
        node.control.seat_gone(2)
        node.workers[0].set_seats((0,))
        node.control.set_seats((1,))
    assert one.peek("a", now) == control.peek("a", now) == now + 3.0
    assert len(control) == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.integers(0, 3)), max_size=60))
def test_decisions_are_those_of_one_bucket(steps: list[tuple[int, str, int]]) -> None:
    each = [counts(worker) for worker in Together(workers=3).workers]
    due = {"a": 0.0, "b": 0.0}
    now = 1000.0
    for seat, key, pause in steps:
        now += pause * 0.75
        debt = max(0.0, due[key] - now)
        passes = debt <= 4.0
        assert bool(each[seat].take(key, now, 4.0)) == passes
        if passes:
            due[key] = now + debt + 1.0
        assert abs(each[seat].peek(key, now) - max(now, due[key])) < 1e-9


# two at the same instant: what one does stands between two steps of the other


class Meanwhile:
    """Lets something happen once, before a step of the counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, step: str) -> None:
        self.then: Callable[[], object] | None = None
        before = getattr(owner, step)

        def with_it(*args: object) -> object:
            then, self.then = self.then, None
            if then is not None:
                then()
            return before(*args)

        monkeypatch.setattr(owner, step, with_it)


@pytest.mark.parametrize("others_begin", [99.9, 100.0, 100.1])
@pytest.mark.parametrize(("tolerance", "passes"), [(4.0, True), (0.0, False)])
def test_two_begin_in_the_same_instant(
    others_begin: float, tolerance: float, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (counts(each) for each in Together(workers=2).workers)
    one.take("a", 10.0, 4.0)
    two.take("a", 10.0, 4.0)
    meanwhile = Meanwhile(monkeypatch, ArrivalCounts, "_enter")
    meanwhile.then = lambda: two.take("a", others_begin, tolerance)
    assert bool(one.take("a", 100.0, tolerance)) is passes
    due = max(100.0, others_begin) + 1.0 + passes
    assert one.peek("a", 100.0) == two.peek("a", 100.0) == pytest.approx(due, abs=0.2)
    assert bool(two.take("a", 100.0, 5.0)) is True
    assert one.peek("a", 100.0) == pytest.approx(due + 1.0, abs=0.2), "and both go on with the same"


def test_two_want_the_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (counts(each) for each in Together(workers=2).workers)
    assert [bool(each.take("a", 100.0, 2.0)) for each in (one, two)] == [True, True]
    meanwhile = Meanwhile(monkeypatch, counts_arrivals, "fence")
    passed: list[float] = []
    meanwhile.then = lambda: passed.append(two.take("a", 100.0, 2.0))
    passed.append(one.take("a", 100.0, 2.0))
    assert [bool(each) for each in passed] == [False, True], "who came later saw the first, which had not decided"
    assert not two.take("a", 100.0, 2.0)


def test_the_bucket_fills_while_one_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (counts(each) for each in Together(workers=2).workers)
    assert [bool(each.take("a", 100.0, 1.0)) for each in (one, two)] == [True, True]
    meanwhile = Meanwhile(monkeypatch, counts_arrivals, "fence")
    meanwhile.then = lambda: two.take("a", 200.0, 1.0)
    assert not one.take("a", 101.5, 1.0), "the other's clock is far ahead"
    assert one.peek("a", 101.5) == 201.0


def test_a_worker_that_was_away_joins_the_run_of_the_others() -> None:
    one, two = (counts(each) for each in Together(workers=2).workers)
    assert one.take("a", 100.0, 2.0)
    assert two.take("a", 200.0, 2.0)
    assert [bool(one.take("a", 200.0, 2.0)) for _ in range(3)] == [True, True, False]
    assert two.take("a", 300.0, 2.0)
    assert one.take("a", 400.0, 2.0) == 401.0
    for _ in range(3):
        two.take("a", 400.0, 9.0)
    assert not one.take("a", 400.0, 2.0)


def test_a_bucket_whose_place_another_key_got() -> None:
    one, two = (counts(each) for each in Together(workers=2).workers)
    for _ in range(2):
        assert one.take("a", 100.0, 4.0)
        assert two.peek("a", 100.0) == 101.0
        place = one._young["a"]
        for number in range(1, 7):
            at = one._table.claim(one._own, place.fingerprint % one._buckets + number * one._buckets)
            one._cells[at + 1] = 1e9
        assert one._cells[place.own] != place.fingerprint
        assert two.peek("a", 100.0) == 100.0
