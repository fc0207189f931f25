"""Redirects, rewrites, fixed answers, header edits, passwords and address lists over real sockets."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from lb_core import ConfigError, Exchange, hookimpl
from lb_core.config import config_from_tree
from lb_core.plugins import Plugins
from tests.support.backends import Backend
from tests.support.balancing import balancing, tree, until
from tests.support.wire import chunked, request, response

HASHES = {name: bcrypt.hashpw(name.encode(), bcrypt.gensalt(4)).decode() for name in ("alice", "bøb")}


def without_backends(**route: Any) -> dict[str, Any]:
    """A configuration whose one route has no backends."""
    return {"listeners": {"web": "127.0.0.1:0"}, "access_log": False, "routes": {"*": route}}


def basic(name: str, password: str | None = None, scheme: str = "Basic") -> str:
    credentials = f"{name}:{name if password is None else password}".encode()
    return f"Authorization: {scheme} {b64encode(credentials).decode()}"


installed = cache(Plugins.discover)


def refused(**route: Any) -> str:
    """What is wrong with a route that has a backend."""
    with pytest.raises(ConfigError) as caught:
        config_from_tree(tree(["127.0.0.1:1"], **route), installed())
    return str(caught.value)


# redirect


@pytest.mark.parametrize(
    ("redirect", "status", "location"),
    [
        ("https://www.example.com{uri}", 308, b"https://www.example.com/a/b?c=d&e"),
        ({"to": "/new{path}", "status": 302}, 302, b"/new/a/b"),
        ({"prefix": "https://x.example/app/", "status": 301}, 301, b"https://x.example/app/a/b?c=d&e"),
        ("https://other.example/?from={host}&{query}", 308, b"https://other.example/?from=example.com&c=d&e"),
        ("https://fixed.example/", 308, b"https://fixed.example/"),
        ({"https": True}, 308, b"https://example.com/a/b?c=d&e"),
    ],
)
async def test_redirect(redirect: Any, status: int, location: bytes) -> None:
    config = without_backends(redirect=redirect)
    if redirect == {"https": True}:
        config["routes"]["*"]["backends"] = ["127.0.0.1:1"]
    async with balancing(config=config) as running, await running.client() as client:
        for _ in range(2):
            answer = await client.ask(request("/a/b?c=d&e"))
            assert (answer.status, answer["location"]) == (status, location)


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "///evil.example", "/\\/evil.example"])
async def test_nobody_is_sent_to_a_host_that_a_client_named(path: str) -> None:
    async with balancing(config=without_backends(redirect="{path}/")) as running:
        assert (await running.ask(request(path)))["location"].startswith(b"/evil.example")
    async with balancing(config=without_backends(redirect="https://own.example{uri}")) as running:
        assert (await running.ask(request(path)))["location"] == b"https://own.example" + path.encode()


async def test_a_redirect_splits_no_answer() -> None:
    async with balancing(config=without_backends(redirect="https://own.example{uri}")) as running:
        for target in ("/%0d%0aSet-Cookie:%20a=b", "/?x=%0D%0A%0D%0Abody"):
            answer = await running.ask(request(target))
            assert answer["location"] == b"https://own.example" + target.encode()
            assert "set-cookie" not in answer


async def test_https_is_what_a_trusted_proxy_says() -> None:
    said = "X-Forwarded-Proto: https"
    async with balancing(Backend(), redirect={"https": True}) as running:
        assert (await running.ask(request("/", b"", said))).status == 308, "anybody can say that"
    trusting = {"trusted_proxies": ["127.0.0.0/8"]}
    async with balancing(Backend(), top=trusting, redirect={"https": True}) as running:
        assert (await running.ask(request("/", b"", said))).status == 200
        assert (await running.ask(request("/", b"", "X-Forwarded-Proto: http"))).status == 308
        assert (await running.ask(request())).status == 308


@pytest.mark.parametrize("wants", ["", "Connection: keep-alive\r\n"])
async def test_answers_of_features_for_http10(wants: str) -> None:
    async with balancing(config=without_backends(redirect="/x")) as running, await running.client() as client:
        answer = await client.ask(f"GET / HTTP/1.0\r\n{wants}\r\n".encode())
        assert (answer.status, answer.framing) == (308, "length")
        assert answer["connection"] == (b"keep-alive" if wants else b"close")
        if wants:
            assert (await client.ask(f"GET / HTTP/1.0\r\n{wants}\r\n".encode())).status == 308
        else:
            assert await client.end() == b""


ANSWERING = [{"redirect": "/x"}, {"respond": "no"}, {"backends": ["127.0.0.1:1"], "basic_auth": {"users": HASHES}}]


@pytest.mark.parametrize("route", ANSWERING, ids=["redirect", "respond", "basic_auth"])
async def test_answers_of_features_to_requests_of_every_kind(route: dict[str, Any]) -> None:
    async with balancing(config=without_backends(**route)) as running:
        async with await running.client() as client:
            head = await client.ask(request(method="HEAD"))
            assert (int(head["content-length"]) > 0, head.body) == (True, b"")
            assert (await client.ask(request("/", b"a body"))).status == head.status, "keep-alive after a HEAD"
            assert (await client.ask(request(method="OPTIONS", target="*"))).status == head.status
            asked = request("/", b"", "Transfer-Encoding: chunked", method="POST") + chunked(b"some")
            assert (await client.ask(asked)).status == head.status
            await client.send(request() * 3)
            assert [(await client.answer()).status for _ in range(3)] == [head.status] * 3
        async with await running.client() as client:
            await client.send(request("/", b"", "Content-Length: 100000", method="PUT") + b"the beginning")
            answer = await client.answer(b"PUT")
            assert (answer.status, answer["connection"]) == (head.status, b"close"), "the rest will not be read"
        async with await running.client() as client:
            asked = request("/", b"", "Expect: 100-continue", "Content-Length: 5", method="PUT")
            answer = await client.ask(asked)
            assert (answer.status, client.interim) == (head.status, []), "nobody is told to go on"


@pytest.mark.parametrize(
    ("redirect", "said"),
    [
        ({}, "write one of to, prefix and https: true"),
        ({"to": "/a", "prefix": "/b"}, "write one of to, prefix and https: true"),
        ("https://a.example{query}", "behind a host comes /, {path} or {uri}"),
        ("https://a.example@b.example/", "is no address"),
        ("//b.example/", "is no address"),
        ("{query}", "is no address"),
        ("javascript:alert(1)", "is no address"),
        ("https://a.example/ b", "percent-encode"),
        ("https://a.example/\r\nX: y", "percent-encode"),
        ("https://{hots}/", "did you mean {host}?"),
        ("/{", "brace without its other"),
        ({"to": "/a", "status": 200}, "301"),
    ],
)
def test_a_redirect_that_cannot_be(redirect: Any, said: str) -> None:
    assert said in refused(redirect=redirect)


# rewrite


@pytest.mark.parametrize(
    ("rewrite", "target", "asked"),
    [
        ({"prefix": "/api", "to": "/v1"}, "/api/users?id=1&id=2", b"/v1/users?id=1&id=2"),
        ({"prefix": "/api", "to": "/v1"}, "/api", b"/v1"),
        ({"prefix": "/api", "to": "/"}, "/api/users", b"/users"),
        ({"prefix": "/api", "to": "/"}, "/api", b"/"),
        ({"prefix": "/api", "to": "/"}, "/api//evil.example/x", b"/evil.example/x"),
        ({"prefix": "/api/", "to": "/v1/"}, "/api/%2Fx%20y%C3%A9?q=%26", b"/v1/%2Fx%20y%C3%A9?q=%26"),
        ({"prefix": "/api", "to": "/v1"}, "/apix/users", b"/apix/users"),
        ({"regex": "^/user/([0-9]+)$", "to": "/users?id={1}"}, "/user/17?x=y", b"/users?id=17&x=y"),
        ({"regex": "^/(?P<who>[^/]+)/pic$", "to": "/pics/{who}"}, "/ann/pic?", b"/pics/ann?"),
        ({"regex": "^(/a)(/x)?$", "to": "/b{2}"}, "/a", b"/b"),
        ({"regex": "^/nothing", "to": "/b"}, "/a?b", b"/a?b"),
        ("/app{path}", "/x?y=/../z", b"/app/x?y=/../z"),
        ("{path}.html", "/x", b"/x.html"),
    ],
)
async def test_rewrite(rewrite: Any, target: str, asked: bytes) -> None:
    async with balancing(backend := Backend(), rewrite=rewrite) as running:
        assert (await running.ask(request(target))).status == 200
        assert backend.messages[0].target == asked
        assert running.last.target == target, "the log has what the client asked for"


async def test_a_rewritten_body_goes_along() -> None:
    async with balancing(backend := Backend(), rewrite="/new") as running, await running.client() as client:
        assert (await client.ask(request("/", b"x" * 100_000))).status == 200
        assert (backend.messages[0].target, backend.messages[0].body) == (b"/new", b"x" * 100_000)
        options = await client.ask(request(method="OPTIONS", target="*"))
        assert (options.status, backend.messages[1].target) == (200, b"*")


@pytest.mark.parametrize(
    "path",
    ["/api/../admin", "/api/%2e%2E/admin", "/api/x/..", "/api/..;a=b/x", "/api/..%2fadmin", "/api/..\\x", "/api/./x"],
)
async def test_a_rewrite_leads_nowhere_else(path: str) -> None:
    async with balancing(backend := Backend(), rewrite={"prefix": "/api", "to": "/v1"}) as running:
        answer = await running.ask(request(path, b"", "Accept: application/json"))
        assert (answer.status, b"ambiguous_path" in answer.body) == (400, True)
        assert not backend.requests


@pytest.mark.parametrize(
    ("rewrite", "said"),
    [
        ({"to": "new"}, "is no path"),
        ({"to": "/a b"}, "is no path"),
        ({"to": "/a#b"}, "is no path"),
        ({"to": "/a", "prefix": "b"}, "is no path prefix"),
        ({"to": "/a?b", "prefix": "/b"}, "has a query"),
        ({"to": "/a", "prefix": "/b", "regex": "c"}, "exclude each other"),
        ({"to": "/a", "regex": "("}, "is not a regular expression"),
        ({"to": "/{1}", "regex": "a"}, "nothing is called {1}"),
        ({"to": "/{query}"}, "nothing is called {query}"),
    ],
)
def test_a_rewrite_that_cannot_be(rewrite: Any, said: str) -> None:
    assert said in refused(rewrite=rewrite)


# respond


async def test_respond() -> None:
    answer = {"status": 503, "body": "bäck at noon", "content_type": "text/html", "headers": {"Retry-After": "60"}}
    config = without_backends(
        respond=404,
        match=[
            {"path": "/text", "respond": {"status": 200, "body": "pong"}},
            {"path": "/noon", "respond": answer},
            {"path": "/none", "respond": 204},
        ],
    )
    async with balancing(config=config) as running, await running.client() as client:
        rest = await client.ask(request())
        assert (rest.status, rest.body, "content-type" in rest) == (404, b"", False)
        text = await client.ask(request("/text"))
        assert (text.status, text.body, text["content-type"]) == (200, b"pong", b"text/plain; charset=utf-8")
        noon = await client.ask(request("/noon"))
        assert (noon.status, noon.body, noon["content-type"]) == (503, "bäck at noon".encode(), b"text/html")
        assert noon["retry-after"] == b"60"
        none = await client.ask(request("/none"))
        assert (none.status, "content-length" in none) == (204, False)
        assert (await client.ask(request("/text"))).body == b"pong"


@pytest.mark.parametrize(
    ("respond", "said"),
    [
        ({"status": 100}, "greater than or equal to 200"),
        ({"status": 204, "body": "x"}, "carries no body"),
        ({"headers": {"Content-Length": "3"}}, "message framing"),
        ({"headers": {"X": "a\r\nSet-Cookie: b"}}, "control characters"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "stands there twice"),
        ({"body": "x", "headers": {"content-type": "text/html"}}, "write Content-Type as content_type"),
        ({"body": "x", "content_type": "a\nb"}, "control characters"),
    ],
)
def test_an_answer_that_cannot_be(respond: Any, said: str) -> None:
    assert said in refused(respond=respond)


# edit_headers


async def test_edits_both_ways() -> None:
    edits = {
        "request": {
            "set": {"X-Client": "{client} {scheme} {method} {host}{uri}", "X-Id": "{request_id}"},
            "add": {"Accept": "text/extra"},
            "remove": ["X-Secret", "Cookie"],
        },
        "response": {
            "set": {"Strict-Transport-Security": "max-age=1", "X-By": "{backend} {status}"},
            "add": {"Set-Cookie": "own=1"},
            "remove": ["Server", "X-Powered-By"],
        },
    }
    backend = Backend(response(b"", "Server: x", "X-By: y", "Set-Cookie: a=1", status=201), name="web1")
    async with balancing(backend, edit_headers=edits) as running:
        asked = ["x-client: me", "X_Client: me", "x-SECRET: 1", "X_Secret: 2", "Cookie: c", "Accept: one", "X-Id: 0"]
        answer = await running.ask(request("/p?q", b"", *asked))
        seen = backend.messages[0]
        assert seen["x-client"] == b"127.0.0.1 http GET example.com/p?q"
        assert seen["x-id"] == seen["x-request-id"]
        assert seen.all("accept") == [b"one", b"text/extra"]
        assert not {b"x_client", b"x-secret", b"x_secret", b"cookie"} & {name for name, _ in seen.fields}
        assert answer["x-by"] == b"web1 201"
        assert answer.all("set-cookie") == [b"a=1", b"own=1"]
        assert answer["strict-transport-security"] == b"max-age=1"
        assert "server" not in answer


async def test_a_client_cannot_have_our_fields_removed() -> None:
    """What Connection names goes with the connection (RFC 9110 section 7.6.1): the client's own, not ours."""
    edits = {"request": {"set": {"X-Internal": "1", "X-Forwarded-User": "nobody"}}}
    async with balancing(backend := Backend(), edit_headers=edits) as running:
        naming = ["Connection: x-internal, x-forwarded-user, close", "X-Internal: 2", "X-Forwarded-User: admin"]
        assert (await running.ask(request("/", b"", *naming))).status == 200
        assert backend.messages[0]["x-internal"] == b"1"
        assert backend.messages[0]["x-forwarded-user"] == b"nobody"


