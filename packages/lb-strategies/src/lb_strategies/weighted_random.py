"""Random: each backend with a probability that is its share of the weights."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from lb_core import hookimpl
from lb_strategies.recent import Recent
from lb_strategies.weights import Shares, reduced

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core import Backend


class WeightedRandom:
    """The strategy `random`; `draw` gives numbers in [0, 1)."""

    __slots__ = ("_candidates", "_draw", "_recent", "_shares")

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._recent = Recent(lambda candidates: Shares(reduced(candidates)))
        self._candidates: tuple[Backend, ...] = ()
        self._shares = Shares([1])

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        """One drawn by weight."""
        if candidates is not self._candidates:
            self._candidates = candidates
            self._shares = self._recent.get(candidates)
        shares = self._shares
        point = self._draw() * shares.total
        return candidates[int(point) if shares.equal else shares.at(point)]
