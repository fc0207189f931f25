"""The life of one exchange: ask the plugins, choose a backend, attempt, again where that is safe, account for it.

begin --> before_request --> choose --> attempt --> (connect) --> send --> response head --> body --> finish
               |               |           |                        |
               v               v           +------- failed <--------+
            answer           answer                   |
                                                      +--> choose again, or answer 502/504
"""

from __future__ import annotations

import asyncio
import logging
import re
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from lb_core.backend import Backend
from lb_core.decisions import RECORDED
from lb_core.engine.announcing import header_for
from lb_core.engine.answers import SAID, problem
from lb_core.engine.connections import IDLE_LIMIT, connect, drop
from lb_core.engine.flow import PEER, reset
from lb_core.engine.heads import cut
from lb_core.engine.kept_body import KeptBody
from lb_core.engine.requests import compose
from lb_core.engine.retries import (
    ADD_HOST,
    BUDGETED,
    EVENTS,
    KEEPING,
    NOTED,
    RENAMED,
    REPLAY_LIMIT,
    WAITED,
    is_idempotent,
    is_stale,
    may_retry,
    may_reuse,
)
from lb_core.errors import (
    AttemptError,
    ConnectFailed,
    HeaderTimeout,
    NoDescriptor,
    RequestError,
)
from lb_core.exchange import Exchange
from lb_core.response import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from lb_core.decisions import Decision
    from lb_core.engine.downstream import Downstream
    from lb_core.engine.request_heads import RequestHead
    from lb_core.engine.upstream import Upstream
    from lb_core.pool import Pool
    from lb_core.route import Route

log = logging.getLogger("lb.engine")

RETRY_AFTER = {"Retry-After": "5"}
_EVENT_STREAM = re.compile(rb"\ncontent-type:[ \t]*text/event-stream", re.IGNORECASE).search


class Cancellable(Protocol):
    """A task or a timer."""

    def cancel(self) -> object:
        """Stop it."""


