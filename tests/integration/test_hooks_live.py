"""Hooks on real traffic: what they may do, and that one which fails harms no more than it must."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from lb_core import Backend as Served
from lb_core import Event, Exchange, Response, hookimpl
from tests.support.backends import CLOSE, RESET, Backend
from tests.support.balancing import balancing, until
from tests.support.wire import Cut, chunked, request, response

if TYPE_CHECKING:
    from lb_core.errors import AttemptError


class Boom(Exception):
    """What a broken plugin raises."""


class BreaksBefore:
    @hookimpl
    def before_request(self, exchange: Exchange) -> None:
        raise Boom


class BreaksBeforeLater:
    @hookimpl
    async def before_request(self, exchange: Exchange) -> None:
        await asyncio.sleep(0.01)
        raise Boom


class AnswersNonsense:
    @hookimpl
    def before_request(self, exchange: Exchange) -> Any:
        return "200 OK"


class BreaksChoosing:
    @hookimpl(tryfirst=True)
    def select_backend(self, exchange: Exchange) -> None:
        raise Boom


class ChoosesNonsense:
    @hookimpl(tryfirst=True)
    def select_backend(self, exchange: Exchange) -> Any:
        return "backend0"


class BreaksOnResponse:
    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        raise Boom


class BreaksOnError:
    @hookimpl
    def on_backend_error(self, exchange: Exchange, error: AttemptError) -> None:
        raise Boom


class BreaksOnComplete:
    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        raise Boom


class BreaksOnHealth:
    @hookimpl
    def on_health_result(self, backend: Served) -> None:
        raise Boom


class BreaksOnEvent:
    @hookimpl
    def on_event(self, event: Event) -> None:
        raise Boom


@pytest.mark.parametrize("plugin", [BreaksBefore, BreaksBeforeLater, AnswersNonsense, BreaksChoosing, ChoosesNonsense])
@pytest.mark.parametrize("body", [b"", b"a body"], ids=["GET", "POST"])
async def test_a_hook_that_decides_and_fails_is_a_500_and_lets_nothing_through(
    plugin: type[object], body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Backend()
    async with balancing(backend, plugins=[plugin()]) as balancer, await balancer.client() as client:
        for _ in range(2):
            answer = await client.ask(request("/", body))
            assert answer.status == 500
            assert b"Boom" not in answer.raw
        assert backend.connections == []
        assert len(balancer.completed) == 2
    said = "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)
    assert "before_request" in said or "select_backend" in said


@pytest.mark.parametrize("plugin", [BreaksOnResponse, BreaksOnError, BreaksOnComplete, BreaksOnHealth, BreaksOnEvent])
async def test_a_hook_that_watches_and_fails_is_logged_and_nothing_else(
    plugin: type[object], caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Backend((RESET,)), Backend()
    check = {"path": "/", "interval": "100ms"} if plugin is BreaksOnHealth else None
    if check is not None:
        bad.script = response(b"")
    options: dict[str, Any] = {"health_check": check} if check else {}
    async with balancing(bad, good, plugins=[plugin()], ejection={"consecutive_failures": 1}, **options) as balancer:
        if check is not None:
            await until(lambda: balancer.events.count("backend_up") == 2)
        async with await balancer.client() as client:
            for _ in range(4):
                assert (await client.ask(request())).status == 200
        assert len(balancer.completed) == 4
    said = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert said
    assert plugin.__name__.lower() in "\n".join(record.getMessage() for record in said).lower()
    assert any(record.exc_info and record.exc_info[0] is Boom for record in said)


class Teapot:
    """Answers some paths itself."""

    @hookimpl
    def before_request(self, exchange: Exchange) -> Response | None:
        if exchange.path == "/teapot":
            return Response(418, "short and stout\n", headers={"X-Pot": exchange.query or "none"})
        if exchange.path == "/empty":
            return Response(204)
        if exchange.path == "/moved":
            return Response(308, headers={"Location": f"https://{exchange.host}{exchange.target}"})
        return None


class TeapotLater:
    @hookimpl
    async def before_request(self, exchange: Exchange) -> Response | None:
        await asyncio.sleep(0.01)
        return Teapot().before_request(exchange)


@pytest.mark.parametrize("plugin", [Teapot, TeapotLater])
async def test_answers_of_a_plugin_are_whole_http_answers(plugin: type[object]) -> None:
    backend = Backend()
    async with balancing(backend, plugins=[plugin()]) as balancer:
        async with await balancer.client() as client:
            await client.send(
                request("/teapot?x")
                + request("/")
                + request("/teapot", method="HEAD")
                + request("/empty")
                + request("/moved?y")
                + request("/teapot", b"a body")
                + request("/end")
            )
            answers = [
                await client.answer(method) for method in (b"GET", b"GET", b"HEAD", b"GET", b"GET", b"POST", b"GET")
            ]
            assert [answer.status for answer in answers] == [418, 200, 418, 204, 308, 418, 200]
            assert (answers[0].body, answers[0]["x-pot"], answers[0]["content-length"]) == (
                b"short and stout\n",
                b"x",
                b"16",
            )
            assert (answers[2].body, answers[2]["content-length"]) == (b"", b"16")
            assert answers[4]["location"] == b"https://example.com/moved?y"
            assert all("connection" not in answer for answer in answers)
            assert await client.silent(0.02)
        assert [message.target for message in backend.messages] == [b"/", b"/end"]
        async with await balancer.client() as client:
            await client.send(request("/teapot", b"", "Content-Length: 1000", method="POST") + b"part")
            answer = await client.answer(b"POST")
            assert (answer.status, answer["connection"]) == (418, b"close")
            assert await client.end() == b""
        async with await balancer.client() as client:
            answer = await client.ask(b"GET /teapot HTTP/1.0\r\nHost: example.com\r\n\r\n")
            assert (answer.status, answer["connection"]) == (418, b"close")


class AsksSomebody:
    """Takes its time, as one that asks Redis does."""

    @hookimpl
    async def before_request(self, exchange: Exchange) -> Response | None:
        await asyncio.sleep(0.03)
        exchange.headers["X-Asked"] = "yes"
        return None


@pytest.mark.parametrize(
    "raw",
    [
        request("/"),
        request("/", b"a body"),
        request("/", b"x" * 500_000),
        request("/", b"", "Transfer-Encoding: chunked", method="POST") + chunked(b"a" * 100_000, b"b" * 100_000),
    ],
    ids=["GET", "POST", "500 KB", "chunked"],
)
async def test_a_plugin_that_takes_its_time_loses_nothing_of_the_body(raw: bytes) -> None:
    backend = Backend()
    async with balancing(backend, plugins=[AsksSomebody()]) as balancer, await balancer.client() as client:
        for index in range(2):
            await client.send(raw[:40], 0.005, raw[40:])
            assert (await client.answer(raw[:4].strip())).status == 200
            message = backend.messages[index]
            body = raw.partition(b"\r\n\r\n")[2]
            assert message.body == (b"a" * 100_000 + b"b" * 100_000 if b"chunked" in raw[:200] else body)
            assert message["x-asked"] == b"yes"


class Rewrites:
    """Changes fields on both sides."""

    @hookimpl
    def before_request(self, exchange: Exchange) -> None:
        headers = exchange.headers
        headers["X-Added"] = "1"
        headers["accept"] = "text/plain"
        headers.add("Cookie", "c=d")
        headers.pop("X-Secret", None)

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        headers = exchange.response_headers
        headers["X-Status"] = str(exchange.status)
        headers.add("Set-Cookie", "e=f")
        headers.pop("Server", None)


@pytest.mark.parametrize("body", [b"", b"a body"], ids=["GET", "POST"])
async def test_changed_request_fields_reach_the_backend_and_framing_stays_ours(body: bytes) -> None:
    backend = Backend()
    sent = (
        "Accept: */*",
        "X-Secret: 1",
        "Cookie: a=b",
        "Connection: x-mine",
        "X-Mine: 1",
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-Proto: https",
        "X_Real_IP: 1",
        "Upgrade: h2c",
        "TE: trailers",
    )
    async with balancing(backend, plugins=[Rewrites()]) as balancer, await balancer.client() as client:
        for _ in range(2):
            assert (await client.ask(request("/", body, *sent))).status == 200
        message = backend.messages[1]
        assert (message["x-added"], message["accept"], message.all("cookie")) == (b"1", b"text/plain", [b"a=b", b"c=d"])
        assert message["x-forwarded-for"] == b"127.0.0.1"
        assert message["x-forwarded-proto"] == b"http"
        assert not {"x-secret", "x-mine", "x_real_ip", "upgrade", "te", "connection"} & {
            name.decode() for name, _ in message.fields
        }
        assert len(message.all("host")) == len(message.all("x-request-id")) == 1
        assert message.body == body


OK = b"HTTP/1.1 200 OK\r\nServer: x\r\nSet-Cookie: a=b\r\n"


@pytest.mark.parametrize(
    ("method", "raw", "body"),
    [
        ("GET", OK + b"Content-Length: 2\r\n\r\nok", b"ok"),
        ("GET", OK + b"Connection: keep-alive, x-mine\r\nX-Mine: 1\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        ("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"o", b"k"), b"ok"),
        ("HEAD", OK + b"Content-Length: 2\r\n\r\n", b""),
        ("GET", b"HTTP/1.0 200 OK\r\nServer: x\r\nSet-Cookie: a=b\r\n\r\nok", b"ok"),
    ],
    ids=["plain", "connection", "chunked", "HEAD", "until close"],
)
async def test_changed_response_fields_reach_the_client_and_framing_stays_ours(
    method: str, raw: bytes, body: bytes
) -> None:
    script = (raw, CLOSE) if raw.startswith(b"HTTP/1.0") else raw
    async with balancing(Backend(script), plugins=[Rewrites()]) as balancer, await balancer.client() as client:
        for _ in range(2):
            answer = await client.ask(request("/", method=method))
            assert (answer.body, answer["x-status"], answer.all("set-cookie")) == (body, b"200", [b"a=b", b"e=f"])
            assert "server" not in answer
            assert "x-mine" not in answer
            assert "connection" not in answer
        assert await client.silent(0.02)


class Records:
    """The order of everything, and what is final at the end."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.ends: list[tuple[int, tuple[str, ...], int, bool]] = []

    @hookimpl
    def before_request(self, exchange: Exchange) -> None:
        self.said.append("before")

    @hookimpl
    def select_backend(self, exchange: Exchange) -> None:
        self.said.append("select")

    @hookimpl
    def on_backend_error(self, exchange: Exchange, error: AttemptError) -> None:
        self.said.append(f"error {exchange.backend.name if exchange.backend else '-'}")

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        self.said.append(f"response {exchange.status}")

    @hookimpl
    def on_complete(self, exchange: Exchange) -> None:
        self.said.append("complete")
        final = 0 < exchange.started <= (exchange.first_byte or exchange.started) <= exchange.ended
        self.ends.append((exchange.status, exchange.flags, exchange.bytes_out, final))


