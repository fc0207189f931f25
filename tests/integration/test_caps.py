"""How many may connect, and how much of anything one of them may send: every cap, at it and beyond."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from lb_core.engine import deadlines
from tests.support.backends import RESET, Backend, Request
from tests.support.balancing import Running, balancing, until
from tests.support.client import Client
from tests.support.wire import Cut, request, response

if TYPE_CHECKING:
    from lb_core.engine.downstream import Downstream

pytestmark = pytest.mark.timed


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at deadlines more often than in production, so that timeouts can be short."""
    monkeypatch.setattr(deadlines, "PERIOD", 0.1)


async def refused(balancer: Running, *, silent: bool = False) -> bool:
    """Whether a new connection is told 503 and closed; otherwise it is served."""
    async with await balancer.client() as client:
        answer = await client.answer() if silent else await client.ask(request())
        if answer.status == 200:
            return False
        assert (answer.status, answer["connection"], answer["retry-after"]) == (503, b"close", b"5")
        assert answer.body == b"too many connections are open\n"
        assert await client.end() == b""
    return True


@asynccontextmanager
async def crowd(balancer: Running, size: int) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await balancer.client()) for _ in range(size)]
        await until(lambda: len(balancer.connections) == size)
        yield clients


async def leave(balancer: Running, client: Client, left: int) -> None:
    client.reset()
    await until(lambda: len(balancer.connections) == left)


# connections


async def test_a_listener_serves_so_many_and_answers_the_others() -> None:
    async with (
        balancing(Backend(), listener={"limits": {"connections": 3}}) as balancer,
        crowd(balancer, 3) as clients,
    ):
        assert await refused(balancer)
        assert await refused(balancer, silent=True), "it need not ask to be told"
        for client in clients:
            assert (await client.ask(request())).status == 200, "those who are in are served"
        await leave(balancer, clients[0], 2)
        assert not await refused(balancer)
        assert balancer.events.count("connections_refused") == 1


async def test_a_thousand_refusals_cost_little_and_are_said_once_a_second() -> None:
    async with (
        balancing(Backend(), listener={"limits": {"connections": 1}}) as balancer,
        crowd(balancer, 1) as (client,),
    ):

        async def knock() -> None:
            for _ in range(50):
                assert await refused(balancer, silent=True)

        def told() -> list[int]:
            events = [event for event in balancer.observer.events if event.kind == "connections_refused"]
            return [int(str(event.details["count"])) for event in events]

        begin, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*[knock() for _ in range(20)])
        print(f"1,000 connections refused, client and all: {time.process_time() - cpu:.2f} s of CPU")
        assert len(told()) <= time.monotonic() - begin + 1
        await until(lambda: sum(told()) == 1000)
        assert (await client.ask(request())).status == 200
        assert len(balancer.connections) == 1


async def test_a_refused_client_that_stays_is_cut() -> None:
    async with (
        balancing(Backend(), listener={"limits": {"connections": 1}}) as balancer,
        crowd(balancer, 1),
        await balancer.client() as client,
    ):
        assert (await client.answer()).status == 503
        begin = time.monotonic()
        while not client.writer.is_closing():
            await client.send(b"GET / HTTP/1.1\r\n", 0.05)
            assert time.monotonic() - begin < 1.6


async def test_one_client_has_so_many_connections() -> None:
    async with (
        balancing(Backend(), listener={"limits": {"per_client": 2}}) as balancer,
        crowd(balancer, 2) as clients,
    ):
        assert await refused(balancer)
        async with await from_address(balancer, "127.0.0.9") as other:
            assert (await other.ask(request())).status == 200
        await leave(balancer, clients[0], 1)
        assert not await refused(balancer)


async def test_trusted_proxies_are_not_counted() -> None:
    options: dict[str, Any] = {"listener": {"limits": {"per_client": 1}}, "top": {"trusted_proxies": ["127.0.0.1"]}}
    async with (
        balancing(Backend(), **options) as balancer,
        crowd(balancer, 10),
        await from_address(balancer, "127.0.0.9") as other,
        await from_address(balancer, "127.0.0.9") as another,
    ):
        assert (await other.ask(request())).status == 200
        assert (await another.ask(request())).status == 503


async def from_address(balancer: Running, address: str) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", balancer.port, local_addr=(address, 0)))


# requests


