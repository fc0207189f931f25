"""Nobody is read from faster than the other side reads: what piles up between is bounded, and all of it arrives."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend, Request
from tests.support.balancing import Running, balancing, until
from tests.support.wire import request, response

if TYPE_CHECKING:
    from lb_core.backend import Backend as Served

SIZE = 64_000_000
KERNEL = 16_000_000
"""What the buffers of the four sockets on the way may hold: the kernel lets each grow to a few megabytes."""
OURS = 1_000_000


async def settles(measure: Any) -> int:
    """The value of a measure once it no longer changes."""
    last = -1
    while (now := int(measure())) != last:
        last = now
        await asyncio.sleep(0.2)
    return last


def held_for_clients(balancer: Running) -> int:
    """Bytes of answers that wait in the balancer."""
    return sum(each.transport.get_write_buffer_size() for each in balancer.connections)


def held_for_backends(balancer: Running) -> int:
    """Bytes of requests that wait in the balancer."""
    exchanges = [each.exchange for each in balancer.connections]
    return sum(each.upstream.transport.get_write_buffer_size() for each in exchanges if each and each.upstream)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_client_that_stops_reading_stops_the_backend(framing: str) -> None:
    piece = random.Random(1).randbytes(100_000)
    sent = 0

    async def stream(seen: Request) -> None:
        nonlocal sent
        field = {"length": f"Content-Length: {SIZE}", "chunked": "Transfer-Encoding: chunked", "close": "X-None: 1"}[
            framing
        ]
        seen.write(f"HTTP/1.1 200 OK\r\n{field}\r\n\r\n".encode())
        for _ in range(SIZE // len(piece)):
            seen.write(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece)
            await seen.connection.writer.drain()
            sent += len(piece)
        if framing == "chunked":
            seen.write(b"0\r\n\r\n")
        if framing == "close":
            seen.connection.writer.close()

    async with balancing(Backend(stream)) as balancer, await balancer.client() as client:
        transport: Any = client.reader._transport  # type: ignore[attr-defined]
        transport.pause_reading()
        await client.send(request())
        assert await settles(lambda: sent) < KERNEL
        assert held_for_clients(balancer) < OURS
        transport.resume_reading()
        answer = await client.answer(within=20)
        assert len(answer.body) == SIZE
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(piece * (SIZE // len(piece))).digest()


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_backend_that_stops_reading_stops_the_client(framing: str) -> None:
    go_on = asyncio.Event()
    piece = random.Random(2).randbytes(100_000)
    sent = 0

    async def reads_late(seen: Request) -> None:
        seen.connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go_on.wait()
        seen.connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
        seen.write(response(hashlib.sha256(await seen.body()).hexdigest().encode()))

    async with (
        balancing(Backend(reads_late), listener={"timeouts": {"body": "20s"}}) as balancer,
        await balancer.client() as client,
    ):

        async def upload() -> None:
            nonlocal sent
            field = f"Content-Length: {SIZE}" if framing == "length" else "Transfer-Encoding: chunked"
            await client.send(request("/", b"", field, method="POST"))
            for _ in range(SIZE // len(piece)):
                await client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece)
                sent += len(piece)
            await client.send(b"0\r\n\r\n" if framing == "chunked" else b"")

        uploading = asyncio.create_task(upload())
        assert await settles(lambda: sent) < KERNEL
        assert held_for_backends(balancer) < OURS
        go_on.set()
        answer = await client.answer(b"POST", within=20)
        await uploading
        assert answer.body.decode() == hashlib.sha256(piece * (SIZE // len(piece))).hexdigest()


async def test_a_body_is_not_read_while_there_is_no_backend() -> None:
    backend = Backend()
    ready = asyncio.Event()

    async def health_late(seen: Request) -> None:
        if seen.message.target == b"/health":
            await ready.wait()
        seen.write(response(str(len(await seen.body())).encode()))

    backend.script = health_late
    async with (
        balancing(backend, health_check={"path": "/health", "timeout": "10s"}) as balancer,
        await balancer.client() as client,
    ):
        sent = 0

        async def upload() -> None:
            nonlocal sent
            await client.send(request("/", b"", f"Content-Length: {SIZE // 2}", method="POST"))
            for _ in range(SIZE // 200_000):
                await client.send(b"x" * 100_000)
                sent += 100_000

        uploading = asyncio.create_task(upload())
        assert await settles(lambda: sent) < KERNEL / 2
        ready.set()
        answer = await client.answer(b"POST", within=20)
        await uploading
        assert answer.body == str(SIZE // 2).encode()


async def test_one_stopped_client_slows_nobody_else_on_the_same_backend() -> None:
    def script(seen: Request) -> bytes:
        return response(b"x" * (20_000_000 if seen.message.target == b"/large" else 10))

    async with balancing(Backend(script)) as balancer, await balancer.client(receive_buffer=4096) as stopped:
        stopped.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await stopped.send(request("/large"))
        await asyncio.sleep(0.1)
        served: Served = balancer.balancer.engine.backends[0]
        assert served.in_flight == 1
        async with asyncio.timeout(2):
            for _ in range(50):
                assert len((await balancer.ask(request("/small"))).body) == 10


async def test_events_are_passed_on_one_by_one() -> None:
    go_on = asyncio.Event()

    async def events(seen: Request) -> None:
        seen.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for index in range(5):
            seen.write(b"9\r\ndata: %d\n\n\r\n" % index)
            await go_on.wait()
            go_on.clear()
        seen.write(b"0\r\n\r\n")

    async with balancing(Backend(events)) as balancer, await balancer.client() as client:
        await client.send(request())
        async with asyncio.timeout(3):
            await client.reader.readuntil(b"\r\n\r\n")
            for index in range(5):
                assert b"data: %d" % index in await client.reader.readuntil(b"\n\n\r\n")
                assert await client.silent(0.01), "nothing comes before it was sent"
                go_on.set()
            assert await client.reader.readexactly(5) == b"0\r\n\r\n"
        await until(lambda: balancer.completed)
