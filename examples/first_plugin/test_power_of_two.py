"""The strategy is tested by hand, by the contract that every strategy keeps, and under a simulated load."""

from lb_core.testing import Fault, StrategyContract, pool, simulate
from lb_power_of_two import PowerOfTwo


class TestContract(StrategyContract):
    weighted = False  # it does not look at weights
    operations = 500  # a pick costs the same for 1,000 backends as for two

    def make(self) -> PowerOfTwo:
        return PowerOfTwo()


def test_prefers_the_less_busy_one() -> None:
    _busy, idle = candidates = pool(busy={"in_flight": 10}, idle={})
    chosen = [PowerOfTwo().select_backend(candidates) for _ in range(1000)]
    # Only when both draws fall on it, one time in four, does the busy one get a request.
    assert 650 < chosen.count(idle) < 850


def test_a_slow_backend_does_not_hold_everybody_up() -> None:
    result = simulate(PowerOfTwo, backends=4, load=0.7, service="lognormal(50ms, 1.0)", slow={0: 3}, seed=1)
    assert result.p99 < 0.6
    assert result.shares["b0"] < 0.2
    best = simulate("least_connections", backends=4, load=0.7, service="lognormal(50ms, 1.0)", slow={0: 3}, seed=1)
    assert result.p99 < 1.5 * best.p99


def test_a_backend_that_takes_no_connections_costs_no_request() -> None:
    assert simulate(PowerOfTwo, faults={0: Fault("refused", start=1, end=5)}).errors == 0
