"""One route, compiled: what the engine needs for a request, fetched with one lookup.

A hook nobody implements is a slot that holds None, so that asking costs one comparison. What a plugin raises is
contained: where a hook decides (`before_request`, `select_backend`) the engine answers 500; one that watches is logged
with the plugin's name and the request goes on.
"""

from __future__ import annotations

import logging
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lb_core.chain import Call, compile_chain, each_by_itself, is_async
from lb_core.pool import Pool
from lb_core.sharing import Sharing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pluggy import HookCaller, HookImpl, PluginManager

    from lb_core.backend import Backend
    from lb_core.config import RouteConfig
    from lb_core.decisions import Chooser
    from lb_core.exchange import Exchange

log = logging.getLogger("lb.plugins")


class Gate(Protocol):
    """What keeps requests from a route's own pool: an open circuit breaker.

    `word` is the access log's for requests that are refused because of it. A `strict` gate turns away even where nobody
    stands in; another gives way then, and the pool's own candidates and limits decide.
    """

    word: str
    strict: bool

    def admits(self, exchange: Exchange) -> bool:
        """Whether this request may go to the pool nevertheless, as a probe; asked when that is about to happen."""

    def retry_after(self) -> float:
        """Seconds until it is worth asking again."""


class Standby(NamedTuple):
    """Another route that serves instead: its name in `route.routes`, the access log's word, and the Host to send."""

    route: str
    word: str
    host: bytes = b""


