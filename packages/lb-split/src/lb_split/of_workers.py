"""A split where several workers serve a route: what they count stands in shared memory, and is judged together.

A canary is rolled back by the worker that first sees that the sum of all is too bad; the others are told.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any
from zlib import crc32

from lb_core import hookimpl
from lb_core.sharing import Figures, Slots
from lb_split.kinds import SplitByClient, SplitByCookie
from lb_split.part import has_failed
from lb_split.recent_of_all import SIZE, RecentOfAll, Sum
from lb_split.split import Split

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core import Exchange, Route
    from lb_split.part import Part
    from lb_split.settings import SplitSettings

LOOK_EVERY = 0.05
"""Seconds between two looks at how a pool has fared at the other workers, whose failures nobody tells."""


class SplitOfWorkers(Split):
    """Drawing for each request."""

    def __init__(
        self, route: Route, settings: SplitSettings, *, clock: Callable[[], float] = monotonic, **options: Any
    ) -> None:
        super().__init__(route, settings, clock=clock, **options)
        names = crc32("\n".join(part.name for part in self.parts).encode())
        self._area = f"{route.name}/{names:08x}/{settings.rollback.window:g}"
        self._recent: Slots | None = None
        self._figures: Figures | None = None
        self._rows: dict[Part, tuple[int, RecentOfAll]] = {}
        self._look_at = 0.0
        self._handed_on = False
        self._goes_on = False

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        """Count how a pool has fared."""
        part = self._by_pool.get(exchange.pool)
        if part is None or not exchange.attempts:
            return
        failed = has_failed(exchange)
        part.requests += 1
        part.failed += failed
        row = self._rows.get(part)
        if row is None:
            return
        place, recent = row
        self._write(part, place)
        now = exchange.ended
        recent.add(now, failed)
        if part is not self._stable and part.weight and self._watches and (failed or now >= self._look_at):
            self._look_at = now + LOOK_EVERY
            self._judge(part, now)

    def inherit(self, old: Split) -> None:
        """Go on with the counts and, where the section is the same, with the weights as they were shifted."""
        super().inherit(old)
        if isinstance(old, SplitOfWorkers):
            old._handed_on = old._area == self._area
            self._goes_on = old._settings == self._settings

    def start(self) -> None:
        """Count with the others, tell them, and hear them."""
        sharing = self._route.sharing
        self._recent = Slots(sharing, f"split/recent/{self._area}", len(self.parts) * SIZE)
        self._figures = Figures(sharing, f"split/{self._area}", len(self.parts) * 2)
        window = self._settings.rollback.window
        for place, part in enumerate(self.parts):
            self._rows[part] = place, RecentOfAll(self._recent, place * SIZE, window)
            if sharing.seat:
                self._write(part, place)
            if not self._goes_on:
                self._forget(part)
        super().start()

    def close(self) -> None:
        """Listen to the pools no more, nor to other processes."""
        super().close()
        self._rows.clear()
        for slots in (self._recent, self._figures):
            if slots is not None:
                slots.close(release=not self._handed_on)
        self._recent = self._figures = None

    def _write(self, part: Part, place: int) -> None:
        if self._figures is not None:
            mine = self._figures.mine
            mine[2 * place], mine[2 * place + 1] = part.requests, part.failed

    def _counted(self, part: Part) -> tuple[int, int]:
        if self._figures is None or part not in self._rows:
            return super()._counted(part)
        place, _ = self._rows[part]
        return self._figures.total(2 * place), self._figures.total(2 * place + 1)

    def _lately(self, part: Part, now: float) -> Sum:
        row = self._rows.get(part)
        return row[1].sum(now) if row is not None else Sum(0, 0)

    def _forget(self, part: Part) -> None:
        row = self._rows.get(part)
        if row is not None:
            row[1].clear()


class SplitByClientOfWorkers(SplitByClient, SplitOfWorkers):
    """Drawing for each client by the hash of its address."""


class SplitByCookieOfWorkers(SplitByCookie, SplitOfWorkers):
    """Drawing for each client, remembered by a cookie."""


KINDS: dict[str, type[Split]] = {
    "request": SplitOfWorkers,
    "cookie": SplitByCookieOfWorkers,
    "client": SplitByClientOfWorkers,
}
