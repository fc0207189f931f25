"""Windows of one length after another, aligned to multiples of that length, and a counter for each key and window."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING, Protocol

from lb_ratelimit.counters import WindowCounters

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_ratelimit.recent import Key


class WindowCounting(Protocol):
    """Where windows are counted: in this process alone, or together with others."""

    def __len__(self) -> int:
        """How many keys there are."""

    def peek(self, key: Key, index: int) -> tuple[int, int, int]:
        """The number of a window, its count, and the count of the window before."""

    def add(self, key: Key, index: int, amount: int = 1) -> tuple[int, float, float]:
        """Count in window `index`, or take back; returns what `peek` would then."""

    def turn(self) -> None:
        """Keys that were not used since the last turn may be forgotten."""

    def resize(self, most: int) -> None:
        """Remember another number of keys."""


class Windows:
    """A limit of `requests`: which window it is now, and the counters; when a window ends, keys that had nothing in it
    are forgotten.

    `phase` is added to the caller's clock before windows are aligned: with the difference between the time of day and
    that clock a window of a minute begins with the minute, in every process. Where counts are shared, `align` gives the
    phase that all have in common, anew for each window.
    """

    __slots__ = ("_align", "_phase", "counters", "end", "index", "requests", "window")

    def __init__(
        self,
        requests: int,
        window: float,
        *,
        most: int = 100_000,
        phase: float = 0.0,
        counters: WindowCounting | None = None,
        align: Callable[[], float] | None = None,
    ) -> None:
        self.requests = requests
        self.window = window
        self.counters: WindowCounting = WindowCounters(most) if counters is None else counters
        self.index = -1
        self.end = float("-inf")
        self._phase = phase
        self._align = align

    def advance(self, now: float) -> None:
        """`end` is over: find the window of `now`."""
        if self._align is not None:
            self._phase = self._align()
        index = floor((now + self._phase) / self.window)
        end = (index + 1) * self.window - self._phase
        if end <= now:  # rounded down at the very end of a window
            index, end = index + 1, end + self.window
        self.counters.turn()
        if index > self.index + 1:
            self.counters.turn()
        self.index, self.end = index, end

    def realign(self) -> None:
        """The phase is another: find the window anew with the next request."""
        self.end = float("-inf")

    def give_back(self, key: Key, now: float) -> None:  # noqa: ARG002 (the window it was counted in is the last one)
        """A request that was let pass did not happen."""
        self.counters.add(key, self.index, -1)

    def resize(self, most: int) -> None:
        """Remember another number of keys."""
        self.counters.resize(most)
