"""How many connections may be open: of all clients, and of one.

    limits.connections   over a listener's own number, or, where that is `auto`, over what the limit on open files
                         allows all listeners together: half of it, because every exchange may need a connection to a
                         backend, less what the process needs for itself (HAProxy derives its maxconn the same way)
    limits.per_client    from one IPv4 address or one IPv6 network of 64 bits; trusted proxies speak for many clients
                         and are exempt

A connection beyond is answered 503 with a ready-made answer and closed. The kernel would let it wait in a queue
instead; but then nobody learns of it, a probe least of all, and the queue is shared with those who are welcome.
What is asked here is asked once a connection, never for a request.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from lb_core.engine.deadlines import NEVER
from lb_core.engine.flow import end_writing
from lb_core.events import Event
from lb_core.response import Response
from lb_core.units import counted

if TYPE_CHECKING:
    from lb_core.engine.downstream import Downstream
    from lb_core.engine.engine import Engine
    from lb_core.events import Notify

RESERVED = 256
"""Descriptors for everything but connections, of a limit that is large enough."""

LINGER_SECONDS = 1.0
LINGER_BYTES = 64 * 1024
MAX_LINGERING = 16
TELL_EVERY = 1.0

_ANSWER = Response.problem(
    503, "too_many_connections", "too many connections are open", headers={"Retry-After": "5"}
).encode(connection=b"Connection: close\r\n")


def ceiling(descriptors: float) -> float:
    """How many clients a limit on open files allows, so that each of them can have a connection to a backend."""
    if descriptors == NEVER:
        return NEVER
    return max((descriptors - min(RESERVED, descriptors // 4)) // 2, 1)


class Admission:
    """What one listener admits; it outlives reloads, so what it has counted goes on."""

    __slots__ = (
        "_clients",
        "_engine",
        "_most",
        "_notify",
        "_per_client",
        "_telling",
        "_untold",
        "lingering",
        "name",
        "refused",
    )

    def __init__(self, engine: Engine, name: str, notify: Notify) -> None:
        self.name = name
        self.refused: Counter[str] = Counter()
        """How many were refused, by the name of the limit."""
        self.lingering = 0
        self._engine = engine
        self._notify = notify
        self._most = 0
        self._per_client = 0
        self._clients: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()
        self._telling = False

    def use(self, most: int, per_client: int, connections: Iterable[Downstream]) -> None:
        """Admit so many from now on: 0 for any number, -1 for `auto`. The open `connections` stay open."""
        self._most = most
        if per_client and not self._per_client:
            self._clients.clear()
            for connection in connections:
                connection.client_key = ""
                self._count(connection, key_of(connection))
        self._per_client = per_client

    def admit(self, connection: Downstream) -> bool:
        """Whether a new connection may stay; else it has been refused."""
        most = self._most
        if most < 0:
            full = len(self._engine.deadlines.connections) >= self._engine.max_connections
        else:
            full = 0 < most <= len(connection.server_state.connections)
        if full:
            self._refuse(connection, "connections")
            return False
        return not self._per_client or self.admit_client(connection)

    def admit_client(self, connection: Downstream) -> bool:
        """Whether its client may have one more; else it has been refused."""
        key = key_of(connection)
        if key and self._clients[key] >= self._per_client:
            self._refuse(connection, "per_client")
            return False
        self._count(connection, key)
        return True

    def left(self, connection: Downstream) -> None:
        """A connection that was counted for its client is gone."""
        key, connection.client_key = connection.client_key, ""
        if self._clients[key] > 1:
            self._clients[key] -= 1
        else:
            del self._clients[key]

    def _count(self, connection: Downstream, key: str) -> None:
        if key:
            self._clients[key] += 1
            connection.client_key = key

    def _refuse(self, connection: Downstream, limit: str) -> None:
        self.refused[limit] += 1
        self._untold[limit] += 1
        if not self._telling:
            self._tell()
        transport = connection.transport
        transport.write(_ANSWER)
        if self.lingering < MAX_LINGERING and transport.can_write_eof():
            transport.set_protocol(Refused(self, transport))
        else:
            transport.set_protocol(asyncio.Protocol())
            transport.close()

    def _tell(self) -> None:
        """Say how many were refused since the last time, at most once a second."""
        untold, self._untold = self._untold, Counter()
        self._telling = bool(untold)
        for limit, count in untold.items():
            message = f"listener {self.name}: {counted(count, 'connection')} refused by limits.{limit}"
            details = {"listener": self.name, "limit": limit, "count": count}
            self._notify(Event("connections_refused", message, details=details))
        if untold:
            asyncio.get_running_loop().call_later(TELL_EVERY, self._tell)


class Refused(asyncio.Protocol):
    """A connection that has been answered: it is read for a moment, lest a reset destroys the answer."""

    __slots__ = ("_admission", "_left", "_timer", "_transport")

    def __init__(self, admission: Admission, transport: asyncio.Transport) -> None:
        self._admission = admission
        self._transport = transport
        self._left = LINGER_BYTES
        admission.lingering += 1
        self._timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)
        end_writing(transport)

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # gone is gone
        self._timer.cancel()
        self._admission.lingering -= 1


def key_of(connection: Downstream) -> str:
    """What the connection counts as, "" where it is not counted: a trusted proxy, or a socket without addresses."""
    return "" if connection.origin.trusted else client_key(connection.origin.peer)


@lru_cache(maxsize=4096)
def client_key(address: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, which one customer is given."""
    if ":" not in address:
        return address
    return f"{int(IPv6Address(address.partition('%')[0])) >> 64:x}::/64"
