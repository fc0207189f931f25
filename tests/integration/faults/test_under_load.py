"""Backends that die, flap or fall silent while others are served: nobody else notices."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.lb_process import BackendProcess
from tests.support.backends import CLOSE, EARLY, RESET, Backend, Request, Steps, unresponsive
from tests.support.balancing import Running, balancing, until
from tests.support.client import Client, reset
from tests.support.load import Load
from tests.support.wire import Cut, request, response

if TYPE_CHECKING:
    from tests.support.figures import Measured

pytestmark = pytest.mark.timed
GET = request()
NEVER: Steps = (20.0,)


class Posts:
    """POSTs over kept connections until `stop`, each with a number of its own."""

    def __init__(self, port: int, connections: int) -> None:
        self.port = port
        self.statuses: Counter[int] = Counter()
        self._connections = connections
        self._stopped = False
        self._numbers = iter(range(1_000_000))

    def stop(self) -> None:
        self._stopped = True

    async def run(self) -> None:
        await asyncio.gather(*[self._connection() for _ in range(self._connections)])

    async def _connection(self) -> None:
        while not self._stopped:
            async with await Client.connect(self.port) as client:
                last = False
                while not self._stopped and not last:
                    answer = await client.ask(request("/", b"number-%06d" % next(self._numbers)))
                    self.statuses[answer.status] += 1
                    last = answer.all("connection") == [b"close"]


def doubled(*backends: Backend) -> int:
    """How many numbers arrived more than once."""
    numbers = Counter(message.body for backend in backends for message in backend.messages if message.body)
    return sum(count > 1 for count in numbers.values())


@pytest.mark.parametrize("ejection", [True, False], ids=["ejection", "no ejection"])
async def test_killed_under_20_clients(ejection: bool, measured: Measured) -> None:
    """SIGKILL of a process: its GETs find the other backend, a POST is answered 502 at worst."""
    one, two = BackendProcess("one", latency_ms=2), BackendProcess("two", latency_ms=2)
    try:
        options: dict[str, Any] = {} if ejection else {"ejection": False}
        async with balancing({"address": one.address}, {"address": two.address}, **options) as balancer:
            gets, posts = Load(balancer.port, connections=20), Posts(balancer.port, 20)
            loading = [asyncio.create_task(gets.run()), asyncio.create_task(posts.run())]
            await until(lambda: gets.total > 300, within=10)
            one.process.kill()
            before = gets.total
            await until(lambda: gets.total > before + 1000, within=10)
            gets.stop()
            posts.stop()
            await asyncio.gather(*loading)
            assert gets.lost == []
            assert gets.answers == {200: gets.total}
            assert posts.statuses.keys() <= {200, 502}
            assert posts.statuses[502] <= 20, "only those that were under way"
    finally:
        one.close()
        two.close()
    what = f"killed under 20 clients, {'with' if ejection else 'without'} ejection"
    measured(what, f"0 of {gets.total} GETs lost, {posts.statuses[502]} of {posts.statuses.total()} POSTs answered 502")


@pytest.mark.slow
@pytest.mark.parametrize("ejection", [True, False], ids=["ejection", "no ejection"])
async def test_flapping_every_100_ms(ejection: bool, measured: Measured) -> None:
    steady, flapping = Backend(name="steady"), Backend(name="flapping")
    options: dict[str, Any] = {"ejection": {"duration": "150ms"} if ejection else False}
    async with balancing(steady, flapping, **options) as balancer:
        gets, posts = Load(balancer.port, connections=10), Posts(balancer.port, 10)
        loading = [asyncio.create_task(gets.run()), asyncio.create_task(posts.run())]
        for _ in range(20):
            await asyncio.sleep(0.1)
            await flapping.stop()
            await asyncio.sleep(0.1)
            await flapping.start()
        gets.stop()
        posts.stop()
        await asyncio.gather(*loading)
        assert gets.lost == []
        assert gets.answers == {200: gets.total}
        assert gets.by[b"flapping"] > 50
        assert posts.statuses.keys() <= {200, 502}
        assert doubled(steady, flapping) == 0
    what = f"flapping every 100 ms, {'with' if ejection else 'without'} ejection"
    measured(what, f"0 of {gets.total} GETs lost, {posts.statuses[502]} of {posts.statuses.total()} POSTs answered 502")


async def latencies(balancer: Running, seconds: float, path: str) -> list[float]:
    """How long each GET took, of five clients at some 500 requests a second, sorted."""
    found: list[float] = []
    end = time.monotonic() + seconds

    async def client() -> None:
        async with await balancer.client() as opened:
            while time.monotonic() < end:
                begin = time.monotonic()
                assert (await opened.ask(request(path))).status == 200
                found.append(time.monotonic() - begin)
                await asyncio.sleep(0.01)

    await asyncio.gather(*[client() for _ in range(5)])
    return sorted(found)


@pytest.mark.parametrize("fault", ["never answers", "queue of connections full"])
async def test_silent_backends_slow_nobody_else(fault: str, measured: Measured) -> None:
    """100 requests hang in one route while another is asked: its 99th percentile stays what it was."""
    good = Backend(name="good")
    async with AsyncExitStack() as stack:
        if fault == "never answers":
            silent = (await stack.enter_async_context(Backend(NEVER))).address
        else:
            silent = stack.enter_context(unresponsive())
        await stack.enter_async_context(good)
        config = {
            "listeners": {"web": {"address": "127.0.0.1:0"}},
            "access_log": False,
            "routes": {
                "*": {
                    "backends": {"good": good.address},
                    "timeouts": {"connect": "1500ms", "response_header": "1500ms"},
                    "match": [{"path_prefix": "/silent", "backends": {"silent": silent}}],
                }
            },
        }
        balancer = await stack.enter_async_context(balancing(config=config))
        before = await latencies(balancer, 0.7, "/good")
        stuck = [asyncio.create_task(balancer.ask(request("/silent"))) for _ in range(100)]
        await until(lambda: balancer.in_flight().get("exchanges") == 100)
        begin = time.monotonic()
        during = await latencies(balancer, 0.7, "/good")
        assert {answer.status for answer in await asyncio.gather(*stuck)} == {504}
        took = time.monotonic() - begin
        assert took < 3.0
    p99 = [1000 * each[int(len(each) * 0.99)] for each in (before, during)]
    assert p99[1] < max(3 * p99[0], 50)
    measured(f"{fault}: p99 of others, before and during", f"{p99[0]:.1f} and {p99[1]:.1f} ms")


async def test_the_first_event_comes_at_once(measured: Measured) -> None:
    written: list[float] = []

    async def events(seen: Request) -> None:
        seen.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for index in range(5):
            await asyncio.sleep(0.05)
            seen.write(b"9\r\ndata: %d\n\n\r\n" % index)
            written.append(time.monotonic())
        seen.write(b"0\r\n\r\n")

    arrived: list[float] = []
    async with balancing(Backend(events)) as balancer, await balancer.client() as client:
        begin = time.monotonic()
        await client.send(GET)
        await client.reader.readuntil(b"\r\n\r\n")
        head = time.monotonic() - begin
        for index in range(5):
            await client.reader.readuntil(b"data: %d\n\n\r\n" % index)
            arrived.append(time.monotonic())
    late = max(there - sent for sent, there in zip(written, arrived, strict=True))
    assert head < 0.05, "the head did not wait for the first event"
    assert late < 0.05
    measured("event stream", f"head after {1000 * head:.1f} ms, events {1000 * late:.1f} ms late at most")


@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["close", "reset"])
async def test_an_early_413_reaches_who_uploads(end: Any, measured: Measured) -> None:
    """However the upload and the answer cross, and though the backend goes away without having read it."""
    early = response(b"too large", "Connection: close", status=413)
    outcomes: Counter[int | str] = Counter()

    async def upload(balancer: Running, pace: float) -> None:
        async with await balancer.client() as client:

            async def send() -> None:
                await client.send(request("/", b"", "Content-Length: 5000000", method="POST"))
                while not client.writer.is_closing():
                    await client.send(b"x" * 20_000, pace)

            sending = asyncio.create_task(send())
            try:
                answer = await client.answer(b"POST")
                outcomes[answer.status if answer.body == b"too large" else "garbled"] += 1
            except Cut:
                outcomes["cut"] += 1
            finally:
                sending.cancel()

    async with balancing(Backend((EARLY, early, end)), ejection=False) as balancer:
        for index in range(10):
            await asyncio.gather(*[upload(balancer, index / 2000) for _ in range(10)])
    assert outcomes == {413: 100}
    measured(f"413 during an upload, then {'close' if end is CLOSE else 'reset'}", "100 of 100 arrived")


async def test_a_backend_that_slams_the_door_loses_no_get(measured: Measured) -> None:
    """It accepts and resets at once, before or after the request has left: a POST is never sent twice."""
    slammed = 0

    async def slam(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal slammed
        slammed += 1
        await asyncio.sleep(random.choice((0, 0, 0.001)))
        reset(writer)

    good = Backend(name="good")
    server = await asyncio.start_server(slam, "127.0.0.1", 0)
    slamming = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, balancing(slamming, good, ejection=False) as balancer:
        for _ in range(100):
            assert (await balancer.ask(GET)).body == b"good"
        statuses: Counter[int] = Counter()
        for index in range(100):
            statuses[(await balancer.ask(request("/", b"number-%06d" % index))).status] += 1
        assert statuses.keys() <= {200, 502}
        assert doubled(good) == 0
        assert slammed >= 90
    measured("accepts and resets at once", f"0 of 100 GETs lost, {statuses[502]} of 100 POSTs answered 502")
