"""The breaker with scope `route`: one circuit for all requests of a route.

Open means no traffic from this route to its pool. Other routes may use the pool, so nobody is ejected: the breaker puts
a gate before the route's pool, which the engine asks about each request. Half open, the gate admits the probes.
"""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING

from lb_breaker.circuit import Circuit, State
from lb_breaker.guard import Timer, later
from lb_breaker.tally import Tally
from lb_breaker.watch import lasts
from lb_core import Event, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_breaker.settings import BreakerSettings
    from lb_core import AttemptError, Exchange, Route


class RouteBreaker:
    """The feature `circuit_breaker` of one route, and its gate while the circuit is not closed."""

    word = "breaker_open"
    strict = True

    def __init__(
        self,
        route: Route,
        settings: BreakerSettings,
        *,
        later: Callable[[float, Callable[[], None]], Timer] = later,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._route = route
        self._pool = route.pool
        self._settings = settings
        self._statuses = frozenset(settings.statuses)
        self._later = later
        self._clock = clock
        self._circuit = Circuit(timeout=settings.timeout, passes=settings.passes)
        self._tally = Tally(settings)
        self._counts_all = settings.counts_all
        self._watching = self._counts_all
        self._probes: list[Exchange] = []
        self._timer: Timer | None = None
        self._closed = False

    @hookimpl
    def on_backend_error(self, exchange: Exchange, error: AttemptError) -> None:
        """Count an attempt that failed."""
        if not error.reused:
            self._failed(exchange, str(error) or error.flag)

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        """Count a response that is a failure; others only while something is wrong."""
        if exchange.status in self._statuses:
            self._failed(exchange, f"status {exchange.status}")
        elif self._watching:
            self._answered(exchange)

    def _failed(self, exchange: Exchange, why: str) -> None:
        if exchange.pool is not self._pool or self._closed:
            return
        if self._circuit.state is State.CLOSED:
            self._watching = True
            reason = self._tally.failed(self._clock(), why)
            if reason:
                self._open(reason)
        elif self._circuit.state is State.HALF_OPEN and exchange in self._probes:
            self._open(f"a probe failed: {why}")

    def _answered(self, exchange: Exchange) -> None:
        if exchange.pool is not self._pool or self._closed:
            return
        now = exchange.first_byte
        seconds = now - (exchange.asked or exchange.started)
        if self._circuit.state is State.CLOSED:
            reason = self._tally.passed(now, seconds)
            self._watching = self._counts_all
            if reason:
                self._open(reason)
        elif self._circuit.state is State.HALF_OPEN and exchange in self._probes:
            if lasts(exchange):
                self._probes.remove(exchange)  # it has shown what it had to, and would keep the others out for hours
            self._tried(seconds)

    def _tried(self, seconds: float) -> None:
        """A probe was answered."""
        if seconds > (self._settings.slow_call or inf):
            self._open(f"a probe took {seconds:.1f}s")
        elif self._circuit.pass_probe(self._clock()):
            self._close()

    def _open(self, reason: str) -> None:
        self._circuit.open(self._clock(), reason)
        self._watching = True
        self._probes.clear()
        self._timer = self._later(self._settings.timeout, self._try_again)
        self._tell("breaker_opened", f"{reason}; tried again in {self._settings.timeout:g}s")
        self._route.set_gate(self)

    def _try_again(self) -> None:
        self._timer = None
        self._circuit.try_again(self._clock())
        settings = self._settings
        self._tell("breaker_half_open", f"{settings.probes} at a time, closed after {settings.passes} that succeed")

    def _close(self) -> None:
        self._tally = Tally(self._settings)
        self._watching = self._counts_all
        self._probes.clear()
        self._tell("breaker_closed", f"{self._settings.passes} probes passed")
        self._route.set_gate(None)

    def _tell(self, kind: str, message: str) -> None:
        details = {"scope": "route", "reason": self._circuit.reason}
        self._pool.notify(Event(kind, message, route=self._route.name, details=details))

    # the gate

    def admits(self, exchange: Exchange) -> bool:
        """Whether this request goes through as a probe: half open, and not too many are under way."""
        if self._circuit.state is not State.HALF_OPEN:
            return False
        self._probes = [each for each in self._probes if not each.ended]
        if len(self._probes) >= self._settings.probes:
            return False
        self._probes.append(exchange)
        return True

    def retry_after(self) -> float:
        """Seconds until it is tried again."""
        return self._circuit.remaining(self._clock())

    # beside the requests

    def inherit(self, old: object) -> None:
        """Go on with the state of the route before it was rebuilt."""
        if isinstance(old, RouteBreaker):
            self._circuit = old._circuit
            self._circuit.timeout, self._circuit.passes = self._settings.timeout, self._settings.passes
            if old._settings == self._settings:
                self._tally = old._tally
            self._watching = old._watching or self._counts_all

    def start(self) -> None:
        """Take up what was inherited: the gate, and the rest of the time."""
        if self._circuit.state is State.OPEN:
            self._timer = self._later(self._circuit.remaining(self._clock()), self._try_again)
        if self._circuit.state is not State.CLOSED:
            self._route.set_gate(self)

    def close(self) -> None:
        """Let the requests in again."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._route.gate is self:
            self._route.set_gate(None)

    def states(self) -> dict[str, int]:
        """The state of the circuit under an empty name, since it is no backend's: 0 closed, 1 half open, 2 open."""
        return {"": int(self._circuit.state)}

    @property
    def opened(self) -> int:
        """How often the circuit has opened."""
        return self._circuit.opened

    def describe(self) -> str:
        """The state of the circuit."""
        said = self._circuit.describe(self._clock())
        failing = self._circuit.state is State.CLOSED and self._tally.row
        return f"{said}, {self._tally.row} of {self._settings.in_a_row} failures" if failing else said
