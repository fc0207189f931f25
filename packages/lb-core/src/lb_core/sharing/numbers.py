"""Which number of some slots belongs to which name, the same in every process of a node.

    control process    keep(names)    gives each name a number, before the workers get the configuration
    worker             find(names)    reads them

The names stand in the row of the control process as digests of 8 bytes, each at its number. The number of a name that
is gone is given to another after a minute: until then a worker may still count under it.
"""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REST = 60.0
"""Seconds for which the number of a name that is gone stays unused."""


class Numbers:
    """The numbers from `first` on whose names stand in `places`, the row of the control process."""

    __slots__ = ("_clock", "_gone", "_places", "first")

    def __init__(self, places: memoryview[int], *, first: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.first = first
        self._places = places
        self._clock = clock
        self._gone: dict[int, float] = {}

    def keep(self, names: Iterable[str]) -> None:
        """In the control process: these names are in use, and no others; one that finds no room has no number."""
        wanted = {_digest(name) for name in names}
        places = self._places
        now = self._clock()
        free = []
        for number in range(self.first, len(places)):
            if places[number] in wanted:
                wanted.discard(places[number])
                self._gone.pop(number, None)
            elif not places[number] or now - self._gone.setdefault(number, now) >= REST:
                free.append(number)
        for number, digest in zip(free, sorted(wanted), strict=False):
            places[number] = digest
            self._gone.pop(number, None)

    def find(self, names: Iterable[str]) -> dict[str, int]:
        """The numbers of those names that have one."""
        known = {digest: number for number, digest in enumerate(self._places.tolist()) if digest}
        digests = {name: _digest(name) for name in names}
        return {name: known[digest] for name, digest in digests.items() if digest in known}


def _digest(name: str) -> int:
    """A number that two names do not share in practice; never 0, which is a free place."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little", signed=True) or 1
