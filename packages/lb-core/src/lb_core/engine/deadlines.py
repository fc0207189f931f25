"""One coarse timer for all connections.

A request costs one attribute store: `connection.deadline = when`. Twice a second the deadlines of all connections are
compared with the clock; `asyncio` timers, one a request, would cost more than the request's own hooks. `now` is what a
deadline is reckoned from without asking the clock: the moment of the next sweep. A deadline is therefore never met
early, and up to a second late, which no timeout of this kind minds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger("lb.engine")

PERIOD = 0.5
NEVER = float("inf")


class Expiring(Protocol):
    """A connection with something to do when its deadline has passed."""

    deadline: float

    def expired(self, now: float) -> None:
        """The deadline has passed; set another or end."""


class Deadlines:
    """The connections that have a deadline, and the clock as of the next sweep."""

    __slots__ = ("_handle", "_sweepers", "clock", "connections", "now")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.now = clock() + PERIOD
        self.connections: set[Expiring] = set()
        self._sweepers: list[Callable[[float], None]] = []
        self._handle: asyncio.TimerHandle | None = None

    def start(self, *sweepers: Callable[[float], None]) -> None:
        """Sweep from now on; `sweepers` are called each time with the clock's reading."""
        self._sweepers = list(sweepers)
        self._handle = asyncio.get_running_loop().call_later(PERIOD, self._tick)

    def stop(self) -> None:
        """Sweep no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def sweep(self) -> None:
        """Expire what is due."""
        now = self.clock()
        self.now = now + PERIOD
        for connection in [c for c in self.connections if c.deadline < now]:
            try:
                connection.expired(now)
            except Exception:
                # one of them must not keep the others from their deadlines
                log.exception("a connection failed at its deadline and is watched no more")
                self.connections.discard(connection)
        for sweeper in self._sweepers:
            sweeper(now)

    def _tick(self) -> None:
        self._handle = asyncio.get_running_loop().call_later(PERIOD, self._tick)
        self.sweep()
