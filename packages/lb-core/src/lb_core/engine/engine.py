"""What all connections share: the routing table, the clock, whom to believe.

Control swaps `table` and `trusted_proxies` by one assignment each; a request reads them once and keeps what it got.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count
from random import getrandbits
from typing import TYPE_CHECKING

from lb_core.engine import connections
from lb_core.engine.deadlines import Deadlines
from lb_core.engine.origin import Network, Origin

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.route import Route
    from lb_core.table import Table


MAX_ORIGINS = 4096
_NUMBERS = [b"%04x" % number for number in range(0x1000)]


def _block_of_ids(number: int) -> Iterator[bytes]:
    """The next 4,096 request ids: 112 random bits in common, and a number. Made by iterators that never enter Python."""
    del number
    return map((b"%028x" % getrandbits(112)).__add__, _NUMBERS)


class Engine:
    """The shared state of the request path."""

    __slots__ = ("backends", "deadlines", "table", "trusted_proxies", "unmatched", "_origins", "next_id")

    def __init__(self, table: Table, unmatched: Route) -> None:
        self.table = table
        self.unmatched = unmatched
        self.trusted_proxies: tuple[Network, ...] = ()
        self.backends: tuple[Backend, ...] = ()
        self.deadlines = Deadlines()
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
        self.forget(self.backends)

    def forget(self, backends: Iterable[Backend]) -> None:
        """Close the idle connections of backends that have left."""
        for backend in backends:
            connections.drop(backend)

    def _prune(self, now: float) -> None:
        connections.prune(self.backends, now)
