"""The breaker with scope `route`: one circuit for all requests of a route.

Open means no traffic from this route to its pool. Other routes may use the pool, so nobody is ejected: the breaker puts
a gate before the route's pool, which the engine asks about each request. Half open, the gate admits the probes.

Other processes may serve the route too: all open, try and close together (said.py).
"""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, Any

from lb_breaker import said
from lb_breaker.accord import Accord
from lb_breaker.circuit import Circuit, State
from lb_breaker.tally import Tally
from lb_breaker.timers import Timer, later
from lb_breaker.watch import lasts
from lb_core import Event, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._route = route
        self._pool = route.pool
        self._settings = settings
        self._statuses = frozenset(settings.statuses)
        self._later = later
        self._clock = clock
        self._circuit = Circuit(timeout=settings.timeout, passes=settings.passes, probes=settings.probes)
        self._accord = Accord(route.sharing, f"circuit_breaker_of_route/{route.name}", wall=wall)
        self._tally = self._new_tally()
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
            if not self._counts_all:
                self._tally.broken()
                self._watching = False
            if reason:
                self._open(reason)
        elif self._circuit.state is State.HALF_OPEN and exchange in self._probes:
            if lasts(exchange):
                self._forget(exchange)  # it has shown what it had to, and would keep the others out for hours
            self._tried(seconds)

    def _tried(self, seconds: float) -> None:
        """A probe was answered."""
        if seconds > (self._settings.slow_call or inf):
            self._open(f"a probe took {seconds:.1f}s")
        elif self._circuit.pass_probe(self._clock()):
            self._close()
            self._say(said.closed(self._accord.decided(self)))
            self._tell("breaker_closed", f"{self._circuit.passes} probes passed")
        else:
            self._say(said.passed(self._accord.stamp(self)))

    def _open(self, reason: str) -> None:
        circuit, settings = self._circuit, self._settings
        circuit.timeout, circuit.passes, circuit.probes = settings.timeout, settings.passes, settings.probes
        circuit.followed = False
        circuit.open(self._clock(), reason)
        self._shut(circuit.timeout)
        self._say(said.opened(circuit, self._accord.decided(self), self._clock()))
        self._tell("breaker_opened", f"{reason}; tried again in {circuit.timeout:g}s")
        self._route.set_gate(self)

    def _shut(self, seconds: float) -> None:
        """No requests for so long."""
        self._watching = True
        self._clear_probes()
        self._stop_timer()
        self._timer = self._later(seconds, self._try_again)

    def _try_again(self) -> None:
        self._stop_timer()
        circuit = self._circuit
        circuit.try_again(self._clock())
        with self._accord.unheard(circuit):
            self._tell("breaker_half_open", f"{circuit.probes} at a time, closed after {circuit.passes} that succeed")

    def _close(self) -> None:
        self._stop_timer()
        self._tally = self._new_tally()
        self._watching = self._counts_all
        self._clear_probes()
        self._route.set_gate(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # what other processes have decided

    def _receive(self, message: Mapping[str, Any]) -> None:
        circuit, accord = self._circuit, self._accord
        is_open = circuit.state is not State.CLOSED
        match message.get("state"):
            case "open" if accord.learns(self, message, is_open=is_open):
                remaining = said.follow(circuit, message, self._clock())
                self._shut(remaining)
                if not remaining:
                    self._try_again()
                    circuit.passed = int(message.get("passed", 0))
                self._route.set_gate(self)
            case "closed" if accord.learns(self, message, is_open=is_open) and is_open:
                circuit.close(self._clock())
                self._close()
            case "passed" if is_open and said.is_about(message, accord.stamp(self)):
                if circuit.state is State.OPEN:  # the other's timer was a little earlier
                    self._try_again()
                circuit.passed += 1

    def _state(self) -> Iterator[Mapping[str, Any]]:
        """How things stand, for somebody new."""
        stamp = self._accord.stamp(self)
        if self._circuit.state is not State.CLOSED:
            yield self._about(said.opened(self._circuit, stamp, self._clock()))
        elif stamp:
            yield self._about(said.closed(stamp))

    def _say(self, message: Mapping[str, Any]) -> None:
        self._accord.say(self._about(message))

    def _about(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return self._accord.about(self._pool.backends, message)

    def _tell(self, kind: str, message: str) -> None:
        details = {"scope": "route", "reason": self._circuit.reason}
        self._pool.notify(Event(kind, message, route=self._route.name, details=details))

    def _new_tally(self) -> Tally:
        return Tally(self._settings)

    # the gate

    def admits(self, exchange: Exchange) -> bool:
        """Whether this request goes through as a probe: half open, and not too many are under way."""
        if self._circuit.state is not State.HALF_OPEN:
            return False
        self._probes = [each for each in self._probes if not each.ended]
        if len(self._probes) >= self._circuit.probes or not self._place():
            return False
        self._probes.append(exchange)
        return True

    def _place(self) -> bool:
        """Whether all processes together have fewer probes under way than may be."""
        return True

    def _forget(self, exchange: Exchange) -> None:
        """A probe takes no place any more."""
        self._probes.remove(exchange)

    def _clear_probes(self) -> None:
        """No probe takes a place any more."""
        self._probes.clear()

    def retry_after(self) -> float:
        """Seconds until it is tried again."""
        return self._circuit.remaining(self._clock())

    # beside the requests

    def inherit(self, old: object) -> None:
        """Go on with the state of the route before it was rebuilt."""
        if isinstance(old, RouteBreaker):
            self._circuit = old._circuit
            self._circuit.timeout, self._circuit.passes = self._settings.timeout, self._settings.passes
            self._circuit.probes = self._settings.probes
            self._accord.take_over(old._accord, old, self)
            if old._settings == self._settings:
                self._tally = old._tally
            self._watching = old._watching or self._counts_all

    def start(self) -> None:
        """Take up what was inherited: the gate, and the rest of the time."""
        self._accord.enter(self._receive, self._state)
        if self._circuit.state is State.OPEN:
            self._timer = self._later(self._circuit.remaining(self._clock()), self._try_again)
        if self._circuit.state is not State.CLOSED:
            self._route.set_gate(self)

    def close(self) -> None:
        """Let the requests in again."""
        self._closed = True
        self._accord.leave()
        self._stop_timer()
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
