"""The table under the counts: places, generations, and who is given up in a full bucket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lb_core.sharing.counts_table import REFUSED, USED, WAYS, Table, buckets_for


def table(buckets: int = 4) -> Table:
    return Table(memoryview(bytearray(Table.size(buckets))), buckets)


def test_there_is_room_for_every_key_and_as_much_again() -> None:
    for most in (2, 10, 100, 1000, 100_000, 10_000_000):
        buckets = buckets_for(most)
        assert buckets & (buckets - 1) == 0
        assert most <= 2.5 * buckets + 2
        assert most >= 1.25 * buckets or buckets == 1


def test_a_key_is_found_in_the_section_that_has_it() -> None:
    it = table()
    one, two = it.section(1), it.section(2)
    at = it.claim(one, 77.0)
    assert it.claim(one, 77.0) == it.find(one, 77.0) == at
    assert it.find(two, 77.0) == 0
    it.cells[at + 1], it.cells[at + 2] = 5.0, 6.0
    assert list(it.entries(one)) == [(at, 77.0, 5.0, 6.0)]
    assert list(it.entries(two)) == []


def test_the_generation_moves_on_when_a_key_comes() -> None:
    it = table()
    bucket = it.section(1) + it.bucket(8.0)
    before = it.cells[bucket]
    it.claim(it.section(1), 8.0)
    it.claim(it.section(1), 12.0)
    assert it.bucket(12.0) == it.bucket(8.0)
    assert it.cells[bucket] == before + 2
    it.claim(it.section(1), 8.0)
    assert it.cells[bucket] == before + 2, "it was there already"


def test_a_full_bucket_gives_up_the_entry_with_the_least() -> None:
    it = table(buckets=1)
    one = it.section(1)
    for number in range(1, WAYS + 1):
        it.cells[it.claim(one, float(number)) + 1] = 10.0 * number
    it.cells[it.find(one, 1.0) + 2] = 100.0
    at = it.claim(one, 9.0)
    assert it.find(one, 2.0) == 0, "20 was the least: of the two words the larger counts"
    assert it.cells[at + 1] == 0.0
    assert it.cells[one + USED] == WAYS
    assert {entry[1] for entry in it.entries(one)} == {1.0, 3.0, 4.0, 5.0, 9.0}


def test_entries_that_are_in_use_may_be_kept() -> None:
    it = table(buckets=1)
    one = it.section(1)
    for number in range(1, WAYS + 1):
        it.cells[it.claim(one, float(number), idle_only=True) + 1] = 1.0
    assert it.claim(one, 9.0, idle_only=True) == 0
    it.cells[it.find(one, 3.0) + 1] = 0.0
    assert it.claim(one, 9.0, idle_only=True)
    assert it.find(one, 3.0) == 0


def test_an_emptied_section_is_as_new_and_says_so() -> None:
    it = table()
    one, two = it.section(1), it.section(2)
    it.claim(two, 5.0)
    at = it.claim(one, 5.0)
    it.cells[one + REFUSED] = 3.0
    generation = it.cells[one + it.bucket(5.0)]
    it.clear(one)
    assert it.find(one, 5.0) == 0
    assert it.cells[at + 1] == it.cells[one + REFUSED] == it.cells[one + USED] == 0.0
    assert it.cells[one + it.bucket(5.0)] > generation
    assert it.find(two, 5.0), "another's section is as before"


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 99)), max_size=80))
def test_what_is_found_is_what_was_written(writes: list[tuple[int, int]]) -> None:
    it, model = table(buckets=2), dict[int, int]()
    one = it.section(3)
    for key, value in writes:
        at = it.claim(one, float(key))
        it.cells[at + 1] = float(value)
        model[key] = value
        model = {each: model[each] for each in model if it.find(one, float(each))}
    assert {int(fingerprint): int(first) for _, fingerprint, first, _ in it.entries(one)} == model
