"""Circuit breaker for lb: a backend, or a route, that fails is left alone for a while and then tried with few requests.

`circuit` and `tally` are the pure part, with the clock passed in; `backends` and `whole_route` are the two scopes on
the hooks.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lb_breaker.backends import BackendBreaker
from lb_breaker.circuit import Circuit, State
from lb_breaker.guard import Guards
from lb_breaker.route_of_workers import RouteBreakerOfWorkers
from lb_breaker.settings import BreakerSettings, replaces
from lb_breaker.tally import Tally
from lb_breaker.whole_route import RouteBreaker
from lb_core import Feature, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lb_core import Route

__all__ = ["BackendBreaker", "BreakerSettings", "Circuit", "RouteBreaker", "State", "Tally"]


@hookimpl
def register_features() -> Iterator[Feature]:
    """Offer `circuit_breaker`."""
    guards = Guards()

    def build(route: Route, settings: BreakerSettings) -> BackendBreaker | RouteBreaker:
        if settings.scope == "route":
            return (RouteBreaker if route.sharing.memory is None else RouteBreakerOfWorkers)(route, settings)
        return BackendBreaker(route, settings, partial(guards.of, sharing=route.sharing))

    yield Feature("circuit_breaker", build, BreakerSettings, replaces=replaces)
