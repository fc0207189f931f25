"""Events of several processes, told once.

Every worker notices by itself that an ejection is over or that a limit refuses; one of them is news, the others say the
same. So the same kind, route and backend from another process within two seconds is not told again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.events import Event

SECONDS = 2.0
MOST = 1024


class Once:
    """Tells repetitions by other processes from news."""

    def __init__(self, *, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._told: dict[tuple[str, str, str], tuple[float, int]] = {}

    def admits(self, event: Event, seat: int) -> bool:
        """Whether an event is to be told that happened in the process of this seat."""
        now = self._clock()
        key = event.kind, event.route, event.backend
        when, who = self._told.pop(key, (float("-inf"), seat))
        news = who == seat or now - when >= self._seconds
        self._told[key] = (now, seat) if news else (when, who)
        while len(self._told) > MOST:
            del self._told[next(iter(self._told))]
        return news