async def test_answers_made_here_are_not_edited() -> None:
    edits = {"response": {"set": {"X-Edited": "1"}}}
    async with balancing(Backend(), edit_headers=edits, max_body="3B") as running:
        assert "x-edited" in await running.ask(request())
        assert "x-edited" not in await running.ask(request("/", b"four"))


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({}, "nothing is edited"),
        ({"request": {"set": {"Content-Length": "1"}}}, "message framing"),
        ({"response": {"remove": ["Transfer-Encoding"]}}, "message framing"),
        ({"response": {"add": {"Connection": "close"}}}, "message framing"),
        ({"request": {"set": {"Host": "x"}}}, "host_header: backend"),
        ({"request": {"add": {"X-Forwarded-For": "1.2.3.4"}}}, "written by lb itself"),
        ({"request": {"set": {"X-A": "a\r\nX-B: c"}}}, "control characters"),
        ({"request": {"set": {"X-A": "{host}\n"}}}, "control characters"),
        ({"request": {"set": {"X A": "a"}}}, "not a token"),
        ({"request": {"set": {"X-A": "{status}"}}}, "nothing is called {status}"),
        ({"response": {"set": {"X-A": "{backnd}"}}}, "did you mean {backend}?"),
    ],
)
def test_an_edit_that_cannot_be(edits: Any, said: str) -> None:
    assert said in refused(edit_headers=edits)


