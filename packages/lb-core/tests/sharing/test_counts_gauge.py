"""How many are under way in the sum of the processes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lb_core.sharing import Sharing
from lb_core.sharing.counts_by_name import gauge
from lb_core.sharing.counts_gauge import GaugeCounts
from lb_core.testing.together import Together


def counts(sharing: Sharing, *, limit: float = 10) -> GaugeCounts:
    made = gauge(sharing, "under way", limit=limit)
    made.hold()
    return made


def test_the_sum_and_never_below_none() -> None:
    one, two = (counts(each) for each in Together(workers=2).workers)
    assert [one.add("a"), two.add("a"), two.add("b"), one.add("a")] == [1, 2, 1, 3]
    assert (one.peek("b"), two.peek("a"), len(one)) == (1, 3, 2)
    assert [two.add("a", -1), two.add("a", -1), one.add("a", -1), one.add("a", -1)] == [2, 2, 1, 0]
    assert len(two) == 1


def test_what_a_worker_had_under_way_ended_with_it() -> None:
    node = Together(workers=2)
    control, one, two = (counts(each) for each in (node.control, *node.workers))
    one.add("a")
    two.add("a")
    two.add("a")
    assert control.peek("a") == 3
    node.control.seat_gone(2)
    assert (one.peek("a"), control.peek("a")) == (1, 1)
    another = Sharing(seat=2, memory=node.control.memory)
    another.set_seats((0, 1))
    assert counts(another).add("a") == 2


def test_a_key_without_a_place_is_counted_alone() -> None:
    one, two = (GaugeCounts(each, "small", most=2, limit=9, window=0.0) for each in Together(workers=2).workers)
    keys = "abcdefg"
    assert [one.add(key) for key in keys] == [1] * 7
    assert [one.add(key) for key in keys] == [2] * 7
    assert sum(two.peek(key) for key in keys) == 10, "five have a place"
    for _ in range(2):
        for key in keys[:5]:
            one.add(key, -1)
    assert one.add("g") == 3, "its place is one that has become free"
    assert two.peek("g") == 3
    assert [one.add("f", -1), one.add("f", -1), one.add("f", -1), one.add("g", -3)] == [1, 0, 0, 0]
    assert [one.peek(key) for key in keys] == [0] * 7


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.sampled_from((-1, 1))), max_size=80))
def test_sums_are_those_of_a_plain_model(steps: list[tuple[int, str, int]]) -> None:
    each = [counts(worker) for worker in Together(workers=3).workers]
    model: dict[tuple[int, str], int] = {}
    for seat, key, amount in steps:
        model[seat, key] = max(0, model.get((seat, key), 0) + amount)
        assert each[seat].add(key, amount) == sum(model.get((other, key), 0) for other in range(3))
