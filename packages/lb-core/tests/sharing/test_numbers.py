"""Numbers for names, in memory that several processes see."""

from __future__ import annotations

from lb_core.sharing.numbers import REST, Numbers


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def places(size: int = 8) -> memoryview[int]:
    return memoryview(bytearray(8 * size)).cast("q")


def test_a_worker_finds_what_control_has_numbered() -> None:
    row = places()
    Numbers(row, first=2).keep(["a", "b"])
    found = Numbers(row, first=2).find(["a", "b", "c"])
    assert sorted(found) == ["a", "b"]
    assert sorted(found.values()) == [2, 3]


def test_who_stays_keeps_its_number() -> None:
    numbers = Numbers(places())
    numbers.keep(["a", "b", "c"])
    before = numbers.find(["a", "b", "c"])
    numbers.keep(["c", "d", "a"])
    after = numbers.find(["a", "c", "d"])
    assert (after["a"], after["c"]) == (before["a"], before["c"])
    assert after["d"] not in before.values()


def test_a_number_rests_for_a_minute_before_another_name_has_it() -> None:
    clock = Clock()
    numbers = Numbers(places(2), clock=clock)
    numbers.keep(["a", "b"])
    numbers.keep(["a"])
    clock.now += REST - 1
    numbers.keep(["a", "c"])
    assert "c" not in numbers.find(["c"])
    clock.now += 1
    numbers.keep(["a", "c"])
    assert sorted(numbers.find(["a", "c"]).values()) == [0, 1]


def test_a_name_that_comes_back_in_time_finds_its_number() -> None:
    clock = Clock()
    numbers = Numbers(places(), clock=clock)
    numbers.keep(["a", "b"])
    before = numbers.find(["b"])
    numbers.keep(["a"])
    clock.now += REST / 2
    numbers.keep(["a", "b"])
    assert numbers.find(["b"]) == before
    clock.now += REST / 2 + 1
    numbers.keep(["a", "b"])
    assert numbers.find(["b"]) == before


def test_who_finds_no_room_has_no_number() -> None:
    numbers = Numbers(places(2))
    numbers.keep(["a", "b", "c"])
    assert len(numbers.find(["a", "b", "c"])) == 2
