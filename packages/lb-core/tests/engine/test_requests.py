"""The request as a backend gets it, byte for byte: real sockets on both sides."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

from lb_core.balancer import LoadBalancer
from lb_core.config import ListenerConfig, config_from_tree
from lb_core.engine.asgi import EmbeddedSettings, ServerState
from lb_core.engine.downstream import Downstream
from lb_core.hooks import hookimpl
from lb_core.plugins import Plugins

if TYPE_CHECKING:
    from lb_core.exchange import Exchange

FORWARDED = (
    "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
    "X-Forwarded-Host: a.example\r\nX-Forwarded-Port: PORT\r\nVia: 1.1 lb\r\n"
)
_port = re.compile(r"X-Forwarded-Port: [0-9]+\r\n")
_id = re.compile(r"X-Request-Id: [0-9a-f]{32}\r\n")


async def sent(
    *fields: str,
    line: str = "GET /x?y HTTP/1.1",
    host: str | None = "a.example",
    body: str = "",
    plugin: object = None,
    trusted: str = "",
    **route: Any,
) -> str:
    """What arrives when a client sends this; a generated id reads `OURS`, the listener's port `PORT`."""
    head = [line, *([f"Host: {host}"] if host is not None else []), *fields, "", body]
    arrived: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readuntil(b"\r\n\r\n")
        if body:
            data += await reader.readexactly(len(body))
        arrived.set_result(data.decode("latin-1"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    backend = await asyncio.start_server(record, "127.0.0.1", 0)
    address = f"127.0.0.1:{backend.sockets[0].getsockname()[1]}"
    plugins = Plugins.discover(extra=[plugin] if plugin else [])
    tree = {"access_log": False, "routes": {"*": {"backends": [address], **route}}}
    if trusted:
        tree["trusted_proxies"] = [trusted]
    balancer = LoadBalancer(config_from_tree(tree, plugins), plugins=plugins)
    settings, state = EmbeddedSettings(balancer, ListenerConfig(name="web", address=":80")), ServerState()
    listening = await asyncio.get_running_loop().create_server(lambda: Downstream(settings, state), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with balancer.lifespan(), asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write("\r\n".join(head).encode("latin-1"))
        answer = await reader.readuntil(b"\r\n")
        assert answer == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        got = await arrived
    listening.close()
    backend.close()
    got = _port.sub("X-Forwarded-Port: PORT\r\n", got.replace(address, "BACKEND"))
    return _id.sub("X-Request-Id: OURS\r\n", got)


async def test_an_ordinary_request() -> None:
    fields = "User-Agent: x\r\nConnection: keep-alive\r\n"
    assert await sent("User-Agent: x", "Connection: keep-alive") == (
        f"GET /x?y HTTP/1.1\r\nHost: a.example\r\n{fields}{FORWARDED}X-Request-Id: OURS\r\n\r\n"
    )


async def test_a_request_with_something_to_cut_differs_in_nothing_else() -> None:
    plain = await sent("User-Agent: x")
    assert await sent("TE: trailers", "User-Agent: x", "X-Forwarded-For: 6.6.6.6") == plain


async def test_a_body_follows_its_head() -> None:
    got = await sent("Content-Length: 2", line="POST / HTTP/1.1", body="ok")
    assert got.endswith("X-Request-Id: OURS\r\n\r\nok")
    assert got.count("Content-Length: 2\r\n") == 1


async def test_a_body_that_looks_like_a_blank_line_is_a_body() -> None:
    got = await sent("Content-Length: 8", line="POST / HTTP/1.1", body="TE: x\r\n\r\n"[:8])
    assert got.endswith("\r\n\r\nTE: x\r\n\r")
    got = await sent("Transfer-Encoding: chunked", line="POST / HTTP/1.1", body="2\r\nok\r\n0\r\n\r\n")
    assert got.startswith("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For")
    assert got.endswith("X-Request-Id: OURS\r\n\r\n2\r\nok\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("field", "body", "plain"),
    [
        ("Content-Length:\t02", "ok", "Content-Length: 2"),
        ("Transfer-Encoding:\tchunked", "2\r\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    ],
)
async def test_framing_is_sent_in_its_plain_form(field: str, body: str, plain: str) -> None:
    got = await sent(field, line="POST / HTTP/1.1", body=body)
    assert got.count(f"\r\n{plain}\r\n") == 1
    assert field not in got
    assert got.endswith(f"\r\n\r\n{body}")


async def test_a_request_id_that_is_kept_is_not_repeated() -> None:
    got = await sent("X-Request-Id: theirs")
    assert got.count("X-Request-Id") == 1
    assert "X-Request-Id: theirs\r\n" in got


@pytest.mark.parametrize(
    "fields",
    [
        ("X-Request-Id: a b",),
        ("X-Request-Id: a", "X-Request-Id: b"),
        ("Connection: X-Request-Id", "X-Request-Id: a"),
    ],
)
async def test_a_request_id_that_is_not_kept_is_replaced(fields: tuple[str, ...]) -> None:
    got = await sent(*fields)
    assert got.count("X-Request-Id:") == 1
    assert "X-Request-Id: OURS\r\n" in got


async def test_http10_goes_on_as_http11() -> None:
    got = await sent("Connection: keep-alive", line="GET / HTTP/1.0")
    assert got.startswith("GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For")


async def test_http10_without_host_names_the_backend() -> None:
    got = await sent(line="GET / HTTP/1.0", host=None)
    assert got.startswith("GET / HTTP/1.1\r\nHost: BACKEND\r\n")
    assert got.count("Host: ") == 1
    assert "X-Forwarded-Host:\r\n" in got


async def test_an_absolute_target_becomes_origin_form_and_host() -> None:
    got = await sent(line="GET http://B.example:81/z HTTP/1.1")
    assert got.startswith("GET /z HTTP/1.1\r\nHost: B.example:81\r\n")
    assert got.count("Host: ") == 2  # that one and X-Forwarded-Host
    assert "X-Forwarded-Host: b.example:81\r\n" in got


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "GET http://b.example/ HTTP/1.1"])
async def test_the_backends_host_leaves_no_other(line: str) -> None:
    got = await sent(line=line, host_header="backend")
    assert got.startswith("GET / HTTP/1.1\r\nHost: BACKEND\r\n")
    assert got.count("\r\nHost:") == 1
    assert "X-Forwarded-Host: " in got


@pytest.mark.parametrize(
    "fields",
    [("Connection: keep-alive, Upgrade", "Upgrade: websocket"), ("Upgrade: WebSocket", "Connection: upgrade")],
)
async def test_a_websocket_keeps_its_upgrade(fields: tuple[str, ...]) -> None:
    got = await sent(*fields, "Sec-WebSocket-Version: 13")
    assert got.lower().count("\r\nconnection: ") == 1
    assert "\r\nConnection: Upgrade\r\n" in got
    assert "upgrade: websocket\r\n" in got.lower()
    assert "keep-alive" not in got


async def test_a_trusted_peer_is_believed() -> None:
    got = await sent("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", trusted="127.0.0.0/8")
    assert "X-Forwarded-For: 6.6.6.6, 127.0.0.1\r\nX-Real-IP: 6.6.6.6\r\n" in got
    assert got.count("X-Forwarded-Proto") == 1
    assert "X-Forwarded-Proto: https" in got


@pytest.mark.parametrize(
    ("target", "prefix", "stripped"),
    [
        ("/api/users?a=/api", "/api", "/users?a=/api"),
        ("/api", "/api", "/"),
        ("/api/", "/api", "/"),
        ("/api?x", "/api", "/?x"),
        ("/api//users", "/api", "//users"),
        ("/apis", "/api", "/apis"),
        ("/api/users", "/api/", "/users"),
        ("/other", "/api", "/other"),
    ],
)
async def test_a_prefix_is_stripped_at_a_segment(target: str, prefix: str, stripped: str) -> None:
    got = await sent("X-Forwarded-Prefix: /evil", line=f"GET {target} HTTP/1.1", strip_prefix=prefix)
    assert got.startswith(f"GET {stripped} HTTP/1.1\r\n")
    told = [line for line in got.split("\r\n") if line.startswith("X-Forwarded-Prefix")]
    assert told == ([] if stripped == target else [f"X-Forwarded-Prefix: {prefix.rstrip('/')}"])


async def test_the_asterisk_has_no_prefix() -> None:
    got = await sent(line="OPTIONS * HTTP/1.1", strip_prefix="/api")
    assert got.startswith("OPTIONS * HTTP/1.1\r\n")


class Changing:
    """A plugin that changes the request's fields."""

    @hookimpl
    def before_request(self, exchange: Exchange) -> None:
        exchange.headers["X-User"] = "anna"
        exchange.headers.pop("Cookie", None)


class ReadingOnly:
    """A plugin that looks at the fields and changes nothing."""

    @hookimpl
    def before_request(self, exchange: Exchange) -> None:
        assert exchange.headers["cookie"] == "a"


async def test_what_plugins_change_is_sent() -> None:
    fields = ("Cookie: a", "TE: trailers", "Content-Length:\t002", "A: 1")
    got = await sent(*fields, line="POST / HTTP/1.1", body="ok", plugin=Changing())
    assert got.startswith("POST / HTTP/1.1\r\nHost: a.example\r\nA: 1\r\nX-User: anna\r\nX-Forwarded-For")
    assert [line for line in got.split("\r\n") if line.startswith("Content-Length")] == ["Content-Length: 2"]
    assert "Cookie" not in got
    assert "TE:" not in got
    assert got.endswith("\r\n\r\nok")


async def test_a_changed_ordinary_request_keeps_its_order() -> None:
    got = await sent("A: 1", "Cookie: a", "B: 2", plugin=Changing())
    assert got.startswith("GET /x?y HTTP/1.1\r\nHost: a.example\r\nA: 1\r\nB: 2\r\nX-User: anna\r\nX-Forwarded-For")


async def test_a_plugin_that_only_reads_changes_nothing() -> None:
    assert await sent("Cookie: a", plugin=ReadingOnly()) == await sent("Cookie: a")
