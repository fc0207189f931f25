"""A pool in a worker: its limits hold for all workers together, and who has waited longest goes first.

Requests that wait for a backend wait in their own worker. Each worker publishes since when its first one waits, and
gives way to another worker's that came before its own, give or take `TOLERANCE`. While requests wait here it is looked
every `LOOK_EVERY` seconds whether there is room, since nobody tells when a request has ended elsewhere. A worker that
has not looked for `PATIENCE` hangs, and nobody gives way to it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from lb_core.backend import NO_LIMIT
from lb_core.pool import Pool
from lb_core.pool_numbers import FIRST, LOOKED, NumberedPool, Table, size_for
from lb_core.sharing.limited import WAITING, LimitedBackend, Place, share, unshare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lb_core.backend import Backend
    from lb_core.events import Notify
    from lb_core.pool import Waiting
    from lb_core.sharing import Sharing

LOOK_EVERY = 0.002
TOLERANCE = 5_000_000
PATIENCE = 10_000_000
"""The last two in nanoseconds."""


class SharedPool(Pool):
    """A pool of a worker."""

    __slots__ = ("_asks", "_came", "_counted", "_later", "_looking", "_now", "_numbers", "_sharing", "_table")

    def __init__(
        self,
        name: str,
        sharing: Sharing,
        *,
        notify: Notify,
        later: Callable[[float, Callable[[], None]], object] | None = None,
        now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._sharing = sharing
        self._table: Table | None = None
        self._numbers: dict[str, int] = {}
        self._counted: tuple[Backend, ...] = ()
        self._came: dict[Waiting, int] = {}
        self._asks = 0
        """Since when the request waits that is about to leave the queue; 0 while none is."""
        self._looking = False
        self._later = later
        self._now = now
        super().__init__(name, (), notify=notify)

    # where the backends count

    def replace(self, backends: Iterable[Backend]) -> None:
        """Take new backends; those with a limit count together with the other workers'."""
        found = tuple(backends)
        if self._table is not None and self._table.size != size_for(len(found)):
            self.close()
        for gone in set(self._counted).difference(found):
            unshare(gone)
        self._counted, self._numbers = found, {}
        for backend in found:
            self._settle(backend)
        super().replace(found)

    def close(self) -> None:
        """Count alone: the pool is gone, and its numbers will be another's."""
        for backend in self._counted:
            unshare(backend)
        if self._table is not None:
            self._table.slots.mine[FIRST] = 0
            self._table.close()
        self._table, self._numbers = None, {}

    def set_limit(self, backend: Backend, max_connections: int) -> None:
        """How many requests it may have in flight in all workers (`NO_LIMIT` for any number)."""
        super().set_limit(backend, max_connections)
        self._settle(backend)

    def restrict(self, backend: Backend, limit: int | None, *, lasting: int = 0) -> None:
        """Lower that number for a while; what each worker has beyond `lasting` counts together."""
        super().restrict(backend, limit)
        if backend.shared is not None and isinstance(backend, LimitedBackend):
            backend.shared.lasting = lasting
            backend.publish()

    def _settle(self, backend: Backend) -> None:
        """Let it count together with the others while it has a limit, and only then."""
        limited = backend.max_connections != NO_LIMIT or backend.restricted != NO_LIMIT
        if not limited or backend not in self._counted:
            unshare(backend)
            return
        table = self._open()
        number = self._numbers.get(backend.id)
        if number is None:
            unshare(backend)
            return
        place = backend.shared
        if place is None or place.slots is not table.slots or place.number != number:
            lasting = place.lasting if place is not None else 0
            unshare(backend)
            place = Place(table.slots, number, self._gives_way, lasting)
        share(backend, place)

    def _open(self) -> Table:
        """The numbers, found when they are first needed."""
        if self._table is None:
            self._table = Table(self._sharing, self.name, size_for(len(self._counted)))
        if not self._numbers:
            self._numbers = self._table.numbers.find(each.id for each in self._counted)
        return self._table

    def with_room(self, candidates: tuple[Backend, ...]) -> Backend | None:
        """The least busy candidate below its limit, for its weight, with a place that no other worker will take."""
        room = [each for each in candidates if each.weight and _room(each) > 0]
        for backend in sorted(room, key=lambda each: each.in_flight / each.weight):
            if backend.in_flight < backend.limit:
                return backend
        return None

    # who waits

    def rebuild(self) -> None:
        """Work out the candidates again; what waits for them waits for the new ones."""
        super().rebuild()
        self._say_who_waits()

    def wait(self, request: Waiting) -> None:
        """Put a request at the end of the queue, or where it was when another worker was faster."""
        if request in self._came:
            super().wait(request)
            self.queue.rotate(1)
            return
        self._came[request] = self._now()
        super().wait(request)
        self._say_who_waits()

    def has_turn(self) -> bool:
        """Whether the first in the queue may go."""
        self._asks = self._came.get(self.queue[0], 1)
        return super().has_turn()

    def _end_queue(self) -> None:
        super()._end_queue()
        self._asks = 0
        self._say_who_waits()

    def _say_who_waits(self) -> None:
        queue, came, table = self.queue, self._came, self._table
        if not queue:
            came.clear()
        elif len(came) > len(queue):
            self._came = came = {each: came[each] for each in queue if each in came}
        if table is None:
            return
        table.slots.mine[FIRST] = came.get(queue[0], 0) if queue else 0
        shared = {backend: backend.shared for backend in self.candidates} if queue else {}
        for backend in self.backends:
            place = backend.shared
            flag = WAITING if place is not None and backend in shared else 0
            if place is not None and place.flag != flag and isinstance(backend, LimitedBackend):
                place.flag = flag
                backend.publish()
        if queue and not self._looking and any(place is not None for place in shared.values()):
            self._looking = True
            self._look_later(table)

    def _look_later(self, table: Table) -> None:
        table.slots.mine[LOOKED] = self._now()
        later = self._later or asyncio.get_running_loop().call_later
        later(LOOK_EVERY, self._look)

    def _look(self) -> None:
        """Somewhere a request may have ended."""
        if not self.queue or self._table is None:
            self._looking = False
            return
        self._look_later(self._table)
        self.serve_queue()

    def _gives_way(self) -> bool:
        """Whether somebody else comes first: who waits here, and who has waited longer in another worker.

        A request that has just come gives way to all of them.
        """
        asks = self._asks
        if not asks and self.queue:
            return True
        latest = (asks or self._now()) - TOLERANCE
        looked = self._now() - PATIENCE
        rows = self._table.slots.elsewhere if self._table is not None else ()
        return any(0 < row[FIRST] <= latest and row[LOOKED] > looked for row in rows)


def _room(backend: Backend) -> int:
    return backend.room if isinstance(backend, LimitedBackend) else backend.limit - backend.in_flight


class PoolKinds:
    """Makes the pools of a process: plain ones where nothing is shared, else those of a worker or of its control."""

    def __init__(self, sharing: Sharing, *, notify: Notify) -> None:
        self._sharing = sharing
        self._notify = notify
        self._in_use: set[str] = set()

    def make(self, name: str) -> Pool:
        """A pool without backends."""
        if self._sharing.memory is None:
            return Pool(name, (), notify=self._notify)
        if self._sharing.seat:
            return SharedPool(name, self._sharing, notify=self._notify)
        return NumberedPool(name, self._sharing, self._in_use, notify=self._notify)