# basic_auth


async def test_a_password_is_asked_for() -> None:
    async with balancing(backend := Backend(), basic_auth={"users": HASHES, "realm": "Staging"}) as running:
        async with await running.client() as client:
            answer = await client.ask(request())
            assert answer.status == 401
            assert answer["www-authenticate"] == b'Basic realm="Staging", charset="UTF-8"'
            as_json = await client.ask(request("/", b"", "Accept: application/json"))
            assert (as_json.status, as_json["content-type"]) == (401, b"application/json")
            for _ in range(3):
                assert (await client.ask(request("/", b"body", basic("alice")))).status == 200
            assert (await client.ask(request("/", b"", basic("bøb", scheme="bAsIc")))).status == 200
            assert (await client.ask(request("/", b"", basic("alice", "alicf")))).status == 401
        assert len(backend.requests) == 4
        assert "authorization" not in backend.messages[0]


WRONG = [
    basic("alice", ""),
    basic("alice", "ALICE"),
    basic("Alice", "alice"),
    basic("nobody"),
    basic("", ""),
    basic("alice", "alice\0"),
    basic("alice", "alice" * 20),
    basic("alice", scheme="Bearer"),
    "Authorization: Basic",
    "Authorization: Basic !!!",
    "Authorization: Basic YWxpY2U=",
    "Authorization: Basic " + b64encode(b"\xff:\xff").decode(),
    "Authorization: \xe9",
    f"{basic('alice')}\r\n{basic('alice')}",
    f"{basic('nobody')}\r\n{basic('alice')}",
    f"Authorization: Digest x\r\n{basic('alice')}",
    f"X-Authorization: x\r\nAuthorization_: {basic('alice')[15:]}",
    f"Authorization: {basic('alice')[15:]}, {basic('alice')[15:]}",
]


