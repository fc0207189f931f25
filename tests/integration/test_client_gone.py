"""A client that leaves takes its work with it: the backend is let go within 0.1 s and nothing stays counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from lb_core import Exchange, Response, hookimpl
from tests.support.backends import Backend, Request, unresponsive
from tests.support.balancing import Running, balancing, until
from tests.support.figures import note
from tests.support.wire import request, response

if TYPE_CHECKING:
    from tests.support.client import Client

WITHIN = 0.1

released: list[float] = []
"""How long after the client had gone each backend's connection was closed, in seconds."""


@pytest.fixture(autouse=True, scope="module")
def figure() -> Iterator[None]:
    """Note the longest."""
    yield
    if released:
        note("client gone", f"the backend is let go after {1000 * max(released):.0f} ms at most, {len(released)} cases")


def leave(client: Client, how: str) -> None:
    """Go: with a reset, with a close, or by saying that nothing more will be sent."""
    if how == "reset":
        client.reset()
    elif how == "close":
        client.writer.close()
    else:
        client.writer.write_eof()


async def gone(balancer: Running, backend: Backend | None, since: float) -> None:
    await until(lambda: balancer.completed, within=WITHIN + 0.3)
    assert balancer.last.flags[-1] == "client_gone"
    if backend is not None:
        await until(lambda: backend.connections[0].ended.is_set(), within=WITHIN + 0.3)
        released.append(backend.connections[0].ended_at - since)
        assert released[-1] < WITHIN
    assert not balancer.in_flight()


@pytest.mark.parametrize("how", ["reset", "close", "half-close"])
@pytest.mark.parametrize("body", [b"", b"a body"], ids=["GET", "POST"])
async def test_while_it_waits_for_an_answer(how: str, body: bytes) -> None:
    backend = Backend((20.0,))
    async with balancing(backend) as balancer, await balancer.client() as client:
        await client.send(request("/", body))
        await until(lambda: backend.requests)
        since = time.monotonic()
        leave(client, how)
        await gone(balancer, backend, since)
        assert balancer.last.status == 0
        assert balancer.balancer.engine.backends[0].failures == 0


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("framing", [b"Content-Length: 100000000", b"Transfer-Encoding: chunked", b"X-None: 1"])
async def test_while_the_answer_streams(how: str, framing: bytes) -> None:
    async def stream(seen: Request) -> None:
        seen.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        while True:
            seen.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
            await seen.connection.writer.drain()
            await asyncio.sleep(0.01)

    backend = Backend(stream)
    async with balancing(backend) as balancer, await balancer.client() as client:
        await client.send(request())
        await client.reader.readuntil(b"\r\n\r\n")
        since = time.monotonic()
        leave(client, how)
        await gone(balancer, backend, since)
        assert balancer.last.status == 200


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("head", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_while_it_uploads(how: str, head: str) -> None:
    backend = Backend()
    async with balancing(backend) as balancer, await balancer.client() as client:
        await client.send(request("/", b"", head, method="POST"), b"5\r\nhello\r\n")
        await until(lambda: backend.requests)
        since = time.monotonic()
        leave(client, how)
        await gone(balancer, backend, since)
        assert not backend.messages[0].complete


async def test_while_a_connection_to_the_backend_is_made() -> None:
    with unresponsive() as address:
        async with balancing(address, timeouts={"connect": "20s"}) as balancer, await balancer.client() as client:
            await client.send(request())
            await until(lambda: balancer.in_flight())
            client.reset()
            await gone(balancer, None, 0.0)


async def test_while_it_waits_for_a_first_check() -> None:
    backend = Backend((20.0,))
    check: dict[str, Any] = {"path": "/health", "timeout": "10s"}
    async with balancing(backend, health_check=check) as balancer, await balancer.client() as client:
        await client.send(request())
        await until(lambda: balancer.in_flight())
        client.reset()
        await gone(balancer, None, 0.0)
        assert not balancer.balancer.routes["*"].pool.queue, "whoever has gone waits no more"


async def test_while_a_plugin_thinks() -> None:
    class Thinks:
        ended = False

        @hookimpl
        async def before_request(self, exchange: Exchange) -> Response | None:
            try:
                await asyncio.sleep(20)
            finally:
                self.ended = True
            return None

    thinks = Thinks()
    async with balancing(Backend(), plugins=[thinks]) as balancer, await balancer.client() as client:
        await client.send(request())
        await until(lambda: balancer.in_flight())
        client.reset()
        await gone(balancer, None, 0.0)
        assert thinks.ended


async def test_requests_it_sent_ahead_are_forgotten() -> None:
    backend = Backend((0.2, response(b"late")))
    async with balancing(backend) as balancer:
        async with await balancer.client() as client:
            await client.send(request("/1") + request("/2") + request("/3"))
            await until(lambda: backend.requests)
            client.reset()
            await gone(balancer, backend, time.monotonic())
        await asyncio.sleep(0.3)
        assert [message.target for message in backend.messages] == [b"/1"]
        assert len(balancer.completed) == 1


async def test_a_thousand_that_leave_leave_nothing_behind() -> None:
    async def slow(seen: Request) -> None:
        await asyncio.sleep(0.05)
        seen.write(response(b"late"))

    async with balancing(Backend(slow), Backend(slow), ejection=False) as balancer:

        async def come_and_go(delay: float) -> None:
            async with await balancer.client() as client:
                await client.send(request())
                await asyncio.sleep(delay)
                client.reset()

        for _ in range(10):
            await asyncio.gather(*[come_and_go(index % 10 / 100) for index in range(50)])
        await until(lambda: not balancer.in_flight())
        await until(lambda: len(balancer.completed) >= 450)
        assert (await balancer.ask(request())).body == b"late"
