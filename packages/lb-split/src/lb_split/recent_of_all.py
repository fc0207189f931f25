"""How the pools of a split have fared lately in all workers together.

Each worker counts in its own row of shared memory, in slices of a twelfth of the window; the clock is one that all
processes of a machine have in common. Whoever wants to know reads the rows of all.

    of a slice    its number since the clock began, requests, failures
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_split.outcomes import SLICES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lb_core.sharing import Slots

OF_SLICE = 3
SIZE = SLICES * OF_SLICE
"""Numbers of one pool."""


class Sum:
    """Requests and failures of all workers within the window, at one moment."""

    __slots__ = ("failed", "requests")

    def __init__(self, requests: int, failed: int) -> None:
        self.requests = requests
        self.failed = failed

    @property
    def ratio(self) -> float:
        """The share that failed; 0.0 without requests."""
        return self.failed / self.requests if self.requests else 0.0


class RecentOfAll:
    """The counts of one pool over a sliding window of `seconds`, from number `begin` on in the rows of `slots`."""

    __slots__ = ("_begin", "_slots", "_width")

    def __init__(self, slots: Slots, begin: int, seconds: float) -> None:
        self._slots = slots
        self._begin = begin
        self._width = seconds / SLICES

    def add(self, now: float, failed: bool) -> None:
        """Count a request of this worker that ended at `now`."""
        current = int(now / self._width)
        mine, place = self._slots.mine, self._begin + current % SLICES * OF_SLICE
        if mine[place] != current:
            mine[place + 1] = mine[place + 2] = 0  # first: who reads meanwhile takes them for those of the old number
            mine[place] = current
        mine[place + 1] += 1
        if failed:
            mine[place + 2] += 1

    def sum(self, now: float) -> Sum:
        """What all workers have counted."""
        oldest = int(now / self._width) - SLICES
        requests = failed = 0
        for row in (self._slots.mine, *self._slots.elsewhere):
            numbers: Sequence[int] = row[self._begin : self._begin + SIZE].tolist()
            for place in range(0, SIZE, OF_SLICE):
                if numbers[place] > oldest:
                    requests += numbers[place + 1]
                    failed += numbers[place + 2]
        return Sum(requests, failed)

    def clear(self) -> None:
        """Forget what this worker has counted."""
        mine = self._slots.mine
        for place in range(self._begin, self._begin + SIZE):
            mine[place] = 0