@pytest.mark.parametrize("field", WRONG, ids=range(len(WRONG)))
async def test_nobody_gets_past_it(field: str) -> None:
    async with balancing(backend := Backend(), basic_auth={"users": HASHES}) as running:
        data = f"GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n".encode("latin-1")
        answer = await running.ask(data)
        assert answer.status == 401
        assert not backend.requests


async def test_every_request_of_a_connection_is_asked() -> None:
    async with balancing(backend := Backend(), basic_auth={"users": HASHES}) as running:
        async with await running.client() as client:
            await client.send(request("/1", b"", basic("alice")) + request("/2") + request("/3", b"", basic("alice")))
            assert [(await client.answer()).status for _ in range(3)] == [200, 401, 200]
        assert [message.target for message in backend.messages] == [b"/1", b"/3"]


async def test_the_backend_is_told_who_it_is() -> None:
    options = {"users": HASHES, "user_header": "X-User", "pass_authorization": True}
    async with balancing(backend := Backend(), basic_auth=options) as running:
        lying = ["X-User: admin", "x_user: admin", "X-USER: root", "Connection: x-user, keep-alive"]
        assert (await running.ask(request("/", b"", basic("bøb"), *lying))).status == 200
        seen = backend.messages[0]
        assert seen["x-user"] == "bøb".encode()
        assert "x_user" not in seen
        assert seen["authorization"].decode() == basic("bøb")[15:]


