"""The built-ins, on the same hooks as everybody's plugins: the strategy `least_connections`, the feature `ejection`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.defaults.backends import BACKENDS
from lb_core.defaults.ejection import EjectionSettings, build
from lb_core.defaults.least_connections import LeastConnections
from lb_core.defaults.nodes import NODES
from lb_core.defaults.workers import WORKERS
from lb_core.features import Feature, Strategy
from lb_core.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lb_core.commands import Command


@hookimpl
def register_strategies() -> Iterator[Strategy]:
    """Offer the default strategy."""
    yield Strategy("least_connections", LeastConnections, aliases=("leastconn", "least_conn", "least_request"))


@hookimpl
def register_features() -> Iterator[Feature]:
    """Offer passive ejection."""
    yield Feature("ejection", build, EjectionSettings)


@hookimpl
def register_commands() -> Iterator[Command]:
    """Offer the commands that need no plugin."""
    yield NODES
    yield WORKERS
    yield BACKENDS
