"""Idle connections to a backend, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lb_core.backend import Backend
from lb_core.engine import connections
from lb_core.engine.connections import IDLE_LIMIT
from lb_core.engine.engine import Engine
from lb_core.engine.upstream import Upstream
from lb_core.pool import Pool
from lb_core.route import Route
from lb_core.sections import RouteConfig
from lb_core.table import Table


class Listening:
    """A backend that accepts and says nothing, and counts the connections it has open."""

    def __init__(self, port: int) -> None:
        self.backend = Backend("web", "127.0.0.1", port)
        self.open: set[asyncio.StreamWriter] = set()

    async def idle(self, since: float) -> Upstream:
        """A connection that has been idle since then."""
        made = Upstream(self.backend)
        await asyncio.get_running_loop().create_connection(lambda: made, self.backend.host, self.backend.port)
        made.idle_since = since
        self.backend.idle[made] = None
        return made

    async def left(self, count: int) -> None:
        """Wait until so many connections are open."""
        async with asyncio.timeout(5):
            while len(self.open) != count:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def listening() -> AsyncIterator[Listening]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.open.add(writer)
        await reader.read()
        made.open.discard(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = Listening(server.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        connections.drop(made.backend)
        await made.left(0)
        server.close()


async def test_what_is_idle_too_long_is_closed_and_the_rest_stays() -> None:
    async with listening() as at:
        await at.idle(90.0)
        kept = await at.idle(93.0)
        await at.left(2)
        connections.prune([at.backend], 90.0 + IDLE_LIMIT)
        assert list(at.backend.idle) == [kept]
        await at.left(1)
        connections.prune([at.backend], 93.0 + IDLE_LIMIT)
        assert not at.backend.idle
        await at.left(0)


async def test_all_are_dropped_when_a_backend_leaves() -> None:
    async with listening() as at:
        for _ in range(3):
            await at.idle(100.0)
        await at.left(3)
        connections.drop(at.backend)
        assert not at.backend.idle
        await at.left(0)


async def test_one_that_the_backend_closes_leaves_by_itself() -> None:
    async with listening() as at:
        await at.idle(100.0)
        await at.left(1)
        for writer in list(at.open):
            writer.transport.abort()
        async with asyncio.timeout(5):
            while at.backend.idle:
                await asyncio.sleep(0.005)


async def test_one_that_speaks_unasked_is_closed() -> None:
    async with listening() as at:
        await at.idle(100.0)
        await at.left(1)
        for writer in at.open:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        async with asyncio.timeout(5):
            while at.backend.idle:
                await asyncio.sleep(0.005)
        await at.left(0)


async def test_the_engine_prunes_on_its_clock_and_drops_at_its_end() -> None:
    async with listening() as at:
        pool = Pool("web", [at.backend])
        engine = Engine(Table(()), Route(RouteConfig(name="none", host="*", pool="web"), pool))
        engine.backends = pool.backends
        now = engine.deadlines.clock()
        await at.idle(now - IDLE_LIMIT)
        await at.idle(now + 3600)
        engine.start()
        await at.left(1)
        engine.stop()
        await at.left(0)
