"""Smooth weighted round robin: turns in proportion to the weights, and spread out.

The order is nginx's: every turn each backend gains its weight, the one with the most is chosen and pays the sum of all
weights. With weights 5, 1, 1 that is `a a b a c a a`, not `a a a a a b c`. After as many turns as the (reduced) weights
sum to, everybody has had exactly its weight in turns and the order repeats, so it is worked out once as a cycle.

Working out a cycle costs `turns x backends`, and a thousand backends with odd weights would need half a million turns.
Above COST (about 2 ms on the event loop) no cycle is stored: the turns come one by one from `spread`, whose order
differs a little and whose shares are just as exact.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import cycle
from typing import TYPE_CHECKING

from lb_core import hookimpl
from lb_strategies.recent import Recent
from lb_strategies.weights import reduced

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lb_core import Backend

COST = 32_768
TURN = 16
"""What a turn costs beside the backends it looks at, counted in backends."""


class WeightedRoundRobin:
    """The strategy `weighted_round_robin`."""

    __slots__ = ("_candidates", "_recent", "_turns")

    def __init__(self) -> None:
        self._recent = Recent(turns)
        self._candidates: tuple[Backend, ...] = ()
        self._turns: Iterator[Backend] = iter(())

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        """Whose turn it is."""
        if candidates is not self._candidates:
            self._candidates = candidates
            self._turns = self._recent.get(candidates)
        return next(self._turns)


def turns(candidates: tuple[Backend, ...]) -> Iterator[Backend]:
    """The backends in the order of their turns, for ever."""
    weights = reduced(candidates)
    if max(weights) == 1:
        return cycle(candidates)
    if sum(weights) * (TURN + len(weights)) <= COST:
        return cycle([candidates[place] for place in smooth_cycle(weights)])
    return (candidates[place] for place in spread(weights))


def smooth_cycle(weights: Sequence[int]) -> list[int]:
    """One cycle in nginx's order, as positions; `sum(weights)` long."""
    total, places = sum(weights), range(len(weights))
    current = [0] * len(weights)
    order = []
    for _ in range(total):
        current = [have + weight for have, weight in zip(current, weights, strict=True)]
        best = max(places, key=current.__getitem__)
        current[best] -= total
        order.append(best)
    return order


def spread(weights: Sequence[int]) -> Iterator[int]:
    """Positions for ever, each as often as its weight says, from two heaps instead of a stored cycle.

    Turn number `n` of a backend may come from `n x total / weight` on and must come before `(n + 1) x total / weight`.
    Of the turns that may come the one that must come first is taken; that always works out, because together the
    turns fill the time exactly (earliest deadline first, Liu and Layland 1973). Nobody is ever a turn ahead or behind.
    """
    total = sum(weights)
    while True:
        early = [(0, place) for place in range(len(weights))]
        due: list[tuple[int, int]] = []
        taken = [0] * len(weights)
        for now in range(total):
            while early and early[0][0] <= now:
                place = heappop(early)[1]
                heappush(due, (-(-(taken[place] + 1) * total // weights[place]), place))
            place = heappop(due)[1]
            yield place
            taken[place] += 1
            if taken[place] < weights[place]:
                heappush(early, (taken[place] * total // weights[place], place))