async def test_a_slow_hash_holds_nobody_up() -> None:
    slow = bcrypt.hashpw(b"slow", bcrypt.gensalt(11)).decode()
    async with balancing(Backend(), basic_auth={"users": {"slow": slow, **HASHES}}) as running:
        turns = 0

        async def watch() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.001)
                turns += bool(feature._checks)

        feature = dict(running.balancer.routes["*"].parts)["basic_auth"]
        watching = asyncio.create_task(watch())
        same = await asyncio.gather(*(running.ask(request("/", b"", basic("slow"))) for _ in range(8)))
        watching.cancel()
        assert {answer.status for answer in same} == {200}
        assert turns > 10, "the loop went on while a thread was busy"
        durations = []
        for _ in range(5):
            await running.ask(request("/", b"", basic("slow")))
            durations.append(running.last.duration)
        assert min(durations) < 0.02, "known credentials are not hashed again"


async def test_too_many_checks_are_refused_and_the_right_ones_pass() -> None:
    slow = bcrypt.hashpw(b"slow", bcrypt.gensalt(7)).decode()
    async with balancing(Backend(), basic_auth={"users": {"slow": slow}}) as running:
        answers = await asyncio.gather(
            *(running.ask(request("/", b"", basic("slow", f"guess {n}")), within=20) for n in range(120))
        )
        statuses = [answer.status for answer in answers]
        assert set(statuses) == {401, 503}
        assert next(each for each in answers if each.status == 503)["retry-after"] == b"2"
        assert (await running.ask(request("/", b"", basic("slow")))).status == 200


