"""The balancer as an ASGI application: driven by hand, and under a real uvicorn, with real backends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from lb_core.balancer import LoadBalancer
from lb_core.config import config_from_tree
from lb_core.engine.flow import HIGH_WATER
from lb_core.hooks import hookimpl
from lb_core.plugins import Plugins

if TYPE_CHECKING:
    from lb_core.exchange import Exchange

Message = dict[str, Any]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-From: backend\r\n\r\nok"
MEGABYTE = 1024 * 1024


class Recording:
    """A backend over a real socket: keeps the requests it got, and answers as it is told."""

    def __init__(self, answer: Callable[[Recording, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self._answer = answer
        self.address = ""
        self.heads: list[str] = []
        self.body = bytearray()
        self.written = 0
        self.gone = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self.whole_body = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.heads.append(head)
                if self.whole_body:
                    await self._read_body(head.lower(), reader)
                await self._answer(self, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()

    async def _read_body(self, head: str, reader: asyncio.StreamReader) -> None:
        self.body = bytearray()
        if "content-length: " in head:
            left = int(head.partition("content-length: ")[2].partition("\r")[0])
            while left:
                await self.reading.wait()
                data = await reader.readexactly(min(left, 65536))
                left -= len(data)
                self.body += data
        elif "transfer-encoding: chunked" in head:
            while size := int(await reader.readline(), 16):
                self.body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()

    def fields(self) -> dict[str, str]:
        """The fields of the last request, by lower-case name."""
        lines = self.heads[-1].split("\r\n")[1:-2]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def answering(*pieces: bytes, close: bool = False) -> Callable[[Recording, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(backend: Recording, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            backend.written += len(piece)
            await writer.drain()
        if close:
            writer.close()

    return answer


@asynccontextmanager
async def backend(*pieces: bytes, close: bool = False) -> AsyncIterator[Recording]:
    async with told(answering(*(pieces or (OK,)), close=close)) as made:
        yield made


@asynccontextmanager
async def told(answer: Callable[[Recording, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[Recording]:
    made = Recording(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()


@asynccontextmanager
async def balancing(address: str, **route: Any) -> AsyncIterator[LoadBalancer]:
    """A running balancer with one route for every host."""
    balancer = unstarted(address, **route)
    async with balancer.lifespan():
        yield balancer


def unstarted(address: str, *, plugins: Plugins | None = None, **route: Any) -> LoadBalancer:
    plugins = plugins or Plugins.discover()
    tree = {"access_log": False, "routes": {"*": {"backends": [address], **route}}}
    return LoadBalancer(config_from_tree(tree, plugins), plugins=plugins)


def scope(method: str = "GET", path: str = "/", *fields: tuple[bytes, bytes], **more: Any) -> Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"shop.example"), *fields],
        "client": ("192.0.2.7", 4711),
        "server": ("127.0.0.1", 8000),
        **more,
    }


class Client:
    """An ASGI server's end: what it hands to `receive`, and what came out of `send`."""

    def __init__(self, *body: bytes, stays: bool = True) -> None:
        last = len(body) - 1
        self._messages: list[Message] = [
            {"type": "http.request", "body": each, "more_body": number < last} for number, each in enumerate(body)
        ] or [{"type": "http.request", "body": b"", "more_body": False}]
        self._stays = stays
        self.left = asyncio.Event()
        self.sent: list[Message] = []
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.received = 0

    async def receive(self) -> Message:
        if self._messages:
            self.received += 1
            return self._messages.pop(0)
        if self._stays:
            await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.may_send.wait()
        self.sent.append(message)

    async def ask(self, balancer: LoadBalancer, scope: Message) -> None:
        async with asyncio.timeout(10):
            await balancer(scope, self.receive, self.send)

    @property
    def status(self) -> int:
        assert self.sent[0]["type"] == "http.response.start"
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        assert all(each["type"] == "http.response.body" for each in self.sent[1:])
        return b"".join(each["body"] for each in self.sent[1:])

    @property
    def complete(self) -> bool:
        return bool(self.sent) and self.sent[-1]["type"] == "http.response.body" and not self.sent[-1]["more_body"]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


# By hand