async def test_requests_on_one_connection_when_they_are_pipelined() -> None:
    backend = Backend()
    async with (
        balancing(backend, listener={"limits": {"requests": 100}}) as balancer,
        await balancer.client() as client,
    ):
        await client.send(request() * 150)
        fields = [(await client.answer()).all("connection") for _ in range(100)]
        assert fields == [[]] * 99 + [[b"close"]]
        assert await client.end() == b""
        assert len(backend.requests) == 100


async def test_ten_thousand_pipelined_requests_are_answered_and_little_is_held() -> None:
    backend = Backend()
    async with balancing(backend, listener={"limits": {"requests": 0}}) as balancer, await balancer.client() as client:
        sending = asyncio.create_task(client.send(request() * 10_000))
        held = 0
        for _ in range(10_000):
            assert (await client.answer()).status == 200
            (connection,) = balancer.connections
            held = max(held, len(connection.buffer))
        await sending
        assert held < 400_000
        assert len(backend.requests) == 10_000


async def test_pipelined_answers_that_nobody_reads_are_bounded_and_end() -> None:
    backend = Backend(response(b"x" * 20_000))
    listener = {"timeouts": {"write": "1s"}, "limits": {"requests": 0}}
    async with (
        balancing(backend, listener=listener) as balancer,
        await balancer.client(receive_buffer=4096) as client,
    ):
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        sending = asyncio.create_task(client.send(request() * 10_000))
        (connection,) = [None]
        most = 0
        begin = time.monotonic()
        while balancer.connections or not balancer.completed:
            connection = balancer.connections[0] if balancer.connections else connection
            if connection is not None:
                most = max(most, connection.transport.get_write_buffer_size() + len(connection.buffer))
            assert time.monotonic() - begin < 5
            await asyncio.sleep(0.01)
        await sending
        assert most < 600_000
        assert len(backend.requests) < 1000


@pytest.mark.parametrize("rest", [20_000, 60_000])
async def test_the_end_of_an_answer_that_nobody_reads_keeps_no_connection(rest: int) -> None:
    """What is left fits the write buffer, so nothing is under way any more; it still must not stay for ever."""
    listener = {"timeouts": {"write": "600ms", "keep_alive": "400ms"}}
    answer = 0

    async def fill(seen: Request) -> None:
        seen.write(response(b"x" * answer))

    async with balancing(Backend(fill), listener=listener) as balancer:
        for size in range(60_000, 400_000, 10_000):
            answer = size
            async with await balancer.client(receive_buffer=4096) as client:
                client.reader._transport.pause_reading()  # type: ignore[attr-defined]
                await client.send(request())
                await until(lambda: balancer.completed or waiting(balancer.connections), within=2)
                await asyncio.sleep(0.05)
                if balancer.completed and 0 < waiting(balancer.connections) <= rest:
                    await until(lambda: not balancer.connections, within=4)
                    return
                await leave(balancer, client, 0)
            balancer.completed.clear()
        pytest.skip("the kernel took every answer whole or left too much")


def waiting(connections: list[Downstream]) -> int:
    return sum(each.transport.get_write_buffer_size() for each in connections)


async def test_a_backends_connection_is_read_again_after_an_answer_that_nobody_reads() -> None:
    """The answer came whole in one read, so its exchange has ended while the client's buffer is full."""
    sizes = {b"/page": 200_000, b"/": 5}
    backend = Backend(lambda seen: response(b"x" * sizes[seen.message.target]))
    async with balancing(backend) as balancer, await balancer.client(receive_buffer=4096) as client:
        for _ in range(10):  # until the kernel lets so much come in one read
            assert len((await balancer.ask(request("/page"))).body) == 200_000
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request("/page"))
        await until(lambda: len(balancer.completed) == 11)
        assert waiting(balancer.connections) > 100_000
        for _ in range(5):
            assert (await balancer.ask(request(), within=2)).body == b"xxxxx"


# things without an end


async def endless(client: Client, opening: bytes, more: bytes) -> tuple[int, int]:
    """Send `more` for ever; what was answered, and how much was sent until then."""
    await client.send(opening)
    sent = 0

    async def send() -> None:
        nonlocal sent
        while not client.writer.is_closing() and sent < 20_000_000:
            await client.send(more * 10, 0.001)  # all of it runs in one loop: let the balancer have its turn
            sent += len(more) * 10

    sending = asyncio.create_task(send())
    try:
        return (await client.answer(b"POST")).status, sent
    finally:
        sending.cancel()


