"""What the strategies that draw have in common: the line of shares of the candidates at hand."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from lb_strategies.recent import Recent
from lb_strategies.weights import Shares, reduced

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core import Backend


class Drawing:
    """Draws candidates by weight; `draw` gives numbers in [0, 1)."""

    __slots__ = ("_candidates", "_draw", "_recent", "_shares")

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._recent = Recent(lambda candidates: Shares(reduced(candidates)))
        self._candidates: tuple[Backend, ...] = ()
        self._shares = Shares([1])

    def _switch(self, candidates: tuple[Backend, ...]) -> None:
        """Draw among these from now on."""
        self._candidates = candidates
        self._shares = self._recent.get(candidates)
