"""One route, compiled: what the engine needs for a request, fetched with one lookup.

A hook nobody implements is a slot that holds None, so that asking costs one comparison. What a plugin raises is
contained here: the hooks that decide (`before_request`, `select_backend`) raise HookFailure, which the engine answers with 500;
those that watch are logged with the plugin's name and the request goes on.
"""

from __future__ import annotations

import logging
from inspect import iscoroutinefunction
from math import inf
from typing import TYPE_CHECKING, Any

from lb_core.chain import Call, compile_chain, is_async
from lb_core.errors import LbError

if TYPE_CHECKING:
    from pluggy import HookImpl, PluginManager

    from lb_core.config import RouteConfig
    from lb_core.pool import Pool

log = logging.getLogger("lb.plugins")


class HookFailure(LbError):
    """A plugin raised where it should have decided; names the plugin and the hook."""

    def __init__(self, plugin: str, hook: str) -> None:
        self.plugin = plugin
        self.hook = hook
        super().__init__(f"plugin {plugin!r} failed in {hook}")


class Route:
    """One route, compiled. Durations are seconds, sizes bytes; a timeout switched off is infinite, other limits are 0."""

    __slots__ = (
        "active",
        "before_is_async",
        "before_request",
        "config",
        "connect_timeout",
        "header_timeout",
        "idle_timeout",
        "max_body",
        "name",
        "on_backend_error",
        "on_complete",
        "on_health_result",
        "on_response",
        "plugin_errors",
        "plugins",
        "pool",
        "queue_timeout",
        "request_timeout",
        "requests",
        "retry_attempts",
        "retry_budget",
        "retry_connect",
        "retry_reset",
        "retry_timeout",
        "retrying",
        "select_backend",
        "send_backend_host",
        "strip_prefix",
        "tunnel_timeout",
    )

    def __init__(self, config: RouteConfig, pool: Pool) -> None:
        self.name = config.name
        self.config = config
        self.pool = pool
        self.requests = 0
        self.active = 0
        self.retrying = 0
        self.plugin_errors = 0
        timeouts, retry = config.timeouts, config.retry
        self.connect_timeout = timeouts.connect
        self.header_timeout = timeouts.response_header or inf
        self.idle_timeout = timeouts.idle or inf
        self.queue_timeout = timeouts.queue
        self.request_timeout = timeouts.request
        self.tunnel_timeout = timeouts.tunnel_idle or inf
        self.retry_attempts = retry.attempts
        self.retry_budget = retry.budget
        self.retry_connect = "connect" in retry.on
        self.retry_reset = "reset" in retry.on
        self.retry_timeout = "timeout" in retry.on
        self.max_body = config.max_body
        self.strip_prefix = config.strip_prefix.encode("latin-1")
        self.send_backend_host = config.host_header == "backend"
        self.plugins: tuple[str, ...] = ()
        self.before_request: Call | None = None
        self.before_is_async = False
        self.select_backend: Call | None = None
        self.on_backend_error: Call | None = None
        self.on_response: Call | None = None
        self.on_complete: Call | None = None
        self.on_health_result: Call | None = None

    def attach(self, manager: PluginManager) -> None:
        """Compile the hook chains from this route's own plugin manager."""
        hook = manager.hook
        decide, watch = self._deciding, self._watching
        self.before_request = compile_chain(hook.before_request, guard=decide)
        self.before_is_async = is_async(self.before_request)
        self.select_backend = compile_chain(hook.select_backend, guard=decide)
        self.on_backend_error = compile_chain(hook.on_backend_error, guard=watch)
        self.on_response = compile_chain(hook.on_response, guard=watch)
        self.on_complete = compile_chain(hook.on_complete, guard=watch)
        self.on_health_result = compile_chain(hook.on_health_result, guard=watch)
        self.plugins = tuple(name for name, _ in reversed(manager.list_name_plugin()))

    def _deciding(self, impl: HookImpl, call: Call) -> Call:
        plugin, hook = impl.plugin_name, impl.function.__name__

        async def awaited(*args: Any) -> Any:
            try:
                return await call(*args)
            except Exception as error:
                self.plugin_errors += 1
                raise HookFailure(plugin, hook) from error

        def called(*args: Any) -> Any:
            try:
                return call(*args)
            except Exception as error:
                self.plugin_errors += 1
                raise HookFailure(plugin, hook) from error

        return awaited if iscoroutinefunction(impl.function) else called

    def _watching(self, impl: HookImpl, call: Call) -> Call:
        plugin, hook = impl.plugin_name, impl.function.__name__

        def called(*args: Any) -> None:
            try:
                call(*args)
            except Exception:
                self.plugin_errors += 1
                log.exception("plugin %r failed in %s; the request went on without it", plugin, hook)

        return called

    def __repr__(self) -> str:
        return f"<Route {self.name}>"
