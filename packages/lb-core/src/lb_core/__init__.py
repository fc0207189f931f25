"""An HTTP load balancer built of plugins.

The public face: what plugins and embedders import. Loaded lazily, so that a plugin with ten lines does not pay for the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lb_core.hooks import hookimpl, hookspec

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.balancer import LoadBalancer
    from lb_core.errors import AttemptError, ConfigError, LbError, PluginError
    from lb_core.events import Event
    from lb_core.exchange import Exchange, Response
    from lb_core.features import Feature, Strategy
    from lb_core.headers import Headers
    from lb_core.pool import Pool
    from lb_core.route import Route

__version__ = "0.1.0"

_WHERE = {
    "AttemptError": "errors",
    "Backend": "backend",
    "ConfigError": "errors",
    "Event": "events",
    "Exchange": "exchange",
    "Feature": "features",
    "Headers": "headers",
    "LbError": "errors",
    "LoadBalancer": "balancer",
    "PluginError": "errors",
    "Pool": "pool",
    "Response": "exchange",
    "Route": "route",
    "Strategy": "features",
}

__all__ = [
    "AttemptError",
    "Backend",
    "ConfigError",
    "Event",
    "Exchange",
    "Feature",
    "Headers",
    "LbError",
    "LoadBalancer",
    "PluginError",
    "Pool",
    "Response",
    "Route",
    "Strategy",
    "hookimpl",
    "hookspec",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"lb_core.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