CHUNKED = request("/", b"", "Transfer-Encoding: chunked", method="POST")


@pytest.mark.parametrize(
    ("opening", "more", "status"),
    [
        (b"GET /", b"a" * 100, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X-More: and more of it\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: ", b"a" * 100, 431),
        (b"\r\n", b"\r\n", 400),
        (CHUNKED + b"5;", b"a" * 100, 400),
        (CHUNKED, b"5;extension=value\r\nhello\r\n", 400),
        (CHUNKED + b"0\r\n", b"X-Trailer: and more\r\n", 400),
        (CHUNKED + b"0\r\nX-Trailer: ", b"a" * 100, 400),
        (CHUNKED, b"0" * 100, 400),
    ],
    ids=[
        "target", "fields", "field", "empty lines", "extension", "extensions", "trailers", "trailer", "chunk size",
    ],
)  # fmt: skip
async def test_what_does_not_end_is_refused_soon(opening: bytes, more: bytes, status: int) -> None:
    async with balancing(Backend()) as balancer:
        async with await balancer.client() as client:
            answer, sent = await endless(client, opening, more)
        assert answer == status
        assert sent < 500_000
        await until(lambda: not balancer.connections)


async def test_a_backend_with_one_interim_answer_after_the_other() -> None:
    sent = 0

    async def happy(seen: Request) -> None:
        nonlocal sent
        while not seen.connection.writer.is_closing() and sent < 5000:
            seen.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            await seen.connection.writer.drain()
            await asyncio.sleep(0)
            sent += 1

    async with balancing(Backend(happy)) as balancer, await balancer.client() as client:
        assert (await client.ask(request())).status == 502
        assert len(client.interim) <= 16
        assert sent < 5000


async def test_interim_answers_of_all_attempts_count_together() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 10
    one, two = Backend((hints, RESET)), Backend((hints, RESET))
    async with balancing(one, two, ejection=False) as balancer, await balancer.client() as client:
        assert (await client.ask(request())).status == 502
        assert len(client.interim) <= 16
        assert (len(one.requests), len(two.requests)) == (1, 1)


# rates


SLOW = {"timeouts": {"header": "600ms", "body": "600ms", "write": "600ms", "keep_alive": "5s"}}


async def drip(client: Client, data: bytes, gap: float) -> None:
    for index in range(len(data)):
        await client.send(data[index : index + 1], gap)


async def test_a_head_that_trickles_after_another_request_is_a_408_too() -> None:
    async with balancing(Backend(), listener=SLOW) as balancer, await balancer.client() as client:
        assert (await client.ask(request())).status == 200
        begin = time.monotonic()
        dripping = asyncio.create_task(drip(client, request("/" + "a" * 100), 0.05))
        assert (await client.answer()).status == 408
        assert 0.5 < time.monotonic() - begin < 1.5
        dripping.cancel()


async def test_empty_lines_do_not_stop_the_clock_of_a_head() -> None:
    async with balancing(Backend(), listener=SLOW) as balancer, await balancer.client() as client:
        assert (await client.ask(request())).status == 200
        begin = time.monotonic()
        dripping = asyncio.create_task(drip(client, b"\r\n\r\n" + request("/" + "a" * 100), 0.05))
        assert (await client.answer()).status == 408
        assert 0.5 < time.monotonic() - begin < 1.7
        dripping.cancel()


@pytest.mark.parametrize("field", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
async def test_a_body_below_its_rate_is_a_408(field: str) -> None:
    backend = Backend()
    async with balancing(backend, listener=SLOW) as balancer, await balancer.client() as client:
        begin = time.monotonic()
        await client.send(request("/", b"", field, method="POST"))
        dripping = asyncio.create_task(drip(client, b"1\r\nx\r\n" * 100 if "chunked" in field else b"x" * 600, 0.05))
        answer = await client.answer(b"POST")
        assert (answer.status, answer["connection"]) == (408, b"close")
        assert 0.5 < time.monotonic() - begin < 1.6
        dripping.cancel()
        assert "body_timeout" in balancer.last.flags
        await until(lambda: backend.connections[0].ended.is_set(), within=0.5)


async def test_a_body_at_its_rate_arrives() -> None:
    """Fifty bytes in a twentieth of a second are 1,000 a second, of which 500 are asked."""
    backend = Backend()
    async with balancing(backend, listener=SLOW) as balancer, await balancer.client() as client:
        await client.send(request("/", b"", "Content-Length: 2000", method="POST"))
        for _ in range(40):
            await client.send(b"x" * 50, 0.05)
        assert (await client.answer(b"POST")).status == 200
        assert len(backend.messages[0].body) == 2000


async def test_a_burst_earns_no_more_than_one_gap() -> None:
    async with balancing(Backend(), listener=SLOW) as balancer, await balancer.client() as client:
        await client.send(request("/", b"", "Content-Length: 10000000", method="POST") + b"x" * 5_000_000)
        begin = time.monotonic()
        dripping = asyncio.create_task(drip(client, b"x" * 100, 0.05))
        assert (await client.answer(b"POST")).status == 408
        assert time.monotonic() - begin < 2
        dripping.cancel()


async def test_the_time_in_which_the_backend_reads_nothing_is_not_the_clients() -> None:
    async def late(seen: Request) -> None:
        seen.connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.5)
        seen.connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
        seen.write(response(str(len(await seen.body())).encode()))

    async with balancing(Backend(late), listener=SLOW) as balancer, await balancer.client() as client:
        size = 20_000_000
        await client.send(request("/", b"", f"Content-Length: {size}", method="POST"))
        await client.send(b"x" * (size - 1), 0.3, b"x")
        assert (await client.answer(b"POST")).body == str(size).encode()


async def read_slowly(client: Client, rate: int, within: float) -> int:
    """Read so many bytes a second straight from the socket; how many came until the end."""
    transport: Any = client.reader._transport  # type: ignore[attr-defined]
    transport.pause_reading()
    opened = transport.get_extra_info("socket")
    read = len(client.reader._buffer)  # type: ignore[attr-defined]
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            data = os.read(opened.fileno(), max(rate // 20, 1))
        except BlockingIOError:
            data = b"."
        except ConnectionError:
            break
        if not data:
            break
        read += len(data)
        await asyncio.sleep(0.05)
    return read


async def test_a_client_that_reads_a_byte_now_and_then_is_cut() -> None:
    backend = Backend(response(b"x" * 10_000_000))
    async with (
        balancing(backend, listener=SLOW) as balancer,
        await balancer.client(receive_buffer=4096) as client,
    ):
        await client.send(request())
        reading = asyncio.create_task(read_slowly(client, 20, 4))
        begin = time.monotonic()
        await until(lambda: balancer.completed, within=4)
        assert time.monotonic() - begin < 2
        assert "write_timeout" in balancer.last.flags
        await until(lambda: backend.connections[0].ended.is_set(), within=0.5)
        reading.cancel()


async def test_a_client_that_reads_at_its_rate_is_served_however_much_the_kernel_holds() -> None:
    """Its own write buffer does not move for seconds, since the kernel's drains first."""
    backend = Backend(response(b"x" * 1_000_000))
    async with (
        balancing(backend, listener=SLOW) as balancer,
        await balancer.client(receive_buffer=8192) as client,
    ):
        await client.send(request())
        assert await read_slowly(client, 60_000, 3) > 100_000
        assert balancer.connections, "still served after five times timeouts.write"
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        await until(lambda: balancer.completed, within=4)
        assert balancer.last.flags == ()


async def test_a_client_that_reads_nothing_but_goes_on_sending_is_cut() -> None:
    """The body's deadline must not take the place of the answer's."""

    async def early(seen: Request) -> None:
        seen.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        while not seen.connection.writer.is_closing():
            seen.write(b"x" * 100_000)
            await seen.connection.writer.drain()

    async with (
        balancing(Backend(early), listener=SLOW) as balancer,
        await balancer.client(receive_buffer=4096) as client,
    ):
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request("/", b"", "Content-Length: 100000000", method="POST"))

        async def send() -> None:
            while not client.writer.is_closing():
                await client.send(b"x" * 1000, 0.02)

        sending = asyncio.create_task(send())
        begin = time.monotonic()
        await until(lambda: not balancer.connections, within=4)
        assert time.monotonic() - begin < 3
        sending.cancel()
        with pytest.raises((Cut, TimeoutError)):
            await client.answer(b"POST", within=0.2)
