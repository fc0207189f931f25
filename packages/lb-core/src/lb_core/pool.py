"""Which backends may be chosen now, and who waits for one.

`candidates` is rebuilt when a fact about a backend changes and never on a request; it stays the same tuple object until
then, so strategies can key their tables on its identity (a changed weight makes a new tuple too). The rules, first that
yields anything:

    1. backends that are active, up, not ejected, with weight above 0
    2. the same among those marked `backup`; beside the first as long as those are all restricted (half-open)
    3. ejected ones that were ejected as a last resort (passive ejection; not an open breaker): failing open
    4. nobody: another pool may serve (failover), else the answer is 503

When every candidate has as many requests in flight as it may, requests wait in `queue`, first come, first served. The
next is taken when a request ends, a limit rises or a backend returns; while nobody waits none of that costs anything.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

from lb_core.backend import NO_LIMIT
from lb_core.events import Event, Notify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lb_core.backend import Backend, Health, Mode


DRAIN = 30.0
"""Seconds for which a draining backend still serves clients that are its own."""


class Waiting(Protocol):
    """A request in the queue."""

    def take_turn(self) -> None:
        """Choose again: there is room, or there is nobody to wait for any more."""


def _silent(event: Event) -> None:
    """The notify of a pool nobody listens to."""


class Pool:
    """The backends of a route, and which of them are candidates.

    `on_change` are called whenever `candidates` became another tuple, or there is nobody left to wait for; `watchers`
    whenever the set of backends was replaced; `on_state` after checks or an operator changed a backend's state, with
    the backend and what of it: `health`, `mode` or `weight`. `queue` holds the requests that wait for a backend.
    """

    __slots__ = (
        "__weakref__",
        "_awaited",
        "_ejected_by",
        "_last_resort",
        "_others",
        "_weights",
        "backends",
        "candidates",
        "clock",
        "name",
        "notify",
        "on_change",
        "on_state",
        "queue",
        "watchers",
    )

    def __init__(
        self,
        name: str,
        backends: Iterable[Backend],
        *,
        notify: Notify = _silent,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.notify = notify
        self.clock = clock
        self.watchers: list[Callable[[], None]] = []
        self.on_change: list[Callable[[], None]] = []
        self.on_state: list[Callable[[Backend, str], None]] = []
        self.queue: deque[Waiting] = deque()
        self._ejected_by: WeakKeyDictionary[Backend, dict[object, bool]] = WeakKeyDictionary()
        self._last_resort: set[Backend] = set()
        self._others: dict[Backend, tuple[Backend, ...]] = {}
        self.backends: tuple[Backend, ...] = tuple(backends)
        self.candidates: tuple[Backend, ...] = ()
        self._weights: tuple[float, ...] = ()
        self._awaited = False
        self.rebuild()

    @property
    def starting(self) -> bool:
        """Nobody may be chosen yet, but a first check is still under way."""
        return not self.candidates and any(
            b.health == "starting" and b.mode == "active" and b.weight > 0 for b in self.backends
        )

    def rebuild(self) -> None:
        """Work out the candidates again; tell who listens, and serve who waits."""
        usable = [b for b in self.backends if b.usable]
        ready = [b for b in usable if not b.ejected]
        primary = [b for b in ready if not b.backup]
        chosen = (
            (primary if any(b.restricted == NO_LIMIT for b in primary) else ready)
            or [b for b in usable if b in self._last_resort and not b.backup]
            or [b for b in usable if b in self._last_resort]
        )
        weights = tuple(b.weight for b in chosen)
        changed = tuple(chosen) != self.candidates or weights != self._weights
        if changed:
            self.candidates = tuple(chosen)
            self._weights = weights
            self._others = {}
        awaited, self._awaited = self._awaited, self.starting
        if changed or awaited != self._awaited:
            for hear in tuple(self.on_change):
                hear()
        if self.queue:
            for backend in self.backends:
                backend.freed = self.serve_queue
            self.serve_queue()

    def others(self, backend: Backend) -> tuple[Backend, ...]:
        """The candidates without one that was tried; the same tuple object until the pool changes."""
        found = self._others.get(backend)
        if found is None:
            found = self._others[backend] = tuple(b for b in self.candidates if b is not backend)
        return found

    def with_room(self, candidates: tuple[Backend, ...]) -> Backend | None:
        """The least busy candidate below its limit, for its weight; None when all are full."""
        room = [b for b in candidates if b.in_flight < b.limit and b.weight]
        return min(room, key=lambda b: b.in_flight / b.weight, default=None)

    def wait(self, request: Waiting) -> None:
        """Put a request at the end of the queue."""
        if not self.queue:
            for backend in self.backends:
                backend.freed = self.serve_queue
        self.queue.append(request)

    def leave_queue(self, request: Waiting) -> None:
        """A request waits no longer."""
        if request in self.queue:
            self.queue.remove(request)
            self._end_queue()

    def dismiss(self, requests: Iterable[Waiting]) -> None:
        """Let some requests have their turn now, whether or not there is room for them."""
        for request in requests:
            if request in self.queue:
                self.queue.remove(request)
                request.take_turn()
        self._end_queue()

    def serve_queue(self) -> None:
        """Let requests have their turn, as many as there is room for; all of them when there is nobody to wait for."""
        queue = self.queue
        for _ in range(len(queue)):
            if not queue or not self.has_turn():
                break
            queue.popleft().take_turn()
        self._end_queue()

    def has_turn(self) -> bool:
        """Whether the first in the queue may go: there is room for it, or nobody to wait for."""
        return self.with_room(self.candidates) is not None if self.candidates else not self.starting

    def _end_queue(self) -> None:
        if not self.queue:
            for backend in self.backends:
                backend.freed = None

    def find(self, name: str) -> Backend:
        """The backend of that name; KeyError names those there are."""
        for backend in self.backends:
            if backend.name == name:
                return backend
        raise KeyError(f"no backend {name!r} in {self.name!r}: there are {', '.join(b.name for b in self.backends)}")

    def replace(self, backends: Iterable[Backend]) -> None:
        """Take new backends, or new weights; those that stay are the same objects and keep state and counters."""
        gone = set(self.backends)
        self.backends = tuple(backends)
        for backend in gone.difference(self.backends):
            backend.freed = None
        self._last_resort &= set(self.backends)
        self.rebuild()
        for hear in tuple(self.watchers):
            hear()

    def close(self) -> None:
        """It is no longer part of the configuration; exchanges under way may still end in it."""

    def set_health(self, backend: Backend, health: Health, reason: str = "") -> None:
        """What the active checks found."""
        if backend.health != health:
            backend.health = health
            self._changed(backend, f"backend_{health}", reason)
            self._told(backend, "health")

    def set_mode(self, backend: Backend, mode: Mode, reason: str = "", *, seconds: float = DRAIN) -> None:
        """What an operator wants: `draining` and `maintenance` take no new requests.

        While it drains, clients that are its own may still use it for `seconds`.
        """
        if backend.mode != mode:
            backend.mode = mode
            backend.drains_until = self.clock() + seconds if mode == "draining" else 0.0
            self._changed(backend, f"backend_{mode}", reason)
            self._told(backend, "mode")

    def set_weight(self, backend: Backend, weight: int, *, operator: bool = False) -> None:
        """What the configuration or an operator says: 0-1000; 0 drains it."""
        if weight != backend.configured_weight:
            if not weight:
                backend.drains_until = self.clock() + DRAIN
            elif backend.mode != "draining":
                backend.drains_until = 0.0
            backend.configured_weight = weight
            backend.weight = weight * backend.warmth if backend.warmth < 1 else weight
            self.rebuild()
            if operator:
                self._told(backend, "weight")

    def set_warmth(self, backend: Backend, share: float) -> None:
        """How much of its weight counts, above 0 and up to 1: less than 1 during a slow start."""
        if share != backend.warmth:
            backend.warmth = share
            backend.weight = backend.configured_weight * share if share < 1 else backend.configured_weight
            self.rebuild()

    def restrict(self, backend: Backend, limit: int | None, *, lasting: int = 0) -> None:  # noqa: ARG002
        """Lower the number of requests a backend may have in flight, for a while; None ends that.

        Workers count together what each has beyond `lasting`: those that were under way before.
        """
        backend.restricted = NO_LIMIT if limit is None else limit
        self.set_limit(backend, backend.max_connections)
        self.rebuild()

    def set_limit(self, backend: Backend, max_connections: int) -> None:
        """How many requests it may have in flight by its configuration (`NO_LIMIT` for none)."""
        backend.max_connections = max_connections
        backend.limit = min(max_connections, backend.restricted)
        if self.queue:
            self.serve_queue()

    def eject(self, backend: Backend, reason: str, *, last_resort: bool = True, by: object = None) -> None:
        """Take a backend out of the candidates until `restore`.

        As a last resort it still serves when nobody else is left, where all who have ejected it allow that. `by` tells
        one ejection from another's of the same backend.
        """
        said = self._ejected_by.setdefault(backend, {})
        if by in said:
            return
        said[by] = last_resort
        if all(said.values()):
            self._last_resort.add(backend)
        else:
            self._last_resort.discard(backend)
        if not backend.ejected:
            backend.ejected = True
            self._changed(backend, "backend_ejected", reason)
        elif not last_resort:
            backend.reason = reason
            self.rebuild()

    def restore(self, backend: Backend, reason: str = "", *, by: object = None) -> None:
        """End an ejection; the backend takes requests again when nobody else has ejected it."""
        said = self._ejected_by.get(backend)
        if said is None or said.pop(by, None) is None:
            return
        if said:
            if all(said.values()) and backend in self.backends:
                self._last_resort.add(backend)
            self.rebuild()
            return
        del self._ejected_by[backend]
        backend.ejected = False
        self._last_resort.discard(backend)
        self._changed(backend, "backend_restored", reason)

    def _told(self, backend: Backend, what: str) -> None:
        for hear in tuple(self.on_state):
            hear(backend, what)

    def _changed(self, backend: Backend, kind: str, reason: str) -> None:
        if kind == "backend_active" or backend.state in ("up", kind.removeprefix("backend_")):
            backend.reason = reason  # a backend that is down keeps saying why when its ejection ends
            backend.since = self.clock()
        self.rebuild()
        if backend in self.backends:  # a timer may outlive the backend's place in the pool
            self.notify(Event(kind, reason or backend.state, route=self.name, backend=backend.name))
