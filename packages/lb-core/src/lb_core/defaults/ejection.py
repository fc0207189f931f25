"""Passive ejection: a backend that fails several times in a row takes no requests for a while.

    failure     an attempt that ended before a response head, or one of the configured statuses. A kept connection that
                the backend had closed while idle says nothing about the backend and does not count.
    success     any other response; the failures begin at zero again
    ejection    after `consecutive_failures`, for `duration` times the number of ejections in a row, at most 300 s, give
                or take a tenth. Each `duration` without an ejection takes one off that number.
    limits      at most `max_ejected` of the pool, but one at least; never the last backend that could serve

The pool keeps the backend as a last resort: when everybody is ejected, all serve. The pool is the one that served the
request: that of a canary, or of the route that stands in, too.

Every worker hears of an ejection at once, for as many seconds as are left of it, and so does every node where the
address is that of the same backend (locality.py); each applies it by the same limits, and of two the longer one holds.
Failures in a row are those of all workers of a node together, as far as `ejection_news` tells them; nodes count for
themselves. A route that is switched off or gone lets its backends in again in each process that takes the new
configuration.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated
from weakref import WeakSet

from annotated_types import Ge, Le

from lb_core.defaults.ejection_news import news_of
from lb_core.errors import BackendReset
from lb_core.hooks import hookimpl
from lb_core.settings import PositiveDuration, Settings, Share, Whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lb_core.backend import Backend
    from lb_core.defaults.ejection_news import News
    from lb_core.errors import AttemptError
    from lb_core.exchange import Exchange
    from lb_core.pool import Pool
    from lb_core.route import Route

LONGEST = 300.0
SAME = 0.5
"""Ends that are no further apart, in seconds, are those of one ejection."""

Later = Callable[[float, Callable[[], None]], object]


class EjectionSettings(Settings):
    """When a backend that fails is left alone for a while; `off` never does."""

    short = "enabled"

    enabled: bool = True
    """Whether failing backends are ejected at all."""
    consecutive_failures: Annotated[Whole, Ge(1)] = 5
    """Failures in a row that eject a backend, whichever worker of the node meets them."""
    duration: PositiveDuration = 30.0
    """How long the first time; the n-th time in a row n times as long, at most 300 s."""
    max_ejected: Share = 0.5
    """The share of the pool that may be ejected at once, rounded down, but one backend at least; 0% for none."""
    statuses: tuple[Annotated[Whole, Ge(400), Le(599)], ...] = (502, 503, 504)
    """Response statuses that count as failures."""


class Ejection:
    """The feature `ejection` of one route."""

    def __init__(
        self,
        pool: Pool,
        settings: EjectionSettings,
        *,
        later: Later | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: random.uniform(0.9, 1.1),
        serving: Route | None = None,
    ) -> None:
        self._serving = serving
        self._news: dict[Pool, News] = {}
        self._pools = WeakSet((pool,))
        self._settings = settings
        self._statuses = frozenset(settings.statuses)
        self._later = later
        self._clock = clock
        self._jitter = jitter
        self._failing: dict[Backend, int] = {}
        self._ejections: dict[Backend, tuple[int, float]] = {}
        self._out: dict[Backend, Pool] = {}
        self._why: dict[Backend, str] = {}
        self._told: set[Backend] = set()

    @property
    def route(self) -> str:
        """The name of the route."""
        return self._serving.name if self._serving is not None else ""

    @hookimpl
    def on_backend_error(self, exchange: Exchange, error: AttemptError) -> None:
        """Count an attempt that failed."""
        if exchange.backend is not None and not (isinstance(error, BackendReset) and error.reused):
            self._failed(exchange.pool, exchange.backend, str(error) or error.flag)

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        """Count a response that is a failure; any other clears the backend."""
        if exchange.status in self._statuses:
            if exchange.backend is not None:
                self._failed(exchange.pool, exchange.backend, f"status {exchange.status}")
        elif self._failing and exchange.backend is not None:
            self._well(exchange.pool, exchange.backend)

    def inherit(self, old: object) -> None:
        """Go on with the counts and with who is out."""
        if isinstance(old, Ejection):
            self._pools |= old._pools
            self._failing, self._ejections = old._failing, old._ejections
            self._out, old._out = old._out, {}
            self._why = old._why

    def start(self) -> None:
        """Tell other processes, and hear of theirs, about every pool that may serve this route."""
        if self._serving is not None and self._serving.sharing.memory is not None:
            for pool in _within_reach(self._serving):
                news = self._news[pool] = news_of(pool, self._serving.sharing)
                news.join(self)

    def close(self) -> None:
        """Let those in again whom nobody else will."""
        while self._news:
            self._news.popitem()[1].leave(self)
        while self._out:
            backend, pool = self._out.popitem()
            pool.restore(backend, "its ejection was switched off")

    def _failed(self, pool: Pool, backend: Backend, why: str) -> None:
        if backend not in self._failing:
            self._pools.add(pool)
            self._forget_those_gone()
        count = self._failing[backend] = self._failing.get(backend, 0) + 1
        if count < self._settings.consecutive_failures:
            if pool in self._news and self._news[pool].failed(self, backend):
                self._told.add(backend)
        elif not backend.ejected and self._may_eject(pool, backend):
            self._eject(pool, backend, f"{count} failures in a row, the last: {why}")

    def _well(self, pool: Pool, backend: Backend) -> None:
        self._failing.pop(backend, None)
        if backend in self._told:
            self._told.discard(backend)
            self._news[pool].well(self, backend)

    def holds(self, backend: Backend) -> bool:
        """Whether it is out because of this route."""
        return backend in self._out

    def hear_failed(self, pool: Pool, backend: Backend) -> None:
        """Another worker has met a failure: it counts here, too, until the backend answers."""
        self._pools.add(pool)
        self._failing[backend] = self._failing.get(backend, 0) + 1
        self._told.add(backend)

    def hear_well(self, backend: Backend) -> None:
        """It has answered another worker: the failures begin at zero again."""
        self._failing.pop(backend, None)
        self._told.discard(backend)

    def hear_ejected(self, pool: Pool, backend: Backend, seconds: float, times: int, reason: str) -> bool:
        """Another process has ejected it; False where the rules here do not allow that."""
        end = self._clock() + seconds
        if backend in self._out:
            before, back = self._ejections.get(backend, (0, 0.0))
            if end > back + SAME:
                self._ejections[backend] = (max(times, before), end)
                self._until(pool, backend, seconds)
            return True
        if not self._may_eject(pool, backend):
            return False
        self._put_out(pool, backend, seconds, times, reason)
        return True

    def out(self, pool: Pool) -> Iterator[tuple[Backend, float, int, str]]:
        """Who is ejected: for how many seconds yet, how often in a row, and why."""
        for backend, where in self._out.items():
            if where is pool:
                times, back = self._ejections[backend]
                yield backend, back - self._clock(), times, self._why.get(backend, "")

    def _may_eject(self, pool: Pool, backend: Backend) -> bool:
        backends = pool.backends
        share = self._settings.max_ejected
        most = max(1, int(share * len(backends))) if share else 0
        if sum(each.ejected for each in backends if each is not backend) >= most:
            return False
        return backend in backends and any(each.available for each in backends if each is not backend)

    def _eject(self, pool: Pool, backend: Backend, reason: str) -> None:
        duration, now = self._settings.duration, self._clock()
        before, back = self._ejections.get(backend, (0, now))
        times = max(0, before - int((now - back) / duration)) + 1
        seconds = min(duration * times, max(LONGEST, duration)) * self._jitter()
        self._put_out(pool, backend, seconds, times, reason)
        if pool in self._news:
            self._news[pool].ejected(backend, seconds, times, reason)

    def _put_out(self, pool: Pool, backend: Backend, seconds: float, times: int, reason: str) -> None:
        self._failing.pop(backend, None)
        self._told.discard(backend)
        self._pools.add(pool)
        self._forget_those_gone()
        self._ejections[backend] = (times, self._clock() + seconds)
        self._out[backend] = pool
        self._why[backend] = reason
        self._until(pool, backend, seconds)
        pool.eject(backend, f"{reason}; tried again in {seconds:.0f}s")

    def _until(self, pool: Pool, backend: Backend, seconds: float) -> None:
        """Let it in again after so many seconds, unless that moment has been put off."""
        out, ejections, why = self._out, self._ejections, self._why  # another Ejection's by then, perhaps
        end = ejections[backend][1]

        def again() -> None:
            if ejections.get(backend, (0, end))[1] <= end and out.pop(backend, None) is not None:
                why.pop(backend, None)
                pool.restore(backend, f"ejected for {seconds:.0f}s, tried again")

        later = self._later or asyncio.get_running_loop().call_later
        later(seconds, again)

    def _forget_those_gone(self) -> None:
        """Drop what is known of backends that left their pool, so that replaced containers leave no trace."""
        staying = {backend for pool in self._pools for backend in pool.backends}
        for gone in self._failing.keys() - staying:
            del self._failing[gone]
        for gone in self._ejections.keys() - staying:
            del self._ejections[gone]
        self._told &= staying


def build(route: Route, settings: EjectionSettings) -> Ejection | None:
    """The ejection of a route, or None where it is switched off."""
    return Ejection(route.pool, settings, serving=route) if settings.enabled else None


def _within_reach(route: Route) -> set[Pool]:
    """Every pool that may serve a request of the route: its own, those its features use, and those of its standby."""
    pools: set[Pool] = set()
    routes = [route]
    seen: set[Route] = set()
    while routes:
        each = routes.pop()
        if each not in seen:
            seen.add(each)
            pools |= {each.pool, *each.pools.values()}
            routes += each.routes.values()
    return pools
