"""The breaker with scope `backend`: each backend has a circuit, and one that is open takes no requests.

That holds for the backends of every pool that serves the route's requests: a canary's, and those of the route that
stands in, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_breaker.watch import Watch
from lb_core import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_breaker.guard import Guard
    from lb_breaker.settings import BreakerSettings
    from lb_core import AttemptError, Exchange, Pool, Route


class BackendBreaker:
    """The feature `circuit_breaker` of one route, and its gate while nobody is left in the route's own pool."""

    word = "breaker_open"
    strict = False

    def __init__(self, route: Route, settings: BreakerSettings, guard_of: Callable[[Pool], Guard]) -> None:
        self._route = route
        self._pool = route.pool
        self._settings = settings
        self._guard_of = guard_of
        self._own = Watch(guard_of(route.pool), settings, self._settled)
        self._guard = self._own.guard
        self._circuits = self._guard.circuits
        self._elsewhere: dict[Pool, Watch] = {}
        self._followed: dict[Pool, Watch] = {}
        self._statuses = frozenset(settings.statuses)
        self._watched: object = True if settings.counts_all else self._own.tallies
        self._closed = False

    @hookimpl
    def on_backend_error(self, exchange: Exchange, error: AttemptError) -> None:
        """Count an attempt that failed."""
        if not error.reused and exchange.backend is not None and not self._closed:
            self._watch(exchange.pool).failed(exchange.backend, str(error) or error.flag)

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        """Count a response that is a failure; others only where somebody is watched."""
        if exchange.status in self._statuses:
            if exchange.backend is not None and not self._closed:
                self._watch(exchange.pool).failed(exchange.backend, f"status {exchange.status}")
        elif (self._watched or self._circuits or self._elsewhere) and exchange.backend is not None and not self._closed:
            self._watch(exchange.pool).answered(exchange.backend, exchange)

    def _watch(self, pool: Pool) -> Watch:
        if pool is self._pool:
            return self._own
        watch = self._elsewhere.get(pool)
        if watch is None:
            watch = self._elsewhere[pool] = self._followed.get(pool) or self._new_watch(pool)
        return watch

    def _new_watch(self, pool: Pool) -> Watch:
        return Watch(self._guard_of(pool), self._settings, self._look_elsewhere)

    def _follow(self) -> None:
        """Hear what other processes find out about the pools that may serve this route's requests."""
        self._guard.join(self._own)
        for pool in reach(self._route):
            if pool is not self._pool and pool not in self._followed:
                watch = self._followed[pool] = self._elsewhere.get(pool) or self._new_watch(pool)
                watch.guard.join(watch)

    def _look_elsewhere(self) -> None:
        """Where a circuit is not closed, this route's requests are looked at."""
        for pool, watch in self._followed.items():
            if watch.circuits:
                self._elsewhere.setdefault(pool, watch)

    # the gate

    def _settled(self) -> None:
        """Put a gate before the route's pool while nobody is left, and take it away again."""
        if self._guard.exhausted:
            self._route.set_gate(self)
        elif self._route.gate is self:
            self._route.set_gate(None)

    def admits(self, exchange: Exchange) -> bool:
        """Whether a probe may go out: the pool holds them to their number."""
        del exchange
        return self._pool.with_room(self._pool.candidates) is not None

    def retry_after(self) -> float:
        """Seconds until the next backend is tried again."""
        return self._guard.retry_after()

    # beside the requests

    def inherit(self, old: object) -> None:
        """Take part in what is known already of the route's pool, and of those it still uses."""
        if not isinstance(old, BackendBreaker):
            return
        reached = reach(self._route)
        for pool, before in {old._pool: old._own, **old._followed, **old._elsewhere}.items():
            if pool in reached and before.guard.has(before):
                watch = self._own if pool is self._pool else self._new_watch(pool)
                if watch.guard is before.guard:
                    watch.guard.join(watch)
                    if watch is not self._own:
                        (self._elsewhere if watch.circuits or watch.tallies else self._followed)[pool] = watch

    def start(self) -> None:
        """Look at how things stand, and hear how they change."""
        self._follow()
        self._look_elsewhere()
        if self._guard.circuits:
            self._settled()

    def close(self) -> None:
        """Give back what is ejected or restricted, unless other routes use the pool."""
        self._closed = True
        for watch in (self._own, *self._followed.values(), *self._elsewhere.values()):
            watch.guard.leave(watch)
        self._elsewhere.clear()
        self._followed.clear()
        if self._route.gate is self:
            self._route.set_gate(None)

    def states(self) -> dict[str, int]:
        """The state of each backend's circuit, by its name: 0 closed, 1 half open, 2 open."""
        circuits = self._circuits
        return {each.name: int(circuits[each].state if each in circuits else 0) for each in self._pool.backends}

    @property
    def opened(self) -> int:
        """How often a circuit of the pool has opened."""
        return self._guard.opened

    def describe(self) -> list[str]:
        """A line for each backend whose circuit is not closed, or that is failing."""
        now = self._guard.clock()
        lines = []
        for watch in (self._own, *self._elsewhere.values()):
            failing = [(each, tally.row) for each, tally in watch.tallies.items() if tally.row]
            said = [(each, circuit.describe(now)) for each, circuit in watch.circuits.items()]
            said += [(each, f"closed, {row} of {self._settings.in_a_row} failures") for each, row in failing]
            lines += [f"{each.name if watch is self._own else each.id}: {what}" for each, what in said]
        return lines or ["every circuit is closed"]


def reach(route: Route) -> set[Pool]:
    """The pools whose backends may serve a route's requests: its own, its features', those of whoever stands in."""
    found: set[Pool] = set()
    left, seen = [route], {route.name}
    while left:
        each = left.pop()
        found |= {each.pool, *each.pools.values()} if each is route else {each.pool}
        left += [other for other in each.routes.values() if other.name not in seen]
        seen |= {other.name for other in each.routes.values()}
    return found
