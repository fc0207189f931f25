"""Connections to a backend: opening them, and keeping those that wait for a request.

The freshest is taken first, because a backend closes idle connections by age, and a request sent into one that is just
being closed is lost unless it may be repeated. None waits for more than four seconds, because the shortest keep-alive
in wide use is five (Node.js, uvicorn, Apache).
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, cast
from weakref import WeakSet

from lb_core.engine.eyeballs import race
from lb_core.engine.upstream import Upstream
from lb_core.errors import ConnectFailed, ConnectTimeout, NoDescriptor

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.names import Name

IDLE_LIMIT = 4.0
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
PATIENCE = (0.05, 0.1, 0.2)
"""Seconds to wait for a file descriptor before each further try: a burst of connections is over as soon."""


async def connect(backend: Backend, limit: float) -> Upstream:
    """A new connection, within `limit` seconds (0 for no limit). Raises ConnectFailed or ConnectTimeout."""
    lookup = backend.lookup
    try:
        async with asyncio.timeout(limit or None):
            if lookup is None:
                return await _open(backend, backend.host)
            return await _open_by_name(backend, lookup)
    except TimeoutError as problem:
        message = f"backend {backend.name}: no connection to {backend.address} within {limit:g}s"
        if lookup is not None:
            lookup.again()
            if not lookup.known.is_set():
                message += ", its name is still being looked up"
        raise ConnectTimeout(message) from problem
    except (OSError, ValueError) as problem:  # ValueError: a name that no resolver accepts
        if isinstance(problem, OSError) and problem.errno in OUT_OF_DESCRIPTORS:
            raise NoDescriptor(
                f"backend {backend.name}: no file descriptor left to connect: raise LimitNOFILE"
            ) from problem
        if lookup is not None:
            lookup.again()
        why = getattr(problem, "strerror", None) or problem
        raise ConnectFailed(f"backend {backend.name}: cannot connect to {backend.address}: {why}") from problem


async def _open(backend: Backend, address: str) -> Upstream:
    for pause in PATIENCE:
        try:
            return await _open_now(backend, address)
        except OSError as problem:
            if problem.errno not in OUT_OF_DESCRIPTORS:
                raise
        await asyncio.sleep(pause)
    return await _open_now(backend, address)


async def _open_now(backend: Backend, address: str) -> Upstream:
    connection = Upstream(backend)
    try:
        loop = asyncio.get_running_loop()
        if backend.path:
            await loop.create_unix_connection(lambda: connection, backend.path)
        else:
            await loop.create_connection(lambda: connection, address, backend.port)
    except BaseException:
        connection.abandon()
        raise
    return connection


async def _open_by_name(backend: Backend, lookup: Name) -> Upstream:
    """To one of the addresses; those that were tried in vain before it stand last for a while."""
    addresses = await lookup.order()
    address = addresses[0]
    if len(addresses) == 1:
        connection = await _open(backend, address)
    else:
        address, connection = await race(addresses, partial(_open, backend))
        if address != addresses[0]:
            lookup.avoid(addresses[: addresses.index(address)])
    lookup.connections[connection] = address
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


class Closing(dict[object, None]):
    """The idle connections of a backend that keeps none: one that comes back from its exchange is closed."""

    def __setitem__(self, connection: object, _: None) -> None:
        cast("Upstream", connection).transport.close()


def retire(backend: Backend) -> None:
    """Close all of them, and those still busy once their exchange has ended."""
    drop(backend)
    backend.idle = Closing()


class Moving(dict[object, None]):
    """The idle connections of a backend whose name has moved, while busy ones to addresses it has left are `leaving`.

    One of those that comes back is closed. After the last of them, a plain dict takes the place.
    """

    def __init__(self, backend: Backend, leaving: Iterable[Upstream]) -> None:
        super().__init__(backend.idle)
        self.leaving = WeakSet(leaving)
        self._backend = backend

    def __setitem__(self, connection: object, _: None) -> None:
        upstream = cast("Upstream", connection)
        if upstream in self.leaving:
            self.leaving.discard(upstream)
            upstream.transport.close()
        else:
            super().__setitem__(connection, None)
        if not self.leaving and self._backend.idle is self:
            self._backend.idle = dict(self)


def follow(lookup: Name) -> None:
    """Close the idle connections to addresses that a name has left, and the busy ones once their exchange has ended."""
    busy: dict[Backend, list[Upstream]] = {}
    for each, address in list(lookup.connections.items()):
        connection = cast("Upstream", each)
        backend = connection.backend
        if address in lookup.addresses:
            continue
        if connection in backend.idle:
            del backend.idle[connection]
            connection.transport.close()
        elif connection.exchange is not None and connection.transport.get_protocol() is connection:  # else a tunnel
            busy.setdefault(backend, []).append(connection)
    for backend, leaving in busy.items():
        if isinstance(backend.idle, Moving):
            backend.idle.leaving.update(leaving)
        elif not isinstance(backend.idle, Closing):
            backend.idle = Moving(backend, leaving)
