"""Least connections: the backend with the fewest requests in flight for its weight, ties in rotation.

    equal weights    the least busy of the next 16 backends in turn, beginning after the one chosen last; the first idle
                     one ends the search. With nothing in flight that is round robin, with 16 backends or fewer a full
                     scan, and above that a pick costs the same for 17 backends as for 1,000.
    other weights    up to 16 backends: all are compared by in_flight / weight. Ties go to the one whose turn it is by
                     start-time fair queueing, so that with nothing in flight it is smooth weighted round robin.
                     Above 16: the less busy of two drawn by weight (Mitzenmacher, 2001).

A turn begins at a random backend: several workers started together do not all begin with the first.
"""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Protocol

from lb_core.hooks import hookimpl

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.exchange import Exchange

Candidates = tuple["Backend", ...]

SCANNED_MOST = 16
REMEMBERED = 32
"""Tuples of candidates whose turn is kept: the pool's own, and those of retries."""

ENDLESS = float("inf")


class Turns(Protocol):
    """Whose turn it is among one tuple of candidates."""

    def pick(self) -> Backend:
        """The least busy backend, ties in rotation."""


class LeastConnections:
    """The strategy `least_connections`."""

    __slots__ = ("_candidates", "_known", "_pick", "_random")

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()
        self._candidates: Candidates = ()
        self._known: dict[int, tuple[Candidates, Turns]] = {}

    @hookimpl
    def select_backend(self, exchange: Exchange, candidates: Candidates) -> Backend:  # noqa: ARG002 (spares an adapter)
        """Choose among candidates; takes both arguments, so that the hook's chain is this very function."""
        if candidates is not self._candidates:
            self._switch(candidates)
        return self._pick()

    def why(self, exchange: Exchange, candidates: Candidates, backend: Backend) -> str:  # noqa: ARG002
        """For the decision record: how busy the chosen one was, and the others."""
        weighted = len({each.weight for each in candidates}) > 1
        counts = ", ".join(
            f"{each.in_flight}/{each.weight:g}" if weighted else str(each.in_flight)
            for each in candidates[:SCANNED_MOST]
        )
        more = ", …" if len(candidates) > SCANNED_MOST else ""
        what = "requests in flight for its weight" if weighted else "requests in flight"
        return f"fewest {what}: {backend.in_flight} of {counts}{more}"

    def _switch(self, candidates: Candidates) -> None:
        """Go on where these candidates were left; an identity stands for a tuple as long as we hold that tuple."""
        known = self._known.get(id(candidates))
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[id(candidates)] = (candidates, _turns(candidates, self._random))
        self._candidates = candidates
        self._pick = known[1].pick


def _turns(candidates: Candidates, random: Random) -> Turns:
    if len({backend.weight for backend in candidates}) == 1:
        return EqualTurns(candidates, random)
    if len(candidates) <= SCANNED_MOST:
        return WeightedTurns(candidates, random)
    return WeightedDraws(candidates, random)


class EqualTurns:
    """Backends of one weight: each knows the window that begins after it."""

    __slots__ = ("_after", "_window")

    def __init__(self, candidates: Candidates, random: Random) -> None:
        count = len(candidates)
        size = min(count, SCANNED_MOST)
        ring = candidates * 2
        self._after = {backend: ring[n + 1 : n + 1 + size] for n, backend in enumerate(candidates)}
        self._window = self._after[random.choice(candidates)]

    def pick(self) -> Backend:
        least = ENDLESS
        for backend in self._window:
            load = backend.in_flight
            if load < least:
                chosen = backend
                if not load:
                    break
                least = load
        self._window = self._after[chosen]
        return chosen


class WeightedTurns:
    """A few backends of several weights.

    `_turn` holds when each may start next, one request lasting 1/weight; `_now` is the start of the latest. A backend
    that was busy has no claim to the turns it missed.
    """

    __slots__ = ("_candidates", "_now", "_turn")

    def __init__(self, candidates: Candidates, random: Random) -> None:
        begin = random.randrange(len(candidates))
        self._candidates = candidates[begin:] + candidates[:begin]
        self._turn = dict.fromkeys(candidates, 0.0)
        self._now = 0.0

    def pick(self) -> Backend:
        turn, now = self._turn, self._now
        least = start = ENDLESS
        for backend in self._candidates:
            load = backend.in_flight / backend.weight
            if load <= least:
                begin = turn[backend]
                if begin < now:
                    begin = now
                if load < least or begin < start:
                    chosen, least, start = backend, load, begin
        self._now = start
        turn[chosen] = start + 1 / chosen.weight
        return chosen


class WeightedDraws:
    """Many backends of several weights."""

    __slots__ = ("_candidates", "_draw", "_sums", "_total")

    def __init__(self, candidates: Candidates, random: Random) -> None:
        self._candidates = candidates
        *self._sums, self._total = accumulate(backend.weight for backend in candidates)
        self._draw = random.random

    def pick(self) -> Backend:
        candidates, sums, draw, total = self._candidates, self._sums, self._draw, self._total
        one = candidates[bisect(sums, draw() * total)]
        two = candidates[bisect(sums, draw() * total)]
        # in_flight/weight without dividing
        return two if two.in_flight * one.weight < one.in_flight * two.weight else one
