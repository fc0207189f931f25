"""The circuits of one pool's backends, shared by the routes that use the pool.

Routes (the rules of one host, mostly) often share a pool, and a backend is either left alone or not. So what is counted
and what is open stands here once for each pool; a route's part of it is to report what its requests met.

    open        the backend is ejected, not as a last resort; one timer runs
    half open   it is back, restricted to the probes in flight: the engine holds everybody to that. Requests of routes
                without a breaker are not probes; where there are no others, it is looked at them once in `timeout`
    closed      the restriction is lifted

While nobody is left but backends that are open or half open, every route that takes part is told (`settled`): it puts a
gate before its pool, so that another route may serve what the probes leave.

Other processes have the same pool and a guard of their own. Each tells the others what it has decided (said.py) and
follows what they have: all open, try and close at the same time, by timers of their own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from lb_breaker import said
from lb_breaker.accord import Accord
from lb_breaker.circuit import Circuit, State
from lb_breaker.counts import Counts, News, PooledTally, key_of
from lb_breaker.tally import Tally
from lb_breaker.timers import Timer, later
from lb_core import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lb_breaker.settings import BreakerSettings
    from lb_core import Backend, Pool
    from lb_core.sharing import Sharing


HALF_OPEN = "breaker half open"
"""How the reason begins that a backend states while it is tried."""


class Member(Protocol):
    """A route that takes part."""

    def settled(self) -> None:
        """Circuits or candidates have changed."""


class Tallies(dict["Backend", Tally]):
    """The counts of closed circuits under one set of settings; where successes need no counting, of those that fail."""

    __slots__ = ("__weakref__",)


class Guard:
    """Opens, tries and closes the circuits of one pool; `circuits` holds those that are not closed.

    `sharing` leads to the other processes; `wall` is the clock that all of them share, but for its `offset`.
    """

    def __init__(
        self,
        pool: Pool,
        sharing: Sharing | None = None,
        *,
        later: Callable[[float, Callable[[], None]], Timer] = later,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.pool = pool
        self.clock = clock
        self.circuits: dict[Backend, Circuit] = {}
        self.opened = 0
        self._later = later
        self._accord = Accord(sharing, f"circuit_breaker/{pool.name}", wall=wall)
        self._counts: Counts | None = None
        if sharing is not None and sharing.memory is not None:
            topic = f"circuit_breaker_counts/{pool.name}"
            self._counts = Counts(sharing, topic, self._count, later=later, clock=clock)
        self._timers: dict[Backend, Timer] = {}
        self._members: dict[Member, None] = {}
        self._tallies: WeakValueDictionary[BreakerSettings, Tallies] = WeakValueDictionary()

    def tallies(self, settings: BreakerSettings) -> Tallies:
        """What is counted under these settings, by whichever route."""
        found = self._tallies.get(settings)
        if found is None:
            found = self._tallies[settings] = Tallies()
        return found

    def new_tally(self, settings: BreakerSettings, backend: Backend) -> Tally:
        """What counts one backend, in all workers where there are several."""
        return Tally(settings) if self._counts is None else PooledTally(settings, self._counts, backend.name)

    def _count(self, key: str, name: str, news: News) -> None:
        """Add what another worker has counted, where somebody here counts too."""
        backend = self._named(name)
        for settings, tallies in self._tallies.items():
            if backend is not None and backend not in self.circuits and key_of(settings) == key:
                tally = tallies.get(backend)
                if news[0] and not news[1] and not settings.counts_all:
                    tallies.pop(backend, None)
                elif tally is None:
                    tally = tallies[backend] = self.new_tally(settings, backend)
                if isinstance(tally, PooledTally):
                    tally.add(self.clock(), news)

    def _named(self, name: object) -> Backend | None:
        return next((each for each in self.pool.backends if each.name == name), None)

    # the routes that take part

    def join(self, member: Member) -> None:
        """A route takes part from now on; it is told what changes."""
        if not self._members:
            self.pool.on_change.append(self._settle)
            self._accord.enter(self._receive, self._state)
            if self._counts is not None:
                self._counts.enter()
        self._members[member] = None

    def leave(self, member: Member) -> None:
        """A route takes part no longer; the last one closes every circuit."""
        if member not in self._members:
            return
        del self._members[member]
        if not self._members:
            self.pool.on_change.remove(self._settle)
            self._accord.leave()
            if self._counts is not None:
                self._counts.leave()
            for backend in list(self.circuits):
                self._close(backend)
                self.pool.restore(backend, "its circuit breaker is gone", by=self)

    def has(self, member: Member) -> bool:
        """Whether a route takes part already."""
        return member in self._members

    # what this process decides

    def open(self, backend: Backend, reason: str, settings: BreakerSettings) -> None:
        """Leave a backend alone for the settings' timeout."""
        circuit = self._circuit(backend)
        circuit.timeout, circuit.passes, circuit.probes = settings.timeout, settings.passes, settings.probes
        circuit.followed = False
        circuit.open(self.clock(), reason)
        stamp = self._accord.decided(backend)
        self._leave_alone(backend, circuit, settings.timeout)
        self._say(backend, said.opened(circuit, stamp, self.clock()))
        self._tell("breaker_opened", backend, f"{reason}; tried again in {settings.timeout:g}s")
        self._settle()

    def passed(self, backend: Backend, circuit: Circuit, probes: int, *, stays: bool) -> None:
        """A request succeeded at a backend whose circuit is not closed; `stays`: it is one that lasts."""
        if circuit.state is not State.HALF_OPEN:
            return
        if circuit.pass_probe(self.clock()):
            self._decide_closed(backend, f"{circuit.passes} probes passed")
            return
        self._say(backend, said.passed(self._accord.stamp(backend)))
        limit = min(backend.restricted, backend.in_flight - 1 + probes) + stays
        if limit != backend.restricted:
            self.pool.restrict(backend, limit, lasting=limit - probes)

    def retry_after(self) -> float:
        """Seconds until the next backend is tried again."""
        now = self.clock()
        return min((circuit.remaining(now) for circuit in self.circuits.values()), default=0.0)

    @property
    def exhausted(self) -> bool:
        """Whether nobody is left but backends whose circuit is open or half open."""
        return bool(self.circuits) and all(backend in self.circuits for backend in self.pool.candidates)

    def _decide_closed(self, backend: Backend, why: str) -> None:
        self._close(backend)
        self._say(backend, said.closed(self._accord.decided(backend)))
        self._tell("breaker_closed", backend, why)
        self._settle()

    def _say(self, backend: Backend, message: Mapping[str, Any]) -> None:
        self._accord.say(self._about(backend, message))

    def _about(self, backend: Backend, message: Mapping[str, Any]) -> dict[str, Any]:
        return self._accord.about((backend,), {"backend": backend.name, **message})

    # what other processes have decided

    def _receive(self, message: Mapping[str, Any]) -> None:
        backend = self._named(message.get("backend"))
        if backend is None:
            return
        accord, is_open = self._accord, backend in self.circuits
        match message.get("state"):
            case "open" if accord.learns(backend, message, is_open=is_open):
                self._follow_open(backend, message)
            case "closed" if accord.learns(backend, message, is_open=is_open):
                self._follow_closed(backend)
            case "passed" if is_open and said.is_about(message, accord.stamp(backend)):
                circuit = self.circuits[backend]
                if circuit.state is State.OPEN:  # the other's timer was a little earlier
                    self._try_again(backend)
                circuit.passed += 1

    def _follow_open(self, backend: Backend, message: Mapping[str, Any]) -> None:
        circuit = self._circuit(backend)
        remaining = said.follow(circuit, message, self.clock())
        for tallies in self._tallies.values():
            tallies.pop(backend, None)
        self._leave_alone(backend, circuit, remaining)
        if not remaining:
            self._try_again(backend)
            circuit.passed = int(message.get("passed", 0))
        self._settle()

    def _follow_closed(self, backend: Backend) -> None:
        if backend in self.circuits:
            self._close(backend)
            self.pool.restore(backend, "its circuit is closed", by=self)
            self._settle()

    def _state(self) -> Iterator[dict[str, Any]]:
        """How things stand, for somebody new."""
        for backend in self.pool.backends:
            stamp, circuit = self._accord.stamp(backend), self.circuits.get(backend)
            if circuit is not None:
                yield self._about(backend, said.opened(circuit, stamp, self.clock()))
            elif stamp:
                yield self._about(backend, said.closed(stamp))

    # how it is done

    def _circuit(self, backend: Backend) -> Circuit:
        circuit = self.circuits.get(backend)
        if circuit is None:
            circuit = self.circuits[backend] = Circuit(timeout=0.0, passes=1)
        return circuit

    def _leave_alone(self, backend: Backend, circuit: Circuit, seconds: float) -> None:
        """No requests for so long."""
        self.opened += 1
        self._set_timer(backend, seconds, lambda: self._try_again(backend))
        self.pool.eject(backend, f"breaker open: {circuit.reason}", last_resort=False, by=self)
        self.pool.restrict(backend, None)

    def _try_again(self, backend: Backend) -> None:
        if self._stop_timer(backend) is None or self._gone(backend):
            return
        circuit = self.circuits[backend]
        circuit.try_again(self.clock())
        with self._accord.unheard(circuit):
            probes, lasting = circuit.probes, backend.in_flight  # what has lasted until now is no probe
            self.pool.restrict(backend, lasting + probes, lasting=lasting)
            self.pool.restore(backend, f"{HALF_OPEN}, {probes} at a time", by=self)
            self._tell("breaker_half_open", backend, f"{probes} at a time, closed after {circuit.passes} that succeed")
        self._wait_for_others(backend)
        self._settle()

    def _wait_for_others(self, backend: Backend) -> None:
        """Look again after a while: routes without a breaker may send it what this one's routes do not.

        Only where the requests of all workers are known.
        """
        if self._accord.sees_everything:
            requests, failures = backend.requests, backend.failures
            timeout = self.circuits[backend].timeout
            self._set_timer(backend, timeout, lambda: self._look_again(backend, requests, failures))

    def _look_again(self, backend: Backend, requests: int, failures: int) -> None:
        """Nobody has decided while it was half open: it is well if others were served, and nothing failed."""
        if self._stop_timer(backend) is None or self._gone(backend):
            return
        served, failed = backend.requests - requests, backend.failures - failures
        if failed or served < self.circuits[backend].passes:
            self._wait_for_others(backend)
            return
        self._decide_closed(backend, f"{served} answered for other routes, none failed")

    def _set_timer(self, backend: Backend, seconds: float, call: Callable[[], None]) -> None:
        """The one timer of a circuit."""
        self._stop_timer(backend)
        self._timers[backend] = self._later(seconds, call)

    def _stop_timer(self, backend: Backend) -> Timer | None:
        """Cancel the timer of a circuit, if there is one; returns it."""
        timer = self._timers.pop(backend, None)
        if timer is not None:
            timer.cancel()
        return timer

    def _close(self, backend: Backend) -> None:
        del self.circuits[backend]
        self._stop_timer(backend)
        if backend.reason.startswith(HALF_OPEN):
            backend.reason = ""
        self.pool.restrict(backend, None)

    def _gone(self, backend: Backend) -> bool:
        """Whether a backend has left the pool; it is forgotten then."""
        if backend in self.pool.backends:
            return False
        self.circuits.pop(backend, None)
        self._stop_timer(backend)
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

    def of(self, pool: Pool, sharing: Sharing | None = None) -> Guard:
        """The guard of a pool."""
        guard = self._guards.get(pool)
        if guard is None:
            guard = self._guards[pool] = Guard(pool, sharing)
        return guard
