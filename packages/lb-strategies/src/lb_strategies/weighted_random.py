"""Random: each backend with a probability that is its share of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core import hookimpl
from lb_strategies.drawing import Drawing

if TYPE_CHECKING:
    from lb_core import Backend


class WeightedRandom(Drawing):
    """The strategy `random`."""

    __slots__ = ()

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        """One drawn by weight."""
        if candidates is not self._candidates:
            self._switch(candidates)
        return candidates[self._shares.one(self._draw)]
