"""A balancer with real sockets in the test's own loop, watched from within by a plugin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from lb_core import Event, Exchange, hookimpl
from lb_core.balancer import LoadBalancer
from lb_core.config import config_from_tree
from lb_core.plugins import Plugins
from lb_core.server import Server
from tests.support.backends import Backend
from tests.support.client import Client

if TYPE_CHECKING:
    from lb_core.engine.downstream import Downstream
    from lb_core.resolving import Resolver
    from tests.support.wire import Message

Address = str | Mapping[str, Any] | Backend


class Observer:
    """Hears everything."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.completed: list[Exchange] = []

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.events.append(event)

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        self.completed.append(exchange)


class Running:
    """A running balancer."""

    def __init__(self, balancer: LoadBalancer, server: Server, observer: Observer) -> None:
        self.balancer = balancer
        self.server = server
        self.observer = observer
        self.errors: list[Mapping[str, Any]] = []
        """What the event loop reported: exceptions in protocols and tasks, none of which may happen."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server.urls[0].rpartition(":")[2])

    @property
    def events(self) -> list[str]:
        """The kinds of events so far."""
        return [event.kind for event in self.observer.events]

    @property
    def completed(self) -> list[Exchange]:
        """The exchanges that have ended."""
        return self.observer.completed

    @property
    def last(self) -> Exchange:
        """The exchange that ended last."""
        return self.observer.completed[-1]

    @property
    def connections(self) -> list[Downstream]:
        """The connections from clients."""
        return cast("list[Downstream]", list(self.balancer.engine.deadlines.connections))

    async def client(self, *, receive_buffer: int = 0) -> Client:
        """A new connection."""
        return await Client.connect(self.port, receive_buffer=receive_buffer)

    async def ask(self, data: bytes, *, within: float = 5.0) -> Message:
        """One request over a connection of its own."""
        async with await self.client() as client:
            return await client.ask(data, within=within)

    def in_flight(self) -> dict[str, int]:
        """What is counted as under way, where that is not 0."""
        counts = {backend.id: backend.in_flight for backend in self.balancer.engine.backends}
        counts |= {f"{route.name} retrying": route.retrying for route in self.balancer.routes.values()}
        counts["exchanges"] = sum(each.exchange is not None for each in self.connections)
        return {name: count for name, count in counts.items() if count}

    async def settled(self) -> None:
        """Fail unless nothing is under way, each exchange was completed once, and the loop has no complaint."""
        await until(lambda: not self.in_flight(), within=2.0, what=lambda: f"still in flight: {self.in_flight()}")
        assert len({id(exchange) for exchange in self.completed}) == len(self.completed)
        assert not self.errors, self.errors


async def until(condition: Any, *, within: float = 3.0, what: Any = lambda: "") -> None:
    """Wait until a condition holds."""
    end = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"not within {within} s: {what()}"
        await asyncio.sleep(0.005)


def tree(
    backends: Mapping[str, Address] | Iterable[Address],
    *,
    listener: Mapping[str, Any] | None = None,
    top: Mapping[str, Any] | None = None,
    **route: Any,
) -> dict[str, Any]:
    """A configuration with one listener on a free port and one route for every host."""
    if not isinstance(backends, Mapping):
        backends = {_name(each, index): each for index, each in enumerate(backends)}
    found = {name: each.address if isinstance(each, Backend) else each for name, each in backends.items()}
    web = {"address": "127.0.0.1:0", **(listener or {})}
    return {
        "listeners": {"web": web},
        "access_log": False,
        "routes": {"*": {"backends": found, **route}},
        **(top or {}),
    }


def _name(each: Address, index: int) -> str:
    return each.name if isinstance(each, Backend) and each.name != "backend" else f"backend{index}"


@asynccontextmanager
async def balancing(
    *backends: Address,
    plugins: Iterable[object] = (),
    config: Mapping[str, Any] | None = None,
    drain: float = 2.0,
    resolver: Resolver | None = None,
    **options: Any,
) -> AsyncIterator[Running]:
    """A balancer before these backends; `options` are those of `tree`. Backends that do not run are started."""
    observer = Observer()
    found = Plugins.discover(extra=[observer, *plugins])
    async with AsyncExitStack() as stack:
        for each in backends:
            if isinstance(each, Backend) and not each.port:
                await stack.enter_async_context(each)
        made = config_from_tree(dict(config or tree(backends, **options)), found)
        balancer = LoadBalancer(made, plugins=found, resolver=resolver)
        server = Server(balancer, drain=drain, watch=False, signals=False)
        running = Running(balancer, server, observer)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: running.errors.append(context))
        serving = asyncio.create_task(server.serve())
        started = asyncio.create_task(server.started.wait())
        await asyncio.wait((serving, started), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            started.cancel()
            serving.result()
        try:
            yield running
            await running.settled()
        finally:
            await _end(running, serving)
            loop.set_exception_handler(None)


async def _end(running: Running, serving: asyncio.Task[int]) -> None:
    """End without a drain, which takes a tenth of a second even of an idle server; test_drain.py has it."""
    for connection in running.connections:
        connection.transport.abort()
    serving.cancel()  # begins the drain
    while "shutdown" not in running.events and not serving.done():
        await asyncio.sleep(0)
    serving.cancel()  # ends it
    with suppress(asyncio.CancelledError):
        await serving
