"""Every timeout ends what it is for, and nothing else; deadlines are looked at ten times a second here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from lb_core.engine import deadlines
from tests.support.backends import Backend, Request, unresponsive
from tests.support.balancing import balancing, until
from tests.support.wire import Cut, request, response

if TYPE_CHECKING:
    from tests.support.client import Client

pytestmark = pytest.mark.timed
CLIENTS = {"timeouts": {"header": "400ms", "body": "400ms", "write": "400ms", "keep_alive": "400ms"}}
NEVER: tuple[bytes | float, ...] = (20.0,)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at deadlines more often than in production, so that timeouts can be short."""
    monkeypatch.setattr(deadlines, "PERIOD", 0.1)


@asynccontextmanager
async def taking(least: float, most: float) -> AsyncIterator[None]:
    """Fail unless the block takes between so many seconds; some slack for a busy machine."""
    begin = time.monotonic()
    yield
    took = time.monotonic() - begin
    assert least <= took <= most + 0.4, f"{took:.2f} s"


async def trickle(client: Client, data: bytes, gap: float = 0.1) -> None:
    for index in range(len(data)):
        await client.send(data[index : index + 1], gap)


# the client


@pytest.mark.parametrize(
    "start", [b"G", b"GET / HTTP/1.1\r\nHost: exam", request()[:-1]], ids=["a byte", "half", "all but one"]
)
async def test_a_head_that_does_not_end_is_a_408(start: bytes) -> None:
    async with balancing(Backend(), listener=CLIENTS) as balancer, await balancer.client() as client:
        async with taking(0.4, 0.7):
            await client.send(start)
            answer = await client.answer()
        assert (answer.status, answer["connection"]) == (408, b"close")
        assert await client.end() == b""
        assert balancer.last.flags == ("head_timeout",)


async def test_a_head_that_trickles_is_a_408_too() -> None:
    async with balancing(Backend(), listener=CLIENTS) as balancer, await balancer.client() as client:
        trickling = asyncio.create_task(trickle(client, request("/" + "a" * 50)))
        async with taking(0.4, 0.7):
            assert (await client.answer()).status == 408
        trickling.cancel()


async def test_a_second_head_has_its_own_time() -> None:
    listener = {"timeouts": {"header": "400ms", "keep_alive": "60s"}}
    async with balancing(Backend(), listener=listener) as balancer, await balancer.client() as client:
        assert (await client.ask(request())).status == 200
        await client.send(0.6)
        assert (await client.ask(request())).status == 200
        async with taking(0.4, 0.7):
            await client.send(b"GET / HT")
            assert (await client.answer()).status == 408


async def test_a_client_that_says_nothing_is_closed_without_a_word() -> None:
    async with balancing(Backend(), listener=CLIENTS) as balancer, await balancer.client() as client:
        async with taking(0.4, 0.7):
            assert await client.end() == b""
        assert balancer.completed == []


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    listener = {"timeouts": {"keep_alive": "400ms"}}
    async with balancing(Backend(), listener=listener) as balancer, await balancer.client() as client:
        await client.ask(request())
        async with taking(0.4, 0.7):
            assert await client.end() == b""
        assert len(balancer.completed) == 1


