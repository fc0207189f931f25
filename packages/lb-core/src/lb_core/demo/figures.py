"""What the demo shows, gathered through the hooks that every plugin has."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lb_core.hooks import hookimpl

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.events import Event
    from lb_core.exchange import Exchange

WINDOW = 4.0
"""Seconds that shares and latencies look back."""


@dataclass(frozen=True, slots=True)
class Row:
    """One backend as shown; `share` is of the window's requests (0-1), `p50` and `p99` are seconds."""

    name: str
    address: str
    state: str
    reason: str
    share: float
    in_flight: int
    p50: float
    p99: float
    errors: int


class Figures:
    """A plugin that counts: register it for every route."""

    def __init__(self, hear: Callable[[Event], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.totals: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._hear = hear
        self._clock = clock
        self._recent: deque[tuple[float, str, float]] = deque()

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        """Count an answer for the backend that gave it."""
        if exchange.backend is not None and 200 <= exchange.status < 400:
            name = exchange.backend.name
            self.totals[name] += 1
            self._recent.append((self._clock(), name, exchange.duration))

    @hookimpl
    def on_backend_error(self, exchange: Exchange) -> None:
        """Count a failed attempt."""
        if exchange.backend is not None:
            self.errors[exchange.backend.name] += 1

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Pass on what happened."""
        self._hear(event)

    def requests_per_second(self) -> float:
        """The mean over the window."""
        self._forget()
        if not self._recent:
            return 0.0
        return len(self._recent) / max(1.0, self._clock() - self._recent[0][0])

    def rows(self, backends: tuple[Backend, ...]) -> list[Row]:
        """One row for each backend, in their order."""
        self._forget()
        durations: dict[str, list[float]] = {backend.name: [] for backend in backends}
        for _, name, seconds in self._recent:
            durations.setdefault(name, []).append(seconds)
        return [self._row(backend, sorted(durations[backend.name])) for backend in backends]

    def _row(self, backend: Backend, durations: list[float]) -> Row:
        drained = backend.state == "draining"
        return Row(
            name=backend.name,
            address=backend.address,
            state=backend.state,
            reason="weight 0" if drained else "" if backend.state == "up" else backend.reason,
            share=len(durations) / len(self._recent) if self._recent else 0.0,
            in_flight=backend.in_flight,
            p50=percentile(durations, 0.50),
            p99=percentile(durations, 0.99),
            errors=self.errors[backend.name],
        )

    def _forget(self) -> None:
        oldest = self._clock() - WINDOW
        while self._recent and self._recent[0][0] < oldest:
            self._recent.popleft()


def percentile(ordered: list[float], fraction: float) -> float:
    """The value that `fraction` of an ordered list does not exceed; 0.0 for an empty list."""
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] if ordered else 0.0


def describe(event: Event) -> str:
    """An event in one line, for a person."""
    what = event.kind.replace("_", " ")
    first_line = event.message.partition("\n")[0]
    if event.backend:
        return f"{event.backend}: {what.removeprefix('backend ')}" + (f" ({first_line})" if first_line else "")
    return f"{what}: {first_line}"
