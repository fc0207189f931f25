"""What workers have counted, in the control process's own routes and backends.

    worker      requests of routes, requests, failures and requests in flight of backends, as they are, into its place
                in shared memory
    control     what has been added since it last looked, onto its own objects: so they go on counting when a worker
                ends, and when a configuration replaces it

A layout is the order in which the values stand, which both sides derive from the configuration. A place is read only
when it carries the mark of the layout, which the worker writes last.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.balancer import LoadBalancer
    from lb_core.route import Route
    from lb_core.sharing import Memory

Key = tuple[object, ...]

OF_ROUTE, OF_BACKEND = 2, 3
PAUSES = 10
"""Adding up takes one part in so many of the time at most, however often it is asked for."""


class Layout:
    """The routes and backends of a balancer's present configuration, in the order in which they are counted."""

    def __init__(self, balancer: LoadBalancer) -> None:
        self.routes: tuple[Route, ...] = (balancer.engine.unmatched, *balancer.routes.values())
        pools = {id(backend): name for name, pool in balancer.pools.items() for backend in pool.backends}
        self.backends: tuple[Backend, ...] = balancer.engine.backends
        self.keys: tuple[Key, ...] = (
            *((route.name,) for route in self.routes),
            *((pools[id(each)], each.name, each.address, each.send_proxy) for each in self.backends),
        )
        self.mark = crc32(repr(self.keys).encode()) | 1 << 32
        self.size = 1 + OF_ROUTE * len(self.routes) + OF_BACKEND * len(self.backends)

    def values(self) -> array[int]:
        """What stands in these objects now, after the mark."""
        values = array("Q", [self.mark])
        for route in self.routes:
            values.append(route.requests)
            values.append(route.plugin_errors)
        for backend in self.backends:
            values.append(backend.requests)
            values.append(backend.failures)
            values.append(backend.in_flight)
        return values


class Counters:
    """The places of all seats under one layout, in an area of the shared memory with this name."""

    def __init__(self, memory: Memory, name: str, layout: Layout) -> None:
        self.name = name
        self.layout = layout
        self._words = memory.area(name, memory.SEATS * layout.size * 8).cast("Q")

    def write(self, seat: int) -> None:
        """In a worker: put down what has been counted."""
        begin, values = seat * self.layout.size, self.layout.values()
        self._words[begin + 1 : begin + len(values)] = memoryview(values)[1:]
        self._words[begin] = self.layout.mark

    def read(self, seat: int) -> list[int] | None:
        """What a seat has put down last, without the mark; None where it has put down nothing under this layout."""
        begin, size = seat * self.layout.size, self.layout.size
        if self._words[begin] != self.layout.mark:
            return None
        return self._words[begin + 1 : begin + size].tolist()

    def clear(self, seat: int) -> None:
        """Nobody has this seat."""
        self._words[seat * self.layout.size] = 0


class Sums:
    """In the control process: adds up what workers count, onto the objects of its own balancer."""

    def __init__(self, balancer: LoadBalancer, memory: Memory) -> None:
        self._balancer = balancer
        self._memory = memory
        self._generation = 0
        self._last: dict[int, dict[Key, list[int]]] = {}
        self._old: list[str] = []
        self._due = 0.0
        self.counters = self._make()

    def follow(self) -> None:
        """The configuration is another one: the last of the old counts, then the new layout."""
        self._generation += 1
        layout = Layout(self._balancer)
        if layout.keys == self.counters.layout.keys:
            self.counters.layout = layout
            return
        self._old.append(self.counters.name)
        self.counters = self._make(layout)

    def release(self) -> None:
        """Every worker counts under the present layout: the older places are not needed any more."""
        while self._old:
            self._memory.release(self._old.pop())

    def collect(self, seats: Iterable[int]) -> None:
        """Add what these seats have counted since the last time; not again at once where that takes long."""
        begin = time.monotonic()
        if begin < self._due:
            return
        self._collect(seats)
        end = time.monotonic()
        self._due = end + (end - begin) * PAUSES

    def _collect(self, seats: Iterable[int]) -> None:
        layout = self.counters.layout
        in_flight = [0] * len(layout.backends)
        for seat in seats:
            values = self.counters.read(seat)
            if values is not None:
                self._add(seat, layout, values, in_flight)
        for backend, count in zip(layout.backends, in_flight, strict=True):
            backend.in_flight = count

    def left(self, seat: int, others: Iterable[int]) -> None:
        """The worker of this seat has ended: what it counted stays, what it had in flight is over."""
        self._collect((*others, seat))
        self.counters.clear(seat)
        self._last.pop(seat, None)
        self._collect(others)

    def _make(self, layout: Layout | None = None) -> Counters:
        layout = layout or Layout(self._balancer)
        return Counters(self._memory, f"workers/counters/{self._generation}", layout)

    def _add(self, seat: int, layout: Layout, values: list[int], in_flight: list[int]) -> None:
        last = self._last.setdefault(seat, {})
        routes = len(layout.routes)
        at = 0
        for index, route in enumerate(layout.routes):
            now = values[at : at + OF_ROUTE]
            requests, errors = _since(last.get(layout.keys[index]), now)
            route.requests += requests
            route.plugin_errors += errors
            last[layout.keys[index]] = now
            at += OF_ROUTE
        for index, backend in enumerate(layout.backends):
            now = values[at : at + OF_BACKEND - 1]
            requests, failures = _since(last.get(layout.keys[routes + index]), now)
            backend.requests += requests
            backend.failures += failures
            last[layout.keys[routes + index]] = now
            in_flight[index] += values[at + OF_BACKEND - 1]
            at += OF_BACKEND
        if len(last) > len(layout.keys):
            self._last[seat] = {key: last[key] for key in layout.keys}


def _since(before: list[int] | None, now: list[int]) -> list[int]:
    """What has been added; a count that is lower than before has begun anew."""
    if before is None:
        return now
    return [value - old if value >= old else value for old, value in zip(before, now, strict=True)]
