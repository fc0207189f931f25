"""The simulator against queueing theory, where theory has exact answers."""

from __future__ import annotations

from math import exp, factorial
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pytest

from lb_core.hooks import hookimpl
from lb_core.testing import Result, simulate

if TYPE_CHECKING:
    from lb_core.backend import Backend

pytestmark = pytest.mark.usefixtures("untraced")
MEAN = 0.05
"""Seconds of service, in all of these."""
REQUESTS = 60_000


class First:
    """The first backend; theory speaks of one queue."""

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        return candidates[0]


def one_queue(**settings: Any) -> Result:
    return simulate(First(), **{"backends": 1, "ejection": False, "requests": REQUESTS, **settings})


def wait(result: Result) -> float:
    return result.mean - MEAN


def erlang_c(servers: int, offered: float) -> float:
    """The probability that a request has to wait, by Erlang's second formula."""
    busy = offered**servers / factorial(servers) * servers / (servers - offered)
    return busy / (sum(offered**k / factorial(k) for k in range(servers)) + busy)


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_m_m_1_mean_wait(load: float) -> None:
    result = one_queue(slots=1, load=load, service="exponential(50ms)")
    assert wait(result) == pytest.approx(MEAN * load / (1 - load), rel=0.04)


def test_m_m_1_quantiles() -> None:
    """The time in the system is exponential too, with the mean of the system."""
    result = one_queue(slots=1, load=0.5, service="exponential(50ms)")
    mean = MEAN / 0.5
    assert result.mean == pytest.approx(mean, rel=0.03)
    for share in (0.5, 0.95, 0.99):
        assert 1 - exp(-result.quantile(share) / mean) == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize(("servers", "load"), [(2, 0.7), (4, 0.8)])
def test_m_m_c_mean_wait(servers: int, load: float) -> None:
    results = [one_queue(slots=servers, load=load, service="exponential(50ms)", seed=seed) for seed in (1, 2, 3)]
    expected = erlang_c(servers, servers * load) * MEAN / servers / (1 - load)
    assert fmean(map(wait, results)) == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize(
    ("service", "squared_variation"),
    [("constant(50ms)", 0.0), ("uniform(0ms, 100ms)", 1 / 3), ("lognormal(50ms, 0.5)", exp(0.25) - 1)],
)
def test_m_g_1_mean_wait(service: str, squared_variation: float) -> None:
    """Pollaczek and Khinchine: the wait grows with the variance of the service time."""
    load = 0.6
    result = one_queue(slots=1, load=load, service=service)
    expected = MEAN * load / (1 - load) * (1 + squared_variation) / 2
    assert wait(result) == pytest.approx(expected, rel=0.04)


def test_throughput_of_clients_that_wait_for_answers() -> None:
    """The machine repairman: mean value analysis of one queue and a pause, exact for exponential times."""
    clients, pause = 12, 0.4
    waiting, rate = 0.0, 0.0
    for count in range(1, clients + 1):
        seconds = MEAN * (1 + waiting)
        rate = count / (pause + seconds)
        waiting = rate * seconds
    result = one_queue(slots=1, service="exponential(50ms)", clients=clients, think="exponential(400ms)")
    assert result.throughput == pytest.approx(rate, rel=0.02)
    assert result.mean == pytest.approx(clients / rate - pause, rel=0.03)


def test_a_queue_in_the_balancer_waits_as_long_as_one_in_the_backend() -> None:
    """With as many connections as slots the queue moves from the backend to the balancer, and the wait stays."""
    load = {"slots": 2, "load": 0.7, "service": "exponential(50ms)", "requests": 20_000}
    inside = one_queue(**load)
    outside = one_queue(**load, max_connections=2, queue=10_000, queue_timeout="1h")
    assert outside.errors == 0
    assert outside.latencies == pytest.approx(inside.latencies)


def test_requests_beyond_the_queue_are_lost_as_erlang_b_says() -> None:
    """No queue at all: the share that finds every slot taken."""
    servers, load = 4, 0.7
    offered = servers * load
    lost = offered**servers / factorial(servers) / sum(offered**k / factorial(k) for k in range(servers + 1))
    result = one_queue(slots=servers, load=load, service="exponential(50ms)", max_connections=servers, queue=0)
    assert result.errors / result.requests == pytest.approx(lost, rel=0.03)
