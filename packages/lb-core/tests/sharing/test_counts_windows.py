"""Counts by windows that processes share: the sums, against a plain model."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from lb_core.sharing import Sharing
from lb_core.sharing.counts_by_name import windows
from lb_core.sharing.counts_table import KEPT
from lb_core.testing.together import Together

if TYPE_CHECKING:
    from lb_core.sharing.counts_windows import WindowCounts


def counts(sharing: Sharing, *, most: int = 100, limit: float = 1000, window: float = 60.0) -> WindowCounts:
    made = windows(sharing, "limit", most=most, limit=limit, window=window)
    made.hold()
    return made


def now(its: WindowCounts) -> int:
    return int((time.monotonic() + its.node.phase()) // its.window)


def test_windows_move_on() -> None:
    one, two = (counts(each) for each in Together(workers=2).workers)
    assert one.peek("a", 5) == (5, 0, 0)
    assert one.add("a", 5) == (5, 1, 0)
    assert two.add("a", 5) == (5, 2, 0)
    assert two.add("a", 6) == (6, 1, 2)
    assert one.add("a", 5, -1) == (5, 1, 0), "a process that is behind sees its own window"
    assert one.add("a", 6) == (6, 2, 1)
    assert one.peek("a", 7) == (7, 0, 2)
    assert one.peek("a", 8) == (8, 0, 0)
    assert one.add("a", 8, -1) == (8, 0, 0), "never below none"
    assert one.add("a", 9) == (9, 1, 0)


def test_a_request_two_windows_late_counts_nowhere() -> None:
    one, two = (counts(each) for each in Together(workers=2).workers)
    two.add("a", 12)
    assert one.add("a", 10)[1] > 1000, "more than any limit, so the caller asks again"
    assert one.settled("a", 10) == (10, 1, 0)
    one.add("a", 12)
    one.add("a", 10)
    assert one.settled("a", 10) == (10, 0, 0), "it counts in the window that is there"
    assert two.peek("a", 12) == (12, 3, 0)


def test_keys_of_every_kind() -> None:
    one, two = (counts(each) for each in Together(workers=2).workers)
    for key in ("a", b"a", "", b"", "é", "\udc80", b"\xff", "x" * 64):
        assert one.add(key, 1) == (1, 1, 0)
        assert two.add(key, 1) == (1, 2, 0)


def test_the_secret_is_one_in_a_node_and_another_in_the_next() -> None:
    here, there = Together(workers=2), Together(workers=1)
    one, two, other = counts(here.workers[0]), counts(here.workers[1]), counts(there.workers[0])
    assert one.node.fingerprint("a") == two.node.fingerprint("a") != other.node.fingerprint("a")
    assert one.node.phase() == two.node.phase()


Steps = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcdefghij"), st.integers(-1, 1)), max_size=120)


@settings(deadline=None)
@given(Steps, st.randoms(use_true_random=False))
def test_sums_are_those_of_a_plain_model(steps: list[tuple[int, str, int]], chance: random.Random) -> None:
    node = Together(workers=3)
    each = [counts(worker, most=1000) for worker in node.workers]
    model: dict[tuple[int, str, int], int] = {}
    index = 100
    for seat, key, amount in steps:
        index += chance.random() < 0.05
        place = (seat, key, index)
        model[place] = max(0, model.get(place, 0) + amount)
        sums = tuple(sum(model.get((other, key, when), 0) for other in range(3)) for when in (index, index - 1))
        assert each[seat].add(key, index, amount) == (index, *sums)
        if chance.random() < 0.1:
            each[seat].turn()


def test_a_flood_of_keys_pushes_out_no_key_that_is_near_its_limit() -> None:
    one, two = (counts(each, most=100) for each in Together(workers=2).workers)
    for _ in range(50):
        one.add("busy", 7)
        two.add("busy", 7)
    for number in range(5_000):
        one.add(f"flood {number}", 7)
    assert one.add("busy", 7) == two.peek("busy", 7) == (7, 101, 0)
    for number in range(5_000):
        one.add(f"next {number}", 8)
    assert len(one._young) + len(one._old) + len(one._retired) <= 100


def test_a_key_that_was_pushed_out_begins_at_zero() -> None:
    one, two = (counts(each, most=2) for each in Together(workers=2).workers)
    for key in "abcdefghijklmnop":
        one.add(key, 3, 5)
        assert two.peek(key, 3)[1] == 5, "the other sees who came into the bucket"
    assert one.add("a", 3) == two.peek("a", 3) == (3, 1, 0)


def test_a_key_whose_place_another_got_finds_a_new_one() -> None:
    one, two = (counts(each) for each in Together(workers=2).workers)
    assert one.add("a", 3) == (3, 1, 0)
    place = one._young["a"]
    for number in range(1, 7):
        at = one._table.claim(one._own, place.fingerprint % one._buckets + number * one._buckets)
        one._cells[at + 1] = 1e15
    assert one.add("a", 3) == two.peek("a", 3) == (3, 1, 0)


def test_what_a_worker_counted_is_kept_when_it_is_gone() -> None:
    node = Together(workers=2)
    control, one, two = (counts(each, most=1000) for each in (node.control, *node.workers))
    index = now(control)
    two.add("a", index - 1, 3)
    two.add("a", index, 4)
    two.add("old", index - 7, 9)
    two.note_refused(12.0)
    one.add("a", index, 1)
    for gone in range(2):
        node.control.seat_gone(2)
        node.workers[0].set_seats((0,))
        node.control.set_seats((1,))
        assert one.peek("a", index) == control.peek("a", index) == (index, 5, 3), f"kept once, not {gone + 1} times"
    assert (one.refused, one.note_refused(20.0)) == (1, 12.0)
    assert len(control) == 1

    another = Sharing(seat=2, memory=node.control.memory)
    another.set_seats((0, 1))
    again = counts(another, most=1000)
    node.workers[0].set_seats((0, 2))
    assert again.add("a", index, 2) == one.peek("a", index) == (index, 7, 3)
    node.control.set_seats((1, 2))
    node.control.seat_gone(2)
    node.workers[0].set_seats((0,))
    assert one.peek("a", index) == (index, 7, 3), "its counts are added to those that were kept"
    assert len(list(control._table.entries(control._table.section(KEPT)))) == 1


def test_a_reload_finds_the_same_and_the_last_to_go_takes_it_away() -> None:
    node = Together(workers=1)
    memory = node.control.memory
    assert memory is not None
    before = counts(node.control)
    after = counts(node.control)
    assert after is before is node.control.counts["limit"]
    before.drop()
    assert node.control.counts
    after.drop()
    assert node.control.counts == {}
    assert [name for name in memory.areas if "limit" in name] == []
    assert before.add("a", 1) == (1, 1, 0), "what is still counted goes to memory of its own"
    assert counts(node.control) is not before
    assert (node.control.on_seats, node.control.on_seat_gone) != ([], [])


def test_another_size_takes_over_what_was_counted() -> None:
    node = Together(workers=2)
    small = [counts(each, most=10) for each in node.workers]
    for index, each in enumerate(small):
        each.add("a", 5, index + 1)
        each.note_refused(3.0)
    large = [counts(each, most=10_000) for each in node.workers]
    for new, old in zip(large, small, strict=True):
        assert new is not old
        new.adopt(old)
    assert large[0].add("a", 5) == (5, 4, 0)
    assert large[1].peek("a", 5) == (5, 4, 0)
    assert large[0].refused == 2


def test_the_share_of_a_node_that_is_alone() -> None:
    sharing = Together(workers=1).workers[0]
    it = counts(sharing, limit=1000)
    assert it.allowed == 1000
    sharing.set_share(1 / 3)
    assert it.allowed == 333
    it.set_limit(2)
    assert it.allowed == 1, "somebody may always pass"
