"""Simulated time: what happens next, and the clock that jumps there.

Nothing waits. The agenda holds what is to happen, the earliest first; what falls on the same moment happens in the
order in which it was entered, so that a run is the same every time.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

BEGIN = 1000.0
"""The first moment: above 0.0, which means "not yet" in an exchange."""


class Timer:
    """What `later` promised; it may be cancelled until then."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Forget it."""
        self._call = None

    def ring(self) -> None:
        """The moment has come."""
        if self._call is not None:
            self._call()


class Agenda:
    """Events to come; `now` is the moment of the one that happens."""

    __slots__ = ("_events", "_order", "now")

    def __init__(self, begin: float = BEGIN) -> None:
        self.now = begin
        self._events: list[tuple[float, int, Callable[[Any], object], Any]] = []
        self._order = 0

    def clock(self) -> float:
        """Simulated seconds, in the place of `time.monotonic`."""
        return self.now

    def at(self, when: float, call: Callable[[Any], object], argument: Any) -> None:
        """Let something happen to `argument` at a moment, which is not before `now`."""
        self._order += 1
        heappush(self._events, (when, self._order, call, argument))

    def later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call something after so many seconds, in the place of `loop.call_later`."""
        timer = Timer(call)
        self.at(self.now + seconds, Timer.ring, timer)
        return timer

    def run(self, going_on: Callable[[], bool] = lambda: True) -> None:
        """Let everything happen in order, until nothing is left or `going_on` says no."""
        events = self._events
        while events and going_on():
            self.now, _, call, argument = heappop(events)
            call(argument)
