"""What is kept for the last few tuples of candidates."""

from __future__ import annotations

from lb_core import Backend
from lb_strategies.recent import Recent


class Numbered:
    """Builds 1, 2, 3, …"""

    def __init__(self) -> None:
        self.built = 0

    def __call__(self, candidates: tuple[Backend, ...]) -> int:
        self.built += 1
        return self.built


def test_a_value_is_built_once_for_each_tuple_object() -> None:
    recent = Recent(Numbered())
    one, two = Backend("one", "127.0.0.1", 1), Backend("two", "127.0.0.1", 2)
    full, part = (one, two), (one,)
    assert [recent.get(full), recent.get(part), recent.get(full), recent.get(part)] == [1, 2, 1, 2]
    assert recent.get((one, two)) == 3


def test_the_tuple_used_longest_ago_is_dropped_first() -> None:
    recent = Recent(Numbered(), limit=2)
    one, two, three = ((Backend(name, "127.0.0.1", 1),) for name in "abc")
    recent.get(one), recent.get(two), recent.get(one), recent.get(three)
    assert (recent.get(one), recent.get(three)) == (1, 3)
    assert recent.get(two) == 4
