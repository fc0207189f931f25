"""Ejections of one pool as other processes hear of them, and tell of theirs.

    ejection/<pool>         to every process, and to every node where the backend's address means the same: who is
                            ejected, for how many seconds, how often in a row
    ejection/<pool>/here    to the processes of this node: each failure and recovery, so that failures in a row count
                            together

Routes that use one pool share its news. What is heard is applied by the first of them whose rules allow it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lb_core.backend import Backend
    from lb_core.pool import Pool
    from lb_core.sharing import Channel, Sharing

NOTES = 20
"""How many failures, and how many recoveries, are told in a second; beyond, each process counts its own."""


class Member(Protocol):
    """The ejection of one route."""

    @property
    def route(self) -> str:
        """The name of the route."""

    def hear_ejected(self, pool: Pool, backend: Backend, seconds: float, times: int, reason: str) -> bool:
        """Another process has ejected it; False where the rules here do not allow that."""

    def holds(self, backend: Backend) -> bool:
        """Whether this route keeps it out."""

    def hear_failed(self, pool: Pool, backend: Backend) -> None:
        """It has failed in another process of this node."""

    def hear_well(self, backend: Backend) -> None:
        """It has answered in another process of this node, after failures."""

    def out(self, pool: Pool) -> Iterable[tuple[Backend, float, int, str]]:
        """Who is ejected: for how many seconds yet, how often in a row, and why."""


class News:
    """The news of one pool; `join` and `leave` say which routes take part."""

    def __init__(self, pool: Pool, sharing: Sharing, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._members: dict[Member, None] = {}
        self._sharing = sharing
        self._channels: tuple[Channel, ...] = ()
        self._failures = Budget(clock)
        self._recoveries = Budget(clock)

    def join(self, member: Member) -> None:
        """A route takes part."""
        if not self._members:
            topic = f"ejection/{self._pool.name}"
            self._channels = (
                self._sharing.channel(topic, self._hear, snapshot=self._present),
                self._sharing.channel(f"{topic}/here", self._hear, nodes=False),
            )
        self._members[member] = None

    def leave(self, member: Member) -> None:
        """A route takes part no longer."""
        if self._members.pop(member, self) is None and not self._members:
            for channel in self._channels:
                channel.close()
            self._channels = ()

    def ejected(self, backend: Backend, seconds: float, times: int, reason: str) -> None:
        """Tell that a backend is ejected."""
        if self._channels:
            self._channels[0].send(self._message(backend, seconds, times, reason))

    def failed(self, member: Member, backend: Backend) -> bool:
        """Tell of a failure, unless there are too many; returns whether it was told."""
        return self._note(self._failures, "failed", member, backend)

    def well(self, member: Member, backend: Backend) -> None:
        """Tell of an answer after failures."""
        self._note(self._recoveries, "well", member, backend)

    def _note(self, budget: Budget, what: str, member: Member, backend: Backend) -> bool:
        if not self._channels or not budget.allows():
            return False
        self._channels[1].send({what: backend.name, "address": backend.address, "route": member.route})
        return True

    def _present(self) -> Iterator[dict[str, Any]]:
        for member in self._members:
            for backend, seconds, times, reason in member.out(self._pool):
                yield self._message(backend, seconds, times, reason)

    def _hear(self, message: Mapping[str, Any]) -> None:
        match message:
            case {"ejected": name, "seconds": int() | float() as seconds, "times": int(times), "reason": str(reason)}:
                backend = self._find(name, message)
                if backend is not None and seconds > 0:
                    self._hear_ejected(backend, seconds, times, reason)
            case {"failed": name, "route": route} | {"well": name, "route": route}:
                backend = self._find(name, message)
                if backend is not None:
                    self._hear_note(backend, route, failed="failed" in message)

    def _hear_ejected(self, backend: Backend, seconds: float, times: int, reason: str) -> None:
        for member in sorted(self._members, key=lambda each: not each.holds(backend)):
            if member.hear_ejected(self._pool, backend, seconds, times, reason):
                return

    def _hear_note(self, backend: Backend, route: str, *, failed: bool) -> None:
        for member in tuple(self._members):
            if member.route != route:
                continue
            if failed:
                member.hear_failed(self._pool, backend)
            else:
                member.hear_well(backend)

    def _message(self, backend: Backend, seconds: float, times: int, reason: str) -> dict[str, Any]:
        return {
            "ejected": backend.name,
            "id": backend.id,
            "address": backend.address,
            "pool": self._pool.name,
            "seconds": round(seconds, 3),
            "times": times,
            "reason": reason,
            **self._sharing.locality.mark(backend),
        }

    def _find(self, name: str, message: Mapping[str, Any]) -> Backend | None:
        """The backend of that name, where it still has the address that was told."""
        for backend in self._pool.backends:
            if backend.name == name and backend.address == message.get("address"):
                return backend
        return None


class Budget:
    """Allows something `NOTES` times in each second."""

    __slots__ = ("_clock", "_left", "_second")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = 0
        self._left = 0

    def allows(self) -> bool:
        """Whether it may be done once more."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._left = second, NOTES
        self._left -= 1
        return self._left >= 0


_news: WeakValueDictionary[Pool, News] = WeakValueDictionary()


def news_of(pool: Pool, sharing: Sharing) -> News:
    """The news of a pool, the same for all routes that use it."""
    found = _news.get(pool)
    if found is None:
        found = _news[pool] = News(pool, sharing)
    return found