async def test_get() -> None:
    async with backend() as to, balancing(to.address) as balancer:
        client = Client()
        await client.ask(balancer, scope("GET", "/a%2Fb", (b"accept", b"*/*"), query_string=b"c=d"))
        assert (client.status, client.body, client.complete) == (200, b"ok", True)
        assert client.headers == {b"content-length": b"2", b"x-from": b"backend"}
        assert to.heads[0].startswith("GET /a%2Fb?c=d HTTP/1.1\r\n")
        fields = to.fields()
        assert (fields["host"], fields["accept"]) == ("shop.example", "*/*")
        assert (fields["x-forwarded-for"], fields["x-forwarded-port"]) == ("192.0.2.7", "8000")
        assert "connection" not in fields


async def test_connections_to_the_backend_are_reused() -> None:
    async with backend() as to, balancing(to.address) as balancer:
        for _ in range(3):
            await Client().ask(balancer, scope())
        assert len(to.heads) == 3
        assert len(balancer.engine.backends[0].idle) == 1


async def test_post_with_a_length() -> None:
    async with backend() as to, balancing(to.address) as balancer:
        client = Client(b"hel", b"", b"lo")
        await client.ask(balancer, scope("POST", "/", (b"content-length", b"5")))
        assert (client.status, to.body) == (200, b"hello")
        assert to.fields()["content-length"] == "5"


async def test_post_without_a_length_is_sent_in_chunks() -> None:
    async with backend() as to, balancing(to.address) as balancer:
        for pieces in ((b"hel", b"", b"lo"), (b"", b"hello"), (b"hello", b""), (b"hello",)):
            client = Client(*pieces)
            await client.ask(balancer, scope("POST", "/", (b"transfer-encoding", b"chunked")))
            assert (client.status, to.body) == (200, b"hello")
            assert to.fields()["transfer-encoding"] == "chunked"


async def test_head_has_no_body() -> None:
    async with backend(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n") as to, balancing(to.address) as balancer:
        client = Client()
        await client.ask(balancer, scope("HEAD"))
        assert (client.status, client.body, client.complete) == (200, b"", True)
        assert client.headers[b"content-length"] == b"99"


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_answers_without_a_body(status: bytes) -> None:
    async with backend(b"HTTP/1.1 %b\r\nETag: x\r\n\r\n" % status) as to, balancing(to.address) as balancer:
        client = Client()
        await client.ask(balancer, scope())
        assert (client.status, client.body, client.complete) == (int(status[:3]), b"", True)


@pytest.mark.parametrize(
    ("answer", "close"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;\xe9\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n",
            False,
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", True),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", True),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", False),
    ],
    ids=["chunked", "until close", "HTTP/1.0", "behind an interim response"],
)
async def test_every_framing_of_a_response(answer: bytes, close: bool) -> None:
    async with backend(answer, close=close) as to, balancing(to.address) as balancer:
        client = Client()
        await client.ask(balancer, scope())
        assert (client.status, client.body, client.complete) == (200, b"hello", True)
        assert not {b"transfer-encoding", b"connection", b"x-sum", b"link"} & set(client.headers)


async def test_large_bodies_both_ways() -> None:
    data = bytes(range(256)) * 4096
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (8 * len(data))
    async with backend(head, *[data] * 8) as to, balancing(to.address) as balancer:
        client = Client(*[data] * 8)
        await client.ask(balancer, scope("POST", "/", (b"content-length", b"%d" % (8 * len(data)))))
        assert to.body == client.body == data * 8
        assert client.complete


async def test_a_client_that_does_not_take_its_answer_stops_the_backend() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MEGABYTE)
    async with backend(head, *[bytes(MEGABYTE)] * 64) as to, balancing(to.address) as balancer:
        client = Client()
        client.may_send.clear()
        asked = asyncio.create_task(client.ask(balancer, scope()))
        await until(lambda: to.written)
        before = -1
        while to.written != before:  # until the sockets between the two are full
            before = to.written
            await asyncio.sleep(0.2)
        assert to.written < 16 * MEGABYTE
        client.may_send.set()
        await asked
        assert len(client.body) == 64 * MEGABYTE
        assert max(len(each.get("body", b"")) for each in client.sent) <= 4 * HIGH_WATER


