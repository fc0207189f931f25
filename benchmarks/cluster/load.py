"""What the exchange of counts costs Redis: how often each key is said, summed over keys whose rates follow Zipf's law.

How often a key of some rate is said is not known by formula: the nodes' rules decide it. So it is simulated (limits.py)
at a few rates, and what lies between is drawn straight on logarithmic axes. Then each key has its figure by its rate.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log
from typing import TYPE_CHECKING

from benchmarks.cluster.limits import Case, run
from lb_redis.exchange import BUCKETS
from lb_redis.policy_pace import BUDGET, EACH, FIXED

if TYPE_CHECKING:
    from benchmarks.cluster.costs import Costs
    from benchmarks.cluster.traffic import Traffic

RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 10_000.0, 100_000.0)
"""Requests a second of one key at all nodes together."""
REQUESTS = 150
"""About how many requests a simulated key has, so that a rare one is watched for longer."""
FEWEST_WINDOWS, MOST_WINDOWS = 2.0, 400.0
BUSY = 0.6
"""The part of a core that Redis may be busy before its answers come late."""


@dataclass(frozen=True)
class Said:
    """Of one key a second: requests let through, times it is said, exchanges that come at once for it."""

    passed: float
    entries: float
    hurried: float


@dataclass(frozen=True)
class Fleet:
    """Nodes with one limit on the client, as in `rate_limit: 1000/10s`."""

    nodes: int
    limit: int = 1000
    window: float = 10.0
    interval: float = 0.05
    latency: float = 0.0005


@dataclass(frozen=True)
class Load:
    """What Redis has to bear a second, shared by so many processes; memory in bytes."""

    processes: int
    calls: float
    keys: float
    bytes_in: float
    bytes_out: float
    cpu: float
    memory: float

    @property
    def holds(self) -> bool:
        """Whether none of the processes is busier than BUSY of a core."""
        return self.cpu <= BUSY * self.processes


class KeyCurve:
    """From a key's rate to what is said of it in a fleet."""

    def __init__(self, fleet: Fleet, seed: int, progress: Callable[[str], None] = lambda _: None) -> None:
        self._points: list[tuple[float, Said]] = []
        for rate in RATES:
            progress(f"{fleet.nodes} nodes, a key with {rate:g} requests/s")
            windows = min(MOST_WINDOWS, max(FEWEST_WINDOWS, REQUESTS / rate / fleet.window))
            case = Case((rate / fleet.nodes,) * fleet.nodes, limit=fleet.limit, window=fleet.window, windows=windows)
            outcome = run(case, seed)
            seconds = windows * fleet.window
            said = Said(len(outcome.passed) / seconds, outcome.entries / seconds, outcome.hurried / seconds)
            self._points.append((rate, said))

    def at(self, rate: float) -> Said:
        """Between two simulated rates straight on logarithmic axes; below the first as rare as the requests."""
        rates = [point for point, _ in self._points]
        at = bisect_right(rates, rate)
        if at == 0:
            first, said = self._points[0]
            part = rate / first
            return Said(said.passed * part, said.entries * part, said.hurried * part)
        if at == len(rates):
            return self._points[-1][1]
        (low, one), (high, other) = self._points[at - 1], self._points[at]
        part = log(rate / low) / log(high / low)
        return Said(
            _between(one.passed, other.passed, part),
            _between(one.entries, other.entries, part),
            _between(one.hurried, other.hurried, part),
        )


def _between(one: float, other: float, part: float) -> float:
    if one <= 0 or other <= 0:
        return one + (other - one) * part
    return exp(log(one) + (log(other) - log(one)) * part)


def load(traffic: Traffic, fleet: Fleet, curve: KeyCurve, costs: Costs) -> Load:
    """What Redis bears under this traffic, spread evenly over the nodes: one Redis, or else a Redis Cluster.

    In a Redis Cluster counts are divided into parts, and an exchange calls the script once for each part that it has
    something to say about.
    """
    keys = traffic.expected(lambda part: curve.at(part * traffic.rate).entries)
    hurried = traffic.expected(lambda part: curve.at(part * traffic.rate).hurried)
    exchanged = fleet.nodes * exchanges(keys / fleet.nodes, hurried / fleet.nodes, fleet)
    live = traffic.distinct(traffic.rate * fleet.window)

    def shared(processes: int) -> Load:
        calls = exchanged * _touched(1 if processes == 1 else BUCKETS, keys / exchanged)
        pipelines = exchanged * _touched(processes, keys / exchanged)
        return Load(
            processes=processes,
            calls=calls,
            keys=keys,
            bytes_in=calls * costs.call_bytes_in + keys * costs.key_bytes_in,
            bytes_out=calls * costs.call_bytes_out + keys * costs.key_bytes_out,
            cpu=pipelines * costs.pipeline + calls * costs.call + keys * costs.key + fleet.nodes * costs.beat,
            memory=WINDOWS_KEPT * live * costs.memory_key,
        )

    tried = map(shared, range(1, BUCKETS + 1))
    return next((found for found in tried if found.holds), shared(BUCKETS))


def _touched(parts: int, keys: float) -> float:
    """How many of so many parts have at least one of so many keys, on average."""
    return parts * (1 - (1 - 1 / parts) ** keys) if parts > 1 else 1.0


WINDOWS_KEPT = 2


def exchanges(entries: float, hurried: float, fleet: Fleet) -> float:
    """Exchanges of one node a second: its turns that have something to say, and those between turns.

    What these may cost the node is bounded (lb_redis.policy_pace): the more keys it says, the fewer of them there are.
    """
    turns = 1 / fleet.interval
    spoken = turns * (1 - exp(-entries / turns))
    affordable = max(0.0, BUDGET - spoken * FIXED - entries * EACH) / FIXED
    return spoken + min(hurried, affordable)
