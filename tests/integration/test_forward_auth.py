"""Another service decides what may pass, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lb_core import ConfigError
from lb_core.config import config_from_tree
from lb_core.plugins import Plugins
from tests.support.backends import CLOSE, RESET, Backend, Request, Script, refusing, unresponsive
from tests.support.balancing import Running, balancing, tree, until
from tests.support.wire import request, response

YES = response(b"", "X-User: ann", "X-Groups: a", "X-Groups: b")


class Guarded:
    """A balancer, the service it asks and the backend behind it."""

    def __init__(self, running: Running, auth: Backend, backend: Backend) -> None:
        self.running = running
        self.auth = auth
        self.backend = backend


@asynccontextmanager
async def guarded(script: Script, top: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Guarded]:
    async with Backend(script) as auth, Backend() as backend:
        section = {"address": f"http://{auth.address}/verify?for=lb", **options}
        async with balancing(backend, top=top, forward_auth=section) as running:
            yield Guarded(running, auth, backend)


async def test_2xx_passes_and_the_service_knows_what_it_is_about() -> None:
    async with guarded(YES) as all_of, await all_of.running.client() as client:
        asked = request("/a/../b?c=%20", b"a body", "Cookie: session=1", "Range: bytes=0-1", 'If-None-Match: "x"')
        for _ in range(3):
            assert (await client.ask(asked)).status == 200
        seen = all_of.auth.messages[0]
        assert seen.start == b"GET /verify?for=lb HTTP/1.1"
        assert seen["host"].decode() == all_of.auth.address
        assert seen["x-forwarded-method"] == b"POST"
        assert seen["x-forwarded-uri"] == b"/a/../b?c=%20"
        assert seen["x-forwarded-host"] == b"example.com"
        assert seen["x-forwarded-proto"] == b"http"
        assert seen["x-forwarded-for"] == b"127.0.0.1"
        assert seen["cookie"] == b"session=1"
        assert seen["x-request-id"] == all_of.backend.messages[0]["x-request-id"]
        assert not {"content-length", "range", "if-none-match", "expect"} & {name.decode() for name, _ in seen.fields}
        assert [message.body for message in all_of.backend.messages] == [b"a body"] * 3
        assert all_of.backend.messages[0]["range"] == b"bytes=0-1"
        assert len(all_of.auth.connections) == 1, "the connection is kept"


async def test_what_a_client_says_about_itself_is_not_asked() -> None:
    async with guarded(YES) as all_of:
        lying = [
            "X-Forwarded-Uri: /public",
            "x_forwarded_uri: /x",
            "X-Forwarded-Method: HEAD",
            "X-Forwarded-Host: evil",
        ]
        assert (await all_of.running.ask(request("/admin", b"", *lying))).status == 200
        seen = all_of.auth.messages[0]
        assert (seen["x-forwarded-uri"], seen["x-forwarded-method"]) == (b"/admin", b"GET")
        assert seen["x-forwarded-host"] == b"example.com"
        assert "x_forwarded_uri" not in seen


async def test_fields_of_the_answer_go_to_the_backend_and_never_the_client_s() -> None:
    async with guarded(YES, copy_headers=["X-User", "X-Groups", "X-Absent", "X-Forwarded-User"]) as all_of:
        lying = ["x-user: admin", "X_User: admin", "X-Absent: 1", "Connection: x-user, X-Groups"]
        assert (await all_of.running.ask(request("/", b"", *lying))).status == 200
        seen = all_of.backend.messages[0]
        assert seen["x-user"] == b"ann"
        assert seen.all("x-groups") == [b"a", b"b"]
        assert not {b"x_user", b"x-absent"} & {name for name, _ in seen.fields}


async def test_a_copied_field_takes_the_place_of_what_another_feature_set() -> None:
    async with Backend(YES) as auth:
        section = {"address": f"http://{auth.address}", "copy_headers": ["X-User"]}
        edits = {"request": {"set": {"X-User": "nobody"}}}
        async with balancing(backend := Backend(), edit_headers=edits, forward_auth=section) as running:
            assert (await running.ask(request())).status == 200
            assert backend.messages[0]["x-user"] == b"ann"


async def test_a_field_that_the_engine_would_cut_from_a_client_is_kept() -> None:
    answer = response(b"", "X-Forwarded-User: ann")
    async with guarded(answer, copy_headers=["X-Forwarded-User"]) as all_of:
        assert (await all_of.running.ask(request("/", b"", "X-Forwarded-User: admin"))).status == 200
        assert all_of.backend.messages[0]["x-forwarded-user"] == b"ann"


@pytest.mark.parametrize("status", [302, 307, 401, 403, 404, 500, 503])
async def test_anything_else_is_the_client_s_answer(status: int) -> None:
    fields = ["Location: /login?back=%2F", "WWW-Authenticate: Basic", "Set-Cookie: a=1", "Set-Cookie: b=2"]
    said = response(b"log in", *fields, "Content-Type: text/html", "Keep-Alive: timeout=5", status=status)
    async with guarded(said) as all_of, await all_of.running.client() as client:
        for _ in range(2):
            answer = await client.ask(request())
            assert (answer.status, answer.body, answer["content-type"]) == (status, b"log in", b"text/html")
            assert answer["location"] == b"/login?back=%2F"
            assert answer["www-authenticate"] == b"Basic"
            assert answer.all("set-cookie") == [b"a=1", b"b=2"]
            assert "keep-alive" not in answer
        head = await client.ask(request(method="HEAD"))
        assert (head.status, head.body, head["content-length"]) == (status, b"", b"6")
        assert not all_of.backend.requests


async def test_a_refused_upload_is_not_begun() -> None:
    async with guarded(response(b"no", status=403)) as all_of:
        async with await all_of.running.client() as client:
            asked = request("/", b"", "Expect: 100-continue", "Content-Length: 5", method="PUT")
            answer = await client.ask(asked)
            assert (answer.status, client.interim, answer["connection"]) == (403, [], b"close")
        async with await all_of.running.client() as client:
            await client.send(request("/", b"", "Content-Length: 10000000", method="PUT"), b"x" * 300_000)
            assert (await client.answer(b"PUT")).status == 403
        assert not all_of.backend.requests


async def test_an_upload_that_passes_waits_for_the_answer() -> None:
    gate = asyncio.Event()

    async def slowly(seen: Request) -> None:
        await gate.wait()
        seen.write(YES)

    async with guarded(slowly) as all_of:
        body = b"x" * 500_000
        asking = asyncio.create_task(all_of.running.ask(request("/", body)))
        await until(lambda: all_of.auth.requests)
        assert not all_of.backend.requests
        gate.set()
        assert (await asking).status == 200
        assert all_of.backend.messages[0].body == body


@pytest.mark.parametrize(
    "script",
    [(RESET,), (CLOSE,), b"not http\r\n\r\n", (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", CLOSE), (1.0, YES)],
    ids=["reset", "closed", "not http", "cut", "slow"],
)
async def test_no_answer_lets_nobody_pass(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    async with guarded(script, timeout="150ms") as all_of:
        for _ in range(2):
            answer = await all_of.running.ask(request("/", b"", "Accept: application/json"))
            assert (answer.status, b"auth_unavailable" in answer.body) == (503, True)
            assert all_of.running.last.flags
        assert not all_of.backend.requests
        assert [record.name for record in caplog.records] == ["lb.filters"], "said once a second"
        assert "forward_auth" in caplog.text


async def test_a_service_that_is_not_there() -> None:
    with refusing() as address, unresponsive() as mute:
        for where, flag in ((address, "connect_failed"), (mute, "connect_timeout")):
            section = {"address": f"http://{where}/", "timeout": "100ms"}
            async with balancing(backend := Backend(), forward_auth=section) as running:
                assert (await running.ask(request())).status == 503
                assert running.last.flags == (flag,)
                assert not backend.requests


async def test_an_answer_that_is_too_long() -> None:
    async with guarded(response(b"x" * 300_000, status=403)) as all_of:
        assert (await all_of.running.ask(request())).status == 502
        assert not all_of.backend.requests


async def test_a_304_of_the_service_has_no_body() -> None:
    said = b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"
    async with guarded(said) as all_of, await all_of.running.client() as client:
        for _ in range(2):
            assert (await client.ask(request())).status == 304


async def test_a_client_that_leaves_ends_the_question() -> None:
    async def never(seen: Request) -> None:
        await seen.connection.ended.wait()

    async with guarded(never) as all_of:
        async with await all_of.running.client() as client:
            await client.send(request())
            await until(lambda: all_of.auth.requests)
        await until(lambda: all_of.auth.connections[0].ended.is_set())
        await all_of.running.settled()
        assert not all_of.backend.requests


async def test_a_pool_that_is_asked() -> None:
    async with Backend(YES) as auth, Backend() as backend:
        top = {"pools": {"auth": {"backends": [auth.address]}}}
        async with balancing(backend, top=top, forward_auth={"use": "auth", "path": "/check"}) as running:
            assert (await running.ask(request())).status == 200
            assert auth.messages[0].target == b"/check"
            pool = running.balancer.routes["*"].pools["auth"]
            pool.set_health(pool.backends[0], "down")
            assert (await running.ask(request())).status == 503
            assert running.last.flags == ("no_backend",)


async def test_a_reload_leaves_no_connection_behind() -> None:
    async with Backend(YES) as auth, Backend() as backend:
        made = tree([backend], forward_auth=f"http://{auth.address}/")
        async with balancing(config=made) as running, await running.client() as client:
            assert (await client.ask(request())).status == 200
            made["routes"]["*"]["forward_auth"] = f"http://{auth.address}/other"
            running.balancer.apply(config_from_tree(made, running.balancer.plugins))
            await until(lambda: auth.connections[0].ended.is_set())
            assert (await client.ask(request())).status == 200
            assert auth.messages[1].target == b"/other"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({}, "write one of address"),
        ({"address": "http://a/", "use": "b"}, "write one of address"),
        ({"use": "nobody"}, 'there is no pool "nobody"'),
        ("https://a.example/", "asked by http"),
        ("a.example", "is no address"),
        ("http://a b/", "is no address"),
        ("http://user:pw@a/", "is no address"),
        ("http://a:99999/", "is no address"),
        ({"address": "http://a/", "copy_headers": ["Content-Length"]}, "message framing"),
        ({"address": "http://a/", "copy_headers": ["Host"]}, "host_header"),
        ({"address": "http://a/", "timeout": "0s"}, "cannot be 0"),
        ({"use": "a", "path": "x"}, "is no path"),
    ],
)
def test_a_section_that_cannot_be(section: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_from_tree(tree(["127.0.0.1:1"], forward_auth=section), Plugins.discover())
