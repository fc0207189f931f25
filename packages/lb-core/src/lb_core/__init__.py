"""An HTTP load balancer built of plugins.

The public face: what plugins and embedders import. Loaded lazily, so that a plugin with ten lines does not pay for the
server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lb_core.hooks import hookimpl, hookspec

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.balancer import LoadBalancer
    from lb_core.clients import Ranges, address_of, network_of
    from lb_core.commands import Command
    from lb_core.engine import subrequest
    from lb_core.errors import AttemptError, ConfigError, LbError, PluginError
    from lb_core.events import Event
    from lb_core.exchange import Exchange
    from lb_core.features import Feature, Section, Strategy, Use
    from lb_core.headers import Headers
    from lb_core.overlay import parse_patch
    from lb_core.pool import Pool
    from lb_core.response import Response
    from lb_core.route import Route
    from lb_core.settings import Duration, Network, Peer, PositiveDuration, Settings, Share, Size, Whole
    from lb_core.sharing import Member

__version__ = "0.1.0"

_WHERE = {
    "AttemptError": "errors",
    "Backend": "backend",
    "Command": "commands",
    "ConfigError": "errors",
    "Duration": "settings",
    "Event": "events",
    "Exchange": "exchange",
    "Feature": "features",
    "Headers": "headers",
    "LbError": "errors",
    "LoadBalancer": "balancer",
    "Member": "sharing",
    "Network": "settings",
    "Peer": "settings",
    "PluginError": "errors",
    "Pool": "pool",
    "PositiveDuration": "settings",
    "Ranges": "clients",
    "Response": "response",
    "Route": "route",
    "Section": "features",
    "Settings": "settings",
    "Share": "settings",
    "Size": "settings",
    "Strategy": "features",
    "Use": "features",
    "Whole": "settings",
    "address_of": "clients",
    "network_of": "clients",
    "parse_patch": "overlay",
    "subrequest": "engine.subrequest",
}

__all__ = [
    "AttemptError",
    "Backend",
    "Command",
    "ConfigError",
    "Duration",
    "Event",
    "Exchange",
    "Feature",
    "Headers",
    "LbError",
    "LoadBalancer",
    "Member",
    "Network",
    "Peer",
    "PluginError",
    "Pool",
    "PositiveDuration",
    "Ranges",
    "Response",
    "Route",
    "Section",
    "Settings",
    "Share",
    "Size",
    "Strategy",
    "Use",
    "Whole",
    "address_of",
    "hookimpl",
    "hookspec",
    "network_of",
    "parse_patch",
    "subrequest",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"lb_core.{_WHERE[name]}")
    value = getattr(module, name, module)  # `subrequest` is a module itself
    globals()[name] = value
    return value