async def test_a_route_that_is_closed_checks_nothing_any_more() -> None:
    async with balancing(backend := Backend(), basic_auth={"users": HASHES}) as running:
        feature = dict(running.balancer.routes["*"].parts)["basic_auth"]
        assert feature.describe() == "2 users may pass"
        assert (await running.ask(request("/", b"", basic("alice")))).status == 200
        feature.close()
        assert (await running.ask(request("/", b"", basic("alice")))).status == 200, "that is known already"
        assert (await running.ask(request("/", b"", basic("bøb")))).status == 503
        assert len(backend.requests) == 2


async def test_a_client_that_leaves_during_a_check() -> None:
    slow = bcrypt.hashpw(b"slow", bcrypt.gensalt(10)).decode()
    async with balancing(backend := Backend(), basic_auth={"users": {"slow": slow}}) as running:
        async with await running.client() as leaving:
            await leaving.send(request("/", b"", basic("slow")))
            await until(lambda: running.in_flight())
            staying = asyncio.create_task(running.ask(request("/", b"", basic("slow"))))
            await asyncio.sleep(0.01)
            leaving.reset()
            assert (await staying).status == 200
        await running.settled()
        assert len(backend.requests) == 1


async def test_a_htpasswd_file_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "users"
    path.write_text(f"# people\n\nalice:{HASHES['alice']}\n")

    def write(text: str) -> None:
        new = path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, path)

    async with balancing(Backend(), basic_auth={"file": str(path)}) as running:
        feature = dict(running.balancer.routes["*"].parts)["basic_auth"]

        async def status(name: str) -> int:
            feature._file._next = 0.0  # as if a second had gone by
            return (await running.ask(request("/", b"", basic(name)))).status

        assert (await status("alice"), await status("bøb")) == (200, 401)
        write(f"bøb:{HASHES['bøb']}\n")
        assert (await status("alice"), await status("bøb")) == (401, 200)
        write("alice:plain\n")
        assert (await status("alice"), await status("bøb")) == (401, 200)
        assert f"{path}:1" in caplog.text
        assert "plain\n" not in caplog.text
        path.unlink()
        assert await status("bøb") == 200
        write(f"alice:{HASHES['alice']}\n")
        assert (await status("alice"), await status("bøb")) == (200, 401)


def test_users_that_cannot_be(tmp_path: Path) -> None:
    assert "plain text" in refused(basic_auth={"users": {"alice": "secret"}})
    assert "secret" not in refused(basic_auth={"users": {"alice": "secret"}})
    assert "python -m lb_filters.password" in refused(basic_auth={"users": {"alice": "secret"}})
    assert "Apache's MD5" in refused(basic_auth={"users": {"alice": "$apr1$x$y"}})
    assert "damaged" in refused(basic_auth={"users": {"alice": "$2y$10$short"}})
    assert "the cost 31" in refused(basic_auth={"users": {"alice": "$2y$31$" + "a" * 53}})
    assert "cannot be the name" in refused(basic_auth={"users": {"a:b": HASHES["alice"]}})
    assert "nobody may pass" in refused(basic_auth={})
    assert "cannot be read: No such file" in refused(basic_auth={"file": str(tmp_path / "none")})
    (tmp_path / "bad").write_text(f"alice:{HASHES['alice']}\nbob\n")
    assert f"{tmp_path / 'bad'}:2: a line is NAME:HASH" in refused(basic_auth={"file": str(tmp_path / "bad")})
    (tmp_path / "twice").write_text(f"alice:{HASHES['alice']}\n" * 2)
    assert "stands there twice" in refused(basic_auth={"file": str(tmp_path / "twice")})
    assert "realm" in refused(basic_auth={"users": HASHES, "realm": 'a"b'})
    assert "written by lb itself" in refused(basic_auth={"users": HASHES, "user_header": "X-Real-IP"})


# allow_clients


