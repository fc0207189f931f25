"""For those who write plugins: backends and exchanges without a balancer, a contract every strategy keeps, simulation.

pool(a={"cost": 1}, b={"cost": 5})   backends to choose from
exchange("/users", headers={…})      a request that has just come
StrategyContract                     a class of tests to inherit: say how your strategy is made
simulate("p2c", slow={0: 3})         a load through a strategy, and how long requests took
"""

from __future__ import annotations

from lb_core.testing.backends import Fault
from lb_core.testing.contract import StrategyContract
from lb_core.testing.fakes import exchange, pool
from lb_core.testing.figures import Result
from lb_core.testing.scenario import Scenario
from lb_core.testing.simulation import simulate

__all__ = ["Fault", "Result", "Scenario", "StrategyContract", "exchange", "pool", "simulate"]
