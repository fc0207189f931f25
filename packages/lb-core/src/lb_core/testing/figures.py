"""What came out of a simulation: latencies, errors, shares."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, isnan, nan
from typing import Any

GROWN, RISING = 0.01, 1.4
"""A backlog grows without end when the last request finds more than 1 % of all still under way, and 1.4 times as many
as the middle one did."""


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one strategy; times in seconds, of requests that were answered well.

    `errors` were answered with 5xx, `refused` otherwise without a backend (a limit). `throughput` is good answers a
    second. `shares` are of attempts, by the backend's name. `imbalance` is the work given to the busiest backend over
    the mean of all, 1.0 where they are equally busy. `diverges` says that the backlog grew until the end, so that
    longer runs would show longer times. `pick_ns` is real time and differs between runs; all else is the same for the
    same seed.
    """

    strategy: str
    requests: int
    errors: int
    refused: int
    seconds: float
    shares: Mapping[str, float]
    imbalance: float
    diverges: bool
    latencies: array[float] = field(repr=False)
    pick_ns: float = field(compare=False)

    @property
    def p50(self) -> float:
        """The median."""
        return self.quantile(0.5)

    @property
    def p95(self) -> float:
        """95 % were at most as long."""
        return self.quantile(0.95)

    @property
    def p99(self) -> float:
        """99 % were at most as long."""
        return self.quantile(0.99)

    @property
    def max(self) -> float:
        """The longest."""
        return self.quantile(1.0)

    @property
    def mean(self) -> float:
        """The arithmetic mean; nan where nothing was answered well."""
        return sum(self.latencies) / len(self.latencies) if self.latencies else nan

    @property
    def throughput(self) -> float:
        """Good answers a second."""
        return (self.requests - self.errors - self.refused) / self.seconds if self.seconds else 0.0

    def quantile(self, share: float) -> float:
        """The shortest time that is not exceeded by this share; nan where nothing was answered well."""
        count = len(self.latencies)
        return self.latencies[max(0, ceil(share * count) - 1)] if count else nan

    def as_data(self) -> dict[str, Any]:
        """What JSON can carry of it; times in seconds, null where there are none."""
        times = {name: getattr(self, name) for name in ("p50", "p95", "p99", "mean", "max")}
        return {
            "strategy": self.strategy,
            "requests": self.requests,
            "errors": self.errors,
            "refused": self.refused,
            "seconds": self.seconds,
            **{name: None if isnan(value) else value for name, value in times.items()},
            "throughput": self.throughput,
            "imbalance": self.imbalance,
            "shares": dict(self.shares),
            "diverges": self.diverges,
            "pick_ns": self.pick_ns,
        }


def show_time(seconds: float) -> str:
    """A time in three digits: `0.85 ms`, `265 ms`, `1.30 s`, `75 s`; a dash where there is none."""
    if isnan(seconds):
        return "-"
    number, unit = (seconds, "s") if seconds >= 0.9995 else (seconds * 1000, "ms")
    digits = 0 if number >= 99.95 or (unit == "ms" and number >= 9.995) else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {unit}"


class Tally:
    """Counts while it runs. `open` requests have begun and not ended."""

    __slots__ = ("begun", "errors", "expected", "halfway", "last", "latencies", "open", "refused")

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.begun = 0
        self.open = 0
        self.errors = 0
        self.refused = 0
        self.halfway = 0
        self.last = 0
        self.latencies: array[float] = array("d")

    def begin(self) -> None:
        """A request has come."""
        self.open += 1
        self.begun += 1
        if self.begun == self.expected // 2:
            self.halfway = self.open
        self.last = self.open

    def end(self, status: int, seconds: float) -> None:
        """One has ended."""
        self.open -= 1
        if status < 400:
            self.latencies.append(seconds)
        elif status < 500:
            self.refused += 1
        else:
            self.errors += 1

    def diverges(self, slots: int) -> bool:
        """Whether the backlog grew until the end; `slots` are those of all backends."""
        return self.last > max(GROWN * self.expected, 4 * slots) and self.last > RISING * self.halfway

    def sorted(self, warmup: float) -> array[float]:
        """The times, the shortest first, without those of the first requests to end."""
        return array("d", sorted(self.latencies[int(len(self.latencies) * warmup) :]))