async def test_a_backend_that_does_not_take_a_body_stops_the_client() -> None:
    async with backend() as to, balancing(to.address) as balancer:
        to.reading.clear()
        client = Client(*[bytes(MEGABYTE)] * 64)
        asked = asyncio.create_task(
            client.ask(balancer, scope("POST", "/", (b"content-length", b"%d" % (64 * MEGABYTE))))
        )
        before = -1
        while client.received != before or not to.heads:
            before = client.received
            await asyncio.sleep(0.2)
        assert client.received < 16
        to.reading.set()
        await asked
        assert len(to.body) == 64 * MEGABYTE


async def test_a_client_that_leaves_cancels_the_request() -> None:
    async with told(_forever) as to, balancing(to.address) as balancer:
        client = Client()
        asked = asyncio.create_task(client.ask(balancer, scope()))
        await until(lambda: to.heads)
        client.left.set()
        await asked
        assert client.sent == []
        assert balancer.engine.backends[0].in_flight == 0
        assert not balancer.engine.deadlines.connections


async def _forever(backend: Recording, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_a_client_that_leaves_in_its_body_cancels_the_request() -> None:
    async with backend() as to, balancing(to.address) as balancer:
        client = Client(b"hel", b"lo", stays=False)
        client._messages.pop()
        await client.ask(balancer, scope("POST", "/", (b"content-length", b"5")))
        await to.gone.wait()
        assert client.sent == []


async def test_a_client_that_was_gone_before_it_asked_reaches_nobody() -> None:
    async with backend() as to, balancing(to.address) as balancer:
        client = Client(stays=False)
        client._messages.clear()
        await client.ask(balancer, scope("POST", "/", (b"content-length", b"5")))
        assert client.sent == []
        assert to.heads == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n",
    ],
    ids=["length", "chunked", "broken chunks"],
)
async def test_an_answer_that_is_cut_short_raises(answer: bytes) -> None:
    async with backend(answer, close=True) as to, balancing(to.address) as balancer:
        client = Client()
        with pytest.raises(ConnectionResetError, match="cut short"):
            await client.ask(balancer, scope())
        assert (client.status, client.complete) == (200, False)
        assert b"hello".startswith(client.body)


class Spoiling:
    """A plugin that makes the response's head one that nobody can read."""

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        exchange.response_headers["Content-Encoding"] = "x"
        exchange.response_head = b"HTTP/3 200 OK\r\n\r\n"


async def test_a_response_that_a_plugin_spoils_raises() -> None:
    async with backend() as to, balancing(to.address, plugins=Plugins.discover(extra=[Spoiling()])) as balancer:
        client = Client()
        with pytest.raises(ConnectionResetError, match="cut short"):
            await client.ask(balancer, scope())
        assert client.sent == []


async def test_nothing_there_is_502() -> None:
    async with backend() as to:
        address = to.address
    async with balancing(address) as balancer:
        client = Client()
        await client.ask(balancer, scope("GET", "/", (b"accept", b"application/json")))
        assert (client.status, client.complete) == (502, True)
        assert client.headers[b"content-type"] == b"application/json"


@pytest.mark.parametrize(
    ("root", "path", "raw", "sent"),
    [
        ("/api", "/api/users", b"/api/users", "/users"),
        ("/api", "/api", b"/api", "/"),
        ("/api", "/api/", b"/api/", "/"),
        ("/api/", "/api/users", b"/api/users", "/users"),
        ("/api/v1", "/api/v1//a%2Fb", b"/api/v1//a%2Fb", "//a%2Fb"),
        ("/api", "/api/users", b"/%61pi/users", "/users"),
        ("/caf\u00e9", "/caf\u00e9/menu", b"/caf%C3%A9/menu", "/menu"),
        ("/api", "/apis/users", b"/apis/users", "/apis/users"),
        ("/api", "/users", b"/users", "/users"),
        ("", "/users", b"/users", "/users"),
        ("/api", "/api/caf\u00e9 1%", b"", "/caf%C3%A9%201%25"),
        ("/api", "/api/users", None, "/users"),
    ],
)
async def test_what_is_mounted_gets_the_path_below(root: str, path: str, raw: bytes | None, sent: str) -> None:
    async with backend() as to, balancing(to.address) as balancer:
        client = Client()
        await client.ask(balancer, scope("GET", path, raw_path=raw, root_path=root, query_string=b"a=b"))
        assert client.status == 200
        assert to.heads[0].startswith(f"GET {sent}?a=b HTTP/1.1\r\n")


