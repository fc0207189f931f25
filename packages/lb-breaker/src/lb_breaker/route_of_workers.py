"""The breaker with scope `route` where several workers serve the route.

They count failures together (counts.py), and have `probes` under way in their sum: each writes how many are its own
into a slot of shared memory, and reads those of the others.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lb_breaker.circuit import State
from lb_breaker.counts import Counts, News, PooledTally, key_of
from lb_breaker.timers import Timer, later
from lb_breaker.whole_route import RouteBreaker
from lb_core import hookimpl
from lb_core.sharing import Slots

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_breaker.settings import BreakerSettings
    from lb_breaker.tally import Tally
    from lb_core import Exchange, Route


class RouteBreakerOfWorkers(RouteBreaker):
    """The feature `circuit_breaker` of one route, for all workers together."""

    def __init__(
        self,
        route: Route,
        settings: BreakerSettings,
        *,
        later: Callable[[float, Callable[[], None]], Timer] = later,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        topic = f"circuit_breaker_counts_of_route/{route.name}"
        self._counts = Counts(route.sharing, topic, self._count, later=later, clock=clock)
        super().__init__(route, settings, later=later, clock=clock, wall=wall)
        self._slots: Slots | None = None
        self._handed_on = False

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        """A probe that has ended makes room for another, of whichever process."""
        if self._probes and exchange in self._probes:
            self._forget(exchange)

    def inherit(self, old: object) -> None:
        """Go on with the state of the route before it was rebuilt."""
        super().inherit(old)
        if isinstance(self._tally, PooledTally):
            self._tally.counts = self._counts
        if isinstance(old, RouteBreakerOfWorkers):
            old._handed_on = True

    def start(self) -> None:
        """Take up what was inherited, and count with the others."""
        self._slots = Slots(self._route.sharing, f"circuit_breaker/probes/{self._route.name}", 1)
        self._slots.mine[0] = 0
        self._counts.enter()
        super().start()

    def close(self) -> None:
        """Let the requests in again."""
        super().close()
        self._counts.leave()
        if self._slots is not None:
            self._slots.mine[0] = 0
            self._slots.close(release=not self._handed_on)
            self._slots = None

    def _new_tally(self) -> Tally:
        return PooledTally(self._settings, self._counts, "")

    def _count(self, key: str, name: str, news: News) -> None:
        """Add what another worker has counted."""
        del name
        tally = self._tally
        if self._circuit.state is State.CLOSED and key == key_of(self._settings) and isinstance(tally, PooledTally):
            tally.add(self._clock(), news)
            self._watching = self._counts_all or bool(tally.row)

    def _place(self) -> bool:
        slots = self._slots
        if slots is None:
            return False
        slots.mine[0] = len(self._probes) + 1
        if slots.total(0) <= self._circuit.probes:
            return True
        slots.mine[0] = len(self._probes)
        return False

    def _forget(self, exchange: Exchange) -> None:
        super()._forget(exchange)
        self._write()

    def _clear_probes(self) -> None:
        super()._clear_probes()
        self._write()

    def _write(self) -> None:
        if self._slots is not None:
            self._slots.mine[0] = len(self._probes)
