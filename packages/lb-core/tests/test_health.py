"""Active checks against real servers on loopback sockets."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from lb_core.backend import Backend
from lb_core.health import HealthChecker, HealthResult, in_words
from lb_core.pool import Pool
from lb_core.pool_sections import HealthCheckConfig

if TYPE_CHECKING:
    from lb_core.events import Event

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def check(**changes: Any) -> HealthCheckConfig:
    fast = {"interval": 0.05, "interval_down": 0.02, "timeout": 0.5, "path": "/health"}
    return HealthCheckConfig(**{**fast, **changes})


class Site:
    """A real backend: answers each request with `answer` and remembers what was asked."""

    def __init__(self) -> None:
        self.answer = OK
        self.delay = 0.0
        self.requests: list[bytes] = []
        self.connections = 0
        self.answers_each = 0
        self.port = 0
        self.open: dict[asyncio.StreamWriter, asyncio.Task[Any] | None] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open[writer] = asyncio.current_task()
        answered = 0
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                await asyncio.sleep(self.delay)
                if not self.answer:
                    break
                writer.write(self.answer)
                await writer.drain()
                answered += 1
                if answered == self.answers_each:
                    break
        writer.close()

    async def close(self) -> None:
        for writer, task in self.open.items():
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
            writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def site(port: int = 0) -> AsyncIterator[Site]:
    it = Site()
    server = await asyncio.start_server(it.serve, "127.0.0.1", port)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        await it.close()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def backend(port: int, health: str = "starting", name: str = "web1") -> Backend:
    made = Backend(name, "127.0.0.1", port, id=f"example.com/{name}")
    made.health = health  # type: ignore[assignment]
    return made


@asynccontextmanager
async def checking(
    pool: Pool, config: HealthCheckConfig, host: str = "example.com"
) -> AsyncIterator[list[tuple[Backend, HealthResult]]]:
    results: list[tuple[Backend, HealthResult]] = []
    checker = HealthChecker(pool, config, host=host, report=lambda *found: results.append(found))
    task = asyncio.create_task(checker.run())
    try:
        yield results
        assert not task.done(), "the checker ended by itself"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert pool.watchers == []


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def test_one_pass_makes_a_starting_backend_a_candidate() -> None:
    events: list[Event] = []
    async with site() as web:
        it = backend(web.port)
        pool = Pool("example.com", [it], notify=events.append)
        assert pool.candidates == ()
        assert pool.starting
        async with checking(pool, check()) as results:
            await until(lambda: pool.candidates)
            assert results[0][0] is it
            assert results[0][1].ok
            assert results[0][1].status == 200
            assert results[0][1].detail == "status 200"
            assert 0 < results[0][1].seconds < 1
            assert len(results) == 1
        assert [(event.kind, event.message) for event in events] == [("backend_up", "a check passed")]


async def test_what_is_sent_and_that_the_connection_is_kept() -> None:
    async with site() as web:
        pool = Pool("example.com", [backend(web.port)])
        async with checking(pool, check(method="HEAD", path="/health?deep=1"), host="example.com") as results:
            web.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
            await until(lambda: len(results) >= 4)
        assert all(result.ok for _, result in results)
        assert web.connections == 1
        first = web.requests[0]
        assert first.startswith(b"HEAD /health?deep=1 HTTP/1.1\r\n")
        assert b"\r\nHost: example.com\r\n" in first
        assert b"\r\nUser-Agent: lb-health-check\r\n" in first


@pytest.mark.parametrize(
    ("configured", "given", "sent"),
    [
        (None, "", b"127.0.0.1:%d"),
        (None, "example.com", b"example.com"),
        ("status.internal", "example.com", b"status.internal"),
    ],
)
async def test_host_of_the_probe(configured: str | None, given: str, sent: bytes) -> None:
    async with site() as web:
        pool = Pool("example.com", [backend(web.port)])
        async with checking(pool, check(host=configured), host=given):
            await until(lambda: web.requests)
        wanted = sent % web.port if b"%" in sent else sent
        assert b"\r\nHost: %b\r\n" % wanted in web.requests[0]


async def test_thresholds_in_both_directions() -> None:
    events: list[Event] = []
    async with site() as web:
        it = backend(web.port)
        pool = Pool("example.com", [it], notify=events.append)
        async with checking(pool, check(unhealthy_after=3, healthy_after=2)) as results:
            await until(lambda: it.health == "up")
            web.answer = OK.replace(b"200 OK", b"503 No")
            await until(lambda: it.health == "down")
            assert [result.ok for _, result in results[-3:]] == [False] * 3
            assert results[-4][1].ok
            assert results[-1][1] == HealthResult(False, "status 503, expected 200-399", 503, results[-1][1].seconds)
            assert it.reason == "3 checks in a row failed, the last: status 503, expected 200-399"
            assert pool.candidates == ()
            web.answer = OK
            await until(lambda: it.health == "up")
            assert [result.ok for _, result in results[-3:]] == [False, True, True]
            assert it.reason == "2 checks passed"
        assert [event.kind for event in events] == ["backend_up", "backend_down", "backend_up"]


async def test_failures_that_are_not_in_a_row_change_nothing() -> None:
    async with site() as web:
        it = backend(web.port, "up")
        pool = Pool("example.com", [it])
        async with checking(pool, check(unhealthy_after=2)) as results:
            for _ in range(3):
                web.answer = OK.replace(b"200 OK", b"500 No")
                await until(lambda: results and not results[-1][1].ok)
                web.answer = OK
                await until(lambda: results[-1][1].ok)
            assert it.health == "up" or any(not one[1].ok and not two[1].ok for one, two in itertools.pairwise(results))


async def test_a_dead_backend_goes_down_and_comes_back_when_it_is_started_again() -> None:
    port = free_port()
    it = backend(port, "up")
    pool = Pool("example.com", [it])
    async with checking(pool, check()) as results:
        await until(lambda: it.health == "down")
        assert results[-1][1].detail == "connection refused"
        async with site(port):
            await until(lambda: it.health == "up")


async def test_a_backend_that_does_not_answer_in_time() -> None:
    async with site() as web:
        web.delay = 3
        it = backend(web.port, "up")
        pool = Pool("example.com", [it])
        async with checking(pool, check(timeout=0.1, unhealthy_after=1)) as results:
            await until(lambda: results)
            assert results[0][1].detail == "no answer within 100ms"
            assert 0.09 < results[0][1].seconds < 1
            assert it.health == "down"


@pytest.mark.parametrize(
    ("answer", "ok", "detail"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", False, "no valid HTTP answer"),
        (b"", False, "no valid HTTP answer: Server disconnected"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", True, "status 302"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", False, "status 404, expected 200-399"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b"x" * 999_999, True, "status 200"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nbad", True, "status 200"),
    ],
)
async def test_answers(answer: bytes, ok: bool, detail: str) -> None:
    async with site() as web:
        web.answer = answer
        pool = Pool("example.com", [backend(web.port)])
        async with checking(pool, check()) as results:
            await until(lambda: len(results) >= 2)
            assert results[0][1].ok is ok
            assert results[0][1].detail.startswith(detail)


async def test_expected_statuses_of_ones_own() -> None:
    async with site() as web:
        web.answer = b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n"
        pool = Pool("example.com", [backend(web.port)])
        async with checking(pool, check(expect="200, 410-420")) as results:
            await until(lambda: pool.candidates)
            web.answer = OK.replace(b"200", b"201")
            await until(lambda: not results[-1][1].ok)
            assert results[-1][1].detail == "status 201, expected 200, 410-420"


async def test_a_kept_connection_that_the_backend_closes_is_no_failure() -> None:
    async with site() as web:
        web.answers_each = 1
        pool = Pool("example.com", [backend(web.port)])
        async with checking(pool, check(interval=0.01)) as results:
            await until(lambda: len(results) >= 10)
        assert all(result.ok for _, result in results)
        assert web.connections >= 10


async def test_tcp() -> None:
    port = free_port()
    it = backend(port)
    pool = Pool("example.com", [it])
    async with checking(pool, check(type="tcp")) as results:
        await until(lambda: results)
        assert results[0][1].detail == "connection refused"
        async with site(port):
            await until(lambda: it.health == "up")
            assert results[-1][1].detail == "connected"


async def test_another_port_is_checked() -> None:
    async with site() as web:
        it = backend(free_port())
        async with checking(Pool("example.com", [it]), check(port=web.port)):
            await until(lambda: it.health == "up")


async def test_backends_that_join_are_checked_and_those_that_leave_are_not() -> None:
    async with site() as one, site() as two:
        first, second = backend(one.port, name="first"), backend(two.port, name="second")
        pool = Pool("example.com", [first])
        async with checking(pool, check()):
            await until(lambda: first.health == "up")
            pool.replace([first, second])
            await until(lambda: pool.candidates == (first, second))
            pool.replace([second])
            await asyncio.sleep(0.05)
            asked = len(one.requests)
            seen = len(two.requests)
            await until(lambda: len(two.requests) >= seen + 3)
            assert len(one.requests) == asked


async def test_a_report_that_raises_stops_no_check(caplog: pytest.LogCaptureFixture) -> None:
    def report(backend: Backend, result: HealthResult) -> None:
        raise RuntimeError("broken plugin")

    async with site() as web:
        it = backend(web.port)
        checker = HealthChecker(Pool("example.com", [it]), check(), host="", report=report)
        task = asyncio.create_task(checker.run())
        await until(lambda: len(web.requests) >= 2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert it.health == "up"
        assert "broken plugin" in caplog.text


async def test_the_report_comes_before_the_thresholds() -> None:
    states: list[str] = []
    async with site() as web:
        it = backend(web.port)
        pool = Pool("example.com", [it])
        checker = HealthChecker(pool, check(), host="", report=lambda backend, result: states.append(backend.health))
        task = asyncio.create_task(checker.run())
        await until(lambda: len(states) >= 2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert states[:2] == ["starting", "up"]


async def pauses(config: HealthCheckConfig, it: Backend, count: int, random: Callable[[], float]) -> list[float]:
    """The pauses a checker makes, in a clock that moves by them."""
    slept: list[float] = []
    now = 0.0
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)
        if len(slept) >= count:
            done.set()
            await asyncio.Event().wait()

    fake: Callable[[float], Awaitable[Any]] = sleep
    checker = HealthChecker(
        Pool("p", [it]), config, host="", report=lambda *_: None, random=random, clock=lambda: now, sleep=fake
    )
    task = asyncio.create_task(checker.run())
    await asyncio.wait_for(done.wait(), 10)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return slept


async def test_pauses_while_starting_then_while_down() -> None:
    it = backend(free_port())
    slept = await pauses(HealthCheckConfig(type="tcp"), it, 63, lambda: 0.5)
    assert slept[:60] == pytest.approx([0.5] * 60)
    assert slept[61:] == pytest.approx([2.0] * 2)
    assert it.health == "down"


async def test_pauses_while_up_vary_by_a_tenth() -> None:
    async with site() as web:
        draws = iter([0.25, 0.0, 1.0, 0.5])
        slept = await pauses(HealthCheckConfig(type="tcp"), backend(web.port, "up"), 4, lambda: next(draws))
    assert slept == pytest.approx([0.25, 9.0, 11.0, 10.0])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "no answer within 3s"),
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (ConnectionResetError(104, "Connection reset by peer"), "connection reset"),
        (OSError(113, "No route to host"), "host unreachable"),
        (OSError(101, "Network is unreachable"), "network unreachable"),
        (OSError(24, "Too many open files"), "too many open files"),
        (socket.gaierror(-2, "Name or service not known"), "the name does not resolve"),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 111] Connect call failed"),
            "connection refused",
        ),
        (httpx.RemoteProtocolError("illegal status line"), "no valid HTTP answer: illegal status line"),
        (ExceptionGroup("all", [OSError(111, "x"), OSError(101, "y")]), "connection refused"),
        (ValueError(), "ValueError"),
        (ValueError("odd"), "odd"),
    ],
)
def test_in_words(error: BaseException, words: str) -> None:
    assert in_words(error, 3.0) == words


def test_in_words_looks_beneath_what_wraps_the_systems_error() -> None:
    wrapper = httpx.ConnectError("All connection attempts failed")
    wrapper.__cause__ = OSError("All connection attempts failed")
    wrapper.__cause__.__context__ = ConnectionRefusedError(111, "Connection refused")
    assert in_words(wrapper, 3.0) == "connection refused"


async def test_a_name_that_does_not_resolve() -> None:
    it = Backend("web1", "no-such-name.invalid", 80)
    it.health = "starting"
    async with checking(Pool("p", [it]), check()) as results:
        await until(lambda: results)
        assert results[0][1].detail == "the name does not resolve"