class Forwarding(Exchange):
    """An exchange with what the engine needs to carry it through.

    `payload` is the request as sent so far, None once it is too long to send again; `pending` are the tasks and timers
    that must not outlive the exchange; `unusual` holds the flags of `retries`.
    """

    __slots__ = ("body", "decision", "downstream", "payload", "pending", "trying", "unusual", "upstream")

    body: bytes
    decision: Decision | None
    downstream: Downstream
    payload: bytes | None
    pending: list[Cancellable] | None
    unusual: int
    trying: bool
    upstream: Upstream | None

    def __init__(self, route: Route, downstream: Downstream, client: str, request: RequestHead, host: bytes) -> None:
        # what Exchange.__init__ does, written out: a call less for every request
        self.route = route
        self.pool = route.serving
        self.downstream = downstream
        self.client = client
        self.request = request
        self.raw_host = host
        self.response_head = self.body = b""
        self._headers = self._response_headers = self._state = self.error = None
        self.backend = self.upstream = self.payload = self.pending = self.decision = None
        self.attempts = self.status = self.bytes_in = self.bytes_out = self.unusual = 0
        self.first_byte = self.ended = self.asked = 0.0
        self.trying = False
        self.flags = ()
        special = request[4]
        if special is None or not special.request_id:
            self.raw_request_id = downstream.engine.next_id()
        else:
            self.raw_request_id = special.request_id
            route.due = 0.0  # somebody wants to find this one again
        self.started = monotonic()

    @property
    def connection(self) -> Downstream:  # type: ignore[override]  # what Exchange keeps in a slot
        """The client's connection."""
        return self.downstream

    @property
    def http10(self) -> bool:
        """Whether the client speaks HTTP/1.0."""
        special = self.request[4]
        return special is not None and special.http10

    @property
    def _has_own_id(self) -> bool:
        """Whether the client gave the request its id."""
        special = self.request[4]
        return special is not None and special.request_id != b""

    @property
    def client_scheme(self) -> str:
        """`http` or `https`, as the client used it with us or, as a trusted proxy says, with that."""
        special, downstream = self.request[4], self.downstream
        if downstream.origin.trusted and special is not None:
            said = special.value(b"x-forwarded-proto:").lower()
            if said in (b"http", b"https"):
                return "https" if said == b"https" else "http"
        return downstream.scheme

    @property
    def wants_tunnel(self) -> bool:
        """Whether the client asks for a WebSocket."""
        special = self.request[4]
        return special is not None and special.upgrade != b""

    def begin(self, body: bytes) -> None:
        """Start; `body` is what of the request's body came with the head, framing checked."""
        route = self.route
        route.requests += 1
        _, _, host, head, special, _ = self.request
        if route.direct and (special is None or special.passes):
            origin = self.downstream.origin
            block = origin.fields if host == origin.host else origin.block(host or b"")
            self.payload = b"%b%bX-Request-Id: %b\r\n\r\n%b" % (head, block, self.raw_request_id, body)
            if body:
                self.bytes_in = len(body)
            self.choose(self.pool.candidates)
        else:
            self._begin_indirect(body)

    def _begin_indirect(self, body: bytes) -> None:
        """What comes before the choice on routes that have something there."""
        before_request = self.route.before_request
        self.body = body
        self.bytes_in = len(body)
        if before_request is not None:
            if self.route.before_is_async:
                self._wait_for(self._ask())
                return
            try:
                answer = before_request(self)
            except Exception as error:
                self._plugin_failed(error, "before_request")
                return
            if answer is not None:
                self._answer_from_plugin(answer)
                return
        self.payload = compose(self, body)
        self.choose(self.pool.candidates)

    def begin_refused(self, error: RequestError) -> None:
        """Start only to refuse: a request that cannot be read or served, or that has no route."""
        self.route.requests += 1
        self.refuse(error.status, error.word, error.detail)

    def broken_request(self, error: RequestError) -> None:
        """The request's body turned out to be malformed or too long: tell the client unless an answer has begun."""
        if self.first_byte:
            self.cut_short(error.word)
            return
        self._cancel()
        self._drop_upstream()
        self.refuse(error.status, error.word, error.detail)

    async def _ask(self) -> None:
        before_request = self.route.before_request
        try:
            answer = await before_request(self) if before_request is not None else None
        except Exception as error:
            self._plugin_failed(error, "before_request")
            return
        self.pending = None
        if answer is not None:
            self._answer_from_plugin(answer)
            return
        if self._has_own_id:
            self.route.due = 0.0
        self.payload = compose(self, self.body)
        self.choose(self.pool.candidates)

    def choose(self, candidates: tuple[Backend, ...]) -> None:
        """Let the route's plugins choose among these, and attempt."""
        if not candidates:
            self._nobody()
            return
        route = self.route
        try:
            if self.started < route.due:
                backend = route.select_backend(self, candidates)
            else:
                backend = self.downstream.engine.decisions.choose(self, candidates)
        except Exception as error:
            self._plugin_failed(error, "select_backend")
            return
        if type(backend) is not Backend and not isinstance(backend, Backend):
            log.error("route %r: select_backend chose %r, which is no backend", route.name, backend)
            self.refuse(500, "no_choice", "no plugin chose a backend")
            return
        if backend.in_flight >= backend.limit:
            room = self.pool.with_room(candidates)
            if room is None:
                self._wait_for_turn()
                return
            self.downstream.engine.decisions.room(self, candidates, backend, room)
            backend = room
        self.backend = backend
        self.attempts += 1
        self.trying = True
        backend.in_flight += 1
        if backend.idle and (self.attempts == 1 or may_reuse(self)):
            connection: Upstream = backend.idle.popitem()[0]  # type: ignore[assignment]  # the freshest
            if connection.idle_since + IDLE_LIMIT > self.started:
                self._send(connection)
                return
            connection.transport.close()
            drop(backend)  # all others have been idle for longer
        self._wait_for(self._connect(backend))

    def _nobody(self) -> None:
        """No candidate: who drains keeps its clients, or another pool serves, else wait for a first check, else 503."""
        route = self.route
        try:
            own = route.keeps(self) if route.keeps is not None else None
        except Exception as error:
            self._plugin_failed(error, "keeps")
            return
        if own is not None:
            self.choose((own,))
            return
        instead = route.instead(self)
        decisions = self.downstream.engine.decisions
        if instead is not None:
            decisions.moves(self, instead)
            self._move(instead)
            self.choose(instead.candidates)
            return
        gate = route.gate
        pools = (self.pool, route.pool, route.lent())
        starting = next((pool for pool in pools if pool is not None and pool.starting), None)
        if gate is not None:
            seconds = str(max(1, ceil(gate.retry_after())))
            decisions.nobody(self, f"{gate.word}: nobody is let through for {seconds} s")
            self.refuse(503, gate.word, "no backend is available", {"Retry-After": seconds})
        elif starting is not None and route.queue_timeout:
            self._move(starting)
            self._wait_for_turn()
        else:
            decisions.nobody(self, "no backend is available")
            self.refuse(503, "no_backend", "no backend is available", RETRY_AFTER)

    def _move(self, pool: Pool) -> None:
        """Go on with another pool: the route's own, or that of its standby, which may want a Host of its own."""
        standby = self.route.standby
        self.pool = pool
        host = b""
        if standby is not None and pool is not self.route.pool:
            self.flag(standby.word)
            host = standby.host
        if self.payload is not None and (host or self.unusual & RENAMED):
            self.payload = self._renamed(self.payload, host)

    def _renamed(self, payload: bytes, host: bytes) -> bytes:
        """The request with this Host; with an empty one as it would be without the standby."""
        self.unusual |= RENAMED
        usual = self.request[2]
        if not host and (usual is None or self.route.send_backend_host):
            self.add_host()
            return _named(payload, b"")
        self.unusual &= ~ADD_HOST
        return _named(payload, host or usual or b"")

    def _further(self, pool: Pool, tried: Backend) -> tuple[Backend, ...]:
        """Who may be tried after one has failed: the others, or the same again; nobody behind a strict gate."""
        if self.route.shut and pool is self.route.pool:
            return ()
        return pool.others(tried) or pool.candidates

    def _wait_for_turn(self) -> None:
        """Wait for a backend: one with room, or one that passes its first check; the time for both is one."""
        route = self.route
        decisions = self.downstream.engine.decisions
        if not self.pool.starting and (route.queued >= route.queue_limit or not route.queue_timeout):
            decisions.waits(self, f"every candidate is full, and so is the queue ({route.queued} wait)")
            self.refuse(503, "queue_full", "every backend has as many requests in flight as it may", RETRY_AFTER)
            return
        if not self.unusual & WAITED:
            self.unusual |= WAITED
            self._later(route.queue_timeout, self._gave_up)
        what = "no candidate has passed its first check yet" if self.pool.starting else "every candidate is full"
        decisions.waits(self, f"{what}: it waits, after {route.queued} others")
        route.queued += 1
        self.downstream.wait(self.latest)
        self.pool.wait(self)

    def take_turn(self) -> None:
        """The queue's turn has come: choose again, the backend that failed before only if no other has room."""
        self.route.queued -= 1
        self.downstream.engine.decisions.turn(self)
        pool = self.pool
        others = pool.others(self.backend) if self.backend is not None else ()
        if self.route.shut and pool is self.route.pool:
            self.choose(())
        else:
            self.choose(others if pool.with_room(others) else pool.candidates)

    def _gave_up(self) -> None:
        if self in self.pool.queue:
            self._leave_queue()
            starting = self.pool.starting
            why = "no backend passed its first check in time" if starting else "no backend had room in time"
            self.downstream.engine.decisions.waits(self, why)
            self.refuse(503, "no_backend" if starting else "queue_full", why, RETRY_AFTER)

    def _leave_queue(self) -> None:
        if self in self.pool.queue:
            self.route.queued -= 1
            self.pool.leave_queue(self)

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        self._pend(asyncio.get_running_loop().call_later(delay, call))

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        self.downstream.wait(self.latest)
        self._pend(asyncio.get_running_loop().create_task(work))

    def _pend(self, work: Cancellable) -> None:
        """Remember what must not outlive the exchange."""
        if self.pending is None:
            self.pending = []
        self.pending.append(work)

    async def _connect(self, backend: Backend) -> None:
        try:
            connection = await connect(backend, self.route.connect_timeout)
            if backend.send_proxy != "off":
                connection.transport.write(header_for(self, backend.send_proxy))
        except AttemptError as error:
            self.failed(error.with_traceback(None))  # its frames hold the exchange, which holds the error
        else:
            if connection.transport.is_closing():  # nothing has been sent, so that any request may go elsewhere
                self.failed(ConnectFailed(f"backend {backend.name} closed the connection as soon as it was made"))
                return
            self._send(connection)

    def _send(self, connection: Upstream) -> None:
        """Write the request to a connection, in one piece with what of its body is here."""
        self.upstream = connection
        connection.exchange = self
        downstream = self.downstream
        if downstream.plain and self.unusual <= RECORDED:
            downstream.deadline = downstream.deadlines.now + self.route.header_timeout
            connection.transport.write(self.payload)  # type: ignore[arg-type]  # kept until it has been sent
        else:
            self._send_special(connection)

    def _send_special(self, connection: Upstream) -> None:
        payload: bytes = self.payload  # type: ignore[assignment]  # kept until it has been sent
        if self.unusual & ADD_HOST:
            payload = _with_host(payload, self)
        connection.transport.write(payload)
        downstream = self.downstream
        if self.unusual & NOTED:
            downstream.engine.decisions.made(self)
        downstream.sending(self)
        self.asked = monotonic()
        if len(payload) > REPLAY_LIMIT or not (downstream.request_complete or is_idempotent(self)):
            self.payload = None  # bytes are out: this request is never sent again

    def note(self, why: str) -> None:
        """Say why a backend is or is not chosen, for the decision record."""
        super().note(why)
        self.unusual |= NOTED

    def add_host(self) -> None:
        """Let every attempt name its backend in Host."""
        self.unusual |= ADD_HOST

    def keep_body(self, limit: int) -> None:
        """Keep a copy of the request's body as it passes."""
        kept = self.state[KeptBody] = KeptBody(self.request[4], limit)
        kept.take(self.body)
        if kept.collects:
            self.unusual |= KEEPING

    @property
    def kept_body(self) -> bytes | None:
        """The copy, once it is complete."""
        kept = self._state.get(KeptBody) if self._state is not None else None
        return None if kept is None else kept.whole

    def send_body(self, data: bytes) -> None:
        """More of the request's body, framing checked."""
        self.bytes_in += len(data)
        if self.unusual & KEEPING:
            self.state[KeptBody].take(data)
        upstream = self.upstream
        payload = self.payload
        if upstream is None:
            if payload is None:
                self.body += data
            else:
                self.payload = payload + data
            return
        if payload is not None:
            self.payload = payload + data if len(payload) + len(data) <= REPLAY_LIMIT else None
        upstream.transport.write(data)

    def failed(self, error: AttemptError) -> None:
        """The attempt under way failed before a response head."""
        route = self.route
        backend = self.backend
        if self.ended or backend is None or not self.trying:
            return
        self.trying = False
        backend.in_flight -= 1
        self.upstream = None
        self.error = error
        if isinstance(error, NoDescriptor):  # not the backend's fault, and no other could be reached
            if backend.freed is not None:
                backend.freed()
            self.refuse(error.status, error.flag, SAID[error.status], RETRY_AFTER)
            return
        if not is_stale(error):
            backend.failures += 1
        if route.on_backend_error is not None:
            route.on_backend_error(self, error)
        self.downstream.engine.decisions.failed(self, error)
        if backend.freed is not None:
            backend.freed()  # who waited for it comes after those who watch: they may have taken it out
        if may_retry(self, error):
            before = self.attempts
            self.choose(self._further(self.pool, backend))
            if self.attempts > before or self in self.pool.queue:
                self.flag("retried")
            return
        self.refuse(error.status, error.flag, SAID[error.status])

    def begin_response(self, status: int, data: bytes) -> None:
        """The backend's head is here; the client has seen nothing yet."""
        self.status = status
        self.first_byte = monotonic()
        self.response_head = data
        self.payload = None
        if _EVENT_STREAM(data, 0, data.find(b"\r\n\r\n")):
            self.unusual |= EVENTS
        route = self.route
        if route.on_response is not None:
            try:
                route.on_response(self)
            except Exception as error:
                route.contain(error, "on_response")

    def changed_response_head(self) -> bytes | None:
        """The head as plugins changed it, without its blank line; None when they did not."""
        headers = self._response_headers
        if headers is None or not headers.changed:
            return None
        return self.response_head[: self.response_head.index(b"\r\n") + 2] + headers.encode()

    def refuse(self, status: int, word: str, detail: str, headers: dict[str, str] | None = None) -> None:
        """Answer with an error of our own, as JSON for those who accept it."""
        self.answer(problem(self, status, word, detail, headers))

    def answer(self, response: Response) -> None:
        """End the exchange with an answer made here."""
        self.status = response.status
        body = b"" if self.raw_method == b"HEAD" else response.body
        self.bytes_out = len(body)
        self.downstream.send_answer(response, self)
        self.finish(monotonic())

    def _answer_from_plugin(self, response: object) -> None:
        if isinstance(response, Response):
            if self._has_own_id:
                self.downstream.engine.decisions.answered(self)
            self.answer(response)
        else:
            log.error("route %r: before_request answered %r, which is no Response", self.route.name, response)
            self.refuse(500, "plugin_error", "a plugin failed")

    def _plugin_failed(self, error: Exception, hook: str) -> None:
        """A hook that decides has raised: answer 500, never let the request through."""
        self.route.report(error, hook, "the client was answered with 500")
        self.refuse(500, "plugin_error", "a plugin failed")

    @property
    def latest(self) -> float:
        """When the exchange must have ended, by `timeouts.request`."""
        return self.started + self.route.request_timeout

    def expire(self) -> None:
        """A deadline has passed: answer 504 when nothing has been answered yet, else cut."""
        if self.ended:
            return
        downstream = self.downstream
        if self.first_byte:
            self.cut_short("read_timeout" if not downstream.stalled else "write_timeout")
        elif downstream.held & PEER:
            self._drop_upstream()
            self.refuse(504, "write_timeout", "the backend does not read the request's body")
        elif not downstream.request_complete and self.upstream is not None:
            self._drop_upstream()
            self.refuse(408, "body_timeout", "the request's body did not come in time")
        elif self.upstream is not None and monotonic() < self.latest:
            self._drop_upstream()
            seconds = self.route.header_timeout
            self.failed(HeaderTimeout(f"no response head within {seconds:g}s"))
        else:
            self._cancel()
            self._drop_upstream()
            self.refuse(504, "header_timeout", "the request took too long")

    def cut_short(self, word: str) -> None:
        """The answer cannot be completed: cut the client's connection, so that it can tell."""
        self.flag(word)
        self._drop_upstream()
        transport = self.downstream.transport
        reset(transport) if self.http10 else transport.abort()
        self.downstream.close = True
        self.finish(monotonic())

    def abandoned(self) -> None:
        """The client has gone: cancel what the backend is doing for it."""
        if self.ended:
            return
        self.flag("client_gone")
        self._cancel()
        self._drop_upstream()
        self.finish(monotonic())

    def finish(self, now: float) -> None:
        """Account for the exchange, exactly once and last."""
        if self.ended:
            return
        self.ended = now
        if self.trying:
            self.trying = False
            backend: Backend = self.backend  # type: ignore[assignment]  # trying means there is one
            backend.requests += 1
            backend.in_flight -= 1
            if backend.freed is not None:
                backend.freed()
        if self.unusual or self.pending is not None:
            self._give_back()
        route = self.route
        if route.on_complete is not None:
            try:
                route.on_complete(self)
            except Exception as error:
                route.contain(error, "on_complete")
        self.downstream.finished()

    def _give_back(self) -> None:
        """Leave the retry budget, and stop what is pending."""
        if self.unusual & BUDGETED:
            self.route.retrying -= 1
        if self.unusual & RECORDED:
            self.downstream.engine.decisions.end(self)
        self._cancel()

    def _drop_upstream(self) -> None:
        if self.upstream is not None:
            self.upstream.abandon()
            self.upstream = None

    def _cancel(self) -> None:
        """Stop what is pending, but not the task we are called from."""
        pending, self.pending = self.pending, None
        for work in pending or ():
            if work is not asyncio.current_task():
                work.cancel()
        if self.unusual & WAITED:
            self._leave_queue()


def _named(payload: bytes, host: bytes) -> bytes:
    """A request with another Host, or with none."""
    end = payload.index(b"\r\n\r\n") + 2
    head = cut(payload[:end], [b"host:"])
    line = head.index(b"\r\n") + 2
    field = b"Host: %b\r\n" % host if host else b""
    return b"%b%b%b%b" % (head[:line], field, head[line:], payload[end:])


def _with_host(payload: bytes, exchange: Forwarding) -> bytes:
    """Name the backend in Host: the route asks for that, or the client (HTTP/1.0) named nobody."""
    backend = exchange.backend
    address = backend.authority.encode() if backend is not None else b""
    line = payload.index(b"\r\n") + 2
    return b"%bHost: %b\r\n%b" % (payload[:line], address, payload[line:])
