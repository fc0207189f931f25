"""Backends given by name: the addresses of each name, kept fresh beside the requests.

A name is looked up when its backend is loaded, again when the answer has run out (1 s to 30 s), and at once when a
connection to it failed, once a second at most. One task a name; an address given as such has none.

    unknown ── an answer ──> resolved ── no answer ──> unresolved, the last addresses stay in use
        └── no answer: every attempt fails ──> unresolved ── an answer ──> resolved

New connections take the addresses in turn, so that all share the load, families alternating (RFC 8305 section 4); one
that failed, or was overtaken by the next, stands last for ten seconds. While nobody asks, a name that does not resolve
is looked up ever less often, up to the 30 s.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from lb_core.events import Event, Notify

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.resolving import Resolution, Resolver

log = logging.getLogger("lb.names")

SHORTEST, LONGEST = 1.0, 30.0
LOOKUP_LIMIT = 30.0
LOOKUPS_AT_ONCE = 16
AVOIDED_FOR = 10.0


class Name:
    """One name: its `addresses` now, and the `problem` of the last lookup where that failed.

    `connections` belongs to the engine: the open connections, with the address of each.
    """

    __slots__ = ("_avoided", "_clock", "_turn", "addresses", "called", "connections", "host", "known", "problem")

    def __init__(self, host: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.host = host
        self.addresses: tuple[str, ...] = ()
        self.problem = ""
        self.known = asyncio.Event()
        self.called = asyncio.Event()
        self.connections: WeakKeyDictionary[object, str] = WeakKeyDictionary()
        self._avoided: dict[str, float] = {}
        self._turn = -1
        self._clock = clock

    async def order(self) -> list[str]:
        """The addresses in the order in which a new connection tries them.

        Waits for the first lookup; raises gaierror where the name has never resolved.
        """
        await self.known.wait()
        addresses = self.addresses
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, f"the name does not resolve ({self.problem})")
        self._turn = turn = (self._turn + 1) % len(addresses)
        ordered = alternating(addresses[turn:] + addresses[:turn])
        if self._avoided:
            now = self._clock()
            self._avoided = {address: until for address, until in self._avoided.items() if until > now}
            ordered.sort(key=self._avoided.__contains__)
        return ordered

    def avoid(self, addresses: Iterable[str]) -> None:
        """Put these last for a while: they failed, or were slower than the next."""
        until = self._clock() + AVOIDED_FOR
        self._avoided.update(dict.fromkeys(addresses, until))

    def again(self) -> None:
        """A connection failed: have the name looked up at once."""
        self.called.set()

    def leave(self) -> None:
        """Nobody looks it up any more: let go who waits for a first answer."""
        if not self.known.is_set():
            self.problem = "it is looked up no more"
            self.known.set()


class Names:
    """All names of a balancer; `moved` hears of a name that has other addresses than before."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        notify: Notify,
        moved: Callable[[Name], None],
        shortest: float = SHORTEST,
        longest: float = LONGEST,
        limit: float = LOOKUP_LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._notify = notify
        self._moved = moved
        self._shortest = shortest
        self._longest = longest
        self._limit = limit
        self._clock = clock
        self._slots = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._kept: dict[str, tuple[Name, asyncio.Task[None]]] = {}

    def watch(self, backends: Sequence[Backend]) -> None:
        """Keep the names of these backends, and no others; needs the running loop."""
        wanted = {backend.host for backend in backends if is_name(backend.host)}
        for host in self._kept.keys() - wanted:
            name, task = self._kept.pop(host)
            task.cancel()
            name.leave()
        for host in sorted(wanted - self._kept.keys()):
            name = Name(host, self._clock)
            self._kept[host] = name, asyncio.get_running_loop().create_task(self._keep(name))
        for backend in backends:
            backend.lookup = self._kept[backend.host][0] if backend.host in self._kept else None

    async def stop(self) -> None:
        """Look up nothing more."""
        kept = list(self._kept.values())
        self._kept.clear()
        for name, task in kept:
            task.cancel()
            name.leave()
        for _, task in kept:
            with suppress(asyncio.CancelledError):
                await task

    async def _keep(self, name: Name) -> None:
        """Look a name up again and again."""
        pause = self._shortest
        while True:
            name.called.clear()
            try:
                found = await _look_up(self._resolver, name.host, self._slots, self._limit)
            except Exception as error:
                begin = self._clock()
                self._fails(name, _in_words(error))
                seconds, pause = pause, min(2 * pause, self._longest)
            else:
                begin = self._clock()
                self._take(name, found)
                seconds, pause = min(found.ttl, self._longest), self._shortest
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await name.called.wait()
            # also after an answer that holds for less
            await asyncio.sleep(max(0.0, begin + self._shortest - self._clock()))

    def _take(self, name: Name, found: Resolution) -> None:
        before, failed = name.addresses, name.problem
        name.problem = ""
        moved = set(before) != set(found.addresses)
        if moved:  # else the order of before stays: servers shuffle it, and turns would be taken unevenly
            name.addresses = tuple(dict.fromkeys(found.addresses))
        name.known.set()
        if moved and before:
            self._tell_moved(name)
        if failed or (moved and before):
            what = ", ".join(name.addresses)
            self._notify(Event("name_resolved", f"{name.host}: {what}", details=_details(name)))

    def _fails(self, name: Name, problem: str) -> None:
        first = not name.problem
        name.problem = problem
        name.known.set()
        if first:
            rest = f"its last addresses stay in use: {', '.join(name.addresses)}" if name.addresses else "it never did"
            message = f"{name.host} does not resolve ({problem}); {rest}"
            self._notify(Event("name_unresolved", message, details=_details(name)))

    def _tell_moved(self, name: Name) -> None:
        try:
            self._moved(name)
        except Exception:
            log.exception("%s has other addresses, but its connections could not be told", name.host)


