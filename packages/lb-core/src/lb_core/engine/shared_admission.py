"""Admission in a worker: what it admits counts together with what the other workers have.

    limits.connections   a number for each listener, which every worker writes for itself (`ListenerCounts`)
    limits.per_client    a gauge for each listener, by client
    auto                 each worker for itself: the limit on open files that it follows is one of each process

Whoever admits counts first and looks at the others then, so there are never more than the limit allows; of two that ask
in the same instant for the last place both may be refused. What a killed worker had is free at once.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from lb_core.engine.admission import Admission, key_of
from lb_core.sharing.counts_gauge import GaugeCounts
from lb_core.sharing.fence import fence
from lb_core.sharing.numbers import REST, Numbers
from lb_core.sharing.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lb_core.config import ListenerConfig
    from lb_core.engine.downstream import Downstream
    from lb_core.engine.engine import Engine
    from lb_core.events import Notify
    from lb_core.sharing import Sharing

MOST = 1024
"""How many listeners have numbers, those of the last minute included."""
CLIENTS = 65_536
"""How many clients of a listener are counted together at least; each beyond, in its worker alone."""
UNCOUNTED = "-"
"""The key of a client that is not counted, whose connection is."""


class ListenerCounts:
    """Where the connections of each listener and of its clients are counted."""

    def __init__(self, sharing: Sharing) -> None:
        self.sharing = sharing
        self.slots = Slots(sharing, "connections", MOST)
        self._numbers = Numbers(self.slots.of_control[:MOST])
        self._kept: dict[str, GaugeCounts] = {}

    def keep(self, listeners: Iterable[ListenerConfig]) -> None:
        """In the control process: make room for these, which are the listeners now."""
        wanted = {_address(each): each for each in listeners}
        self._numbers.keep(wanted)
        for address, listener in wanted.items():
            if listener.limits.per_client and address not in self._kept:
                self._kept[address] = self.clients(listener)
                self._kept[address].hold()
        for address in self._kept.keys() - wanted.keys():
            gone = self._kept.pop(address)
            with suppress(RuntimeError):  # without a loop nobody counts yet
                asyncio.get_running_loop().call_later(REST, gone.drop)

    def find(self, listener: ListenerConfig) -> int | None:
        """The number of a listener; None where it has none and is counted in each worker by itself."""
        address = _address(listener)
        return self._numbers.find((address,)).get(address)

    def clients(self, listener: ListenerConfig) -> GaugeCounts:
        """The clients of a listener."""
        limit = listener.limits.per_client
        return GaugeCounts.of(self.sharing, f"clients/{_address(listener)}", most=CLIENTS, limit=limit)


def _address(listener: ListenerConfig) -> str:
    """What makes two listeners one."""
    return f"{listener.host}|{listener.port}|{listener.path}"


class SharedAdmission(Admission):
    """What one listener admits in one worker."""

    __slots__ = ("_counts", "_gauge", "_listener", "_mine", "_number")

    def __init__(self, engine: Engine, listener: ListenerConfig, notify: Notify, counts: ListenerCounts) -> None:
        super().__init__(engine, listener.name, notify)
        self._counts = counts
        self._listener = listener
        self._mine = counts.slots.mine
        self._number = counts.find(listener)
        self._gauge: GaugeCounts | None = None

    def use(self, most: int, per_client: int, connections: Iterable[Downstream]) -> None:
        """Admit so many from now on, in all workers together."""
        accepted = list(connections)
        if per_client and self._gauge is None:
            self._gauge = self._counts.clients(self._listener)
        if self._gauge is not None:
            self._gauge.set_limit(per_client)
        if self._per_client and not per_client:
            for connection in accepted:
                self._forget_client(connection)
        super().use(most, per_client, accepted)

    def admit(self, connection: Downstream) -> bool:
        """Whether a new connection may stay; else it has been refused."""
        number = self._number
        if number is None:
            return super().admit(connection)
        self._mine[number] += 1
        if self._full(number):
            self._mine[number] -= 1
            self._refuse(connection, "connections")
            return False
        if self._per_client and not self.admit_client(connection):
            self._mine[number] -= 1
            return False
        connection.client_key = connection.client_key or UNCOUNTED
        return True

    def admit_client(self, connection: Downstream) -> bool:
        """Whether its client may have one more; else it has been refused."""
        key = key_of(connection)
        connection.client_key = key or UNCOUNTED
        if not key or self._gauge is None or self._gauge.add(key) <= self._per_client:
            return True
        self._forget_client(connection)
        self._refuse(connection, "per_client")
        return False

    def left(self, connection: Downstream) -> None:
        """A connection is gone."""
        if self._number is not None:
            self._mine[self._number] -= 1
        self._forget_client(connection)
        connection.client_key = ""

    def _count(self, connection: Downstream, key: str) -> None:
        connection.client_key = key or UNCOUNTED
        if key and self._gauge is not None:
            self._gauge.add(key)

    def _forget_client(self, connection: Downstream) -> None:
        key, connection.client_key = connection.client_key, UNCOUNTED
        if key not in ("", UNCOUNTED) and self._gauge is not None:
            self._gauge.add(key, -1)

    def _full(self, number: int) -> bool:
        most = self._most
        if most <= 0:
            return most < 0 and len(self._engine.deadlines.connections) >= self._engine.max_connections
        fence()
        return self._counts.slots.total(number) > most
