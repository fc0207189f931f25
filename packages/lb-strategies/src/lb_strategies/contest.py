"""One tuple of candidates with what their latencies make them cost: who is cheapest, and who must be tried again."""

from __future__ import annotations

from heapq import heapify, heapreplace
from typing import TYPE_CHECKING

from lb_strategies.weights import Shares, reduced

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from lb_core import Backend
    from lb_strategies.latencies import Latency

    Rated = tuple[Backend, Latency]

ENDLESS = float("inf")


class Contest:
    """Candidates compared by `cost x (requests in flight + 1)`: all of them up to `scanned`, else two drawn by weight.

    `_last` is a heap of when each was last chosen. A choice does not change it, so what it says may be too early; that
    is put right when it is looked at, once in `explore` for each backend.
    """

    __slots__ = ("_draw", "_explore", "_last", "_rated", "_scan", "_shares", "due")

    def __init__(self, rated: Sequence[Rated], *, explore: float, scanned: int, random: Random) -> None:
        begin = random.randrange(len(rated))  # among equals not every process begins with the same
        self._rated = [*rated[begin:], *rated[:begin]]
        self._scan = len(rated) <= max(scanned, 1)
        self._shares = Shares(reduced([backend for backend, _ in self._rated]))
        self._draw = random.random
        self._explore = explore
        self._last = [(latency.chosen, place) for place, (_, latency) in enumerate(self._rated)]
        heapify(self._last)
        self.due = self._last[0][0] + explore
        """When somebody may have been left alone for too long."""

    def pick(self, now: float) -> Backend:
        """The cheapest, or one that was not chosen for too long."""
        if now >= self.due:
            overdue = self._overdue(now)
            if overdue is not None:
                return overdue
        chosen: Backend
        if self._scan:
            least = ENDLESS
            for backend, latency in self._rated:
                cost = latency.cost * (backend.in_flight + 1)
                if cost < least:
                    chosen, known, least = backend, latency, cost
        else:
            one, two = self._shares.two(self._draw)
            chosen, known = self._rated[one]
            other, latency = self._rated[two]
            if latency.cost * (other.in_flight + 1) < known.cost * (chosen.in_flight + 1):
                chosen, known = other, latency
        known.chosen = now
        return chosen

    def _overdue(self, now: float) -> Backend | None:
        last, latest = self._last, now - self._explore
        found = None
        while found is None and last[0][0] <= latest:
            since, place = last[0]
            backend, latency = self._rated[place]
            if latency.chosen > since:
                heapreplace(last, (latency.chosen, place))
            else:
                heapreplace(last, (now, place))
                latency.chosen = now
                found = backend
        self.due = last[0][0] + self._explore
        return found
