"""Which backends may be chosen now.

`candidates` is rebuilt when a fact about a backend changes and never on a request; it stays the same tuple object until
then, so strategies can key their tables on its identity (a changed weight makes a new tuple too). The rules, first that
yields anything:

    1. backends that are active, up, not ejected, with weight above 0
    2. the same among those marked `backup`
    3. ejected ones that were ejected as a last resort (passive ejection; not an open breaker): failing open
    4. nobody: the fallback pool is asked, else the answer is 503
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lb_core.events import Event, Notify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lb_core.backend import Backend, Health, Mode


def _silent(event: Event) -> None:
    """The notify of a pool nobody listens to."""


class Pool:
    """The backends of a route, and which of them are candidates.

    `waiters` are called once, when there is a candidate; `watchers` whenever the set of backends was replaced.
    """

    __slots__ = (
        "_last_resort",
        "_others",
        "_weights",
        "backends",
        "candidates",
        "clock",
        "fallback",
        "name",
        "notify",
        "waiters",
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
        self.fallback: Pool | None = None
        self.waiters: list[Callable[[], None]] = []
        self.watchers: list[Callable[[], None]] = []
        self._last_resort: set[Backend] = set()
        self._others: dict[Backend, tuple[Backend, ...]] = {}
        self.backends: tuple[Backend, ...] = tuple(backends)
        self.candidates: tuple[Backend, ...] = ()
        self._weights: tuple[int, ...] = ()
        self.rebuild()

    @property
    def starting(self) -> bool:
        """Nobody may be chosen yet, but a first check is still under way."""
        return not self.candidates and any(
            b.health == "starting" and b.mode == "active" and b.weight > 0 for b in self.backends
        )

    def rebuild(self) -> None:
        """Work out the candidates again, and wake who waits for one."""
        usable = [b for b in self.backends if b.usable]
        ready = [b for b in usable if not b.ejected]
        chosen = (
            [b for b in ready if not b.backup]
            or ready
            or [b for b in usable if b in self._last_resort and not b.backup]
            or [b for b in usable if b in self._last_resort]
        )
        weights = tuple(b.weight for b in chosen)
        if tuple(chosen) != self.candidates or weights != self._weights:
            self.candidates = tuple(chosen)
            self._weights = weights
            self._others = {}
        if self.candidates and self.waiters:
            waiters, self.waiters = self.waiters, []
            for wake in waiters:
                wake()

    def others(self, backend: Backend) -> tuple[Backend, ...]:
        """The candidates without one that was tried; the same tuple object until the pool changes."""
        found = self._others.get(backend)
        if found is None:
            found = self._others[backend] = tuple(b for b in self.candidates if b is not backend)
        return found

    def with_room(self, candidates: tuple[Backend, ...]) -> Backend | None:
        """The least busy candidate below its `max_connections`, for its weight; None when all are full."""
        room = [b for b in candidates if b.in_flight < b.max_connections and b.weight]
        return min(room, key=lambda b: b.in_flight / b.weight, default=None)

    def find(self, name: str) -> Backend:
        """The backend of that name; KeyError names those there are."""
        for backend in self.backends:
            if backend.name == name:
                return backend
        raise KeyError(f"no backend {name!r} in {self.name!r}: there are {', '.join(b.name for b in self.backends)}")

    def replace(self, backends: Iterable[Backend]) -> None:
        """Take new backends, or new weights; those that stay are the same objects and keep state and counters."""
        self.backends = tuple(backends)
        self._last_resort &= set(self.backends)
        self.rebuild()
        for hear in tuple(self.watchers):
            hear()

    def set_health(self, backend: Backend, health: Health, reason: str = "") -> None:
        """What the active checks found."""
        if backend.health != health:
            backend.health = health
            self._changed(backend, f"backend_{health}", reason)

    def set_mode(self, backend: Backend, mode: Mode, reason: str = "") -> None:
        """What an operator wants: `draining` and `maintenance` take no new requests."""
        if backend.mode != mode:
            backend.mode = mode
            self._changed(backend, f"backend_{mode}", reason)

    def eject(self, backend: Backend, reason: str, *, last_resort: bool = True) -> None:
        """Take a backend out of the candidates until `restore`.

        As a last resort it still serves when nobody else is left.
        """
        if not backend.ejected:
            backend.ejected = True
            if last_resort:
                self._last_resort.add(backend)
            self._changed(backend, "backend_ejected", reason)

    def restore(self, backend: Backend, reason: str = "") -> None:
        """Let an ejected backend take requests again."""
        if backend.ejected:
            backend.ejected = False
            self._last_resort.discard(backend)
            self._changed(backend, "backend_restored", reason)

    def _changed(self, backend: Backend, kind: str, reason: str) -> None:
        if kind == "backend_active" or backend.state in ("up", kind.removeprefix("backend_")):
            backend.reason = reason  # a backend that is down keeps saying why when its ejection ends
            backend.since = self.clock()
        self.rebuild()
        if backend in self.backends:  # a timer may outlive the backend's place in the pool
            self.notify(Event(kind, reason or backend.state, route=self.name, backend=backend.name))