def _details(name: Name) -> dict[str, object]:
    return {"name": name.host, "addresses": list(name.addresses)}


async def addresses_of(backend: Backend) -> list[str]:
    """Where a backend is, in the order in which to try; raises gaierror where its name does not resolve."""
    return [backend.host] if backend.lookup is None else await backend.lookup.order()


async def unresolved(resolver: Resolver, hosts: Iterable[str], limit: float = 5.0) -> dict[str, str]:
    """Which of these names do not resolve now, and why; `limit` is what each lookup may take."""
    slots = asyncio.Semaphore(LOOKUPS_AT_ONCE)
    names = sorted({host for host in hosts if is_name(host)})
    reasons = await asyncio.gather(*(_why_not(resolver, name, slots, limit) for name in names))
    return {name: reason for name, reason in zip(names, reasons, strict=True) if reason}


async def _why_not(resolver: Resolver, host: str, slots: asyncio.Semaphore, limit: float) -> str:
    try:
        await _look_up(resolver, host, slots, limit)
    except Exception as error:
        return _in_words(error)
    return ""


async def _look_up(resolver: Resolver, host: str, slots: asyncio.Semaphore, limit: float) -> Resolution:
    """Look a name up; raises where it has no address, and where that is not known in time."""
    async with slots:
        try:
            async with asyncio.timeout(limit):
                found = await resolver.resolve(host)
        except TimeoutError:
            raise OSError(f"no answer within {limit:g} s") from None
    if not found.addresses:
        raise OSError("it has no address")
    return found


def _in_words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def is_name(host: str) -> bool:
    """Whether a host has to be looked up: it is no address, and no path of a socket."""
    try:
        ip_address(host)
    except ValueError:
        return host != "" and "/" not in host
    return False


def alternating(addresses: Sequence[str]) -> list[str]:
    """The same addresses, the family of the first and the other by turns."""
    six = ":" in addresses[0]
    first = [address for address in addresses if (":" in address) == six]
    other = [address for address in addresses if (":" in address) != six]
    pairs = zip_longest(first, other)
    return [address for address in chain.from_iterable(pairs) if address is not None]
