"""Failover: another route serves while no backend of this one can.

    own ── nobody is left ──> backup        at once
    own <── candidates for `return_after` without a break ── backup

Nobody is left when the pool has no candidate, or a gate (an open circuit breaker) keeps requests from it. Backends that
were only ejected for their failures still serve as a last resort, so they are candidates, and no failover begins. One
that waits for its first check is waited for; once that check has failed it is not.

All of it is pushed by the pool: while a route serves by itself its requests pay nothing.

Workers follow the state of the pool and so fail over and return by themselves, at the same moment; one that is new is
told how far the others are. The control process tells the events.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

from lb_core import Event, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lb_core import Backend, Route
    from lb_core.sharing import Channel
    from lb_failover.settings import FailoverSettings

FLAG = "failover"


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> object: ...


def later(seconds: float, call: Callable[[], None]) -> Timer | None:
    """Call it on the running loop; at once where none runs, for then nobody is being served."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        call()
        return None
    return loop.call_later(seconds, call)


class Failover:
    """The feature `failover` of one route; `count` is how often it began, `active` whether it is under way."""

    def __init__(
        self,
        route: Route,
        settings: FailoverSettings,
        *,
        later: Callable[[float, Callable[[], None]], Timer | None] = later,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._route = route
        self._pool = route.pool
        self._settings = settings
        self._later = later
        self._clock = clock
        self.count = 0
        self.active = False
        self.since = 0.0
        self._back: Timer | None = None
        self._returns = 0.0
        self._channel: Channel | None = None
        self._failed_first: set[Backend] = set()

    def inherit(self, old: object) -> None:
        """Go on where the route was before it was rebuilt."""
        if isinstance(old, Failover):
            self.count, self.active, self.since = old.count, old.active, old.since
            self._returns = old._returns
            self._failed_first = old._failed_first & set(self._pool.backends)

    def start(self) -> None:
        """Watch the pool and the gate; begin at once where nobody can serve."""
        topic = f"failover/{self._route.name}"
        self._channel = self._route.sharing.channel(topic, self._receive, snapshot=self._state, nodes=False)
        self._pool.on_change.append(self.look)
        self._route.on_gate.append(self.look)
        if self.active:
            self._stand_by()
        self.look()

    def close(self) -> None:
        """Watch no longer."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self.look in self._pool.on_change:
            self._pool.on_change.remove(self.look)
        if self.look in self._route.on_gate:
            self._route.on_gate.remove(self.look)
        self._stay()

    @hookimpl
    def on_health_result(self, backend: Backend, result: Any) -> None:
        """Note that a first check has failed: then there is nothing to wait for."""
        if backend.health == "starting" and not result.ok and backend not in self._failed_first:
            self._failed_first.add(backend)
            self.look()

    def look(self) -> None:
        """Something has changed: begin, get ready to return, or stay."""
        if self._able():
            if self.active and self._back is None:
                self._prepare_return()
        elif self.active:
            self._returns = 0.0
            self._stay()
        elif not self._awaits_a_check():
            self._begin()

    def _state(self) -> Iterator[dict[str, Any]]:
        """For how long the backup has served, and how long it will if nothing happens: seconds, -1 for no end."""
        if self.active:
            now = self._clock()
            returning = self._back is not None
            yield {"since": now - self.since, "returns": max(0.0, self._returns - now) if returning else -1.0}

    def _receive(self, message: Mapping[str, Any]) -> None:
        now, returns = self._clock(), float(message["returns"])
        if not self.active:
            self.active = True
            self.count += 1
            self._stand_by()
        self.since = now - float(message["since"])
        if returns >= 0 and self._able():
            self._stay()
            self._returns = now + returns
            self._prepare_return()
        else:
            self.look()

    def _able(self) -> bool:
        return self._route.gate is None and bool(self._pool.candidates)

    def _awaits_a_check(self) -> bool:
        """Whether somebody's first check is still to come."""
        return self._route.gate is None and any(
            each.health == "starting" and each.mode == "active" and each.weight > 0 and each not in self._failed_first
            for each in self._pool.backends
        )

    def _begin(self) -> None:
        self.active = True
        self.count += 1
        self.since = self._clock()
        why = "the circuit breaker is open" if self._route.gate is not None else "no backend is available"
        self._tell("failover_started", f"{why}, {self._settings.backup_domain} serves")
        self._stand_by()

    def _stand_by(self) -> None:
        self._route.set_standby(self._settings.backup_domain, word=FLAG, host=self._settings.host)

    def _prepare_return(self) -> None:
        now = self._clock()
        self._returns = self._returns or now + self._settings.return_after
        self._back = self._later(max(0.0, self._returns - now), self._return)

    def _stay(self) -> None:
        if self._back is not None:
            self._back.cancel()
            self._back = None

    def _return(self) -> None:
        self._back = None
        self._returns = 0.0
        self.active = False
        seconds = self._clock() - self.since
        self._tell("failover_ended", f"the route's own backends serve again after {seconds:.0f}s")
        self._route.set_standby(None)

    def _tell(self, kind: str, message: str) -> None:
        if self._route.sharing.seat:
            return  # the control process has the same pool and the same gate, and tells it once
        details = {"backup": self._settings.backup_domain}
        self._pool.notify(Event(kind, message, route=self._route.name, details=details))

    def describe(self) -> str:
        """Who serves, and for how long."""
        backup = self._settings.backup_domain
        if not self.active:
            return f"ready: {backup} would serve, begun {self.count} times so far"
        now = self._clock()
        left = f", back in {max(0.0, self._returns - now):.0f}s" if self._back is not None else ""
        return f"{backup} has served for {now - self.since:.0f}s{left}"