async def test_a_server_without_addresses() -> None:
    """A unix socket: no client address, and a server without a port."""
    async with backend() as to, balancing(to.address) as balancer:
        client = Client()
        await client.ask(balancer, scope(client=None, server=("/run/app.sock", None)))
        assert client.status == 200
        fields = to.fields()
        assert "x-forwarded-for" not in fields
        assert fields["x-forwarded-port"] == "80"


@pytest.mark.parametrize(
    ("server", "host"),
    [(("127.0.0.1", 8000), "127.0.0.1:8000"), (("::1", 80), "[::1]:80"), (("name", None), "name"), (None, "")],
)
async def test_a_missing_host_is_the_servers(server: tuple[str, int | None] | None, host: str) -> None:
    async with backend() as to, balancing(to.address) as balancer:
        client = Client()
        await client.ask(balancer, scope(headers=[], server=server))
        assert client.status == 200
        assert to.fields()["host"] == host


async def test_https_is_told_to_the_backend() -> None:
    async with backend() as to, balancing(to.address) as balancer:
        await Client().ask(balancer, scope(scheme="https"))
        assert to.fields()["x-forwarded-proto"] == "https"


@pytest.mark.parametrize(
    "asked",
    [
        scope("GET", "/", (b"x", b"a\r\nTransfer-Encoding: chunked")),
        scope("GET", "/", (b"x", b"a\r\n\r\nGET /smuggled HTTP/1.1")),
        scope("GET", "/", (b"x\nb", b"a")),
        scope("GET", "/", (b"x", b"a\nb")),
        scope("GET", "/", (b"x", b"a\rb")),
        scope("GET", "/a b"),
        scope("GET", "/a HTTP/1.1\r\nX: b"),
        scope("GET", "/a\nb"),
        scope("GET /x", "/"),
        scope("GET", "/", query_string=b"a b"),
        scope("GET", "/", (b"content-length", b"1, 2")),
        scope("GET", "/", (b"content-length", b"1"), (b"content-length", b"2")),
        scope("GET", "/", (b"host", b"other.example")),
        scope("GET", "/", (b"x ", b"a")),
    ],
    ids=lambda asked: repr((asked["method"], asked["path"], asked["headers"][1:]))[:60],
)
async def test_what_another_server_lets_through_is_checked_again(asked: Message) -> None:
    async with backend() as to, balancing(to.address) as balancer:
        client = Client()
        await client.ask(balancer, asked)
        assert (client.status, client.complete) == (400, True)
        assert to.heads == []


async def test_an_early_answer_ends_the_upload() -> None:
    async with backend() as to, balancing(to.address, max_body="10KiB") as balancer:
        client = Client(*[bytes(8000)] * 100)
        await client.ask(balancer, scope("POST", "/"))
        assert (client.status, client.complete) == (413, True)
        assert client.received < 100


async def test_a_receive_that_fails_ends_the_request(caplog: pytest.LogCaptureFixture) -> None:
    async with backend() as to, balancing(to.address) as balancer:
        client = Client(b"hel", b"lo")

        async def receive() -> Message:
            if client.received:
                raise OSError("gone")
            return await client.receive()

        with pytest.raises(ConnectionResetError), caplog.at_level(logging.ERROR):
            await balancer(scope("POST", "/", (b"content-length", b"5")), receive, client.send)
        assert "could not be read" in caplog.text
        assert client.sent == []


async def test_a_send_that_fails_cancels_the_request() -> None:
    async with backend() as to, balancing(to.address) as balancer:

        async def send(message: Message) -> None:
            raise OSError("gone")

        with pytest.raises(OSError, match="gone"):
            await balancer(scope(), Client().receive, send)
        assert balancer.engine.backends[0].in_flight == 0


async def test_a_cancelled_request_is_cancelled_at_the_backend() -> None:
    async with told(_forever) as to, balancing(to.address) as balancer:
        asked = asyncio.create_task(balancer(scope(), Client().receive, Client().send))
        await until(lambda: to.heads)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert balancer.engine.backends[0].in_flight == 0


async def test_a_websocket_is_refused_before_it_is_accepted() -> None:
    balancer = LoadBalancer()
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await balancer({**scope(), "type": "websocket"}, receive, send)
    assert [each["type"] for each in sent] == ["websocket.close"]
    assert "not proxied" in sent[0]["reason"]


