"""A backend with a limit, in a worker: its requests in flight count together with those of the other workers.

While it has a limit, a worker's backend is of the class `LimitedBackend`, which publishes `in_flight` where the others
read it; one without a limit stays a plain `Backend` and costs nothing. What a worker publishes of it is one number:

    bits 0-23     its requests in flight
    bits 24-47    those of them that count against a restriction (half open), which is not what lasted when it began
    bits 48-      1 while requests wait for it in this worker

so that one sum says all. Two workers that look in the same microsecond may both take the last place: that is the only
way to go over the limit, by one request for each other worker at the most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lb_core.backend import NO_LIMIT, Backend

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.sharing.slots import Slots

BITS = 24
MASK = (1 << BITS) - 1
WAITING = 1 << (2 * BITS)

_in_flight: Any = Backend.__dict__["in_flight"]
_limit: Any = Backend.__dict__["limit"]
"""The plain attributes, which keep their values when a backend changes its class."""


class Place:
    """Where a backend's number stands, and whether somebody here waits for it.

    `lasting` of its own requests do not count against a restriction. `gives_way` tells whether others come first, now
    that somebody waits.
    """

    __slots__ = ("flag", "gives_way", "lasting", "mine", "number", "slots")

    def __init__(self, slots: Slots, number: int, gives_way: Callable[[], bool], lasting: int = 0) -> None:
        self.slots = slots
        self.mine = slots.mine
        self.number = number
        self.gives_way = gives_way
        self.lasting = lasting
        self.flag = 0


class LimitedBackend(Backend):
    """A backend whose `limit` leaves out what the other workers use of it."""

    __slots__ = ()

    def _set_in_flight(self, count: int) -> None:
        _in_flight.__set__(self, count)
        place: Place = self.shared  # type: ignore[assignment]  # it has one for as long as it is of this class
        if self.restricted == NO_LIMIT:
            place.mine[place.number] = count + place.flag
        else:
            place.mine[place.number] = count + (max(0, count - place.lasting) << BITS) + place.flag

    def _get_limit(self) -> int:
        place: Place = self.shared  # type: ignore[assignment]
        others = place.slots.others(place.number)
        if (others >= WAITING or place.flag) and place.gives_way():
            return 0
        limit = self.max_connections - (others & MASK)
        if self.restricted != NO_LIMIT:
            limit = min(limit, self.restricted - ((others >> BITS) & MASK))
        return max(limit, 0)

    in_flight = property(_in_flight.__get__, _set_in_flight)
    limit = property(_get_limit, _limit.__set__)

    def publish(self) -> None:
        """Say again what is in flight."""
        self._set_in_flight(self.in_flight)


def share(backend: Backend, place: Place) -> LimitedBackend:
    """Let it count together with the other workers from now on."""
    backend.shared = place
    backend.__class__ = LimitedBackend
    assert isinstance(backend, LimitedBackend)
    backend.publish()
    return backend


def unshare(backend: Backend) -> None:
    """Let it count alone again."""
    place = backend.shared
    backend.__class__ = Backend
    backend.shared = None
    if place is not None:
        place.mine[place.number] = 0
