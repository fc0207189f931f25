"""Consistent hash: requests with the same key go to the same backend, for as long as it is there and not too busy.

Who serves a key is decided by rendezvous.py; keys are hashed with crc32, which is the same in every process and after
every restart. With bounded load (Mirrokni, Thorup and Zadimoghaddam, 2016) a backend that has more than `bounded` times
its share of the requests in flight passes a key on to the next in the key's own order, and so does one at its limit.
A retry takes the next in that order too.

A slow start does not count here: it would move keys twice.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Annotated
from zlib import crc32

from annotated_types import Ge
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from lb_core import Settings, hookimpl
from lb_strategies.hash_keys import key_of
from lb_strategies.rendezvous import SLOTS, UNKNOWN, Rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core import Backend, Exchange

    Candidates = tuple[Backend, ...]

KEPT = 4
"""Sets of candidates whose table is kept: the pool's own, and those it may come back to."""
MANY = 64
"""With so many backends it pays to keep what is known of the slots of those that stay when one leaves."""
EXACT = 16
"""Up to so many backends the requests in flight are summed for each choice that needs to know them."""


def _named(on: str) -> str:
    key_of(on)
    return on


def _factor(value: object) -> object:
    if value is False:
        return 0.0
    if value is True or (isinstance(value, (int, float)) and 0 < value < 1):
        raise ValueError(f"{value} is not a bound: write 1.25 for a quarter above the mean, at least 1, or off")
    return value


_FACTOR = WithJsonSchema({"anyOf": [{"type": "number", "minimum": 1}, {"enum": [0, False]}]})


class ConsistentHashSettings(Settings):
    """What requests of one backend have in common, and how much of the load it may get."""

    on: Annotated[str, AfterValidator(_named)] = "client"
    """`client`, `path`, `header:NAME`, `cookie:NAME` or `query:NAME`; a request without it goes by its client."""
    bounded: Annotated[float, BeforeValidator(_factor), Ge(0), _FACTOR] = 1.25
    """How many times its share of the requests in flight a backend may have before others help; `off` for any."""


class Placement:
    """One set of candidates: who owns which slot, and how full everybody is."""

    __slots__ = ("_asked", "_every", "_sum", "_total", "_weights", "candidates", "table", "weights")

    def __init__(self, candidates: Candidates, weights: tuple[int, ...], table: Rendezvous) -> None:
        self.candidates = candidates
        self.weights = weights
        self.table = table
        self._weights = dict(zip(candidates, weights, strict=True))
        self._sum = sum(weights)
        self._total = self._asked = 0
        self._every = len(candidates) // EXACT

    def is_full(self, backend: Backend, bounded: float) -> bool:
        """Whether a backend passes requests on."""
        load = backend.in_flight
        if load >= backend.limit:
            return True
        return (
            bounded > 0 and load > 1 and load > ceil(bounded * self._in_flight() * self._weights[backend] / self._sum)
        )

    def _in_flight(self) -> int:
        """The requests in flight at all candidates; with many of them the sum is used for some choices."""
        self._asked -= 1
        if self._asked < 0:
            self._asked = self._every
            self._total = sum(backend.in_flight for backend in self.candidates)
        return self._total

    def next_for(self, slot: int, bounded: float, without: Backend | None) -> Backend:
        """The first in a slot's order that is not full; the first of all when everybody is."""
        order = self.table.order(slot)
        for place in order:
            backend = self.candidates[place]
            if backend is not without and not self.is_full(backend, bounded):
                return backend
        best = self.candidates[order[0]]
        return best if best is not without else self.candidates[order[1]]


class ConsistentHash:
    """The strategy `consistent_hash`."""

    __slots__ = ("_bounded", "_candidates", "_here", "_kept", "_key", "_owners")

    def __init__(self, settings: ConsistentHashSettings | None = None) -> None:
        settings = settings or ConsistentHashSettings()
        self._key: Callable[[Exchange], bytes] = key_of(settings.on)
        self._bounded = settings.bounded
        self._candidates: Candidates = ()
        self._kept: list[Placement] = []
        self._here: Placement
        self._owners: list[int] = []

    @hookimpl
    def select_backend(self, exchange: Exchange, candidates: Candidates) -> Backend:
        """The backend of the request's key."""
        slot = crc32(self._key(exchange)) % SLOTS
        if candidates is not self._candidates:
            failed = exchange.backend
            if failed is not None and self._is_retry(failed, candidates):
                return self._here.next_for(slot, self._bounded, failed)
            self._switch(candidates)
        place = self._owners[slot]
        backend = candidates[place if place != UNKNOWN else self._here.table.owner(slot)]
        if backend.in_flight and self._here.is_full(backend, self._bounded):
            return self._here.next_for(slot, self._bounded, None)
        return backend

    def inherit(self, old: object) -> None:
        """Go on with the tables of the route as it was before."""
        if isinstance(old, ConsistentHash):
            self._kept = list(old._kept)

    def _is_retry(self, failed: Backend, candidates: Candidates) -> bool:
        """Whether these are the candidates at hand but for one that failed: no need for a table of their own."""
        known = self._candidates
        return len(candidates) == len(known) - 1 and candidates == tuple(each for each in known if each is not failed)

    def _switch(self, candidates: Candidates) -> None:
        """Go over to other candidates; the same backends at the same weights have the same table."""
        weights = tuple(max(backend.configured_weight, 1) for backend in candidates)
        kept = self._kept
        for place, known in enumerate(kept):
            if known.candidates == candidates and known.weights == weights:
                here = kept.pop(place)
                break
        else:
            here = Placement(candidates, weights, self._table(candidates, weights))
            del kept[KEPT - 1 :]
        kept.insert(0, here)
        self._here, self._candidates, self._owners = here, candidates, here.table.owners

    def _table(self, candidates: Candidates, weights: tuple[int, ...]) -> Rendezvous:
        if len(candidates) >= MANY and self._kept:
            last = self._kept[0]
            places = {backend: place for place, backend in enumerate(last.candidates)}
            staying = [places.get(backend, UNKNOWN) for backend in candidates]
            if UNKNOWN not in staying and weights == tuple(last.weights[place] for place in staying):
                return last.table.only(staying)
        return Rendezvous([backend.id for backend in candidates], weights)
