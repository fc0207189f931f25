"""What all connections share: the routing table, the clock, whom to believe.

Control swaps `table` and `trusted_proxies` by one assignment each; a request reads them once and keeps what it got.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lb_core.engine import connections
from lb_core.engine.deadlines import Deadlines

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.engine.origin import Network
    from lb_core.route import Route
    from lb_core.table import Table


class Engine:
    """The shared state of the request path."""

    __slots__ = ("backends", "deadlines", "no_route_status", "table", "trusted_proxies", "unmatched")

    def __init__(self, table: Table, unmatched: Route) -> None:
        self.table = table
        self.unmatched = unmatched
        self.trusted_proxies: tuple[Network, ...] = ()
        self.no_route_status = 404
        self.backends: tuple[Backend, ...] = ()
        self.deadlines = Deadlines()

    def start(self) -> None:
        """Start the clock; needs the running loop."""
        self.deadlines.start(self._prune)

    def stop(self) -> None:
        """Stop the clock and close every idle connection to a backend."""
        self.deadlines.stop()
        self.forget(self.backends)

    def forget(self, backends: Iterable[Backend]) -> None:
        """Close the idle connections of backends that have left."""
        for backend in backends:
            connections.drop(backend)

    def _prune(self, now: float) -> None:
        connections.prune(self.backends, now)
