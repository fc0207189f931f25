"""From names, classes and objects to strategies with the simulation's clock and chance."""

from __future__ import annotations

import time
from collections.abc import Callable

from lb_core.testing.building import fit, simulated_time


def clock() -> float:
    """A clock that stands."""
    return 7.0


def test_only_what_is_asked_for_is_passed() -> None:
    offers = {"clock": clock, "draw": time.time}
    assert fit(lambda given, clock=time.time: (given, clock), 1, offers=offers) == (1, clock)
    assert fit(lambda **anything: anything, offers=offers) == {}
    assert fit(lambda clock, draw: (clock, draw), "mine", offers=offers) == ("mine", time.time)


def test_what_has_no_signature_is_called_as_it_is() -> None:
    assert fit(dict, offers={"clock": clock}) == {}


def test_an_object_has_the_simulated_clock_for_a_while() -> None:
    class Timed:
        clock: Callable[[], float]

        def __init__(self, clock: Callable[[], float]) -> None:
            self.clock = clock

    real, other = Timed(time.monotonic), Timed(time.time)
    with simulated_time([real, other, object()], clock):
        assert (real.clock, other.clock) == (clock, time.time)
    assert real.clock is time.monotonic
