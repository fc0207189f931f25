"""A node's processes in one: what each of them shares with the others, joined without a socket between them.

    together = Together(workers=2)
    route = Route(config, pool, together.workers[0])    and the same for workers[1] and for control

What one sends reaches the others at once, as JSON would carry it; `held()` keeps messages back until it ends, so that
they cross on their way. Nodes are joined by `joined(one, other)`; `locality` says on which machine a node is, this one
where it is not given.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lb_core.sharing import Memory, Sharing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lb_core.locality import Locality
    from lb_core.sharing import Note

Waiting = list["Callable[[], None]"]


class Together:
    """`control`, and `workers` with the seats from 1 on; `sent` are the messages so far, as (topic, message)."""

    def __init__(self, workers: int = 2, locality: Locality | None = None) -> None:
        memory = Memory()
        self.control = Sharing(memory=memory, locality=locality)
        self.workers = [Sharing(seat=seat, memory=memory, locality=locality) for seat in range(1, workers + 1)]
        self.sent: list[tuple[str, Any]] = []
        self._waiting: Waiting | None = None
        self.control.peers = _Workers(self)
        for worker in self.workers:
            worker.peers = _Control(self, worker.seat)
        self._seat()

    def add(self) -> Sharing:
        """Another worker, that knows nothing yet: `welcome` tells it."""
        worker = Sharing(seat=len(self.workers) + 1, memory=self.control.memory, locality=self.control.locality)
        worker.peers = _Control(self, worker.seat)
        self.workers.append(worker)
        self._seat()
        return worker

    def welcome(self, worker: Sharing) -> None:
        """Tell a worker how things stand."""
        for note in self.control.welcome():
            worker.hear(note)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Messages arrive when this ends, in the order in which they were sent."""
        waiting: Waiting = []
        self._waiting = waiting
        try:
            yield
        finally:
            self._waiting = None
            for deliver in waiting:
                deliver()

    def post(self, note: Note, hear: Callable[[Note], None]) -> None:
        """Carry a note to somebody, now or when `held` ends."""
        if note[0] in ("message", "up"):
            note = note[0], note[1], json.loads(json.dumps(note[2])), *note[3:]
        if self._waiting is None:
            hear(note)
        else:
            self._waiting.append(lambda: hear(note))

    def _seat(self) -> None:
        seats = tuple(worker.seat for worker in self.workers)
        self.control.set_seats(seats)
        for worker in self.workers:
            worker.set_seats((0, *(seat for seat in seats if seat != worker.seat)))


class _Workers:
    """All workers, seen from the control process."""

    def __init__(self, together: Together) -> None:
        self._together = together

    def tell(self, note: Note, *, but: int | None = None) -> None:
        for worker in self._together.workers:
            if worker.seat != but:
                self._together.post(note, worker.hear)


class _Control:
    """The control process, seen from a worker."""

    def __init__(self, together: Together, seat: int) -> None:
        self._together = together
        self._seat = seat

    def tell(self, note: Note, *, but: int | None = None) -> None:
        del but
        if note[0] in ("message", "up"):
            self._together.sent.append((note[1], note[2]))
        self._together.post(note, lambda each: self._together.control.hear(each, self._seat))


class _Cluster:
    """The way to one other node."""

    def __init__(self, other: Together) -> None:
        self._other = other

    def members(self) -> list[Any]:
        return []

    def publish(self, topic: str, message: Any) -> None:
        self._other.control.deliver(topic, json.loads(json.dumps(message)))

    def order(self, node: str, what: str) -> None:
        """Nobody is asked."""


def joined(one: Together, other: Together) -> None:
    """Make two nodes a cluster, and tell each how things stand at the other."""
    for this, that in ((one, other), (other, one)):
        this.control.attach(_Cluster(that))
        this.control.set_nodes(2)
        for topic, message in that.control.snapshots():
            this.control.deliver(topic, message)
