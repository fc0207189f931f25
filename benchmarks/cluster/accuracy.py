"""The error of limits: against the number of nodes, the size of the limit, the exchange's interval, and latency.

What is compared is what all nodes together let through, with what one limiter lets through that sees every request: in
the first window of a key, and in the windows after it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from benchmarks.cluster.limits import Case, alone, run

if TYPE_CHECKING:
    from collections.abc import Callable

NODES = (3, 10, 30, 100, 300, 1000)
LIMIT, WINDOW = 1000, 10.0
SEEDS = 3

Shape = str
SHAPES: dict[Shape, str] = {
    "even": "twice the limit, the same at every node",
    "uneven": "twice the limit, nine tenths of it at one node",
    "hot": "a hundred times the limit, the same at every node",
    "late": "one node has used the limit up when the others begin, each with a tenth of the limit a second",
}


@dataclass(frozen=True)
class Error:
    """Of the limit: above 0 too many were let through, below 0 too few."""

    first: float
    later: float
    lasted: float
    """Seconds from when the limit was used up, and all have begun, until the last one that was too many."""

    def __str__(self) -> str:
        return f"{percent(self.first)} / {percent(self.later)}"


def percent(part: float) -> str:
    """A part as text with its sign; what is below a thousandth of the whole is none."""
    if abs(part) < 0.0005:
        return "0 %"
    return f"{part:+.1%}".replace("%", " %") if abs(part) < 0.0995 else f"{part:+.0%}".replace("%", " %")


def case(shape: Shape, nodes: int, limit: int = LIMIT, window: float = WINDOW) -> Case:
    """The load of that shape."""
    a_second = limit / window
    match shape:
        case "even":
            return Case((2 * a_second / nodes,) * nodes, limit, window)
        case "uneven":
            others = 0.2 * a_second / (nodes - 1)
            return Case((1.8 * a_second,) + (others,) * (nodes - 1), limit, window)
        case "hot":
            return Case((100 * a_second / nodes,) * nodes, limit, window)
        case "late":
            rates = (5 * a_second,) + (a_second,) * (nodes - 1)
            return Case(rates, limit, window, begins=(0.0,) + (0.5 * window,) * (nodes - 1), windows=1.0)
    raise ValueError(f"{shape!r} is no shape: choose from {', '.join(SHAPES)}")


def error(one: Case, seed: int, seeds: int = SEEDS) -> Error:
    """The mean over some seeds, and the longest that too many were let through."""
    found = [_error(one, seed + number) for number in range(seeds)]
    count = len(found)
    return Error(
        sum(each.first for each in found) / count,
        sum(each.later for each in found) / count,
        max(each.lasted for each in found),
    )


def each_window(one: Case, seeds: range) -> list[float]:
    """The error of every window but a key's first, sorted: how it is distributed."""
    found = []
    for seed in seeds:
        together, single = _windows(one, seed)
        found += [(ours - its) / one.limit for ours, its in list(zip(together, single, strict=True))[1:]]
    return sorted(found)


def _error(one: Case, seed: int) -> Error:
    together, single = _windows(one, seed)
    first = (together[0] - single[0]) / one.limit
    later = (sum(together[1:]) - sum(single[1:])) / one.limit / max(1, len(together) - 1)
    return Error(first, later, _lasted(one, seed))


def _windows(one: Case, seed: int) -> tuple[list[int], list[int]]:
    ends = [number * one.window for number in range(int(one.windows) + 1)]
    together = run(one, seed)
    if one.begins:  # the limit is used up before the others begin: one limiter lets the limit through
        return [together.between(begin, end) for begin, end in pairwise(ends)], [one.limit] * (len(ends) - 1)
    single = alone(one, seed)
    return (
        [together.between(begin, end) for begin, end in pairwise(ends)],
        [single.between(begin, end) for begin, end in pairwise(ends)],
    )


def _lasted(one: Case, seed: int) -> float:
    first = [moment for moment in run(replace(one, windows=1.0), seed).passed if moment < one.window]
    return first[-1] - max(first[one.limit - 1], *one.begins, 0.0) if len(first) > one.limit else 0.0


def by_nodes(
    seed: int, progress: Callable[[str], None], nodes: tuple[int, ...] = NODES
) -> dict[int, dict[Shape, Error]]:
    """Each shape with each number of nodes."""
    found: dict[int, dict[Shape, Error]] = {}
    for count in nodes:
        progress(f"limits of {count} nodes")
        found[count] = {shape: error(case(shape, count), seed) for shape in SHAPES}
    return found
