"""The circuits of one pool's backends, shared by the routes that use the pool.

Routes (the rules of one host, mostly) often share a pool, and a backend is either left alone or not. So what is counted
and what is open stands here once for each pool; a route's part of it is to report what its requests met.

    open        the backend is ejected, not as a last resort; one timer runs
    half open   it is back, restricted to the probes in flight: the engine holds everybody to that. Requests of routes
                without a breaker are not probes; where there are no others, it is looked at them once in `timeout`
    closed      the restriction is lifted

While nobody is left but backends that are open or half open, every route that takes part is told (`settled`): it puts a
gate before its pool, so that another route may serve what the probes leave.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

from lb_breaker.circuit import Circuit, State
from lb_breaker.tally import Tally
from lb_core import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_breaker.settings import BreakerSettings
    from lb_core import Backend, Pool


HALF_OPEN = "breaker half open"
"""How the reason begins that a backend states while it is tried."""


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> object: ...


def later(seconds: float, call: Callable[[], None]) -> Timer:
    """Call it on the running loop."""
    return asyncio.get_running_loop().call_later(seconds, call)


class Member(Protocol):
    """A route that takes part."""

    def settled(self) -> None:
        """Circuits or candidates have changed."""


class Tallies(dict["Backend", Tally]):
    """The counts of closed circuits under one set of settings; where successes need no counting, of those that fail."""

    __slots__ = ("__weakref__",)


class Guard:
    """Opens, tries and closes the circuits of one pool; `circuits` holds those that are not closed."""

    def __init__(
        self,
        pool: Pool,
        *,
        later: Callable[[float, Callable[[], None]], Timer] = later,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool = pool
        self.clock = clock
        self.circuits: dict[Backend, Circuit] = {}
        self.opened = 0
        self._later = later
        self._timers: dict[Backend, Timer] = {}
        self._members: dict[Member, None] = {}
        self._tallies: WeakValueDictionary[BreakerSettings, Tallies] = WeakValueDictionary()

    def tallies(self, settings: BreakerSettings) -> Tallies:
        """What is counted under these settings, by whichever route."""
        found = self._tallies.get(settings)
        if found is None:
            found = self._tallies[settings] = Tallies()
        return found

    def join(self, member: Member) -> None:
        """A route takes part from now on; it is told what changes."""
        if not self._members:
            self.pool.on_change.append(self._settle)
        self._members[member] = None

    def leave(self, member: Member) -> None:
        """A route takes part no longer; the last one closes every circuit."""
        if member not in self._members:
            return
        del self._members[member]
        if not self._members:
            self.pool.on_change.remove(self._settle)
            for backend in list(self.circuits):
                self._close(backend)
                self.pool.restore(backend, "its circuit breaker is gone", by=self)

    def has(self, member: Member) -> bool:
        """Whether a route takes part already."""
        return member in self._members

    def open(self, backend: Backend, reason: str, settings: BreakerSettings) -> None:
        """Leave a backend alone for the settings' timeout."""
        circuit = self.circuits.get(backend)
        if circuit is None:
            circuit = self.circuits[backend] = Circuit(timeout=settings.timeout, passes=settings.passes)
        circuit.open(self.clock(), reason)
        self.opened += 1
        self._set_timer(backend, lambda: self._try_again(backend, settings.probes))
        self.pool.eject(backend, f"breaker open: {reason}", last_resort=False, by=self)
        self.pool.restrict(backend, None)
        self._tell("breaker_opened", backend, f"{reason}; tried again in {settings.timeout:g}s")
        self._settle()

    def passed(self, backend: Backend, circuit: Circuit, probes: int, *, stays: bool) -> None:
        """A request succeeded at a backend whose circuit is not closed; `stays`: it is one that lasts."""
        if circuit.state is not State.HALF_OPEN:
            return
        if circuit.pass_probe(self.clock()):
            self._close(backend)
            self._tell("breaker_closed", backend, f"{circuit.passes} probes passed")
            self._settle()
            return
        limit = min(backend.restricted, backend.in_flight - 1 + probes) + stays
        if limit != backend.restricted:
            self.pool.restrict(backend, limit)

    def retry_after(self) -> float:
        """Seconds until the next backend is tried again."""
        now = self.clock()
        return min((circuit.remaining(now) for circuit in self.circuits.values()), default=0.0)

    @property
    def exhausted(self) -> bool:
        """Whether nobody is left but backends whose circuit is open or half open."""
        return bool(self.circuits) and all(backend in self.circuits for backend in self.pool.candidates)

    def _try_again(self, backend: Backend, probes: int) -> None:
        if self._timers.pop(backend, None) is None or self._gone(backend):
            return
        circuit = self.circuits[backend]
        circuit.try_again(self.clock())
        self.pool.restrict(backend, backend.in_flight + probes)  # what has lasted until now is no probe
        self.pool.restore(backend, f"{HALF_OPEN}, {probes} at a time", by=self)
        self._tell("breaker_half_open", backend, f"{probes} at a time, closed after {circuit.passes} that succeed")
        self._wait_for_others(backend)
        self._settle()

    def _wait_for_others(self, backend: Backend) -> None:
        """Look again after a while: routes without a breaker may send it what this one's routes do not."""
        requests, failures = backend.requests, backend.failures
        self._set_timer(backend, lambda: self._look_again(backend, requests, failures))

    def _look_again(self, backend: Backend, requests: int, failures: int) -> None:
        """Nobody has decided while it was half open: it is well if others were served, and nothing failed."""
        if self._timers.pop(backend, None) is None or self._gone(backend):
            return
        served, failed = backend.requests - requests, backend.failures - failures
        if failed or served < self.circuits[backend].passes:
            self._wait_for_others(backend)
            return
        self._close(backend)
        self._tell("breaker_closed", backend, f"{served} answered for other routes, none failed")
        self._settle()

    def _set_timer(self, backend: Backend, call: Callable[[], None]) -> None:
        """The one timer of a circuit, for its `timeout`."""
        before = self._timers.pop(backend, None)
        if before is not None:
            before.cancel()
        self._timers[backend] = self._later(self.circuits[backend].timeout, call)

    def _close(self, backend: Backend) -> None:
        del self.circuits[backend]
        timer = self._timers.pop(backend, None)
        if timer is not None:
            timer.cancel()
        if backend.reason.startswith(HALF_OPEN):
            backend.reason = ""
        self.pool.restrict(backend, None)

    def _gone(self, backend: Backend) -> bool:
        """Whether a backend has left the pool; it is forgotten then."""
        if backend in self.pool.backends:
            return False
        self.circuits.pop(backend, None)
        timer = self._timers.pop(backend, None)
        if timer is not None:
            timer.cancel()
        return True

    def _settle(self) -> None:
        for backend in list(self.circuits):
            self._gone(backend)
        for member in tuple(self._members):
            member.settled()

    def _tell(self, kind: str, backend: Backend, message: str) -> None:
        circuit = self.circuits.get(backend)
        details = {"scope": "backend", "reason": circuit.reason if circuit is not None else ""}
        self.pool.notify(Event(kind, message, route=self.pool.name, backend=backend.name, details=details))


class Guards:
    """The guards of all pools, one each; one that nobody refers to any more is forgotten."""

    def __init__(self) -> None:
        self._guards: WeakValueDictionary[Pool, Guard] = WeakValueDictionary()

    def of(self, pool: Pool) -> Guard:
        """The guard of a pool."""
        guard = self._guards.get(pool)
        if guard is None:
            guard = self._guards[pool] = Guard(pool)
        return guard