async def test_hooks_come_in_their_order_once_an_attempt_or_once_in_all() -> None:
    records = Records()
    bad, good = Backend((RESET,), name="bad"), Backend(response(b"12345"), name="good")
    async with balancing(bad, good, plugins=[records], strategy="least_connections", ejection=False) as balancer:
        while not bad.requests:
            records.said.clear()
            await balancer.ask(request())
        choices = [word for word in records.said if word != "select"]
        assert choices == ["before", "error bad", "response 200", "complete"]
        assert records.ends[-1] == (200, ("retried",), 5, True)


@pytest.mark.parametrize(
    ("script", "data", "end"),
    [
        ((RESET,), request("/", b"x"), (502, ("reset",))),
        ((b"nonsense\r\n\r\n",), request(), (502, ("invalid_response",))),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", 0.02, RESET), request(), (200, ("reset",))),
        ((response(b"", status=404),), request(), (404, ())),
        (response(b"", status=500), b"GET / HTTP/1.1\r\n\r\n", (400, ("bad_host",))),
        (response(b""), b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", (505, ("bad_version",))),
    ],
    ids=["reset", "invalid", "cut", "404", "no host", "version"],
)
async def test_on_complete_comes_once_however_an_exchange_ends(
    script: Any, data: bytes, end: tuple[int, tuple[str, ...]]
) -> None:
    records = Records()
    async with balancing(Backend(script), plugins=[records], ejection=False) as balancer:
        try:
            await balancer.ask(data)
        except Cut:
            assert end == (200, ("reset",))
        await until(lambda: records.ends)
        await asyncio.sleep(0.02)
        assert [(status, flags) for status, flags, _, _ in records.ends] == [end]
        assert records.said.count("complete") == 1
        assert records.ends[0][3]
