"""The strategy is a plain class: give it backends and look at what it chooses."""

from lb_core import Backend
from lb_power_of_two import PowerOfTwo


def test_prefers_the_less_busy_one() -> None:
    busy, idle = Backend("busy", "127.0.0.1", 9001), Backend("idle", "127.0.0.1", 9002)
    busy.in_flight = 10
    chosen = [PowerOfTwo().select_backend((busy, idle)) for _ in range(1000)]
    # Only when both draws fall on it, one time in four, does the busy one get a request.
    assert 650 < chosen.count(idle) < 850


def test_one_backend_is_enough() -> None:
    only = Backend("only", "127.0.0.1", 9001)
    assert PowerOfTwo().select_backend((only,)) is only
