"""Arithmetic with weights, shared by the strategies that respect them."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from math import gcd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lb_core import Backend

SHORT = 16_384
FINE = 100
"""Steps of a weight of one during a slow start: a percent."""


def reduced(candidates: Sequence[Backend]) -> list[int]:
    """The weights divided by what they have in common: 200 and 100 become 2 and 1, and so do 1 and 0.5.

    A weight that is not whole, as a slow start makes them, counts to a hundredth. Candidates have a weight above zero;
    anything else counts as the least there is, so that no strategy can end up with nobody.
    """
    weights = [backend.weight for backend in candidates]
    scale = 1 if all(weight == int(weight) for weight in weights) else FINE
    whole = [max(round(weight * scale), 1) for weight in weights]
    common = gcd(*whole)
    return [weight // common for weight in whole]


class Shares:
    """A line on which each of some weights owns a stretch as long as itself.

    A short line is kept point by point as well: who owns a point is one look then, however many there are.
    """

    __slots__ = ("_ends", "_points", "_weights", "equal", "size", "total")

    def __init__(self, weights: Sequence[int]) -> None:
        self._weights = weights
        self._ends = list(accumulate(weights))
        self.size = len(weights)
        self.total = self._ends[-1]
        self.equal = self.total == self.size
        short = self.total <= SHORT and not self.equal
        self._points = [owner for owner, weight in enumerate(weights) for _ in range(weight)] if short else None

    def at(self, point: float) -> int:
        """Who owns a point; `point` is at least 0 and below `total`."""
        return bisect_right(self._ends, point)

    def without(self, owner: int) -> int:
        """How long the line is when one stretch is cut out."""
        return self.total - self._weights[owner]

    def at_without(self, owner: int, point: float) -> int:
        """Who owns a point of the line with one stretch cut out; never `owner`."""
        start = self._ends[owner] - self._weights[owner]
        if point < start:
            return bisect_right(self._ends, point)
        return bisect_right(self._ends, point + self._weights[owner], hi=self.size - 1)  # the sum may round up to total

    def one(self, draw: Callable[[], float]) -> int:
        """One of them, drawn by weight; `draw` gives numbers in [0, 1)."""
        point = draw() * self.total
        if self._points is not None:
            return self._points[int(point)]
        return int(point) if self.equal else bisect_right(self._ends, point)

    def two(self, draw: Callable[[], float]) -> tuple[int, int]:
        """Two different ones of at least two, drawn by weight."""
        if self.equal:
            first = int(draw() * self.size)
            second = int(draw() * (self.size - 1))
            return first, second + 1 if second >= first else second
        points = self._points
        if points is None:
            first = self.at(draw() * self.total)
        else:
            first = points[int(draw() * self.total)]
            second = points[int(draw() * self.total)]
            if second != first:
                return first, second
        return first, self.at_without(first, draw() * self.without(first))
