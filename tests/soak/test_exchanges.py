"""What an exchange and its connections held is free when they have ended: nothing waits for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import pytest

from lb_core import Exchange, hookimpl
from lb_core.engine.chunks import ChunkScanner
from lb_core.engine.downstream import Downstream
from lb_core.engine.forwarding import Forwarding
from lb_core.engine.tunnel import BackendEnd, ClientEnd, Tunnel
from lb_core.engine.upstream import Upstream
from tests.support.backends import CLOSE, RESET, Backend, Request, Steps, refusing
from tests.support.balancing import Running, balancing, until
from tests.support.client import Client
from tests.support.wire import chunked, request, response

KINDS = (Forwarding, Downstream, Upstream, Tunnel, ClientEnd, BackendEnd, ChunkScanner)
EACH = 10

Part = Callable[[Running, Client], Awaitable[None]]


class Fails:
    """A plugin whose every hook fails."""

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        if exchange.path == "/plugin":
            raise ValueError("for the test")

    @hookimpl
    def before_request(self, exchange: Exchange) -> None:
        if exchange.path == "/refused-by-plugin":
            raise ValueError("for the test")


async def behave(seen: Request) -> None:
    """The backend: what the path says."""
    steps: dict[bytes, Steps] = {
        b"/reset": [RESET],
        b"/half": [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", CLOSE],
        b"/invalid": [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
        b"/chunked": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunked(b"a", b"b")],
        b"/close": [b"HTTP/1.1 200 OK\r\n\r\nbody", CLOSE],
        b"/ws": [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 0.05, CLOSE],
        b"/wait": [0.3],
    }
    for step in steps.get(seen.message.target, [response(b"fine")]):
        if isinstance(step, bytes):
            seen.write(step)
        elif isinstance(step, float):
            await asyncio.sleep(step)
        elif step is CLOSE:
            seen.connection.writer.close()
        else:
            seen.connection.close()


def asks(data: bytes, status: int) -> Part:
    """A request and the status of its answer."""

    async def part(balancer: Running, client: Client) -> None:
        assert (await client.ask(data)).status == status

    return part


def ends(data: bytes) -> Part:
    """A request after whose answer, or in the midst of it, the connection ends."""

    async def part(balancer: Running, client: Client) -> None:
        await client.send(data)
        await client.end()

    return part


async def leaves(balancer: Running, client: Client) -> None:
    await client.send(request("/wait"))
    await until(lambda: balancer.in_flight())
    client.reset()


async def leaves_uploading(balancer: Running, client: Client) -> None:
    await client.send(request("/wait", b"", "Content-Length: 1000", method="POST"), b"x" * 10)
    await until(lambda: balancer.in_flight())
    client.reset()


UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + "A" * 24)

PARTS: dict[str, Part] = {
    "an answer": asks(request(), 200),
    "a body": asks(request("/", b"body"), 200),
    "chunks": asks(request("/chunked"), 200),
    "until the end": asks(request("/close"), 200),
    "malformed": asks(b"GET / HTTP/1.1\r\n\r\n", 400),
    "no route": asks(request(host="nobody.invalid"), 404),
    "reset": asks(request("/reset", b"body"), 502),
    "reset, retried": asks(request("/reset"), 502),
    "refused": asks(request(host="refused.example"), 502),
    "invalid": asks(request("/invalid"), 502),
    "a watching plugin fails": asks(request("/plugin"), 200),
    "a deciding plugin fails": asks(request("/refused-by-plugin"), 500),
    "cut short": ends(request("/half")),
    "a tunnel": ends(request("/ws", b"", *UPGRADE)),
    "the client leaves": leaves,
    "the client leaves its upload": leaves_uploading,
}


def alive() -> Counter[str]:
    """How many of the parts of an exchange there are."""
    kinds = [type(each) for each in gc.get_objects()]
    return Counter(kind.__name__ for kind in kinds if kind in KINDS)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("part", PARTS.values(), ids=list(PARTS))
async def test_what_has_ended_is_free(part: Part) -> None:
    with refusing() as nobody:
        routes = {"refused.example": {"backends": [nobody], "ejection": "off"}}
        async with Backend(behave) as backend:
            routes["example.com"] = {"backends": [backend.address], "ejection": "off"}
            config = {"listeners": {"web": "127.0.0.1:0"}, "access_log": False, "routes": routes}
            async with balancing(backend, config=config, plugins=[Fails()]) as balancer:

                async def once() -> None:
                    async with await balancer.client() as client:
                        await part(balancer, client)
                    await until(lambda: not balancer.connections)
                    balancer.observer.completed.clear()

                await once()
                await asyncio.sleep(0.05)
                before = alive()
                for _ in range(EACH):
                    await once()
                await asyncio.sleep(0.05)
                after = alive()
                after.subtract(before)
                assert not {name: count for name, count in after.items() if count > 1}


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("target", ["/", "/chunked", "/invalid", "/half"])
async def test_what_has_ended_is_free_when_embedded(target: str) -> None:
    async with Backend(behave) as backend, balancing(backend) as balancer:

        async def send(message: dict[str, object]) -> None:
            pass

        async def once() -> None:
            asked = False

            async def receive() -> dict[str, object]:
                nonlocal asked
                if asked:
                    await asyncio.Event().wait()
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}

            with suppress(Exception):  # an answer that breaks off is told so
                scope = {"type": "http", "method": "GET", "path": target, "query_string": b"", "headers": []}
                await balancer.balancer({**scope, "http_version": "1.1", "scheme": "http"}, receive, send)
            balancer.observer.completed.clear()

        await once()
        await asyncio.sleep(0.05)
        before = alive()
        for _ in range(EACH):
            await once()
        await asyncio.sleep(0.05)
        after = alive()
        after.subtract(before)
        assert not {name: count for name, count in after.items() if count > 1}
