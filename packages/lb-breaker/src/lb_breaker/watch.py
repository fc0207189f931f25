"""What one route's requests meet at the backends of one pool, reported to the guard of that pool."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from lb_breaker.circuit import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_breaker.guard import Guard
    from lb_breaker.settings import BreakerSettings
    from lb_breaker.tally import Tally
    from lb_core import Backend, Exchange

SWITCHED = 101


def lasts(exchange: Exchange) -> bool:
    """Whether an exchange goes on for long after its response head: a tunnel or a stream of events."""
    kind: str = exchange.response_headers.get("content-type", "")
    return exchange.status == SWITCHED or kind.lower().startswith("text/event-stream")


def _nothing() -> None:
    """Nobody asks."""


class Watch:
    """A route's part in the circuits of a pool; `on_settled` hears of every change of them."""

    __slots__ = ("_counts_all", "_on_settled", "_settings", "circuits", "guard", "pool", "tallies")

    def __init__(self, guard: Guard, settings: BreakerSettings, on_settled: Callable[[], None] = _nothing) -> None:
        self.guard = guard
        self.pool = guard.pool
        self.circuits = guard.circuits
        self.tallies = guard.tallies(settings)
        self._settings = settings
        self._counts_all = settings.counts_all
        self._on_settled = on_settled

    def settled(self) -> None:
        """Circuits or candidates have changed."""
        self._on_settled()

    def failed(self, backend: Backend, why: str) -> None:
        """An attempt has failed."""
        guard = self.guard
        circuit = self.circuits.get(backend)
        if circuit is not None:
            if circuit.state is State.HALF_OPEN:
                guard.open(backend, f"a probe failed: {why}", self._settings)
            return
        if not guard.has(self):
            guard.join(self)
        reason = self._tally(backend).failed(guard.clock(), why)
        if reason:
            self._open(backend, reason)

    def answered(self, backend: Backend, exchange: Exchange) -> None:
        """A backend has answered, and that was no failure."""
        if self.circuits and backend in self.circuits:
            self._tried(backend, exchange)
        elif not self._counts_all:
            ended = self.tallies.pop(backend, None)
            if ended is not None:
                ended.broken()
        else:
            tally = self.tallies.get(backend) or self._tally(backend)
            now = exchange.first_byte
            reason = tally.passed(now, now - (exchange.asked or exchange.started))
            if reason:
                self._open(backend, reason)

    def _tried(self, backend: Backend, exchange: Exchange) -> None:
        """A backend whose circuit is not closed has answered."""
        circuit = self.circuits[backend]
        seconds = exchange.backend_seconds
        if circuit.state is State.HALF_OPEN and seconds > (self._settings.slow_call or inf):
            self.guard.open(backend, f"a probe took {seconds:.1f}s", self._settings)
        else:
            self.guard.passed(backend, circuit, self._settings.probes, stays=lasts(exchange))

    def _tally(self, backend: Backend) -> Tally:
        tally = self.tallies.get(backend)
        if tally is None:
            for gone in self.tallies.keys() - set(self.pool.backends):
                del self.tallies[gone]
            tally = self.tallies[backend] = self.guard.new_tally(self._settings, backend)
        return tally

    def _open(self, backend: Backend, reason: str) -> None:
        del self.tallies[backend]
        self.guard.join(self)
        if backend in self.pool.backends:
            self.guard.open(backend, reason, self._settings)