@pytest.mark.parametrize(
    ("listed", "status"),
    [
        (["127.0.0.0/8"], 200),
        (["10.0.0.0/8", "::1"], 403),
        ({"deny": ["127.0.0.1"]}, 403),
        ({"deny": ["10.0.0.0/8"]}, 200),
        ({"allow": ["127.0.0.0/8"], "deny": ["127.0.0.1"]}, 403),
    ],
)
async def test_addresses(listed: Any, status: int) -> None:
    async with balancing(backend := Backend(), allow_clients=listed) as running, await running.client() as client:
        lying = ["X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Forwarded: for=10.1.1.1"]
        for _ in range(2):
            assert (await client.ask(request("/", b"", *lying))).status == status
        assert len(backend.requests) == (2 if status == 200 else 0)


async def test_the_address_is_what_a_trusted_proxy_says() -> None:
    trusting = {"trusted_proxies": ["127.0.0.0/8"]}
    async with balancing(Backend(), top=trusting, allow_clients=["192.0.2.0/24"]) as running:
        for said, status in (
            ("192.0.2.7", 200),
            ("192.0.2.7, 198.51.100.1", 403),
            ("198.51.100.1, 192.0.2.7", 200),
            ("::ffff:192.0.2.7", 200),
            ("unknown", 403),
        ):
            answer = await running.ask(request("/", b"", f"X-Forwarded-For: {said}"))
            assert answer.status == status, said
        assert (await running.ask(request())).status == 403


def test_lists_that_cannot_be() -> None:
    assert "nobody is named" in refused(allow_clients={})
    assert "10.0.0.0/8" in refused(allow_clients=["10.0.0.1/8"])


# together


async def test_features_run_in_the_order_they_are_written_in() -> None:
    asked: list[str] = []

    class Watching:
        @hookimpl
        def before_request(self, exchange: Exchange) -> None:
            asked.append(exchange.rewritten)

    async with balancing(
        backend := Backend(),
        plugins=[Watching()],
        allow_clients=["127.0.0.0/8"],
        basic_auth={"users": HASHES, "user_header": "X-User"},
        rewrite="/app{path}",
        edit_headers={"request": {"set": {"X-User": "{client}"}}},
    ) as running:
        assert (await running.ask(request("/x"))).status == 401
        assert (await running.ask(request("/x", b"", basic("alice")))).status == 200
        assert backend.messages[0].target == b"/app/x"
        assert backend.messages[0]["x-user"] == b"127.0.0.1"
        assert asked == ["/app/x"], "who is refused gets no further"


async def test_passwords_outlast_a_reload() -> None:
    async with balancing(Backend(), basic_auth={"users": HASHES}) as running, await running.client() as client:
        assert (await client.ask(request("/", b"", basic("alice")))).status == 200
        found = running.balancer.config
        choice = found.routes[0].features[-1]
        changed = choice.settings.model_copy(update={"realm": "other"})
        features = (*found.routes[0].features[:-1], choice.model_copy(update={"settings": changed}))
        route = found.routes[0].model_copy(update={"features": features})
        running.balancer.apply(found.model_copy(update={"routes": (route,)}))
        assert b"other" in (await client.ask(request()))["www-authenticate"]
        assert (await client.ask(request("/", b"", basic("alice")))).status == 200


async def test_max_body() -> None:
    async with balancing(backend := Backend(), max_body="10B") as running:
        assert (await running.ask(request("/", b"x" * 10))).status == 200
        assert (await running.ask(request("/", b"x" * 11))).status == 413
        big = request("/", b"", "Transfer-Encoding: chunked", method="POST") + chunked(b"x" * 6, b"x" * 6)
        assert (await running.ask(big)).status == 413
        asked = request("/", b"", "Expect: 100-continue", "Content-Length: 11", method="PUT")
        assert (await running.ask(asked)).status == 413
        assert len([message for message in backend.messages if message.complete and message.body]) == 1


async def test_what_is_switched_off_is_not_there() -> None:
    async with balancing(Backend(), basic_auth=False, compression=False, allow_clients=False) as running:
        route = running.balancer.routes["*"]
        assert not {name for name, _ in route.parts} & {"basic_auth", "compression", "allow_clients"}
        assert route.before_request is None
        assert (await running.ask(request())).status == 200
