"""The balancer: everything put together, and the one place where a configuration becomes routes.

A configuration is built completely before anything is swapped, so a bad one changes nothing. What is the same before
and after keeps its objects: a pool and a backend by name and address (state, counters and open connections with
them), a route when nothing in its configuration changed (its plugins' state with it). Exchanges under way end on the
route they began with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lb_core import __version__, dsl
from lb_core.config import (
    Config,
    Document,
    ListenerConfig,
    PoolConfig,
    RouteConfig,
    build,
    build_strategy,
    demand_routes,
    plugins_section,
    read,
)
from lb_core.defaults.access_log import AccessLog
from lb_core.engine import connections
from lb_core.engine.answers import problem
from lb_core.engine.asgi import AsgiBridge
from lb_core.engine.engine import Engine
from lb_core.engine.shared_admission import ListenerCounts
from lb_core.errors import ConfigError, LbError, PluginError
from lb_core.events import Event
from lb_core.explain import Explanation, explain
from lb_core.following import Following
from lb_core.health import HealthChecker, HealthResult
from lb_core.names import Names
from lb_core.node import Load, Node
from lb_core.overlay import Overlay
from lb_core.plugins import Plugins
from lb_core.pool import Pool
from lb_core.pooled import identity_of, updated
from lb_core.resolving import Resolver, default_resolver
from lb_core.route import Route
from lb_core.shape import changes_of, shape_of
from lb_core.shared_pool import PoolKinds
from lb_core.sharing import Memory, Sharing
from lb_core.table import Table
from lb_core.telling import Once
from lb_core.units import counted

if TYPE_CHECKING:
    from lb_core.backend import Backend

log = logging.getLogger("lb.balancer")

UNMATCHED = "_unmatched"
"""The route that accounts for requests no route takes."""

Source = Callable[[], Document]
Role = Literal["single", "control", "worker"]
"""`single`: a process alone, which does everything; `control` decides for workers; a `worker` carries traffic."""


class LoadBalancer:
    """Backends by host and path, behind an ASGI application or listeners of its own.

        balancer = LoadBalancer()
        with balancer.route_domain("example.com") as route:
            route.container("web1", "web1:8080")
            route.container("web2", "web2:8080")

        app = Starlette(routes=[Mount("/", app=balancer)], lifespan=balancer.lifespan)

    `balancer.run(port=8080)` serves it without anybody's help. Raises ConfigError and PluginError.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        plugins: Plugins | None = None,
        resolver: Resolver | None = None,
        role: Role = "single",
        sharing: Sharing | None = None,
    ) -> None:
        self.plugins = plugins or Plugins.discover()
        self.resolver = resolver or default_resolver()
        self.role: Role = role
        self.sharing = sharing or Sharing()
        self._kinds = PoolKinds(self.sharing, notify=self.notify)
        self.tell_control: Callable[[Event], None] | None = None
        """In a worker: what takes its events to the control process."""
        self.checks: list[Callable[[Config], None]] = []
        """Called with a configuration before anything is built from it; a ConfigError refuses it."""
        self.on_apply: list[Callable[[], None]] = []
        """Called after another configuration was taken."""
        self._once = Once()
        self.node = Node(self.notify, self._load, version=__version__)
        self._shared: tuple[bool, bool] | None = None
        self.listener_counts: ListenerCounts | None = None
        """Where workers count connections; None in a process alone."""
        self.pools: dict[str, Pool] = {}
        self.routes: dict[str, Route] = {}
        self.tree = dsl.Tree()
        self._written = False
        self._source: Source | None = None
        self._document: Document | None = None
        self.overlay = Overlay()
        """What is laid over what the configuration is read from; `set_overlay` changes it."""
        self._access_log: AccessLog | None = None
        self._checks: dict[str, asyncio.Task[None]] = {}
        self._check_configs: dict[str, PoolConfig] = {}
        self._logging: asyncio.Task[None] | None = None
        self._names: Names | None = None
        self._running = False
        self._closed = False
        self._following = Following(self.sharing, lambda: self.pools, self._probed)
        self.config = config or Config()
        self.engine = Engine(Table(()), self._unmatched())
        self._bridge = AsgiBridge(self, ListenerConfig(name="embedded", address=":0"))
        if config is not None:
            self.apply(config)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, Any] | None = None,
        plugins: Plugins | None = None,
    ) -> LoadBalancer:
        """A balancer from a YAML, TOML or Python file, which `reload` reads again; raises ConfigError."""
        document = read(path, environ, overrides)
        if plugins is None:
            wanted = plugins_section(document)
            plugins = Plugins.discover(require=wanted.require, disable=wanted.disable)
        balancer = cls(plugins=plugins)
        balancer._source = lambda: read(path, environ, overrides)
        balancer._take(document, balancer.overlay)
        return balancer

    @property
    def controls(self) -> bool:
        """Whether this process decides: it checks backends, follows files, answers commands, tells events."""
        return self.role != "worker"

    @property
    def serves(self) -> bool:
        """Whether this process carries traffic."""
        return self.role != "control"

    @property
    def running(self) -> bool:
        """Whether the lifespan has been entered: health checks, timeouts and plugins are at work."""
        return self._running

    @property
    def table(self) -> Table:
        """Which host and path belongs to which route."""
        return self.engine.table

    def route_domain(self, host: str) -> dsl.RouteBuilder:
        """Describe a route in Python: `with balancer.route_domain("example.com") as route: …`."""
        self._written = True
        return self.tree.route_domain(host)

    def pool(self, name: str) -> dsl.RouteBuilder:
        """Describe a pool without a host, for a rule's `use`."""
        self._written = True
        return self.tree.pool(name)

    def defaults(self, **sections: Any) -> None:
        """What every route inherits, by section."""
        self._written = True
        self.tree.defaults(**sections)

    def listener(self, name: str, address: str, **options: Any) -> None:
        """An address to listen on, when the balancer serves by itself."""
        self._written = True
        self.tree.listener(name, address, **options)

    def set(self, key: str, value: Any) -> None:
        """A key at the top of the file: `balancer.set("trusted_proxies", ["10.0.0.0/8"])`."""
        self._written = True
        self.tree.set(key, value)

    def apply(self, config: Config | None = None) -> None:
        """Take a new configuration, or what has been described in Python: build everything, then swap.

        Raises ConfigError or PluginError, and then nothing has changed.
        """
        if config is None:
            self._take(self.tree.document(), self.overlay)
            self._written = False
            return
        for check in self.checks:
            check(config)
        self._share(config)
        self._count_connections(config)
        old_log = self._access_log
        access_log = self._make_access_log(config)
        try:
            pools = {pool.name: self._make_pool(pool) for pool in config.pools}
            routes = {each.name: self._make_route(each, pools, access_log) for each in config.routes}
            unmatched = self._unmatched(config, access_log)
            table = Table(routes.values())
        except BaseException:
            if access_log is not None and access_log is not old_log:
                access_log.close()
            raise

        self._access_log = access_log
        gone = self._swap_pools(config, pools)
        self._swap_parts(routes)
        unmatched.requests = self.engine.unmatched.requests
        self.config, self.pools, self.routes = config, pools, routes
        self._following.follow()
        engine = self.engine
        engine.unmatched = unmatched
        engine.trust(config.trusted_proxies)
        engine.backends = tuple(backend for pool in pools.values() for backend in pool.backends)
        engine.table = table
        engine.forget(gone)
        if self._names is not None:
            self._names.watch(engine.backends)
        if self._running:
            self._start_checks()
            if access_log is not old_log:
                self._start_log()
        elif old_log is not None and access_log is not old_log:
            old_log.close()
        for hear in tuple(self.on_apply):
            hear()

    def set_overlay(self, overlay: Overlay) -> None:
        """Lay something else over what the configuration was read from, now and at every reload.

        Raises ConfigError or PluginError where the outcome cannot be used, and LbError for a balancer made from a ready
        Config, which was not read from anything; then nothing has changed.
        """
        self._settle()
        self._take(self.document, overlay)

    @property
    def document(self) -> Document:
        """What the configuration was read from, without what is laid over it; raises LbError where there is none."""
        if self._document is not None:
            return self._document
        if self._source is None:
            raise LbError("this balancer was made from a ready configuration, which cannot be edited: name a file")
        return self._source()

    def reload(self) -> bool:
        """Read the source again; a configuration that cannot be used is refused, and the old one goes on."""
        if self._source is None:
            self.notify(
                Event("config_refused", "this balancer was not made from a file: there is nothing to read again")
            )
            return False
        try:
            self._take(self._source(), self.overlay)
        except LbError as error:
            details = {"problems": [str(p) for p in error.problems]} if isinstance(error, ConfigError) else {}
            self.notify(Event("config_refused", f"{error}\nthe previous configuration goes on", details=details))
            return False
        what = f"{counted(len(self.routes), 'route')}, {counted(len(self.engine.backends), 'backend')}"
        self.notify(Event("config_loaded", what))
        if change := changes_of(self._shared, self.config):
            what = f"{change}; only a new start changes that: send SIGUSR2, which loses nothing, or restart"
            self.notify(Event("restart_needed", what))
        return True

    def notify(self, event: Event) -> None:
        """Tell every plugin what has happened."""
        if event.kind == "reopen_logs":
            if self._access_log is not None:
                self._access_log.reopen()
            if self.role == "worker":
                self.plugins.notify(event)  # the one event that is for every process: each has files of its own
                return
        if self.sharing.applying:
            return  # it is told where it happened
        if self.tell_control is not None:
            self.tell_control(event)
        elif self.role == "single" or self._once.admits(event, 0):
            self.plugins.notify(event)

    def hear(self, event: Event, seat: int) -> None:
        """An event of the worker with this seat, told unless another process has told the same just now."""
        if self._once.admits(event, seat):
            self.plugins.notify(event)

    def explain(
        self, method: str, url: str, *, client: str = "127.0.0.1", headers: Mapping[str, str] | None = None
    ) -> Explanation:
        """Which route a request would take and who would serve it, without sending anything."""
        self._settle()
        status = self.config.no_route_status
        return explain(self.table, method, url, client=client, headers=headers, no_route_status=status)

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Everything beside the requests: clock, names, health checks, plugins. Fits `Starlette(lifespan=…)`."""
        del app
        self._settle()
        if self._running:
            raise LbError("this balancer is running already: one lifespan at a time")
        if self.role == "single" and self.config.workers not in (1, "auto"):
            log.warning("workers: %s is for `lb run` and balancer.run(): this process is alone", self.config.workers)
        if self._closed:
            self._closed = False
            self.routes = {}
            self.apply(self.config)
        async with AsyncExitStack() as stack:
            self.engine.start()
            stack.callback(self.engine.stop)
            stack.push_async_callback(self._stop_log)
            self._start_log()
            self._names = Names(self.resolver, notify=self.notify, moved=connections.follow)
            stack.push_async_callback(self._stop_names)
            self._names.watch(self.engine.backends)
            for name, context in self.plugins.lifespans(self):
                try:
                    await stack.enter_async_context(context)
                except Exception as error:
                    raise PluginError(f"plugin {name!r} failed to start: {error}") from error
            stack.callback(self._close_parts)
            stack.push_async_callback(self._stop_checks)
            self._running = True
            self._start_checks()
            yield

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """The balancer as an ASGI application."""
        self._settle()
        await self._bridge(scope, receive, send)

    def run(self, *, host: str = "", port: int | None = None) -> int:
        """Serve on listeners of our own until a signal comes; `port` replaces the configured listeners."""
        from lb_core.server import run

        self._settle()
        if port is not None:
            self.apply(dsl.with_listener(self.config, host, port))
        return run(self)

    # building

    def _settle(self) -> None:
        if self._written:
            self.apply()

    def _take(self, document: Document, overlay: Overlay) -> None:
        """Apply a document with something laid over it."""
        complete = overlay.over(document)
        if self._source is not None:
            complete = replace(complete, problems=list(complete.problems))
            demand_routes(complete)
        self.apply(build(complete, self.plugins))
        keep = self.sharing.clustered or self._source is None  # elsewhere it is seldom asked for: it is read again then
        self._document, self.overlay = document if keep else None, overlay

    def _load(self) -> Load:
        """What this process carries; where there are workers, the server knows of their connections."""
        requests = sum(route.requests for route in self.routes.values()) + self.engine.unmatched.requests
        in_flight = sum(backend.in_flight for backend in self.engine.backends)
        return Load(requests, in_flight, len(self.engine.deadlines.connections))

    def _share(self, config: Config) -> None:
        """Find out whether anything is shared, before anything is built; that does not change any more."""
        sharing = self.sharing
        if self._shared is not None:
            return
        self._shared = shape_of(config)
        sharing.clustered = config.section("cluster") is not None
        if sharing.memory is None and (sharing.clustered or config.workers != 1):
            sharing.memory = Memory()

    def _count_connections(self, config: Config) -> None:
        """Let the connections of each listener be counted in all workers together."""
        if self.sharing.memory is not None:
            if self.listener_counts is None:
                self.listener_counts = ListenerCounts(self.sharing)
            if self.controls:
                self.listener_counts.keep(config.listeners)

    def _make_pool(self, config: PoolConfig) -> Pool:
        return self.pools.get(config.name) or self._kinds.make(config.name)

    def _make_route(self, config: RouteConfig, pools: Mapping[str, Pool], access_log: AccessLog | None) -> Route:
        pool = pools[config.pool]
        old = self.routes.get(config.name)
        if old is not None and old.config == config and old.pool is pool and access_log is self._access_log:
            return old
        route = Route(config, pool, self.sharing)
        route.pools = {use.name: pools[use.pool] for use in config.uses}
        choice = config.strategy
        features: list[tuple[str, object]] = []
        try:
            strategy = build_strategy(choice, self.plugins)
            for feature in config.features:
                built = self.plugins.features[feature.name].build(route, feature.settings)
                if built is not None:
                    features.append((feature.name, built))
            route.parts = ((choice.name, strategy), *features)
            if access_log is not None:
                features.append(("access_log", access_log))
            route.attach(self.plugins.traffic_manager(strategy, features, choice.name))
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(f"route {config.name!r}: cannot build {choice.name!r} or a feature: {error!r}") from error
        return route

    def _swap_parts(self, routes: Mapping[str, Route]) -> None:
        """Let what routes are made of take over from what it replaces, and let that end."""
        for name, route in routes.items():
            old = self.routes.get(name)
            route.routes = {use.name: routes[use.name] for use in route.config.uses if use.kind == "route"}
            if old is None or old is route:
                continue
            route.requests = old.requests
            before = dict(old.parts)
            for part, built in route.parts:
                if part in before and hasattr(built, "inherit"):
                    self._beside(route, built.inherit, before[part])
        for name, old in self.routes.items():
            if routes.get(name) is not old:
                self._close(old)
        for name, route in routes.items():
            if self.routes.get(name) is not route:
                for _, built in route.parts:
                    if hasattr(built, "start"):
                        self._beside(route, built.start)

    def _close_parts(self) -> None:
        """The balancer stops; should it start again, its routes are built anew."""
        self._closed = True
        for route in self.routes.values():
            self._close(route)

    def _close(self, route: Route) -> None:
        for _, built in route.parts:
            if hasattr(built, "close"):
                self._beside(route, built.close)

    def _beside(self, route: Route, call: Callable[..., object], *args: object) -> None:
        """Call what a plugin offers beside its hooks; what it raises is logged and stops nothing else."""
        try:
            call(*args)
        except Exception as error:
            route.report(error, call.__name__, "the configuration was applied")

    def _unmatched(self, config: Config | None = None, access_log: AccessLog | None = None) -> Route:
        """The route of requests that match no other: answers them, and accounts for them."""
        route = Route(RouteConfig(name=UNMATCHED, host="*", pool=UNMATCHED), Pool(UNMATCHED, ()))
        strategy = self.plugins.strategies["least_connections"].build()
        features = [("access_log", access_log)] if access_log is not None else []
        route.attach(self.plugins.traffic_manager(strategy, features, "none"))
        status = self.config.no_route_status if config is None else config.no_route_status
        route.before_request = lambda exchange: problem(exchange, status, "no_route", "no route")
        route.before_is_async = route.direct = False
        route.plugins = ()
        return route

    def _make_access_log(self, config: Config) -> AccessLog | None:
        if config.access_log.format == "off":
            return None
        if self._access_log is not None and self.config.access_log == config.access_log:
            return self._access_log
        memory = self.sharing.memory if self.role == "worker" else None
        together = memory.descriptor if memory is not None else None
        return AccessLog(config.access_log.format, config.access_log.file, together=together)

    def let_go(self) -> None:
        """In a process forked from this one, which is to be another balancer: close the files of this one."""
        if self._access_log is not None:
            self._access_log.close()

    def _swap_pools(self, config: Config, pools: Mapping[str, Pool]) -> list[Backend]:
        """Give each pool its backends; returns those that are served no more."""
        before = {backend for pool in self.pools.values() for backend in pool.backends}
        for each in config.pools:
            pool = pools[each.name]
            known = {identity_of(backend, backend.send_proxy): backend for backend in pool.backends}
            pool.replace([updated(known, pool, each, wanted) for wanted in each.backends])
        for name in self.pools.keys() - pools.keys():
            self.pools[name].close()
        after = {backend for pool in pools.values() for backend in pool.backends}
        return list(before - after)

    # beside the requests

    def _start_checks(self) -> None:
        """One checker a pool, restarted where its settings changed; workers are told what is found."""
        if not self.controls:
            return
        wanted = {pool.name: pool for pool in self.config.pools if pool.health_check is not None}
        for name in list(self._checks):
            old, new = self._check_configs[name], wanted.get(name)
            if new is None or (old.health_check, old.host) != (new.health_check, new.host):
                self._checks.pop(name).cancel()
                del self._check_configs[name]
        for name, config in wanted.items():
            self._check_configs[name] = config
            if name not in self._checks and config.health_check is not None:
                pool = self.pools[name]
                checker = HealthChecker(pool, config.health_check, host=config.host, report=self._report(pool))
                self._checks[name] = asyncio.get_running_loop().create_task(checker.run())

    def _report(self, pool: Pool) -> Callable[[Backend, HealthResult], None]:
        def report(backend: Backend, result: HealthResult) -> None:
            self._probed(pool, backend, result)
            self._following.told(pool, backend, result)

        return report

    def _probed(self, pool: Pool, backend: Backend, result: HealthResult) -> None:
        for route in self.routes.values():
            if route.pool is pool and route.on_health_result is not None:
                route.on_health_result(backend, result)

    async def _stop_checks(self) -> None:
        self._running = False
        tasks = list(self._checks.values())
        self._checks.clear()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    def _start_log(self) -> None:
        """Let the access log write; an old one writes what it has and ends."""
        if self._logging is not None:
            self._logging.cancel()
        log = self._access_log
        self._logging = asyncio.get_running_loop().create_task(_keep_writing(log)) if log is not None else None

    async def _stop_names(self) -> None:
        names, self._names = self._names, None
        if names is not None:
            await names.stop()

    async def _stop_log(self) -> None:
        if self._logging is not None:
            self._logging.cancel()
            with suppress(asyncio.CancelledError):
                await self._logging
            self._logging = None


async def _keep_writing(log: AccessLog) -> None:
    async with log.lifespan():
        await asyncio.Event().wait()
