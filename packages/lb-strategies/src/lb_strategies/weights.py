"""Arithmetic with weights, shared by the strategies that respect them."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from math import gcd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lb_core import Backend


def reduced(candidates: Sequence[Backend]) -> list[int]:
    """The weights divided by what they have in common: 200 and 100 become 2 and 1.

    Candidates have a weight above zero; anything else counts as 1, so that no strategy can end up with nobody.
    """
    weights = [max(backend.weight, 1) for backend in candidates]
    common = gcd(*weights)
    return [weight // common for weight in weights]


class Shares:
    """A line on which each of some weights owns a stretch as long as itself."""

    __slots__ = ("_ends", "_weights", "equal", "size", "total")

    def __init__(self, weights: Sequence[int]) -> None:
        self._weights = weights
        self._ends = list(accumulate(weights))
        self.size = len(weights)
        self.total = self._ends[-1]
        self.equal = self.total == self.size

    def at(self, point: float) -> int:
        """Who owns a point; `point` is at least 0 and below `total`."""
        return bisect_right(self._ends, point)

    def without(self, owner: int) -> int:
        """How long the line is when one stretch is cut out."""
        return self.total - self._weights[owner]

    def at_without(self, owner: int, point: float) -> int:
        """Who owns a point of the line with one stretch cut out; never `owner`."""
        start = self._ends[owner] - self._weights[owner]
        return bisect_right(self._ends, point if point < start else point + self._weights[owner])
