"""Windows of one length after another, aligned to multiples of that length, and a counter for each key and window."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

from lb_ratelimit.counters import WindowCounters

if TYPE_CHECKING:
    from lb_ratelimit.recent import Key


class Windows:
    """A limit of `requests`: which window it is now, and the counters; when a window ends, keys that had nothing in it
    are forgotten.

    `phase` is added to the caller's clock before windows are aligned: with the difference between the time of day and
    that clock a window of a minute begins with the minute, in every process.
    """

    __slots__ = ("_phase", "counters", "end", "index", "requests", "window")

    def __init__(self, requests: int, window: float, *, most: int = 100_000, phase: float = 0.0) -> None:
        self.requests = requests
        self.window = window
        self.counters = WindowCounters(most)
        self.index = -1
        self.end = float("-inf")
        self._phase = phase

    def advance(self, now: float) -> None:
        """`end` is over: find the window of `now`."""
        index = floor((now + self._phase) / self.window)
        end = (index + 1) * self.window - self._phase
        if end <= now:  # rounded down at the very end of a window
            index, end = index + 1, end + self.window
        self.counters.turn()
        if index > self.index + 1:
            self.counters.turn()
        self.index, self.end = index, end

    def give_back(self, key: Key, now: float) -> None:  # noqa: ARG002 (the window it was counted in is the last one)
        """A request that was let pass did not happen."""
        self.counters.add(key, self.index, -1)

    def resize(self, most: int) -> None:
        """Remember another number of keys."""
        self.counters.resize(most)