@pytest.mark.parametrize("field", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_body_that_stops_is_a_408_and_the_backend_is_let_go(field: str) -> None:
    backend = Backend()
    async with balancing(backend, listener=CLIENTS) as balancer, await balancer.client() as client:
        async with taking(0.4, 0.7):
            await client.send(request("/", b"", field, method="POST") + b"5\r\nab")
            answer = await client.answer(b"POST")
        assert (answer.status, answer["connection"]) == (408, b"close")
        await until(lambda: backend.connections[0].ended.is_set(), within=0.3)
        assert "body_timeout" in balancer.last.flags
        assert balancer.balancer.engine.backends[0].failures == 0, "it was not the backend's fault"


async def test_a_body_that_trickles_arrives() -> None:
    backend = Backend()
    listener = {**CLIENTS, "limits": {"body_rate": "0B"}}
    async with (
        balancing(backend, listener=listener, timeouts={"response_header": "400ms"}) as balancer,
        await balancer.client() as client,
    ):
        await client.send(request("/", b"", "Content-Length: 8", method="POST"))
        await trickle(client, b"trickles")
        assert (await client.answer(b"POST")).status == 200
        assert backend.messages[0].body == b"trickles"


async def test_a_client_that_stops_reading_is_cut_and_the_backend_let_go() -> None:
    backend = Backend(response(b"x" * 30_000_000))
    async with balancing(backend, listener=CLIENTS) as balancer, await balancer.client(receive_buffer=4096) as client:
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        async with taking(0.4, 0.9):
            await client.send(request())
            await until(lambda: balancer.completed)
        assert "write_timeout" in balancer.last.flags
        await until(lambda: backend.connections[0].ended.is_set(), within=0.5)


async def test_a_client_that_reads_slowly_gets_everything() -> None:
    backend = Backend(response(b"x" * 3_000_000))
    timeouts = {"idle": "400ms"}
    async with (
        balancing(backend, listener=CLIENTS, timeouts=timeouts) as balancer,
        await balancer.client(receive_buffer=4096) as client,
    ):
        transport: Any = client.reader._transport  # type: ignore[attr-defined]
        await client.send(request())
        for _ in range(8):
            transport.pause_reading()
            await asyncio.sleep(0.2)
            transport.resume_reading()
            await asyncio.sleep(0.02)
        assert len((await client.answer()).body) == 3_000_000


# the backend


@pytest.mark.parametrize("body", [b"", b"a body"], ids=["GET", "POST"])
async def test_no_connection_in_time_is_a_504(body: bytes) -> None:
    with unresponsive() as address:
        async with balancing(address, timeouts={"connect": "300ms"}, retry={"attempts": 0}) as balancer:
            async with taking(0.25, 0.6):
                assert (await balancer.ask(request("/", body))).status == 504
            assert "connect_timeout" in balancer.last.flags


async def test_no_connection_in_time_finds_another_backend() -> None:
    good = Backend(name="good")
    with unresponsive() as address:
        async with balancing(address, good, timeouts={"connect": "300ms"}, ejection=False) as balancer:
            answers = [await balancer.ask(request("/", b"a body")) for _ in range(4)]
            assert [answer.body for answer in answers] == [b"good"] * 4
            assert sum(exchange.attempts for exchange in balancer.completed) == 6


async def test_no_answer_in_time_is_a_504_and_the_backend_let_go() -> None:
    backend = Backend(NEVER)
    async with balancing(backend, timeouts={"response_header": "400ms"}) as balancer, await balancer.client() as client:
        async with taking(0.4, 0.7):
            answer = await client.ask(request())
        assert answer.status == 504
        assert "header_timeout" in balancer.last.flags
        await until(lambda: backend.connections[0].ended.is_set(), within=0.3)
        assert len(backend.requests) == 1
        assert balancer.balancer.engine.backends[0].failures == 1
        backend.script = response(b"back")
        assert (await client.ask(request())).body == b"back"


@pytest.mark.parametrize(("data", "status"), [(request(), 200), (request("/", b"once"), 504)], ids=["GET", "POST"])
async def test_no_answer_in_time_is_tried_elsewhere_where_the_route_says_so(data: bytes, status: int) -> None:
    silent, good = Backend(NEVER, name="silent"), Backend(name="good")
    options: dict[str, Any] = {
        "timeouts": {"response_header": "400ms"},
        "retry": {"on": ["timeout"]},
        "ejection": False,
    }
    async with balancing(silent, good, **options) as balancer:
        statuses = []
        while not silent.requests:
            statuses.append((await balancer.ask(data)).status)
        assert statuses[-1] == status
        assert len(silent.requests) == 1
        assert len(good.requests) == len(statuses) - (status != 200)


async def test_no_timeout_is_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a request comes between two sweeps, what takes less than its timeout is waited for."""
    monkeypatch.setattr(deadlines, "PERIOD", 0.5)
    backend = Backend((0.4, HEAD, 0.4, b"x" * 1000))
    async with balancing(backend, timeouts={"response_header": "500ms", "idle": "500ms"}) as balancer:

        async def ask(after: float) -> int:
            await asyncio.sleep(after)
            return len((await balancer.ask(request())).body)

        assert await asyncio.gather(*[ask(index / 20) for index in range(12)]) == [1000] * 12


async def test_a_head_that_trickles_is_not_an_answer() -> None:
    backend = Backend([part for index in range(len(HEAD)) for part in (HEAD[index : index + 1], 0.1)])
    async with balancing(backend, timeouts={"response_header": "400ms"}) as balancer, taking(0.4, 0.7):
        assert (await balancer.ask(request())).status == 504


@pytest.mark.parametrize(
    "start",
    [
        HEAD + b"part",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        b"HTTP/1.1 200 OK\r\n\r\npart",
    ],
    ids=["length", "chunked", "close"],
)
async def test_a_body_that_stalls_is_a_cut(start: bytes) -> None:
    backend = Backend((start, *NEVER))
    async with balancing(backend, timeouts={"idle": "400ms"}) as balancer, await balancer.client() as client:
        async with taking(0.4, 0.7):
            with pytest.raises(Cut) as cut:
                await client.ask(request())
        assert cut.value.message is None or cut.value.message.body in (b"", b"part")
        assert "read_timeout" in balancer.last.flags
        await until(lambda: backend.connections[0].ended.is_set(), within=0.3)


async def test_a_body_that_trickles_arrives_whole() -> None:
    backend = Backend(
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
            *[part for byte in b"trickle" for part in (0.1, bytes([byte]))],
        )
    )
    async with balancing(backend, timeouts={"idle": "400ms"}) as balancer:
        assert (await balancer.ask(request())).body == b"trickle"


async def test_silence_between_events_is_no_stall() -> None:
    """A stream of events is quiet by nature: the tunnel's idle time rules, not that of bodies."""
    events = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"9\r\ndata: 1\n\n\r\n",
        0.9,
        b"9\r\ndata: 2\n\n\r\n0\r\n\r\n",
    )
    async with balancing(Backend(events), timeouts={"idle": "400ms"}) as balancer:
        assert (await balancer.ask(request("/", b"", "Accept: text/event-stream"))).body == b"data: 1\n\ndata: 2\n\n"


