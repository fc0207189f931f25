"""A backend with a limit, in a worker: its requests in flight count together with those of the other workers.

While it has a limit, a worker's backend is of the class `LimitedBackend`, which publishes `in_flight` where the others
read it; one without a limit stays a plain `Backend` and costs nothing. What a worker publishes of it is one number, so
that one sum over the workers says everything:

    bits 0-23     its requests in flight
    bits 24-47    those of them that count against a restriction (half open): all but what lasted when it began
    bits 48-      1 while requests wait for it in this worker

Where so few places are left that all workers together could take too many, who asks for the limit claims a place first:
it publishes one request more, and looks again. So there are never more than the limit; of two that ask in the same
instant both may find no room. A claim that nobody used is taken back on the next turn of the loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from lb_core.backend import NO_LIMIT, Backend
from lb_core.sharing.fence import fence

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.sharing.slots import Slots

BITS = 24
MASK = (1 << BITS) - 1
WAITING = 1 << (2 * BITS)

_get: Any = Backend.__dict__["in_flight"].__get__
_set: Any = Backend.__dict__["in_flight"].__set__
"""The plain attribute, which keeps its value when a backend changes its class."""


def _soon(call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_soon(call)


class Place:
    """Where a backend's number stands, and whether somebody here waits for it.

    `lasting` of its own requests do not count against a restriction. `gives_way` tells whether others come first, now
    that somebody waits. `soon` calls something on the next turn of the loop.
    """

    __slots__ = ("claimed", "flag", "gives_way", "lasting", "mine", "number", "slots", "soon")

    def __init__(
        self,
        slots: Slots,
        number: int,
        gives_way: Callable[[], bool],
        lasting: int = 0,
        soon: Callable[[Callable[[], None]], object] = _soon,
    ) -> None:
        self.slots = slots
        self.mine = slots.mine
        self.number = number
        self.gives_way = gives_way
        self.soon = soon
        self.lasting = lasting
        self.flag = 0
        self.claimed = False


class LimitedBackend(Backend):
    """A backend whose `limit` leaves out what the other workers use of it."""

    __slots__ = ()

    def _set_in_flight(self, count: int) -> None:
        _set(self, count)
        place: Place = self.shared  # type: ignore[assignment]  # it has one for as long as it is of this class
        if self.restricted == NO_LIMIT:
            place.mine[place.number] = count + place.flag
        else:
            self._say(place, count)

    def _get_limit(self) -> int:
        place: Place = self.shared  # type: ignore[assignment]
        number, rows, others = place.number, place.slots.elsewhere, place.flag
        for row in rows:
            others += row[number]
        count: int = _get(self)
        if others <= MASK and self.restricted == NO_LIMIT:  # nobody waits, and nobody is half open
            limit = self.max_connections - others
            if limit > count + len(rows):
                return limit
        limit = self._beside(others)
        return self._claim(place, count) if count < limit <= count + len(rows) else limit

    in_flight = property(_get, _set_in_flight)
    limit = property(_get_limit, Backend.__dict__["limit"].__set__)

    @property
    def room(self) -> int:
        """How many more it may have, without a claim to them."""
        place: Place = self.shared  # type: ignore[assignment]
        count: int = _get(self)
        return self._beside(place.flag + place.slots.others(place.number)) - count

    def publish(self) -> None:
        """Say again what is in flight."""
        if self.shared is not None:
            self.shared.claimed = False
            self._say(self.shared, _get(self))

    def _say(self, place: Place, count: int) -> None:
        counts = max(0, count - place.lasting) if self.restricted != NO_LIMIT else 0
        place.mine[place.number] = count + (counts << BITS) + place.flag

    def _beside(self, others: int) -> int:
        """What is left of the limit beside the others; nothing while they come first."""
        place: Place = self.shared  # type: ignore[assignment]
        if others >= WAITING and place.gives_way():
            return 0
        limit = self.max_connections - (others & MASK)
        if self.restricted != NO_LIMIT:
            limit = min(limit, self.restricted - ((others >> BITS) & MASK))
        return max(limit, 0)

    def _claim(self, place: Place, count: int) -> int:
        """The limit, once it is sure that no other worker takes the place too."""
        self._say(place, count + 1)
        fence()
        limit = self._beside(place.flag + place.slots.others(place.number))
        if count >= limit:
            self._say(place, count)
        elif not place.claimed:
            place.claimed = True
            place.soon(self.publish)
        return limit


def share(backend: Backend, place: Place) -> None:
    """Let it count together with the other workers from now on."""
    backend.shared = place
    backend.__class__ = LimitedBackend
    assert isinstance(backend, LimitedBackend)
    backend.publish()


def unshare(backend: Backend) -> None:
    """Let it count alone again."""
    place = backend.shared
    backend.__class__ = Backend
    backend.shared = None
    if place is not None:
        place.mine[place.number] = 0
