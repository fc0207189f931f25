"""The breaker with scope `backend`: each backend has a circuit, and one that is open takes no requests."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from lb_breaker.circuit import State
from lb_breaker.tally import Tally
from lb_core import hookimpl

if TYPE_CHECKING:
    from lb_breaker.guard import Guard
    from lb_breaker.settings import BreakerSettings
    from lb_core import AttemptError, Backend, Exchange, Route


class BackendBreaker:
    """The feature `circuit_breaker` of one route, and its gate while nobody is left."""

    word = "breaker_open"
    strict = False

    def __init__(self, route: Route, settings: BreakerSettings, guard: Guard) -> None:
        self._route = route
        self._pool = route.pool
        self._settings = settings
        self._guard = guard
        self._circuits = guard.circuits
        self._tallies = guard.tallies(settings)
        self._statuses = frozenset(settings.statuses)
        self._counts_all = settings.counts_all
        self._watched: object = True if settings.counts_all else self._tallies
        self._closed = False

    @hookimpl
    def on_backend_error(self, exchange: Exchange, error: AttemptError) -> None:
        """Count an attempt that failed."""
        if not error.reused:
            self._failed(exchange, str(error) or error.flag)

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        """Count a response that is a failure; others only where somebody is watched."""
        if exchange.status in self._statuses:
            self._failed(exchange, f"status {exchange.status}")
        elif self._watched or self._circuits:
            self._answered(exchange)

    def _failed(self, exchange: Exchange, why: str) -> None:
        backend = exchange.backend
        if backend is None or exchange.pool is not self._pool or self._closed:
            return
        guard = self._guard
        circuit = self._circuits.get(backend)
        if circuit is not None:
            if circuit.state is State.HALF_OPEN:
                guard.open(backend, f"a probe failed: {why}", self._settings)
            return
        if not guard.has(self):
            guard.join(self)
        reason = self._tally(backend).failed(guard.clock(), why)
        if reason:
            self._open(backend, reason)

    def _answered(self, exchange: Exchange) -> None:
        backend = exchange.backend
        if backend is None or exchange.pool is not self._pool or self._closed:
            return
        if self._circuits and backend in self._circuits:
            self._tried(backend, exchange.backend_seconds)
        elif not self._counts_all:
            self._tallies.pop(backend, None)
        else:
            tally = self._tallies.get(backend) or self._tally(backend)
            now = exchange.first_byte
            reason = tally.passed(now, now - (exchange.asked or exchange.started))
            if reason:
                self._open(backend, reason)

    def _tried(self, backend: Backend, seconds: float) -> None:
        """A backend whose circuit is not closed has answered."""
        circuit = self._circuits[backend]
        if circuit.state is State.HALF_OPEN and seconds > (self._settings.slow_call or inf):
            self._guard.open(backend, f"a probe took {seconds:.1f}s", self._settings)
        else:
            self._guard.passed(backend, circuit)

    def _tally(self, backend: Backend) -> Tally:
        tally = self._tallies.get(backend)
        if tally is None:
            for gone in self._tallies.keys() - set(self._pool.backends):
                del self._tallies[gone]
            tally = self._tallies[backend] = Tally(self._settings)
        return tally

    def _open(self, backend: Backend, reason: str) -> None:
        del self._tallies[backend]
        self._guard.join(self)
        if backend in self._pool.backends:
            self._guard.open(backend, reason, self._settings)

    # the gate

    def settled(self) -> None:
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
        """Take part in what the route's pool already knows."""
        if isinstance(old, BackendBreaker) and old._guard is self._guard and self._guard.has(old):
            self._guard.join(self)

    def start(self) -> None:
        """Look at how things stand."""
        if self._guard.circuits:
            self._guard.join(self)
            self.settled()

    def close(self) -> None:
        """Give back what is ejected or restricted, unless other routes use the pool."""
        self._closed = True
        self._guard.leave(self)
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
        lines = [f"{each.name}: {circuit.describe(now)}" for each, circuit in self._circuits.items()]
        failing = [(each, tally.row) for each, tally in self._tallies.items() if tally.row]
        lines += [f"{each.name}: closed, {row} of {self._settings.in_a_row} failures" for each, row in failing]
        return lines or ["every circuit is closed"]
