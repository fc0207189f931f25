"""Peak EWMA: the backend that will most likely answer first (Finagle's PeakEwma).

    cost         latency x (requests in flight + 1) / weight; the cheapest is chosen
    latency      from the choice of a backend to its response head, averaged as latencies.py has it
    failure      an attempt that failed, or a 502, 503 or 504, counts as one second at least: failing fast is not fast
    patience     a client that goes away before the response head shows that the backend takes longer than that
    exploration  every backend is chosen once in `explore`, however much it costs, so that it can show that it recovered

Up to 16 backends all are compared; above that the cheaper of two drawn by weight is taken, which is Finagle's way too.
"""

from __future__ import annotations

import time
from random import Random
from typing import TYPE_CHECKING

from lb_core import Duration, PositiveDuration, Settings, hookimpl
from lb_strategies.contest import ENDLESS, Contest
from lb_strategies.latencies import Latencies
from lb_strategies.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core import AttemptError, Backend, Exchange

SCANNED_MOST = 16
FAILURES = frozenset((502, 503, 504))
FAILED = 1.0
"""Seconds that a failure counts for at least."""
AT_ONCE = 0.001
"""A first choice within this of the request's head counts from the head: nothing has to be remembered for it."""


class EwmaSettings(Settings):
    """How latencies are averaged, and how often everybody is tried."""

    decay: PositiveDuration = 10.0
    """How long a peak of latency is remembered: after this time 37 % of it is left."""
    explore: Duration = 5.0
    """Every backend is chosen at least once in this time, as long as there are requests; 0s for not at all."""


class Ewma:
    """The strategy `ewma`; with `scanned=0` it compares two always, as `p2c` with the metric `ewma` does.

    `clock` gives seconds on the scale of `exchange.started`.
    """

    __slots__ = (
        "_candidates",
        "_contest",
        "_explore",
        "_late",
        "_latencies",
        "_random",
        "_recent",
        "_scanned",
        "clock",
    )

    def __init__(
        self,
        settings: EwmaSettings | None = None,
        *,
        scanned: int = SCANNED_MOST,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        settings = settings or EwmaSettings()
        self.clock = clock
        self._explore = settings.explore or ENDLESS
        self._scanned = scanned
        self._random = random or Random()
        self._latencies = Latencies(settings.decay)
        self._recent = Recent(self._prepare)
        self._candidates: tuple[Backend, ...] = ()
        self._contest: Contest
        self._late: dict[Exchange, float] = {}

    @hookimpl
    def select_backend(self, exchange: Exchange, candidates: tuple[Backend, ...]) -> Backend:
        """The cheapest backend, or one that was not tried for long."""
        now = self.clock()
        if exchange.attempts or now - exchange.started > AT_ONCE:
            self._late[exchange] = now
        if candidates is not self._candidates:
            self._contest = self._recent.get(candidates)
            self._candidates = candidates
        return self._contest.pick(now)

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        """Measure an attempt that was answered."""
        backend, now = exchange.backend, exchange.first_byte
        began = self._late.pop(exchange, exchange.started) if self._late else exchange.started
        if backend is not None:
            if exchange.status in FAILURES:
                self._latencies.observe(backend, max(now - began, FAILED), now, failed=True)
            else:
                self._latencies.observe(backend, now - began, now)

    @hookimpl
    def on_backend_error(self, exchange: Exchange, error: AttemptError) -> None:
        """Measure an attempt that failed. A kept connection that its backend had closed while idle says nothing."""
        began = self._late.pop(exchange, exchange.started)
        if exchange.backend is not None and not getattr(error, "reused", False):
            now = self.clock()
            self._latencies.observe(exchange.backend, max(now - began, FAILED), now, failed=True)

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        """Learn from a client that did not wait, and forget the exchange."""
        if exchange.first_byte and not self._late:
            return
        began = self._late.pop(exchange, exchange.started)
        under_way = not exchange.first_byte and exchange.error is None and exchange.backend is not None
        if under_way and "client_gone" in exchange.flags and exchange.backend is not None:
            self._latencies.at_least(exchange.backend, exchange.ended - began, exchange.ended)

    def inherit(self, old: object) -> None:
        """Go on with the latencies of the route as it was before."""
        if isinstance(old, Ewma):
            self._latencies.inherit(old._latencies)

    def describe(self) -> list[str]:
        """What each backend's latency is taken to be."""
        measured = self._latencies.measured().items()
        return [f"latency of {backend.name}: {seconds * 1000:.3g} ms" for backend, seconds in measured]

    def _prepare(self, candidates: tuple[Backend, ...]) -> Contest:
        explore = self._explore
        spread = 0.0 if explore == ENDLESS else explore  # new ones are not all tried again at the same moment
        latencies = self._latencies.of(candidates, self.clock(), lambda: self._random.random() * spread)
        rated = list(zip(candidates, latencies, strict=True))
        return Contest(rated, explore=explore, scanned=self._scanned, random=self._random)