async def test_a_whole_exchange_has_its_time() -> None:
    async def slow(seen: Request) -> None:
        if seen.message.target == b"/never":
            await asyncio.sleep(20)
        seen.write(HEAD)
        for _ in range(100):
            seen.write(b"0123456789")
            await asyncio.sleep(0.1)

    async with balancing(Backend(slow), timeouts={"request": "400ms"}) as balancer:
        async with taking(0.35, 0.6):
            assert (await balancer.ask(request("/never"))).status == 504
        async with taking(0.35, 0.6):
            with pytest.raises(Cut) as cut:
                await balancer.ask(request("/slow"))
        assert cut.value.message is None or len(cut.value.message.body) < 100
        for _ in range(3):
            with pytest.raises(Cut):
                await balancer.ask(request("/slow"))


async def test_requests_wait_so_long_for_a_first_check() -> None:
    backend = Backend(NEVER)
    options: dict[str, Any] = {"health_check": {"path": "/health", "timeout": "10s"}, "timeouts": {"queue": "400ms"}}
    async with balancing(backend, **options) as balancer:
        async with taking(0.35, 0.6):
            answer = await balancer.ask(request())
        assert (answer.status, answer["retry-after"]) == (503, b"5")
        assert {message.target for message in backend.messages} <= {b"/health"}


async def test_one_silent_backend_slows_nobody_else() -> None:
    silent, good = Backend(NEVER, name="silent"), Backend(name="good")
    options: dict[str, Any] = {"timeouts": {"response_header": "5s"}}
    async with balancing(silent, good, **options) as balancer, await balancer.client() as stuck:
        while not silent.requests:
            await stuck.send(request())
            await asyncio.sleep(0.02)
        async with taking(0, 0.5):
            for _ in range(20):
                assert (await balancer.ask(request())).body == b"good"
