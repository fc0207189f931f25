"""Connections to a backend: opening them, and keeping those that wait for a request.

The freshest is taken first, because a backend closes idle connections by age, and a request sent into one that is just
being closed is lost unless it may be repeated. None waits for more than four seconds, because the shortest keep-alive
in wide use is five (Node.js, uvicorn, Apache).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from lb_core.engine.upstream import Upstream
from lb_core.errors import ConnectFailed, ConnectTimeout

if TYPE_CHECKING:
    from lb_core.backend import Backend

IDLE_LIMIT = 4.0


async def connect(backend: Backend, limit: float) -> Upstream:
    """A new connection, within `limit` seconds (0 for no limit). Raises ConnectFailed or ConnectTimeout."""
    connection = Upstream(backend)
    try:
        async with asyncio.timeout(limit or None):
            await asyncio.get_running_loop().create_connection(lambda: connection, backend.host, backend.port)
    except BaseException as problem:
        connection.abandon()
        if isinstance(problem, TimeoutError):
            message = f"backend {backend.name}: no connection to {backend.address} within {limit:g}s"
            raise ConnectTimeout(message) from problem
        if isinstance(problem, (OSError, ValueError)):  # ValueError: a name that no resolver accepts
            why = getattr(problem, "strerror", None) or problem
            raise ConnectFailed(f"backend {backend.name}: cannot connect to {backend.address}: {why}") from problem
        raise
    return connection


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
