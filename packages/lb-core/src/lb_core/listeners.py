"""The listeners of a process that carries traffic: they follow the configuration, and drain at the end.

Whoever serves drives them: a process alone opens sockets of its own, a worker is handed its sockets (`hold`) and looks
after those only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from lb_core.errors import StartError
from lb_core.events import Event
from lb_core.listening import Address, address_of
from lb_core.node import Load
from lb_core.open_listener import OpenListener
from lb_core.units import counted

if TYPE_CHECKING:
    import socket

    from lb_core.balancer import LoadBalancer
    from lb_core.config import ListenerConfig

log = logging.getLogger("lb.server")

CLOSING = 0.01
"""uvloop closes sockets on its next turn; a new listener may want the same port."""

Inherited = Mapping[Address, Iterable["socket.socket"]]
"""Listening sockets of a predecessor, by the address they were opened for."""


class Listeners:
    """Every listener of this process by address; `grace` is how long a drain may take, in seconds.

    `inherited` are sockets of a predecessor, taken instead of opening new ones.
    """

    def __init__(self, balancer: LoadBalancer, *, grace: float, inherited: Inherited | None = None) -> None:
        self.balancer = balancer
        self.grace = grace
        self.opened: dict[Address, OpenListener] = {}
        self._inherited = dict(inherited or {})
        self._leaving: dict[asyncio.Task[None], OpenListener] = {}
        self._draining = False

    @property
    def urls(self) -> list[str]:
        """Where this process can be reached from this machine."""
        return [found for opened in self.opened.values() for found in opened.urls]

    @property
    def sockets(self) -> dict[Address, list[socket.socket]]:
        """The listening sockets, for a successor."""
        return {address: list(opened.sockets) for address, opened in self.opened.items()}

    @property
    def connections(self) -> int:
        """How many connections of clients are open."""
        return sum(each.connections for each in (*self.opened.values(), *self._leaving.values()))

    @property
    def load(self) -> Load:
        """What this process carries."""
        engine = self.balancer.engine
        requests = engine.unmatched.requests + sum(route.requests for route in self.balancer.routes.values())
        in_flight = sum(backend.in_flight for backend in engine.backends)
        return Load(requests, in_flight, self.connections)

    # a process that opens its own sockets

    def open(self) -> None:
        """Open a socket for each configured listener; raises StartError."""
        for listener in self.balancer.config.listeners:
            self._add(listener)

    async def start(self) -> None:
        """Begin to accept."""
        for opened in self.opened.values():
            await self._accept(opened)

    async def match(self) -> None:
        """Open what is new, drain what is gone; what stays takes its new settings for new connections."""
        wanted = self._leave_those_gone()
        await asyncio.sleep(CLOSING)
        if self._draining:
            return  # the end has begun meanwhile, and closed what is here
        for address, listener in wanted.items():
            if address in self.opened:
                self.opened[address].use(listener)
                continue
            try:
                await self._accept(self._add(listener))
            except StartError as error:
                self.balancer.notify(Event("listener_failed", str(error)))

    @property
    def matched(self) -> bool:
        """Whether the listeners are those of the configuration, which somebody may have applied without us."""
        return set(self.opened) == {address_of(listener) for listener in self.balancer.config.listeners}

    # a worker, whose sockets come from elsewhere

    async def hold(self, address: Address, sockets: Iterable[socket.socket], gone: Iterable[socket.socket]) -> None:
        """Accept on these too, and no more on those; what waits in those is left to whoever has them now."""
        opened = self.opened.get(address)
        if opened is None:
            listener = next((each for each in self.balancer.config.listeners if address_of(each) == address), None)
            if listener is None or self._draining:
                for each in (*sockets, *gone):
                    each.close()
                return
            opened = self.opened[address] = OpenListener(self.balancer, listener, sockets, file=False)
        else:
            opened.sockets += sockets
        await opened.accept()
        opened.leave(gone)

    def follow(self) -> None:
        """The configuration is another one: drain what is gone, take new settings for what stays."""
        for address, listener in self._leave_those_gone().items():
            if address in self.opened:
                self.opened[address].use(listener)

    def leave_all(self) -> None:
        """Stop accepting, and leave what waits to the processes that have the same sockets."""
        for opened in self.opened.values():
            opened.leave(opened.sockets)

    # both

    def hand_over(self, addresses: Collection[Address]) -> None:
        """Stop accepting at these addresses, and leave what waits there to the process that has the same sockets."""
        for address in addresses:
            if address in self.opened:
                self.opened[address].hand_over()

    async def drain(self) -> None:
        """Let every connection finish its exchange, and cut what is left after the grace."""
        self._draining = True
        drains = [asyncio.create_task(self._drain(opened)) for opened in self.opened.values()]
        await asyncio.gather(*drains, *self._leaving)

    def hurry(self) -> None:
        """End what drains, now."""
        for opened in (*self.opened.values(), *self._leaving.values()):
            opened.hurry()

    def close(self) -> None:
        """Close every listening socket."""
        for opened in self.opened.values():
            opened.close()

    def _leave_those_gone(self) -> dict[Address, ListenerConfig]:
        """Begin the drain of listeners that the configuration has no more; returns those it has."""
        wanted = {address_of(listener): listener for listener in self.balancer.config.listeners}
        for address in [address for address in self.opened if address not in wanted]:
            gone = self.opened.pop(address)
            gone.stop_accepting()
            task = asyncio.create_task(self._drain(gone))
            self._leaving[task] = gone
            task.add_done_callback(self._leaving.pop)
        return wanted

    def _add(self, listener: ListenerConfig) -> OpenListener:
        address = address_of(listener)
        inherited = self._inherited.pop(address, None)
        opened = self.opened[address] = OpenListener(self.balancer, listener, inherited)
        return opened

    async def _accept(self, opened: OpenListener) -> None:
        await opened.accept()
        name = opened.settings.listener.name
        message = f"{name} listens on {', '.join(opened.urls)}"
        self.balancer.notify(Event("listener_open", message, details={"listener": name, "urls": opened.urls}))

    async def _drain(self, opened: OpenListener) -> None:
        begin = time.monotonic()
        cut = await opened.drain(self.grace)
        if cut:
            name = opened.settings.listener.name
            log.warning("listener %s: cut %s after %.1f s", name, counted(cut, "connection"), time.monotonic() - begin)
