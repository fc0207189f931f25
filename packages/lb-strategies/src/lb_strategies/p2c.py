"""Power of two choices: of two different backends drawn by weight, the one less busy for its weight.

A tie goes to the one drawn first, so with nothing in flight the shares are those of the weights; under load it comes
close to least connections at a cost that does not grow with the pool.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from lb_core import hookimpl
from lb_strategies.recent import Recent
from lb_strategies.weights import Shares, reduced

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core import Backend


class PowerOfTwoChoices:
    """The strategy `p2c`; `draw` gives numbers in [0, 1)."""

    __slots__ = ("_candidates", "_draw", "_recent", "_shares")

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._recent = Recent(lambda candidates: Shares(reduced(candidates)))
        self._candidates: tuple[Backend, ...] = ()
        self._shares = Shares([1])

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        """The less busy of two."""
        if candidates is not self._candidates:
            self._candidates = candidates
            self._shares = self._recent.get(candidates)
        shares = self._shares
        if shares.size == 1:
            return candidates[0]
        if shares.equal:
            one = int(self._draw() * shares.size)
            two = int(self._draw() * (shares.size - 1))
            if two >= one:
                two += 1
        else:
            one = shares.at(self._draw() * shares.total)
            two = shares.at_without(one, self._draw() * shares.without(one))
        first, second = candidates[one], candidates[two]
        # in_flight/weight without dividing
        return second if second.in_flight * first.weight < first.in_flight * second.weight else first
