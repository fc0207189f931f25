"""The life of a simulated request: what `engine.forwarding` does with a real one, and at which moment.

The choice, the limit and the queue of the pool, the rules of retries and the order of the hooks are the production's
own or follow it line by line; what is simulated is time, and the backends behind the connections. What a plugin raises
ends the run.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, cast

from lb_core.engine.retries import BUDGETED, WAITED, may_retry
from lb_core.errors import AttemptError, BackendReset, ConnectFailed, HeaderTimeout, PluginError
from lb_core.testing.exchanges import SimulatedExchange

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lb_core.backend import Backend
    from lb_core.engine.forwarding import Forwarding
    from lb_core.route import Route
    from lb_core.testing.arrivals import Request
    from lb_core.testing.backends import Fault, Machine
    from lb_core.testing.events import Agenda

Candidates = tuple["Backend", ...]

OK, FAULTY = 200, 503
HEADS = {OK: b"HTTP/1.1 200 OK\r\n\r\n", FAULTY: b"HTTP/1.1 503 Service Unavailable\r\n\r\n"}


class Flow:
    """Requests on their way through one route; `done` is called with each that has ended."""

    __slots__ = ("_faults", "agenda", "begun", "done", "machines", "route", "timeout")

    def __init__(
        self,
        agenda: Agenda,
        route: Route,
        machines: Mapping[Backend, Machine],
        faults: Random,
        done: Callable[[SimulatedExchange], None],
    ) -> None:
        self.agenda = agenda
        self.route = route
        self.machines = machines
        self.done = done
        self.timeout = route.header_timeout
        self.begun = agenda.now
        self._faults = faults

    def begin(self, request: Request) -> None:
        """A request has come."""
        route = self.route
        route.requests += 1
        exchange = SimulatedExchange(self, request)
        if route.before_request is not None:
            answer = route.before_request(exchange)
            if answer is not None:
                self._refuse(exchange, answer.status)
                return
        self.choose(exchange, exchange.pool.candidates)

    def choose(self, exchange: SimulatedExchange, candidates: Candidates) -> None:
        """Let the route's plugins choose among these, and attempt."""
        if not candidates:
            self._nobody(exchange)
            return
        backend = self.route.select_backend(exchange, candidates)
        if backend not in self.machines:
            raise PluginError(f"select_backend chose {backend!r}, which is none of {candidates!r}")
        if backend.in_flight >= backend.limit:
            backend = exchange.pool.with_room(candidates)
            if backend is None:
                self._wait(exchange)
                return
        exchange.backend = backend
        exchange.attempts += 1
        exchange.trying = True
        backend.in_flight += 1
        self._attempt(exchange, self.machines[backend])

    def _attempt(self, exchange: SimulatedExchange, machine: Machine) -> None:
        agenda = self.agenda
        now = agenda.now
        machine.taken += 1
        fault = machine.fault
        if fault is not None and fault.strikes(now - self.begun, self._faults):
            self._strike(exchange, fault)
            return
        done = machine.take(now, exchange.work)
        if done - now > self.timeout:
            error = HeaderTimeout(f"no response head within {self.timeout:g}s")
            agenda.at(now + self.timeout, self._failed, (exchange, error))
        else:
            agenda.at(done, self._answered, exchange)

    def _strike(self, exchange: SimulatedExchange, fault: Fault) -> None:
        when, name = self.agenda.now + fault.after, exchange.backend and exchange.backend.name
        if fault.kind == "status":
            self.agenda.at(when, self._faulty, exchange)
            return
        error = ConnectFailed if fault.kind == "refused" else BackendReset
        self.agenda.at(when, self._failed, (exchange, error(f"backend {name} {fault.kind} the connection")))

    def _nobody(self, exchange: SimulatedExchange) -> None:
        serving = self.route.serving
        if serving is not exchange.pool and serving.candidates:
            exchange.pool = serving
            self.choose(exchange, serving.candidates)
        else:
            self._refuse(exchange, 503, "no_backend")

    def _wait(self, exchange: SimulatedExchange) -> None:
        route = self.route
        if route.queued >= route.queue_limit or not route.queue_timeout:
            self._refuse(exchange, 503, "queue_full")
            return
        if not exchange.unusual & WAITED:
            exchange.unusual |= WAITED
            self.agenda.at(self.agenda.now + route.queue_timeout, self._gave_up, exchange)
        route.queued += 1
        exchange.pool.wait(exchange)

    def take_turn(self, exchange: SimulatedExchange) -> None:
        """The queue's turn has come: choose again, the backend that failed before only if no other has room."""
        self.route.queued -= 1
        pool = exchange.pool
        others = pool.others(exchange.backend) if exchange.backend is not None else ()
        self.choose(exchange, others if pool.with_room(others) else pool.candidates)

    def _gave_up(self, exchange: SimulatedExchange) -> None:
        if exchange in exchange.pool.queue:
            self.route.queued -= 1
            exchange.pool.leave_queue(exchange)
            self._refuse(exchange, 503, "queue_full")

    def _failed(self, what: tuple[SimulatedExchange, AttemptError]) -> None:
        exchange, error = what
        route = self.route
        backend = cast("Backend", exchange.backend)
        self._release(exchange, backend)
        exchange.error = error
        backend.failures += 1
        if route.on_backend_error is not None:
            route.on_backend_error(exchange, error)
        if may_retry(cast("Forwarding", exchange), error):  # it has what those rules look at
            exchange.flag("retried")
            pool = exchange.pool
            self.choose(exchange, pool.others(backend) or pool.candidates)
        else:
            self._refuse(exchange, error.status, error.flag)

    def _faulty(self, exchange: SimulatedExchange) -> None:
        self._answered(exchange, FAULTY)

    def _answered(self, exchange: SimulatedExchange, status: int = OK) -> None:
        exchange.status = status
        exchange.first_byte = self.agenda.now
        exchange.response_head = HEADS[status]
        if self.route.on_response is not None:
            self.route.on_response(exchange)
        self._finish(exchange)

    def _refuse(self, exchange: SimulatedExchange, status: int, word: str = "") -> None:
        exchange.status = status
        if word:
            exchange.flag(word)
        self._finish(exchange)

    def _finish(self, exchange: SimulatedExchange) -> None:
        exchange.ended = self.agenda.now
        route = self.route
        if exchange.trying:
            backend = cast("Backend", exchange.backend)
            backend.requests += 1
            self._release(exchange, backend)
        if exchange.unusual & BUDGETED:
            route.retrying -= 1
        if route.on_complete is not None:
            route.on_complete(exchange)
        self.done(exchange)

    def _release(self, exchange: SimulatedExchange, backend: Backend) -> None:
        exchange.trying = False
        backend.in_flight -= 1
        if backend.freed is not None:
            backend.freed()
