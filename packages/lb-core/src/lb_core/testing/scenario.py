"""What is simulated: the backends, the load, and what the route does, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import TYPE_CHECKING, Any

from lb_core.known import suggestion
from lb_core.testing.service import Distribution, parse_distribution
from lb_core.units import parse_duration

if TYPE_CHECKING:
    from lb_core.testing.arrivals import Trace
    from lb_core.testing.backends import Fault

MOST_BACKENDS = 10_000
MOST_ADDRESSES = 1 << 16


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated; backends are numbered from 0 and called b0, b1, … ValueError for what cannot be."""

    backends: int = 4
    load: float = 0.7
    """Open load, as a share of what the backends can do together: requests come at random (Poisson)."""
    service: str = "lognormal(50ms, 1.0)"
    """How long a backend works on a request: see `lb_core.testing.service`."""
    requests: int = 20_000
    seed: int = 1
    slots: int = 8
    """Requests a backend works on at once; further ones wait inside it."""
    slow: Mapping[int, float] = field(default_factory=dict)
    """Backends that take longer, and how many times as long."""
    weights: Mapping[int, int] = field(default_factory=dict)
    faults: Mapping[int, Fault] = field(default_factory=dict)
    """Backends that fail, and how."""
    clients: int = 0
    """Closed load instead: so many clients, each of which sends its next request after an answer and a pause."""
    think: str = "exponential(1s)"
    """That pause."""
    addresses: int = 1000
    """Different addresses of clients, for strategies that look at them."""
    trace: Trace | None = None
    """Recorded load instead: when requests came, and what they asked for."""
    max_connections: int = 0
    """Requests the balancer sends to a backend at once, 0 for no limit; beyond that it keeps them in its queue."""
    queue: int = 100
    queue_timeout: str = "5s"
    timeout: str = "0s"
    """How long the balancer waits for a response; 0s for ever."""
    retries: int = 1
    ejection: bool | Mapping[str, Any] = True
    """Passive ejection with its settings, or off."""
    features: Mapping[str, Any] = field(default_factory=dict)
    """Further features: by the name of an installed one with its settings, or any name with a function of the route."""
    warmup: float = 0.05
    """The share of requests, the first to end, that latencies leave out."""

    def __post_init__(self) -> None:
        self._check("backends", 1 <= self.backends <= MOST_BACKENDS, f"a number from 1 to {MOST_BACKENDS}")
        self._check("load", 0 < self.load <= 10, "a share of the capacity above 0 and up to 10, such as 0.7")
        self._check("requests", self.requests >= 1, "1 or more")
        self._check("slots", 1 <= self.slots <= 100_000, "a number from 1 to 100000")
        self._check("clients", self.clients >= 0, "0 or more")
        self._check("addresses", 1 <= self.addresses <= MOST_ADDRESSES, f"a number from 1 to {MOST_ADDRESSES}")
        self._check("max_connections", self.max_connections >= 0, "0 for no limit, or more")
        self._check("queue", self.queue >= 0, "0 or more")
        self._check("retries", 0 <= self.retries <= 10, "a number from 0 to 10")
        self._check("warmup", 0 <= self.warmup < 1, "a share below 1")
        self._check_backends()
        for name in ("service", "think"):
            parse_distribution(getattr(self, name))
        for name in ("timeout", "queue_timeout"):
            parse_duration(getattr(self, name))
        if "ejection" in self.features:
            raise ValueError("ejection is a setting of its own: write ejection={…}, or ejection=False")
        if not self.distribution.mean > 0:
            raise ValueError(f"service is {self.service}: a request takes longer than 0s")
        if self.trace is not None and not self.trace.requests:
            raise ValueError("the trace has no requests")
        if self.trace is not None and self.clients:
            raise ValueError("a trace says when requests come: give no clients beside it")

    def _check(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise ValueError(f"{name} is {getattr(self, name)}: give {wanted}")

    def _check_backends(self) -> None:
        for name in ("slow", "weights", "faults"):
            for number in getattr(self, name):
                if number not in range(self.backends):
                    there = f"there are b0 to b{self.backends - 1}" if self.backends > 1 else "there is b0 only"
                    raise ValueError(f"{name}: there is no backend {number}; {there}")
        for number, factor in self.slow.items():
            if not (isfinite(factor) and factor > 0):
                raise ValueError(f"slow: b{number} takes {factor:g} times as long: give a number above 0, such as 3")
        for number, weight in self.weights.items():
            if not 0 <= weight <= 1000:
                raise ValueError(f"weights: b{number} has {weight}: give a whole number from 0 to 1000")

    @property
    def distribution(self) -> Distribution:
        """How long a backend works on a request."""
        return parse_distribution(self.service)

    @property
    def slots_at_usual_speed(self) -> float:
        """What all backends can work on at once, slow ones counted for as much as they get done; faults left aside."""
        return sum(self.slots / self.slow.get(number, 1.0) for number in range(self.backends))

    @property
    def capacity(self) -> float:
        """Requests a second that all backends can do together."""
        return self.slots_at_usual_speed / self.distribution.mean

    @property
    def offered(self) -> float:
        """The load that is offered, as a share of the capacity; 0.0 where there is no pace."""
        if self.trace is not None:
            seconds = self.trace.seconds
            work = self.trace.work(self.distribution.mean)
            return work / seconds / self.slots_at_usual_speed if seconds else 0.0
        return 0.0 if self.clients else self.load

    @property
    def count(self) -> int:
        """How many requests there are."""
        return len(self.trace.requests) if self.trace is not None else self.requests


def scenario_of(settings: Mapping[str, Any]) -> Scenario:
    """A scenario from keyword arguments; TypeError names the nearest for one that is unknown."""
    known = [each.name for each in fields(Scenario)]
    for name in settings:
        if name not in known:
            raise TypeError(f"simulate has no setting {name!r} ({suggestion(name, known)})")
    return Scenario(**settings)
