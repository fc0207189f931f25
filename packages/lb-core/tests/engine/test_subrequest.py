"""Requests of our own, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from lb_core import Headers, subrequest
from lb_core.backend import Backend
from lb_core.engine import connections
from lb_core.engine.announcing import announce
from lb_core.errors import (
    AttemptError,
    BackendReset,
    ConnectFailed,
    HeaderTimeout,
    InvalidResponse,
    NoRoom,
)
from lb_core.pool import Pool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Answering:
    """A backend that answers each request as given; `heads` and `bodies` are what it was sent."""

    def __init__(self, answer: bytes | Callable[[int], bytes | Awaitable[bytes]]) -> None:
        self.answer = answer
        self.backend = Backend("web", "127.0.0.1", 0)
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []

    @property
    def pool(self) -> Pool:
        """A pool of this backend alone."""
        return Pool("pool", [self.backend])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(line[15:]) for line in head.split(b"\r\n") if line[:15] == b"Content-Length:"), 0)
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(length))
                answer = self.answer
                made = answer(len(self.heads)) if callable(answer) else answer
                data = made if isinstance(made, bytes) else await made
                if not data:
                    break
                writer.write(data)
                if b"close" in data[:200].lower():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def answering(answer: bytes | Callable[[int], bytes | Awaitable[bytes]] = OK) -> AsyncIterator[Answering]:
    made = Answering(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, limit=1 << 20)
    made.backend.port = server.sockets[0].getsockname()[1]
    made.backend.address = made.backend.authority = f"127.0.0.1:{made.backend.port}"
    try:
        yield made
        assert made.backend.in_flight == 0
    finally:
        connections.drop(made.backend)
        for writer in made.writers:
            writer.transport.abort()
        server.close()
        await asyncio.sleep(0)


async def sent(made: Answering, method: str = "GET", target: str = "/", **rest: object) -> subrequest.Answer:
    options = {"timeout": 2.0, **rest}
    return await subrequest.send(made.pool, method, target, **options)  # type: ignore[arg-type]


async def test_a_request_is_sent_and_its_answer_returned() -> None:
    said = b"HTTP/1.1 403 No\r\nX-Why: because\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 4\r\n\r\nnope"
    async with answering(said) as made:
        answer = await sent(made, "GET", "/check?x=%20", headers=[("Host", "auth.example"), ("X-A", "1"), ("X-A", "2")])
        assert (answer.status, answer.body, answer.truncated) == (403, b"nope", False)
        assert answer.headers.get_all("set-cookie") == ["a=1", "b=2"]
        assert answer.headers["x-why"] == "because"
        assert made.heads == [b"GET /check?x=%20 HTTP/1.1\r\nHost: auth.example\r\nX-A: 1\r\nX-A: 2\r\n\r\n"]
        assert (made.backend.requests, made.backend.failures) == (1, 0)


async def test_host_is_the_backends_own_unless_given() -> None:
    async with answering() as made:
        await sent(made, headers={"X-Host": "no"})
        assert made.heads[0].startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Host: no\r\n" % made.backend.port)


async def test_a_body_has_its_length_and_posts_without_one_say_so() -> None:
    async with answering() as made:
        await sent(made, "POST", body=b"\x00\xffdata", headers=Headers([("X-A", "1")]))
        await sent(made, "POST")
        await sent(made, "DELETE", body=b"x")
        assert made.bodies == [b"\x00\xffdata", b"", b"x"]
        assert [b"Content-Length: %d\r\n" % size in head for size, head in zip((6, 0, 1), made.heads, strict=True)] == [
            True
        ] * 3


async def test_connections_are_kept_and_taken_again() -> None:
    async with answering() as made:
        for _ in range(3):
            assert (await sent(made)).body == b"ok"
        assert made.connections == 1
        assert len(made.backend.idle) == 1


async def test_one_that_was_idle_too_long_is_not_taken() -> None:
    async with answering() as made:
        await sent(made)
        (kept,) = made.backend.idle
        kept.idle_since -= connections.IDLE_LIMIT  # type: ignore[attr-defined]
        await sent(made)
        assert made.connections == 2


@pytest.mark.parametrize(
    ("answer", "body", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde", True),
        (b"HTTP/1.1 204 No\r\n\r\n", b"", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end", b"to the end", False),
        (b"HTTP/1.0 200 OK\r\n\r\nclose: to the end", b"close: to the end", False),
        (b"HTTP/1.1 103 Early\r\nX: y\r\n\r\n" + OK, b"ok", True),
        (OK + b"more", b"ok", False),
    ],
    ids=["chunked", "204", "close", "1.0", "interim", "bytes behind"],
)
async def test_every_framing(answer: bytes, body: bytes, kept: bool) -> None:
    async with answering(answer) as made:
        assert (await sent(made)).body == body
        assert len(made.backend.idle) == kept


async def test_head_has_no_body() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n") as made:
        answer = await sent(made, "HEAD")
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "10")


async def test_a_long_answer_is_cut_and_its_connection_closed() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 500_000) as made:
        answer = await sent(made, limit=1000)
        assert (len(answer.body), answer.truncated) == (1000, True)
        assert not made.backend.idle


async def test_an_answer_as_long_as_the_limit_is_whole() -> None:
    async with answering() as made:
        answer = await sent(made, limit=2)
        assert (answer.body, answer.truncated) == (b"ok", False)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"SSH-2.0-OpenSSH close\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=["two lengths", "both framings", "no HTTP", "101"],
)
async def test_what_cannot_be_trusted_is_refused(answer: bytes) -> None:
    async with answering(answer) as made:
        with pytest.raises(InvalidResponse):
            await sent(made)
        assert made.backend.failures == 1
        assert not made.backend.idle


async def test_an_answer_that_breaks_off() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nX: close\r\nContent-Length: 20\r\n\r\nhalf") as made:
        with pytest.raises(BackendReset, match="broke off"):
            await sent(made)


async def test_refused_and_silent_backends() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        pool = Pool("p", [Backend("web", "127.0.0.1", bound.getsockname()[1])])
        with pytest.raises(ConnectFailed):
            await subrequest.send(pool, "GET", "/", timeout=1.0)
        assert [(each.in_flight, each.failures) for each in pool.backends] == [(0, 1)]

    async def never(_: int) -> bytes:
        await asyncio.sleep(60)
        return OK

    async with answering(never) as made:
        began = asyncio.get_running_loop().time()
        with pytest.raises(HeaderTimeout, match="web"):
            await sent(made, timeout=0.05)
        assert asyncio.get_running_loop().time() - began < 0.5
        assert not made.backend.idle


async def test_the_timeout_is_for_everything() -> None:
    async def slowly(_: int) -> bytes:
        made.writers[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            made.writers[0].write(b"x")
            await asyncio.sleep(0.02)
        return OK

    async with answering(slowly) as made:
        with pytest.raises(HeaderTimeout):
            await sent(made, timeout=0.1)


async def stale(made: Answering, method: str) -> subrequest.Answer:
    """A request over a connection that is being closed: the end arrives while the request is under way."""
    await sent(made)
    made.answer = lambda count: b"" if count == 2 else OK
    return await sent(made, method)


async def test_a_kept_connection_that_was_closed_is_forgiven_where_that_is_safe() -> None:
    async with answering() as made:
        assert (await stale(made, "GET")).body == b"ok"
        assert (made.connections, len(made.heads), made.backend.failures) == (2, 3, 0)
    async with answering() as made:
        with pytest.raises(BackendReset):
            await stale(made, "POST")
        assert (len(made.heads), made.backend.failures) == (2, 0)


async def test_a_fresh_connection_that_is_closed_is_not_tried_again() -> None:
    async with answering(lambda _: b"") as made:
        with pytest.raises(BackendReset):
            await sent(made)
        assert len(made.heads) == 1


async def test_a_full_or_missing_backend_is_not_asked_and_the_queue_hears_of_the_end() -> None:
    async with answering() as made:
        pool = made.pool
        pool.set_limit(made.backend, 1)
        made.backend.in_flight = 1
        with pytest.raises(NoRoom, match="pool pool: every backend is full"):
            await subrequest.send(pool, "GET", "/", timeout=1.0)
        made.backend.in_flight = 0
        freed: list[int] = []
        made.backend.freed = lambda: freed.append(made.backend.in_flight)
        assert (await subrequest.send(pool, "GET", "/", timeout=1.0)).status == 200
        assert freed == [0]
        pool.set_health(made.backend, "down")
        with pytest.raises(NoRoom, match="pool pool: no backend is available"):
            await subrequest.send(pool, "GET", "/", timeout=1.0)


async def test_cancelling_closes_the_connection() -> None:
    async def never(_: int) -> bytes:
        await asyncio.sleep(60)
        return OK

    async with answering(never) as made:
        asking = asyncio.create_task(sent(made))
        async with asyncio.timeout(2):
            while not made.heads:
                await asyncio.sleep(0.005)
        assert made.backend.in_flight == 1
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not made.backend.idle


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/", [("X", "a\r\nY: b")]),
        ("GET", "/", [("X\r\nY", "a")]),
        ("GET", "/", [("Content-Length", "5")]),
        ("GET", "/", [("Transfer-Encoding", "chunked")]),
        ("GET", "/", [("Connection", "close")]),
        ("GET", "/", [("Host", "a"), ("host", "b")]),
        ("GET", "/a b", []),
        ("GET", "/\r\nX: y", []),
        ("GET", "/#", []),
        ("GET", "http://other/", []),
        ("GET", "", []),
        ("GET /", "/", []),
        ("CONNECT", "/", []),
        ("", "/", []),
    ],
)
async def test_what_must_not_go_on_the_wire_is_refused(
    method: str, target: str, headers: list[tuple[str, str]]
) -> None:
    async with answering() as made:
        with pytest.raises(ValueError, match=r".+"):
            await sent(made, method, target, headers=headers)
        assert not made.connections


async def test_a_backend_that_expects_a_proxy_header_is_told_that_the_request_is_ours() -> None:
    received = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    backend = Backend("web", "127.0.0.1", server.sockets[0].getsockname()[1])
    announce(backend, "v1")
    answer = await subrequest.send(Pool("p", [backend]), "GET", "/", timeout=2.0)
    assert answer.status == 200
    assert received.startswith(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n")
    assert not backend.idle
    server.close()


def test_every_failure_is_an_attempt_error() -> None:
    assert issubclass(NoRoom, AttemptError)
    assert (NoRoom.status, NoRoom.unsent) == (503, True)
