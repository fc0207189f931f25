"""When requests come, what each asks for, and how much work it is.

Each part has random numbers of its own, drawn in the order of the requests, so that every strategy meets the very same
requests at the same moments and the difference between two runs is the strategy's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lb_core.testing.service import Distribution, Draw


class Request(NamedTuple):
    """A request to come: when, in seconds from the begin, and the seconds of work at a backend of usual speed."""

    when: float
    work: float
    client: str
    target: bytes = b"/"
    method: bytes = b"GET"


class Trace(NamedTuple):
    """Requests recorded elsewhere, in order; `work` is negative where it was not recorded and is to be drawn."""

    requests: Sequence[Request]

    @property
    def seconds(self) -> float:
        """From the first to the last."""
        return self.requests[-1].when - self.requests[0].when if self.requests else 0.0

    def work(self, mean: float) -> float:
        """Seconds of work in all; `mean` stands for what was not recorded."""
        return sum(each.work if each.work >= 0 else mean for each in self.requests)

    def stretched(self, factor: float) -> Trace:
        """The same requests with the time between them this many times as long."""
        return Trace([each._replace(when=each.when * factor) for each in self.requests])


def stream(seed: int, what: str) -> Random:
    """Random numbers for one purpose."""
    return Random(f"{seed} {what}")


class Load:
    """What every request of a run has in common: a client of some, and work that is drawn."""

    __slots__ = ("_addresses", "_clients", "_work")

    def __init__(self, service: Distribution, seed: int, addresses: int) -> None:
        self._work: Draw = service.sampler(stream(seed, "service"))
        self._clients = stream(seed, "clients").random
        self._addresses = [f"198.18.{number >> 8}.{number & 255}" for number in range(addresses)]

    def request(self, when: float) -> Request:
        """The next request."""
        addresses = self._addresses
        return Request(when, self._work(), addresses[int(self._clients() * len(addresses))])

    def poisson(self, rate: float, seed: int) -> Iterator[Request]:
        """Open load: so many requests a second on average, whatever becomes of the others."""
        between, when = stream(seed, "arrivals").expovariate, 0.0
        while True:
            when += between(rate)
            yield self.request(when)

    def recorded(self, trace: Trace) -> Iterator[Request]:
        """The requests of a trace."""
        first = trace.requests[0].when if trace.requests else 0.0
        return (
            each._replace(when=each.when - first, work=each.work if each.work >= 0 else self._work())
            for each in trace.requests
        )
