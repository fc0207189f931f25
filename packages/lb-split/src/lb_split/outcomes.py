"""How many requests there were over the last seconds, and how many of them failed."""

from __future__ import annotations

SLICES = 12


class Outcomes:
    """Counts over a sliding window of `seconds`, forgotten in steps of a twelfth of it.

    `requests` and `failed` hold what is within the window as of the last `add` or `advance`.
    """

    __slots__ = ("_failed", "_now", "_requests", "_width", "failed", "requests")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / SLICES
        self._now = 0
        self._requests = [0] * SLICES
        self._failed = [0] * SLICES
        self.requests = 0
        self.failed = 0

    @property
    def ratio(self) -> float:
        """The share that failed; 0.0 without requests."""
        return self.failed / self.requests if self.requests else 0.0

    def add(self, now: float, failed: bool) -> None:
        """Count a request that ended at `now`, seconds of any clock."""
        self.advance(now)
        slot = self._now % SLICES
        self.requests += 1
        self._requests[slot] += 1
        if failed:
            self.failed += 1
            self._failed[slot] += 1

    def advance(self, now: float) -> None:
        """Forget what is older than the window."""
        current = int(now / self._width)
        if current <= self._now:
            return
        for slice_ in range(max(self._now + 1, current - SLICES + 1), current + 1):
            slot = slice_ % SLICES
            self.requests -= self._requests[slot]
            self.failed -= self._failed[slot]
            self._requests[slot] = self._failed[slot] = 0
        self._now = current

    def clear(self) -> None:
        """Forget everything."""
        self._requests = [0] * SLICES
        self._failed = [0] * SLICES
        self.requests = self.failed = 0
