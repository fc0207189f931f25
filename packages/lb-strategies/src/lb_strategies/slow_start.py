"""Slow start: a backend that joins or recovers takes its share of the load little by little.

It has nothing in its caches yet, and a strategy that looks at requests in flight would give it every one of them. Its
weight counts `from` at first and grows in ten steps, in a straight line, to the whole after `duration`.

It does not begin where it would do harm: when nobody else among the candidates is warm, or while the pool has had
candidates for less than `duration`, as after a start. Strategies that hash do without it: it would move keys twice.

One timer runs while anybody is warming up, none otherwise. Where several routes share a pool, the first to notice a
backend warms it up and the others leave it alone.

Workers hear of a backend at the same moment and warm it up alike; one that is new is told who is warming up, and for
how long there have been candidates, so that it treats nobody as a newcomer who is none.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from annotated_types import Ge
from pydantic import Field

from lb_core import PositiveDuration, Settings, Share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lb_core import Backend, Pool, Route
    from lb_core.sharing import Channel

STEPS = 10
HASHING = frozenset(("ip_hash", "consistent_hash"))
NEVER = float("inf")


class Timer(Protocol):
    """What `later` returns."""

    def cancel(self) -> None:
        """Do not call."""


class SlowStartSettings(Settings):
    """How a backend that joins or recovers is warmed up; `off` gives it its whole share at once."""

    short: ClassVar[str] = "duration"

    duration: PositiveDuration = 30.0
    """How long until it takes its whole share."""
    begin: Annotated[Share, Ge(0.01)] = Field(default=0.1, alias="from")
    """The part of its weight that counts at first, 1% at least."""


class SlowStart:
    """The feature `slow_start` of one route; `later` and `clock` are the event loop's."""

    def __init__(
        self,
        pool: Pool,
        settings: SlowStartSettings,
        route: Route | None = None,
        *,
        later: Callable[[float, Callable[[], None]], Timer] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._later = later
        self._clock = clock
        self._seen = frozenset(pool.candidates)
        self._serving_since = clock() if pool.candidates else NEVER
        self._warming: dict[Backend, float] = {}
        self._timer: Timer | None = None
        self._route = route
        self._channel: Channel | None = None
        self._listener = _listen(pool, self)

    def changed(self) -> None:
        """The pool has other candidates: see who joined."""
        now = self._clock()
        candidates = frozenset(self._pool.candidates)
        joined = candidates - self._seen
        self._seen = candidates  # before a warmth is set, which comes back here
        for backend in self._warming.keys() - candidates:
            self._end(backend)
        if not candidates:
            self._serving_since = NEVER
        elif self._serving_since == NEVER:
            self._serving_since = now
        elif joined and now - self._serving_since >= self._settings.duration:
            self._begin(joined, now)

    def inherit(self, old: object) -> None:
        """Go on with what warms up on the route as it was before."""
        if isinstance(old, SlowStart) and old._pool is self._pool:
            self._serving_since = old._serving_since
            self._warming, old._warming = old._warming, {}
            self._wait()

    def start(self) -> None:
        """Tell workers that are new, and the successor of this process, how things stand; or be told."""
        route = self._route
        if route is not None:
            topic = f"slow_start/{route.name}"
            self._channel = route.sharing.channel(topic, self._receive, snapshot=self._state, nodes=False)

    def close(self) -> None:
        """Stop; who is not warm yet is left at its whole weight."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._listener in self._pool.on_change:
            self._pool.on_change.remove(self._listener)
        for backend in list(self._warming):
            self._end(backend)
        if self._timer is not None:  # what was warming up has been inherited
            self._timer.cancel()
            self._timer = None

    def describe(self) -> list[str]:
        """Who is warming up."""
        return [f"{backend.name} starts slowly: at {backend.warmth:.0%} of its weight" for backend in self._warming]

    def _state(self) -> Iterator[dict[str, Any]]:
        """For how long there have been candidates, and for how long each has been warming up: seconds."""
        now = self._clock()
        if self._serving_since != NEVER:
            warming = {backend.name: now - began for backend, began in self._warming.items()}
            yield {"serving": now - self._serving_since, "warming": warming}

    def _receive(self, message: Mapping[str, Any]) -> None:
        now = self._clock()
        self._serving_since = min(self._serving_since, now - float(message.get("serving", 0.0)))
        warming: Mapping[str, float] = message.get("warming", {})
        for backend in self._pool.candidates:
            if backend.name in warming and backend.warmth >= 1:
                self._warming[backend] = now - warming[backend.name]
                self._pool.set_warmth(backend, min(self._share(backend, now), 1.0))
        self._wait()

    def _share(self, backend: Backend, now: float) -> float:
        """How much of its weight counts by now."""
        begin = self._settings.begin
        return round(begin + (1 - begin) * (now - self._warming[backend]) / self._settings.duration, 2)

    def _begin(self, joined: frozenset[Backend], now: float) -> None:
        warm = any(backend.warmth >= 1 for backend in self._seen - joined)
        if not warm or (self._later is None and not _in_a_loop()):
            return
        for backend in self._pool.candidates:
            if backend in joined and backend.warmth >= 1:
                self._warming[backend] = now
                self._pool.set_warmth(backend, self._settings.begin)
        self._wait()

    def _wait(self) -> None:
        if self._warming and self._timer is None:
            later = self._later or asyncio.get_running_loop().call_later
            self._timer = later(self._settings.duration / STEPS, self._step)

    def _step(self) -> None:
        self._timer = None
        now = self._clock()
        for backend in list(self._warming):
            share = self._share(backend, now)
            if share < 1:
                self._pool.set_warmth(backend, share)
            else:
                self._end(backend)
        self._wait()

    def _end(self, backend: Backend) -> None:
        del self._warming[backend]
        if self._timer is not None and not self._warming:
            self._timer.cancel()
            self._timer = None
        self._pool.set_warmth(backend, 1.0)


def _listen(pool: Pool, slow_start: SlowStart) -> Callable[[], None]:
    """Hear of changes for as long as the feature is there: a configuration that is refused builds some for nothing."""

    def hear() -> None:
        found = known()
        if found is None:
            pool.on_change.remove(hear)
        else:
            found.changed()

    known = weakref.ref(slow_start)
    pool.on_change.append(hear)
    return hear


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def build(route: Route, settings: SlowStartSettings) -> SlowStart | None:
    """The slow start of a route, or None where its strategy hashes."""
    return None if route.config.strategy.name in HASHING else SlowStart(route.pool, settings, route)
