"""The hooks: what a plugin may implement, when it is called, and what its answer does.

TrafficHooks are called for each request on the event loop and must never block. A traffic hook applies where its object
is registered: a function in a plugin's module to every route, a method of what a Strategy or Feature builds to that
route. SetupHooks are called at start and at reload.

An implementation may take any subset of the arguments, by name. `None` always means "no opinion".
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.balancer import LoadBalancer
    from lb_core.commands import Command
    from lb_core.errors import AttemptError
    from lb_core.events import Event
    from lb_core.exchange import Exchange
    from lb_core.features import Feature, Section, Strategy
    from lb_core.health import HealthResult
    from lb_core.response import Response

GROUP = "lb"
hookspec = HookspecMarker(GROUP)
hookimpl = HookimplMarker(GROUP)


class TrafficHooks:
    """Called for each request."""

    @hookspec(firstresult=True)
    def before_request(self, exchange: Exchange) -> Response | None:
        """Answer a request without a backend, or let it pass.

        Called once, when the request head has been read and before a backend is chosen; not again on a retry. May be
        a coroutine function: only routes that have one pay for it. Changes of `exchange.headers` go to the backend;
        `exchange.rewrite(target)` asks it for another path and query; `exchange.pool = route.pools[name]` lets another
        pool serve; `exchange.keep_body(limit)` keeps a copy of the body.

        Result: a Response ends the exchange with it; None asks the next plugin.
        Order: the features of a route in the order of its configuration, then plugins for every route.
        Failure: an exception answers 500; the request is never let through.

        Example:
            @hookimpl
            def before_request(self, exchange):
                if exchange.path == "/teapot":
                    return Response(418, "short and stout")
        """

    @hookspec(firstresult=True)
    def select_backend(self, exchange: Exchange, candidates: tuple[Backend, ...]) -> Backend | None:
        """Choose the backend for an attempt.

        Called once an attempt, and again when a request that has waited for room gets its turn. `candidates` are those
        of `exchange.pool`, without the one just tried where there are others. They are never empty, and stay the same
        tuple object until the pool changes: a table built from it holds while `candidates is` the tuple it was built
        from. `exchange.note(why)` puts an unusual choice into the decision record.

        Result: one of `candidates` (a plugin that knows better may name another backend of that pool); None asks
            the next plugin.
        Order: features (sticky sessions) before the strategy.
        Failure: an exception, or an answer that is no Backend, answers the client with 500.

        Example:
            @hookimpl
            def select_backend(self, candidates):
                return min(candidates, key=lambda backend: backend.in_flight)
        """

    @hookspec
    def on_backend_error(self, exchange: Exchange, error: AttemptError) -> None:
        """Learn that an attempt failed before a response head.

        `exchange.backend` is the backend that failed; another attempt may follow. `error.unsent` says that no byte of
        the request can have arrived, `error.reused` that a kept connection had been closed, which says nothing about
        the backend.

        Result: ignored.
        Order: the features of a route in the order of its configuration, then plugins for every route.
        Failure: an exception is logged with the plugin's name and the request goes on.

        Example:
            @hookimpl
            def on_backend_error(self, exchange, error):
                self.failures[exchange.backend.id] += 1
        """

    @hookspec
    def on_response(self, exchange: Exchange) -> None:
        """See the backend's response head before the client does.

        `exchange.status` and `exchange.response_headers` may be read; the headers may be changed. A body passes through
        what is assigned to `exchange.transform`: an object with `feed(data) -> bytes` and `finish() -> bytes`. What
        comes out of it is framed anew.

        Result: ignored.
        Order: the features of a route in the order of its configuration, then plugins for every route.
        Failure: an exception is logged with the plugin's name and the response goes on.

        Example:
            @hookimpl
            def on_response(self, exchange):
                exchange.response_headers["Server-Timing"] = f"lb;dur={exchange.elapsed * 1000:.1f}"
        """

    @hookspec
    def on_complete(self, exchange: Exchange) -> None:
        """Account for an exchange that has ended, however it ended.

        Called exactly once and last; times, bytes, status, flags and error are final.

        Result: ignored.
        Order: the features of a route in the order of its configuration, then plugins for every route.
        Failure: an exception is logged with the plugin's name; the others are still called.

        Example:
            @hookimpl
            def on_complete(self, exchange):
                self.seconds.append(exchange.duration)
        """

    @hookspec
    def on_health_result(self, backend: Backend, result: HealthResult) -> None:
        """See the result of an active probe.

        Called after every probe, before the thresholds decide about the backend's state.

        Result: ignored.
        Order: the features of a route in the order of its configuration, then plugins for every route.
        Failure: an exception is logged with the plugin's name.

        Example:
            @hookimpl
            def on_health_result(self, backend, result):
                if not result.ok:
                    print(backend.name, result.detail)
        """


class SetupHooks:
    """Called at start and at reload."""

    @hookspec
    def register_strategies(self) -> Iterable[Strategy]:
        """Offer strategies by name.

        Result: Strategy declarations; a generator is fine. A name that is taken is an error naming both owners.
        Order: built-ins first, then plugins sorted by entry-point name.
        Failure: the plugin is reported and skipped, or aborts the start when `plugins.require` names it.

        Example:
            @hookimpl
            def register_strategies():
                yield Strategy("first", First)
        """

    @hookspec
    def register_features(self) -> Iterable[Feature]:
        """Offer features; a feature's name is the section of a route that switches it on.

        Result: Feature declarations; a generator is fine. A name that is taken is an error naming both owners.
        Order: built-ins first, then plugins sorted by entry-point name.
        Failure: the plugin is reported and skipped, or aborts the start when `plugins.require` names it.

        Example:
            @hookimpl
            def register_features():
                yield Feature("teapot", Teapot, settings=TeapotSettings)
        """

    @hookspec
    def register_sections(self) -> Iterable[Section]:
        """Offer sections at the top of the file, for what belongs to no route.

        `balancer.config.section(name)` gives the validated settings, None where the file has no such section.

        Result: Section declarations; a generator is fine. A name that is taken is an error naming both owners.
        Order: built-ins first, then plugins sorted by entry-point name.
        Failure: the plugin is reported and skipped, or aborts the start when `plugins.require` names it.

        Example:
            @hookimpl
            def register_sections():
                yield Section("cluster", ClusterSettings)
        """

    @hookspec
    def register_commands(self) -> Iterable[Command]:
        """Offer commands of the command line that run inside the running balancer.

        `lb NAME …` finds the running balancer by its control socket and prints what the command returns there. A
        balancer inside somebody's application has no such socket. With several workers a command runs in the control
        process; what it changes reaches the workers over a channel (`balancer.sharing.channel`).

        Result: Command declarations; a generator is fine. A name that is taken is an error naming both owners.
        Order: built-ins first, then plugins sorted by entry-point name.
        Failure: the plugin is reported and skipped, or aborts the start when `plugins.require` names it.

        Example:
            @hookimpl
            def register_commands():
                yield Command("drain", drain, "Take a backend out of service.", ("ROUTE", "BACKEND"))
        """

    @hookspec
    def lifespan(self, balancer: LoadBalancer) -> AbstractAsyncContextManager[None] | None:
        """Run something for as long as the balancer runs: the only place that starts work.

        With several workers it is entered in the control process and in each worker. `balancer.controls` and
        `balancer.serves` tell whether this process decides, and whether it carries traffic; a process alone does both.
        What must run once among all nodes looks at `balancer.sharing.leads`.

        Result: an async context manager, entered before the first connection is accepted and left after the last one
            is closed; None for nothing.
        Order: entered in registration order, left in reverse, also when start-up fails half-way.
        Failure: an exception on entering aborts the start with the plugin's name.

        Example:
            @hookimpl
            @asynccontextmanager
            async def lifespan(balancer):
                async with asyncio.TaskGroup() as tasks:
                    reporter = tasks.create_task(report(balancer))
                    yield
                    reporter.cancel()
        """

    @hookspec
    def on_event(self, event: Event) -> None:
        """Hear what happens: a backend went down, a route changed, a configuration was refused.

        With several workers it is called in the control process only, which hears of what happens in the workers.

        Result: ignored.
        Order: unspecified.
        Failure: an exception is logged with the plugin's name; the others are still called.

        Example:
            @hookimpl
            def on_event(event):
                print(event)
        """
