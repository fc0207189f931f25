"""Events of several processes, told once.

Every worker notices by itself that an ejection is over or that a limit refuses; one of them is news, the others say the
same. So the same kind, route and backend from another process within two seconds is not told again, unless something
else of its family was told that happened in between: `breaker_half_open` after `breaker_opened` makes the next
`breaker_opened` news. A family is what kinds have before their first underscore.

    worker 1    backend_ejected  breaker_opened    breaker_half_open
    worker 2    backend_ejected  breaker_opened                       breaker_opened
                told once        told once         told               told: the circuit has opened again
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lb_core.events import Event

SECONDS = 2.0
MOST = 1024


class Told(NamedTuple):
    """When something happened that was told, on the machine's clock, and the seat of the process that told it."""

    time: float
    seat: int


class Once:
    """Tells repetitions by other processes from news."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._families: dict[tuple[str, str, str], dict[str, Told]] = {}

    def admits(self, event: Event, seat: int) -> bool:
        """Whether an event is to be told that happened in the process of this seat."""
        family = event.kind.partition("_")[0], event.route, event.backend
        told = self._families.pop(family, {})
        self._families[family] = told
        news = self._is_news(told, event, seat)
        if news:
            told[event.kind] = Told(event.time, seat)
        while len(self._families) > MOST:
            del self._families[next(iter(self._families))]
        return news

    def _is_news(self, told: dict[str, Told], event: Event, seat: int) -> bool:
        last = told.get(event.kind)
        if last is None or last.seat == seat or abs(event.time - last.time) >= self._seconds:
            return True
        others = (each for kind, each in told.items() if kind != event.kind)
        return any(last.time < each.time < event.time for each in others)
