"""Open connections to a backend that wait for a request: the freshest first, none older than four seconds.

The freshest, because a backend closes idle connections by age, and a request sent into one that is just being closed
is lost unless it may be repeated. Four seconds, because the shortest keep-alive in wide use is five (Node.js,
uvicorn, Apache).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.engine.upstream import Upstream

IDLE_LIMIT = 4.0


def prune(backends: Iterable[Backend], now: float) -> None:
    """Close what has been idle too long; the oldest stand first."""
    for backend in backends:
        while backend.idle:
            oldest: Upstream = next(iter(backend.idle))  # type: ignore[assignment]
            if oldest.idle_since + IDLE_LIMIT > now:
                break
            del backend.idle[oldest]
            oldest.transport.close()


def drop(backend: Backend) -> None:
    """Close all of them."""
    while backend.idle:
        connection: Upstream = backend.idle.popitem()[0]  # type: ignore[assignment]
        connection.transport.close()


class Retired(dict[object, None]):
    """The idle connections of a backend that has left: one that comes back from its last exchange is closed."""

    def __setitem__(self, connection: object, _: None) -> None:
        cast("Upstream", connection).transport.close()


def retire(backend: Backend) -> None:
    """Close all of them, and those still busy once their exchange has ended."""
    drop(backend)
    backend.idle = Retired()