async def test_another_scope_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'smtp'"):
        await LoadBalancer()({"type": "smtp"}, Client().receive, Client().send)


async def test_without_its_lifespan_it_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    async with backend() as to:
        balancer = unstarted(to.address)
        with caplog.at_level(logging.WARNING, logger="lb.engine"):
            for _ in range(2):
                client = Client()
                await client.ask(balancer, scope())
                assert client.status == 200
        assert caplog.text.count("lifespan=balancer.lifespan") == 1
        balancer.engine.stop()


# The lifespan protocol


class Server:
    """A server's end of the lifespan protocol."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.stop = asyncio.Event()
        self._asked = 0

    async def receive(self) -> Message:
        self._asked += 1
        if self._asked == 1:
            return {"type": "lifespan.startup"}
        await self.stop.wait()
        return {"type": "lifespan.shutdown"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)


async def test_the_lifespan_protocol() -> None:
    balancer, server = LoadBalancer(), Server()
    running = asyncio.create_task(balancer({"type": "lifespan"}, server.receive, server.send))
    await until(lambda: server.sent)
    assert server.sent == [{"type": "lifespan.startup.complete"}]
    assert balancer.running
    server.stop.set()
    await running
    assert server.sent[1:] == [{"type": "lifespan.shutdown.complete"}]
    assert not balancer.running


class Failing:
    """A plugin whose lifespan fails at one of its ends."""

    def __init__(self, phase: str) -> None:
        self.phase = phase

    @hookimpl
    def lifespan(self, balancer: LoadBalancer) -> Any:
        return self._run()

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        if self.phase == "startup":
            raise RuntimeError("no database")
        yield
        raise RuntimeError("no database")


@pytest.mark.parametrize("phase", ["startup", "shutdown"])
async def test_an_error_is_reported_for_its_phase(phase: str) -> None:
    balancer, server = LoadBalancer(plugins=Plugins.discover(extra=[Failing(phase)])), Server()
    server.stop.set()
    await balancer({"type": "lifespan"}, server.receive, server.send)
    assert server.sent[-1]["type"] == f"lifespan.{phase}.failed"
    assert "no database" in server.sent[-1]["message"]
    assert not balancer.running


# Under uvicorn


@asynccontextmanager
async def served(balancer: LoadBalancer, **options: Any) -> AsyncIterator[int]:
    """The balancer under a real uvicorn; gives the port."""
    config = uvicorn.Config(balancer, port=0, lifespan="on", log_config=None, loop="none", **options)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    await until(lambda: server.started or running.done())
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


def asking(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}")


async def test_uvicorn_serves_it() -> None:
    async with backend() as to, served(unstarted(to.address), root_path="/api") as port, asking(port) as client:
        answer = await client.get("/users")
        assert (answer.status_code, answer.text, answer.headers["x-from"]) == (200, "ok", "backend")
        assert to.heads[-1].startswith("GET /users HTTP/1.1\r\n")
        assert to.fields()["x-forwarded-port"] == str(port)

        async def pieces() -> AsyncIterator[bytes]:
            yield b"hel"
            yield b"lo"

        assert (await client.post("/", content=pieces())).status_code == 200
        assert to.body == b"hello"
        assert (await client.post("/", content=b"x" * MEGABYTE)).status_code == 200
        assert to.body == b"x" * MEGABYTE
        assert (await client.head("/")).status_code == 200


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
    ids=["length", "chunked"],
)
async def test_uvicorns_client_can_tell_a_cut_from_an_end(answer: bytes) -> None:
    async with backend(answer, close=True) as to, served(unstarted(to.address)) as port, asking(port) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")


async def test_uvicorns_client_that_leaves_cancels_the_request() -> None:
    async with told(_until_gone) as to, served(unstarted(to.address)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200" in await reader.readline()
        writer.transport.abort()
        async with asyncio.timeout(2):
            await to.gone.wait()
        del reader


async def _until_gone(backend: Recording, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def test_uvicorn_refuses_to_start_when_a_plugin_fails() -> None:
    balancer = LoadBalancer(plugins=Plugins.discover(extra=[Failing("startup")]))
    server = uvicorn.Server(uvicorn.Config(balancer, port=0, lifespan="on", log_config=None, loop="none"))
    async with asyncio.timeout(5):
        with pytest.raises(SystemExit):
            await server.serve()
    assert not server.started
