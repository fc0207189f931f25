"""Sticky sessions by a header that clients send: requests with the same value go to the same backend.

Nothing is remembered and nothing is set: the value is hashed (rendezvous.py), to one of 65,536 slots. Where its backend
is down, full or has failed, the next by the same rule serves, and again the first when it is back. A backend that
drains keeps its values until its deadline. A request without the header is left to the strategy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from lb_core import hookimpl
from lb_sessions.obstacles import obstacle
from lb_sessions.rendezvous import best

if TYPE_CHECKING:
    from lb_core import Backend, Exchange, Pool

SLOTS = 1 << 16


class Placement:
    """Who serves which slot of one pool, for one tuple of its candidates. `draining` are others that may serve."""

    __slots__ = ("candidates", "draining", "owners")

    def __init__(self, pool: Pool, candidates: tuple[Backend, ...]) -> None:
        self.candidates = candidates
        self.owners: dict[int, Backend] = {}
        self.draining = draining(pool)


def draining(pool: Pool) -> list[Backend]:
    """The backends that take no new clients and have a deadline ahead."""
    now = pool.clock()
    return [each for each in pool.backends if now < each.drains_until and not each.backup]


class HeaderSessions:
    """The feature `sticky_sessions` of one route, by header."""

    __slots__ = ("_name", "_placements")

    def __init__(self, name: str) -> None:
        self._name = name
        self._placements: dict[Pool, Placement] = {}

    @hookimpl
    def select_backend(self, exchange: Exchange, candidates: tuple[Backend, ...]) -> Backend | None:
        """The backend of the header's value."""
        value: str = exchange.headers.get(self._name, "")
        if not value:
            return None
        slot = slot_of(value)
        placement = self._placements.get(exchange.pool)
        if placement is None or placement.candidates is not candidates:
            if candidates is not exchange.pool.candidates:  # a retry, without the one that failed
                return self._first(slot, exchange, candidates)
            placement = self._placements[exchange.pool] = Placement(exchange.pool, candidates)
        if placement.draining:
            placement.draining = draining(exchange.pool)
            return self._first(slot, exchange, candidates)
        owner = placement.owners.get(slot)
        if owner is None:
            owner = placement.owners[slot] = best(slot, candidates)
        return owner if owner.in_flight < owner.limit else self._first(slot, exchange, candidates)

    def _first(self, slot: int, exchange: Exchange, candidates: tuple[Backend, ...]) -> Backend:
        """The best that nothing keeps from serving; the best candidate where everybody is full."""
        pool = exchange.pool
        now = pool.clock()
        left = {*candidates, *pool.candidates, *(each for each in draining(pool) if each.serves_known(now))}
        while left:
            backend = best(slot, left)
            why = obstacle(backend, exchange, candidates)
            if not why:
                return backend
            left.discard(backend)
            exchange.note(f"its client is {backend.name}'s, which {why}")
            exchange.flag("repicked")
        return best(slot, candidates)

    def keeps(self, exchange: Exchange) -> Backend | None:
        """The backend of the header's value where nobody takes new clients."""
        value: str = exchange.headers.get(self._name, "")
        left = [each for each in draining(exchange.pool) if not obstacle(each, exchange, ())]
        return best(slot_of(value), left) if value and left else None

    def why(self, exchange: Exchange, candidates: tuple[Backend, ...], backend: Backend) -> str:
        """Why it was chosen, for the decision record."""
        first = best(slot_of(exchange.headers.get(self._name, "")), exchange.pool.backends)
        instead = "" if first is backend or first in candidates else f", instead of {first.name} ({first.state})"
        return f"the client's own, by the header {self._name}{instead}"


def slot_of(value: str) -> int:
    """The slot of a header's value."""
    return crc32(value.encode("latin-1")) % SLOTS
