"""What a pick costs: real nanoseconds of a strategy's `select_backend`, measured apart from the simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.exchange import Exchange

ROUNDS = 5
PICKS = 500


def cost_of_pick(
    select: Callable[[Any, Any], object], exchanges: Sequence[Exchange], candidates: tuple[Backend, ...]
) -> float:
    """Nanoseconds of a pick, the loop around it taken off: the least of several rounds, as noise only adds."""
    asked = [exchanges[number % len(exchanges)] for number in range(PICKS)]
    select(asked[0], candidates)  # what is worked out once for these candidates
    least = min(_round(select, asked, candidates) for _ in range(ROUNDS))
    empty = min(_round(_nothing, asked, candidates) for _ in range(ROUNDS))
    return max(least - empty, 0) / PICKS


def _round(select: Callable[[Any, Any], object], asked: list[Exchange], candidates: tuple[Backend, ...]) -> int:
    begin = perf_counter_ns()
    for exchange in asked:
        select(exchange, candidates)
    return perf_counter_ns() - begin


def _nothing(exchange: object, candidates: object) -> None:
    """What a call costs by itself."""