class Route:
    """One route, compiled. Durations are seconds (infinite when switched off), sizes bytes (0 for no limit).

    `pool` is its own; `serving` is where its requests begin: the same, or one without backends while a gate or a
    standby is set. Then the engine asks for each request where it may go `instead`. `pools` and `routes` are those its
    features use, by the names they have in the settings. `parts` are what its strategy and its features built, by name.
    `sharing` leads to the other workers and nodes, where there are some.
    """

    __slots__ = (
        "_owners",
        "_silent",
        "askers",
        "before_is_async",
        "before_request",
        "choosers",
        "config",
        "connect_timeout",
        "direct",
        "diverted",
        "due",
        "gate",
        "header_timeout",
        "idle_timeout",
        "keeps",
        "max_body",
        "name",
        "on_backend_error",
        "on_complete",
        "on_gate",
        "on_health_result",
        "on_response",
        "parts",
        "plugin_errors",
        "plugins",
        "pool",
        "pools",
        "queue_limit",
        "queue_timeout",
        "queued",
        "request_timeout",
        "requests",
        "retry_attempts",
        "retry_budget",
        "retry_connect",
        "retry_reset",
        "retry_timeout",
        "retrying",
        "rewrites",
        "routes",
        "select_backend",
        "send_backend_host",
        "serving",
        "sharing",
        "standby",
        "strip_prefix",
        "tunnel_timeout",
    )

    def __init__(self, config: RouteConfig, pool: Pool, sharing: Sharing | None = None) -> None:
        self.name = config.name
        self.sharing = sharing or Sharing()
        self.config = config
        self.pool = pool
        self.serving = pool
        self.diverted = Pool(f"{pool.name} (diverted)", ())
        self.gate: Gate | None = None
        self.standby: Standby | None = None
        self.on_gate: list[Callable[[], None]] = []
        """Called after another gate was set, or none."""
        self.keeps: Callable[[Exchange], Backend | None] | None = None
        """Asked where nobody is a candidate: a backend that still takes this request, since its client is its own."""
        self.pools: Mapping[str, Pool] = {}
        self.routes: Mapping[str, Route] = {}
        self.parts: tuple[tuple[str, Any], ...] = ()
        self.requests = 0
        self.retrying = 0
        self.queued = 0
        self.queue_limit = config.queue
        self.plugin_errors = 0
        timeouts, retry = config.timeouts, config.retry
        self.connect_timeout = timeouts.connect
        self.header_timeout = min(timeouts.response_header or inf, timeouts.request or inf)
        self.idle_timeout = timeouts.idle or inf
        self.queue_timeout = timeouts.queue
        self.request_timeout = timeouts.request or inf
        self.tunnel_timeout = timeouts.tunnel_idle or inf
        self.retry_attempts = retry.attempts
        self.retry_budget = retry.budget
        self.retry_connect = "connect" in retry.on
        self.retry_reset = "reset" in retry.on
        self.retry_timeout = "timeout" in retry.on
        self.max_body = config.max_body
        self.strip_prefix = config.strip_prefix.encode("latin-1")
        self.send_backend_host = config.host_header == "backend"
        self.direct = False
        """Whether nothing comes between a request's head and the choice of a backend, and its head goes on as it is."""
        self.rewrites = bool(config.strip_prefix) or self.send_backend_host
        self.plugins: tuple[str, ...] = ()
        self._owners: dict[object, str] = {}
        self._silent: dict[str, float] = {}
        self.before_request: Call | None = None
        self.before_is_async = False
        self.select_backend: Call = _nobody_chooses
        self.askers: tuple[str, ...] = ()
        """Who is asked before a backend is chosen, by name."""
        self.choosers: tuple[Chooser, ...] = ()
        """Who takes part in `select_backend`, one by one: for the choices that are recorded."""
        self.due = 0.0
        """When the next ordinary choice goes into the decision record, by `time.monotonic`."""
        self.on_backend_error: Call | None = None
        self.on_response: Call | None = None
        self.on_complete: Call | None = None
        self.on_health_result: Call | None = None

    def attach(self, manager: PluginManager) -> None:
        """Compile the hook chains from this route's own plugin manager."""
        hook = manager.hook
        self.before_request = compile_chain(hook.before_request)
        self.before_is_async = is_async(self.before_request)
        self.askers = tuple(name for name, _, _ in each_by_itself(hook.before_request))
        self.select_backend = compile_chain(hook.select_backend) or _nobody_chooses
        self.choosers = tuple(
            (name, call, getattr(plugin, "why", None), getattr(plugin, "scores", None))
            for name, call, plugin in each_by_itself(hook.select_backend)
        )
        self.on_backend_error = compile_chain(hook.on_backend_error, contain=self._failed)
        self.on_response = self._watching(hook.on_response)
        self.on_complete = self._watching(hook.on_complete)
        self.on_health_result = compile_chain(hook.on_health_result, contain=self._failed)
        self.direct = self.before_request is None and not self.rewrites
        self.plugins = tuple(name for name, _ in reversed(manager.list_name_plugin()))
        callers = hook.before_request, hook.select_backend, hook.on_response, hook.on_complete
        impls = [impl for caller in callers for impl in caller.get_hookimpls()]
        self._owners = {getattr(impl.function, "__code__", None): impl.plugin_name for impl in impls}

    def set_gate(self, gate: Gate | None) -> None:
        """Keep requests from the route's pool, but those the gate admits; None lets them in again."""
        if gate is not self.gate:
            self.gate = gate
            self._divert()
            for hear in tuple(self.on_gate):
                hear()

    def set_standby(self, route: str | None, *, word: str = "", host: bytes = b"") -> None:
        """Let another of `routes` serve instead, with a word for the access log and a Host to send; None ends that."""
        self.standby = None if route is None else Standby(route, word, host)
        self._divert()

    @property
    def shut(self) -> bool:
        """Whether a strict gate is before the route's pool."""
        return self.gate is not None and self.gate.strict

    def _divert(self) -> None:
        elsewhere = self.standby is not None or self.shut
        self.serving = self.diverted if elsewhere else self.pool
        if elsewhere:  # who waits for this pool need not any more
            self.pool.dismiss([each for each in self.pool.queue if getattr(each, "route", None) is self])

    def instead(self, exchange: Exchange) -> Pool | None:
        """Where a request may go that finds nobody in its pool; the order of recovery stands here.

        A gate may admit it to the route's own pool, as a probe; else the standby serves; else the route's own pool
        does, unless a strict gate is before it. None where nobody is left.
        """
        gate, own = self.gate, self.pool
        elsewhere = exchange.pool is not own and bool(own.candidates)
        if elsewhere and gate is not None and gate.admits(exchange):
            return own
        lent = self.lent()
        if lent is not None and lent is not exchange.pool and lent.candidates:
            return lent
        usual = own if self.serving is self.diverted else self.serving
        return usual if usual.candidates and usual is not exchange.pool and not self.shut else None

    @property
    def reachable(self) -> bool:
        """Whether its requests find somebody: in its own pool, or in that of its standby."""
        lent = self.lent()
        if lent is not None and lent.candidates:
            return True
        own = self.pool if self.serving is self.diverted else self.serving
        return bool(own.candidates) and not self.shut

    def lent(self) -> Pool | None:
        """The pool of the standby, or of whoever stands in for that; None without a standby."""
        return None if self.standby is None else self.routes[self.standby.route].lend()

    def lend(self) -> Pool:
        """The pool that serves requests of other routes."""
        lent = self.lent()
        if lent is not None and lent.candidates:
            return lent
        return self.diverted if self.shut else self.pool

    def culprit(self, error: BaseException) -> str:
        """The plugin whose hook raised `error`, read from the traceback: a call that succeeds pays nothing for it."""
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code in self._owners:
                return self._owners[trace.tb_frame.f_code]
            trace = trace.tb_next
        return ", ".join(dict.fromkeys(self._owners.values()))

    def contain(self, error: Exception, hook: str) -> None:
        """A hook that watches has raised: say so, and let the request go on."""
        self.report(error, hook, "the request went on without it")

    def report(self, error: Exception, hook: str, outcome: str) -> None:
        """Log what a plugin raised, with its traceback: once a second for each plugin, however often it fails."""
        self.plugin_errors += 1
        plugin = self.culprit(error)
        now = monotonic()
        if now < self._silent.get(plugin, 0.0):
            return
        self._silent[plugin] = now + 1.0
        error.__context__ = None  # another plugin's failure, which was reported by itself
        log.error("route %r: plugin %r failed in %s; %s", self.name, plugin, hook, outcome, exc_info=error)

    def _watching(self, caller: HookCaller) -> Call | None:
        """A chain whose caller contains what it raises; of several implementations none keeps another from its call."""
        several = len(caller.get_hookimpls()) > 1
        return compile_chain(caller, contain=self._failed if several else None)

    def _failed(self, impl: HookImpl, error: Exception) -> None:
        self._owners.setdefault(getattr(impl.function, "__code__", None), impl.plugin_name)
        self.contain(error, impl.opts.get("specname") or impl.function.__name__)

    def __repr__(self) -> str:
        return f"<Route {self.name}>"


def _nobody_chooses(exchange: object, candidates: object) -> None:
    """The chain of a route without a strategy."""
