"""Turns in proportion to weights, exact at every moment: Tijdeman's solution of the chairman assignment problem.

After any number of turns each place has had its share of them, give or take less than one turn (Tijdeman, "The
chairman assignment problem", Discrete Mathematics 32, 1980). Smooth weighted round robin, as nginx does it, gives the
same for two places and no such bound for more.

Of the places whose share has grown by enough since their last turn, the next turn is that of the one that would be the
first to fall behind.
"""

from __future__ import annotations

from itertools import cycle, islice, repeat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LONGEST_CYCLE = 10_000
_ROUNDING = 1 - 1e-9


def turns(weights: Sequence[float]) -> Iterator[int]:
    """The places in turn, without end; at least one weight, and every one above 0."""
    if len(weights) == 1:
        return repeat(0)
    total = sum(weights)
    if total <= LONGEST_CYCLE and all(float(weight).is_integer() for weight in weights):
        return cycle(islice(_chairmen(weights), int(total)))  # everybody is even again after so many
    return _chairmen(weights)


def _chairmen(weights: Sequence[float]) -> Iterator[int]:
    total = sum(weights)
    few = 1 / (2 * len(weights) - 2)
    enough, most = few * total * _ROUNDING, (1 - few) * total
    places = range(len(weights))
    due = [0.0] * len(weights)
    while True:
        best, soonest = 0, float("inf")
        for place in places:
            weight = weights[place]
            due[place] = credit = due[place] + weight
            if credit >= enough:
                left = (most - credit) / weight
                if left < soonest:
                    best, soonest = place, left
        due[best] -= total
        yield best
