"""The error of limits: against the number of nodes, the size of the limit, the exchange's interval, and latency.

What is compared is what all nodes together let through, with what one limiter lets through that sees every request: in
the first window of a key, and in the windows after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from benchmarks.cluster.limits import Case, Outcome, alone, run

NODES = (3, 10, 30, 100, 300, 1000)
LIMIT, WINDOW = 1000, 10.0
SEEDS = 2

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
        together, single = _windows(one, run(one, seed)), _windows(one, _single(one, seed))
        found += [(ours - its) / one.limit for ours, its in zip(together[1:], single[1:], strict=True)]
    return sorted(found)


def _error(one: Case, seed: int) -> Error:
    together = run(one, seed)
    ours, its = _windows(one, together), _windows(one, _single(one, seed))
    later = (sum(ours[1:]) - sum(its[1:])) / one.limit / max(1, len(ours) - 1)
    return Error((ours[0] - its[0]) / one.limit, later, _lasted(one, together))


def _single(one: Case, seed: int) -> Outcome:
    """One limiter; where the limit is used up before all have begun, it has let through just that."""
    return alone(one, seed) if not one.begins else Outcome([0.0] * one.limit)


def _windows(one: Case, outcome: Outcome) -> list[int]:
    """How many were let through in each window."""
    ends = [number * one.window for number in range(int(one.windows) + 1)]
    return [outcome.between(begin, end) for begin, end in pairwise(ends)]


def _lasted(one: Case, outcome: Outcome) -> float:
    first = outcome.passed[: outcome.between(0.0, one.window)]
    return first[-1] - max(first[one.limit - 1], *one.begins, 0.0) if len(first) > one.limit else 0.0
