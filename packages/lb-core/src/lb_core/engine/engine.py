"""What all connections share: the routing table, the clock, whom to believe.

Control swaps `table` by one assignment, and whom to believe by `trust`; a request reads them once and keeps what it
got.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count
from random import getrandbits
from typing import TYPE_CHECKING, cast

from lb_core.decisions import Decisions
from lb_core.engine import connections
from lb_core.engine.deadlines import NEVER, Deadlines
from lb_core.engine.origin import Network, Origin

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.engine.downstream import Downstream
    from lb_core.route import Route
    from lb_core.table import Table


MAX_ORIGINS = 4096
_NUMBERS = [b"%04x" % number for number in range(0x1000)]


def _block_of_ids(number: int) -> Iterator[bytes]:
    """The next 4,096 request ids: 112 random bits in common, and a number; made without entering Python."""
    del number
    return map((b"%028x" % getrandbits(112)).__add__, _NUMBERS)


class Engine:
    """The shared state of the request path."""

    __slots__ = (
        "_origins",
        "backends",
        "deadlines",
        "decisions",
        "max_connections",
        "next_id",
        "table",
        "trusted_proxies",
        "unmatched",
    )

    def __init__(self, table: Table, unmatched: Route) -> None:
        self.table = table
        self.unmatched = unmatched
        self.trusted_proxies: tuple[Network, ...] = ()
        self.backends: tuple[Backend, ...] = ()
        self.deadlines = Deadlines()
        self.decisions = Decisions()
        self.max_connections: float = NEVER
        """Of clients on all listeners that have no limit of their own."""
        self._origins: dict[tuple[str, str, int], Origin] = {}
        self.next_id: Callable[[], bytes] = chain.from_iterable(map(_block_of_ids, count())).__next__

    def origin(self, peer: str, scheme: str, port: int) -> Origin:
        """What is known of a client's address; kept, since most connections come from addresses seen before."""
        key = peer, scheme, port
        found = self._origins.get(key)
        if found is None or found.networks is not self.trusted_proxies:
            if len(self._origins) >= MAX_ORIGINS:
                self._origins.clear()
            found = self._origins[key] = Origin(peer, scheme, port, self.trusted_proxies)
        return found

    def start(self) -> None:
        """Start the clock; needs the running loop."""
        self.deadlines.start(self._prune)

    def stop(self) -> None:
        """Stop the clock and close every idle connection to a backend."""
        self.deadlines.stop()
        for backend in self.backends:
            connections.drop(backend)

    def trust(self, networks: tuple[Network, ...]) -> None:
        """Believe these proxies from the next request on, also over connections that are open."""
        if networks != self.trusted_proxies:
            self.trusted_proxies = networks
            for each in self.deadlines.connections:
                connection = cast("Downstream", each)
                connection.origin = self.origin(connection.peer, connection.scheme, connection.port)

    def forget(self, backends: Iterable[Backend]) -> None:
        """Close the connections of backends that have left, the busy ones after their exchange."""
        for backend in backends:
            connections.retire(backend)

    def _prune(self, now: float) -> None:
        connections.prune(self.backends, now)
