"""Sticky sessions over real sockets: who gets a cookie, whom it leads where, and when it leads there no longer."""

from __future__ import annotations

import asyncio
import hmac
import http.client
import logging
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lb_sessions
from lb_core.balancer import LoadBalancer
from lb_core.cli import status_of
from lb_core.config import config_from_tree, load_config
from lb_core.plugins import Plugins
from lb_sessions import CookieSessions, StickySettings
from tests.integration.lb_process import BackendProcess, backend, free_port, lb
from tests.support.backends import RESET, Backend, Request
from tests.support.balancing import Address, Running, balancing, tree, until
from tests.support.repository import ROOT
from tests.support.wire import Message, request, response

if TYPE_CHECKING:
    from lb_core import Backend as Chosen
    from lb_core import Exchange

SECRET = "a secret of the tests, long enough"
STICKY = {"secret": SECRET}
TOKEN = re.compile(rb"lb_sticky=[0-9a-f]{16}")
GET = request()


def three() -> list[Backend]:
    return [Backend(name=name) for name in "abc"]


def cookie_of(answer: Message) -> str:
    """The cookie as a browser returns it."""
    return answer["set-cookie"].partition(b";")[0].decode()


def with_cookie(cookie: str) -> bytes:
    return request("/", b"", f"Cookie: {cookie}")


async def clients(balancer: Running, count: int) -> dict[str, bytes]:
    """New clients: their cookies, and who served them; at the backends of a pool in turn."""
    found = [await balancer.ask(GET) for _ in range(count)]
    return {cookie_of(answer): answer.body for answer in found}


async def client_of(balancer: Running, name: str) -> str:
    """A client's cookie that leads to a backend."""
    for _ in range(20):
        answer = await balancer.ask(GET)
        if answer.body == name.encode():
            return cookie_of(answer)
    raise AssertionError(f"nobody was sent to {name}")


def reload(balancer: Running, backends: Any, **route: Any) -> None:
    found = balancer.balancer
    found.apply(config_from_tree(tree(backends, **route), found.plugins, source=""))


def the(balancer: Running, name: str, route: str = "*") -> Chosen:
    return balancer.balancer.routes[route].pool.find(name)


# the cookie


async def test_a_new_client_gets_a_cookie_with_these_attributes() -> None:
    async with balancing(*three(), sticky_sessions=STICKY) as balancer:
        answer = await balancer.ask(GET)
        assert re.fullmatch(rb"lb_sticky=[0-9a-f]{16}; Path=/; HttpOnly; SameSite=Lax", answer["set-cookie"]), answer[
            "set-cookie"
        ]


async def test_its_next_requests_go_to_the_same_backend_and_set_no_cookie() -> None:
    async with balancing(*three(), sticky_sessions=STICKY) as balancer:
        for cookie, body in (await clients(balancer, 3)).items():
            async with await balancer.client() as client:
                answers = [await client.ask(with_cookie(cookie)) for _ in range(10)]
            assert {answer.body for answer in answers} == {body}
            assert not any("set-cookie" in answer for answer in answers)


async def test_clients_without_a_cookie_are_spread_by_the_strategy() -> None:
    async with balancing(*three(), sticky_sessions=STICKY) as balancer:
        assert Counter([(await balancer.ask(GET)).body for _ in range(9)]) == {b"a": 3, b"b": 3, b"c": 3}


async def test_the_value_is_the_hmac_of_the_backends_id() -> None:
    async with balancing(*three(), sticky_sessions=STICKY) as balancer:
        for cookie, body in (await clients(balancer, 3)).items():
            name = the(balancer, body.decode()).id
            assert name == f"*/{body.decode()}"
            assert cookie == f"lb_sticky={hmac.digest(SECRET.encode(), name.encode(), 'sha256').hex()[:16]}"


async def test_a_ttl_is_the_cookies_max_age() -> None:
    async with balancing(*three(), sticky_sessions={**STICKY, "ttl": "1h"}) as balancer:
        assert b"; Max-Age=3600;" in (await balancer.ask(GET))["set-cookie"]


async def test_name_domain_path_and_same_site_as_configured() -> None:
    options = {**STICKY, "cookie": "where", "domain": "example.com", "path": "/app", "same_site": "strict"}
    async with balancing(*three(), sticky_sessions=options) as balancer:
        answer = await balancer.ask(GET)
        wanted = rb"where=[0-9a-f]{16}; Path=/app; Domain=example\.com; HttpOnly; SameSite=Strict"
        assert re.fullmatch(wanted, answer["set-cookie"])
        answers = [await balancer.ask(with_cookie(cookie_of(answer))) for _ in range(3)]
        assert [each.body for each in answers] == [answer.body] * 3


@pytest.mark.parametrize(
    ("secure", "fields", "trusted", "expected"),
    [
        ("auto", (), ["127.0.0.1"], False),
        ("auto", ("X-Forwarded-Proto: https",), ["127.0.0.1"], True),
        ("auto", ("X-Forwarded-Proto: http",), ["127.0.0.1"], False),
        ("auto", ("X-Forwarded-Proto: https",), [], False),
        ("always", (), [], True),
        ("never", ("X-Forwarded-Proto: https",), ["127.0.0.1"], False),
    ],
)
async def test_secure_on_tls(secure: str, fields: tuple[str, ...], trusted: list[str], expected: bool) -> None:
    options = {**STICKY, "secure": secure}
    async with balancing(*three(), sticky_sessions=options, top={"trusted_proxies": trusted}) as balancer:
        answer = await balancer.ask(request("/", b"", *fields))
        assert answer["set-cookie"].endswith(b"; Secure") is expected


async def test_the_cookie_of_the_application_stays_beside_it() -> None:
    a = Backend(response(b"a", "Set-Cookie: PHPSESSID=1; Path=/", "Set-Cookie: theme=dark"))
    async with balancing(a, sticky_sessions=STICKY) as balancer:
        own, theme, ours = (await balancer.ask(GET)).all("set-cookie")
        assert (own, theme) == (b"PHPSESSID=1; Path=/", b"theme=dark")
        assert TOKEN.match(ours)


@pytest.mark.parametrize("status", [204, 304, 404, 500])
async def test_whatever_the_backend_answers_the_client_is_its_own(status: int) -> None:
    empty = b"HTTP/1.1 %d Said\r\nX-Kept: 1\r\n\r\n" % status
    async with balancing(
        *(Backend(empty if status < 400 else response(b"x", status=status), name=name) for name in "ab"),
        sticky_sessions=STICKY,
    ) as balancer:
        for _ in range(2):
            cookie = cookie_of(await balancer.ask(GET))
            before = balancer.last.backend
            for _ in range(3):
                assert "set-cookie" not in await balancer.ask(with_cookie(cookie))
                assert balancer.last.backend is before


async def test_an_answer_that_is_no_backends_sets_no_cookie() -> None:
    async with balancing(*three(), sticky_sessions=STICKY, respond=418) as balancer:
        assert "set-cookie" not in await balancer.ask(GET)


async def test_a_websocket_gets_its_cookie_with_the_101() -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    asking = request(
        "/", b"", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"
    )
    async with balancing(*(Backend(switched) for _ in range(2)), sticky_sessions=STICKY) as balancer:
        async with await balancer.client() as client:
            answer = await client.ask(asking)
            assert answer.status == 101
            cookie = cookie_of(answer)
        await until(lambda: balancer.completed)
        first = balancer.last.backend
        for _ in range(2):
            async with await balancer.client() as client:
                answer = await client.ask(asking.replace(b"\r\n\r\n", f"\r\nCookie: {cookie}\r\n\r\n".encode()))
                assert "set-cookie" not in answer
        await until(lambda: len(balancer.completed) == 3)
        assert {each.backend for each in balancer.completed} == {first}


async def test_two_requests_at_once() -> None:
    """Both of a new client may get a cookie; it keeps the last, and stays there."""
    async with balancing(*three(), sticky_sessions=STICKY) as balancer:
        first, second = await asyncio.gather(balancer.ask(GET), balancer.ask(GET))
        assert cookie_of(first) != cookie_of(second)
        answers = await asyncio.gather(*(balancer.ask(with_cookie(cookie_of(second))) for _ in range(20)))
        assert {answer.body for answer in answers} == {second.body}
        async with await balancer.client() as client:
            await client.send(with_cookie(cookie_of(first)) + with_cookie(cookie_of(second)) + GET)
            one, two, three_ = [await client.answer() for _ in range(3)]
        assert (one.body, two.body) == (first.body, second.body)
        assert ["set-cookie" in each for each in (one, two, three_)] == [False, False, True]


# what nobody gets by with


async def test_tampering_never_chooses() -> None:
    async with balancing(*three(), sticky_sessions=STICKY) as balancer:
        known = await clients(balancer, 3)
        cookies = list(known)
        token = cookies[0].partition("=")[2]
        tampered = [
            "lb_sticky=",
            "lb_sticky=0123456789abcdef",
            f"lb_sticky={token[:-1]}",
            f"lb_sticky={token}0",
            f"lb_sticky={token} ; a=b",
            f'lb_sticky="{token}"',
            f"lb_sticky= {token}",
            f"LB_STICKY={token}",
            f"xlb_sticky={token}",
            f"a=b;lb_sticky={token}",
            f"a=b, lb_sticky={token}",
            f"a=lb_sticky={token}",
            f"{cookies[0]}; {cookies[1]}",
            f"{cookies[0]}; a=b; {cookies[0]}",
            "lb_sticky=" + "0" * 8000,
            f"{cookies[0]}; lb_sticky={'f' * 4000}",
            f"lb_sticky={the(balancer, 'a').id}",
            f"lb_sticky={the(balancer, 'a').address}",
            "lb_sticky=../../etc/passwd",
            "lb_sticky=\xff\xfe",
        ]
        for cookie in tampered:
            raw = f"GET / HTTP/1.1\r\nHost: example.com\r\nCookie: {cookie}\r\n\r\n".encode("latin-1")
            answers = [await balancer.ask(raw) for _ in range(3)]
            assert {answer.body for answer in answers} == {b"a", b"b", b"c"}, cookie
            assert all(TOKEN.match(answer["set-cookie"]) for answer in answers), cookie
        for field in (f"X-Cookie: {cookies[0]}", f"X: ; {cookies[0]}; ", f"Referer: http://x/?{cookies[0]}"):
            assert len({(await balancer.ask(request("/", b"", field))).body for _ in range(3)}) == 3
        in_target = request(f"/?{cookies[0]}")
        assert len({(await balancer.ask(in_target)).body for _ in range(3)}) == 3


async def test_a_cookie_is_found_among_others_and_in_any_spelling_of_its_field() -> None:
    async with balancing(*three(), sticky_sessions=STICKY) as balancer:
        for cookie, body in (await clients(balancer, 3)).items():
            for lines in (
                f"Cookie: a=b; {cookie}; c=d",
                f"cookie: {cookie}; c=d",
                f"COOKIE:{cookie}",
                f"Cookie: \t {cookie} \t",
                f"Cookie: a=b\r\nX: y\r\nCookie: {cookie}",
                f"X-Other: lb_sticky=1\r\nCookie: a=lb_sticky=2; {cookie}",
                f"Cookie: {'x' * 6000}; {cookie}",
            ):
                answer = await balancer.ask(request("/", b"", lines))
                assert (answer.body, "set-cookie" in answer) == (body, False), lines


async def test_another_secret_makes_other_cookies() -> None:
    backends = three()
    async with balancing(*backends, sticky_sessions=STICKY) as balancer:
        known = await clients(balancer, 3)
        reload(balancer, backends, sticky_sessions={"secret": "another secret of the tests"})
        moved = [await balancer.ask(with_cookie(next(iter(known)))) for _ in range(3)]
        assert len({answer.body for answer in moved}) == 3
        assert not {cookie_of(answer) for answer in moved} & set(known)


async def test_no_address_in_anything_a_client_sees() -> None:
    async with balancing(*three(), sticky_sessions=STICKY) as balancer:
        pool = balancer.balancer.routes["*"].pool
        seen = [await balancer.ask(GET) for _ in range(6)]
        pool.set_health(the(balancer, "a"), "down", "gone")
        seen += [await balancer.ask(with_cookie(cookie_of(answer))) for answer in seen]
        raw = b"".join(bytes(answer.raw) for answer in seen)
        for each in pool.backends:
            for secret in (each.address, str(each.port), each.id, each.host, SECRET):
                assert secret.encode() not in raw


# when its backend cannot serve


async def test_the_clients_of_a_dead_backend_move_and_stay_where_they_moved() -> None:
    backends = three()
    async with balancing(*backends, sticky_sessions=STICKY) as balancer:
        known = await clients(balancer, 3)
        mine = next(cookie for cookie, body in known.items() if body == b"a")
        await backends[0].stop()
        answer = await balancer.ask(with_cookie(mine))
        assert answer.status == 200
        assert answer.body != b"a"
        assert cookie_of(answer) != mine
        assert {"retried", "repicked"} <= set(balancer.last.flags)
        again = [await balancer.ask(with_cookie(cookie_of(answer))) for _ in range(5)]
        assert {each.body for each in again} == {answer.body}
        assert not any("set-cookie" in each for each in again)
        others = [(await balancer.ask(with_cookie(cookie))).body for cookie in known if cookie != mine]
        assert others == [body for cookie, body in known.items() if cookie != mine]


async def test_the_kill_of_a_backend_process() -> None:
    loop = asyncio.get_running_loop()
    killed = await loop.run_in_executor(None, BackendProcess, "killed")
    try:
        async with balancing(killed.address, Backend(name="stays"), sticky_sessions=STICKY) as balancer:
            found = [await balancer.ask(GET) for _ in range(2)]
            mine = next(cookie_of(each) for each in found if each.body != b"stays")
            os.kill(killed.process.pid, signal.SIGKILL)
            await loop.run_in_executor(None, killed.process.wait)
            answer = await balancer.ask(with_cookie(mine))
            assert (answer.status, answer.body) == (200, b"stays")
            assert "set-cookie" not in await balancer.ask(with_cookie(cookie_of(answer)))
    finally:
        killed.close()


@pytest.mark.parametrize("how", ["down", "ejected", "maintenance"])
async def test_down_ejected_or_in_maintenance_its_clients_are_repicked(how: str) -> None:
    async with balancing(*three(), sticky_sessions=STICKY) as balancer:
        pool = balancer.balancer.routes["*"].pool
        mine = await client_of(balancer, "a")
        if how == "down":
            pool.set_health(the(balancer, "a"), "down")
        elif how == "ejected":
            pool.eject(the(balancer, "a"), "it failed")
        else:
            pool.set_mode(the(balancer, "a"), "maintenance")
        answer = await balancer.ask(with_cookie(mine))
        assert answer.body in (b"b", b"c")
        assert TOKEN.match(answer["set-cookie"])
        assert balancer.last.flags == ("repicked",)
        (record,) = balancer.balancer.engine.decisions.find(balancer.last.request_id)
        assert f"its client is a's, which is {how}" in record["why"]


async def test_where_everybody_is_ejected_clients_stay() -> None:
    async with balancing(*three(), sticky_sessions=STICKY) as balancer:
        pool = balancer.balancer.routes["*"].pool
        known = await clients(balancer, 3)
        for each in pool.backends:
            pool.eject(each, "it failed")
        assert {cookie: (await balancer.ask(with_cookie(cookie))).body for cookie in known} == known


async def test_a_draining_backend_serves_its_clients_until_the_deadline() -> None:
    async with balancing(*three(), sticky_sessions=STICKY) as balancer:
        pool = balancer.balancer.routes["*"].pool
        mine = await client_of(balancer, "a")
        pool.set_mode(the(balancer, "a"), "draining")
        assert the(balancer, "a").drains_until - pool.clock() > 29
        for _ in range(6):
            answer = await balancer.ask(with_cookie(mine))
            assert (answer.body, "set-cookie" in answer) == (b"a", False)
            assert (await balancer.ask(GET)).body != b"a"
        pool.set_mode(the(balancer, "a"), "active")
        pool.set_mode(the(balancer, "a"), "draining", seconds=0.05)
        await asyncio.sleep(0.06)
        answer = await balancer.ask(with_cookie(mine))
        assert answer.body in (b"b", b"c")
        assert cookie_of(answer) != mine
        pool.set_mode(the(balancer, "a"), "active")
        assert (await balancer.ask(with_cookie(mine))).body == b"a"


async def test_a_draining_backend_that_dies_serves_nobody() -> None:
    backends = three()
    async with balancing(*backends, sticky_sessions=STICKY) as balancer:
        pool = balancer.balancer.routes["*"].pool
        mine = await client_of(balancer, "a")
        pool.set_mode(the(balancer, "a"), "draining")
        await backends[0].stop()
        answer = await balancer.ask(with_cookie(mine))
        assert (answer.status, answer.body != b"a", cookie_of(answer) != mine) == (200, True, True)


@pytest.mark.parametrize("sticky", [STICKY, "header:X-User"], ids=["cookie", "header"])
async def test_where_everybody_drains_each_serves_its_own_clients(sticky: Any) -> None:
    async with balancing(*three(), sticky_sessions=sticky) as balancer:
        pool = balancer.balancer.routes["*"].pool
        by_cookie = sticky is STICKY
        asking = [with_cookie(await client_of(balancer, "a"))] if by_cookie else [user(str(n)) for n in range(12)]
        before = [(await balancer.ask(each)).body for each in asking]
        for each in pool.backends:
            pool.set_mode(each, "draining")
        answers = [await balancer.ask(each) for each in asking]
        assert [answer.body for answer in answers] == before
        assert not any("set-cookie" in answer for answer in answers)
        assert (await balancer.ask(GET)).status == 503
        assert (await balancer.ask(with_cookie("lb_sticky=0123456789abcdef"))).status == 503
        for each in pool.backends:
            each.drains_until = pool.clock()
        assert (await balancer.ask(asking[0])).status == 503


async def test_the_only_backend_drains_and_dies() -> None:
    async with Backend(name="a") as a, balancing(a, sticky_sessions=STICKY) as balancer:
        mine = await client_of(balancer, "a")
        balancer.balancer.routes["*"].pool.set_mode(the(balancer, "a"), "draining")
        assert (await balancer.ask(with_cookie(mine))).body == b"a"
        await a.stop()
        assert (await balancer.ask(with_cookie(mine))).status == 503


async def test_a_plugin_that_fails_to_say_whom_it_keeps_is_answered_with_500() -> None:
    def fails(exchange: Exchange) -> None:
        raise RuntimeError(exchange.path)

    async with balancing(Backend(name="a"), sticky_sessions=STICKY) as balancer:
        route = balancer.balancer.routes["*"]
        route.keeps = fails
        assert (await balancer.ask(GET)).status == 200
        route.pool.set_mode(the(balancer, "a"), "draining")
        assert (await balancer.ask(GET)).status == 500
        assert balancer.last.flags == ("plugin_error",)


async def test_weight_0_in_a_reload_drains_it_too() -> None:
    a, b = Backend(name="a"), Backend(name="b")
    async with balancing(a, b, sticky_sessions=STICKY) as balancer:
        mine = await client_of(balancer, "a")
        reload(balancer, {"a": {"url": a.address, "weight": 0}, "b": b}, sticky_sessions=STICKY)
        assert [(await balancer.ask(GET)).body for _ in range(4)] == [b"b"] * 4
        answers = [await balancer.ask(with_cookie(mine)) for _ in range(4)]
        assert [answer.body for answer in answers] == [b"a"] * 4
        assert not any("set-cookie" in answer for answer in answers)
        the(balancer, "a").drains_until = balancer.balancer.routes["*"].pool.clock()
        assert (await balancer.ask(with_cookie(mine))).body == b"b"


def held(name: str, gate: asyncio.Event) -> Backend:
    """A backend whose answers to `/held` wait."""

    async def serve(seen: Request) -> None:
        if seen.message.target == b"/held":
            await gate.wait()
        seen.write(response(name.encode()))

    return Backend(serve, name=name)


async def test_a_full_backends_client_is_repicked() -> None:
    gate = asyncio.Event()
    async with held("a", gate) as a, held("b", gate) as b:
        backends: dict[str, Address] = {each.name: {"url": each.address, "max_connections": 1} for each in (a, b)}
        async with balancing(config=tree(backends, sticky_sessions=STICKY)) as balancer:
            mine = await client_of(balancer, "a")
            holding = asyncio.create_task(balancer.ask(request("/held", b"", f"Cookie: {mine}")))
            await until(lambda: the(balancer, "a").in_flight)
            answer = await balancer.ask(with_cookie(mine))
            assert answer.body == b"b"
            assert cookie_of(answer) != mine
            assert balancer.last.flags == ("repicked",)
            (record,) = balancer.balancer.engine.decisions.find(balancer.last.request_id)
            assert "its client is a's, which is full (1 of 1)" in record["why"]
            gate.set()
            assert (await holding).body == b"a"
            assert (await balancer.ask(with_cookie(mine))).body == b"a"


async def test_where_everybody_is_full_a_client_waits_and_may_stay() -> None:
    gates = {name: asyncio.Event() for name in "ab"}
    async with held("a", gates["a"]) as a, held("b", gates["b"]) as b:
        backends: dict[str, Address] = {each.name: {"url": each.address, "max_connections": 1} for each in (a, b)}
        async with balancing(config=tree(backends, sticky_sessions=STICKY)) as balancer:
            cookies = {name: await client_of(balancer, name) for name in "ab"}
            holding = [
                asyncio.create_task(balancer.ask(request("/held", b"", f"Cookie: {cookie}")))
                for cookie in cookies.values()
            ]
            await until(lambda: the(balancer, "a").in_flight and the(balancer, "b").in_flight)
            waiting = asyncio.create_task(balancer.ask(with_cookie(cookies["a"])))
            await until(lambda: balancer.balancer.routes["*"].queued)
            gates["a"].set()
            answer = await waiting
            assert (answer.body, "set-cookie" in answer) == (b"a", False)
            gates["b"].set()
            await asyncio.gather(*holding)


async def test_a_kept_connection_that_had_died_costs_no_session() -> None:
    """The backend closed it just as the request went out: it is asked once more, over a new one."""
    asked = Counter[str]()

    def once(name: str) -> Backend:
        def serve(seen: Request) -> Any:
            asked[name] += 1
            if seen.message.target == b"/dies" and seen.connection.received.count(b"\r\n\r\n") > 1:
                return [RESET]
            return response(name.encode())

        return Backend(serve, name=name)

    async with balancing(once("a"), once("b"), sticky_sessions=STICKY) as balancer:
        mine = await client_of(balancer, "a")
        await balancer.ask(with_cookie(mine))
        answer = await balancer.ask(request("/dies", b"", f"Cookie: {mine}"))
        assert (answer.status, answer.body, "set-cookie" in answer) == (200, b"a", False)
        assert "retried" in balancer.last.flags
        assert "repicked" not in balancer.last.flags


async def test_a_client_that_gets_no_answer_leaves_nothing_behind() -> None:
    async with balancing(Backend([RESET]), sticky_sessions=STICKY, retry={"attempts": 0}) as balancer:
        assert (await balancer.ask(GET)).status == 502
        part = dict(balancer.balancer.routes["*"].parts)["sticky_sessions"]
        assert isinstance(part, CookieSessions)
        assert not part._decided


# reloads and restarts


async def test_twenty_reloads_keep_every_client() -> None:
    backends = [Backend(name=name) for name in "abcd"]
    async with backends[3], balancing(*backends[:3], sticky_sessions=STICKY) as balancer:
        known = await clients(balancer, 3)
        async with await balancer.client() as client:
            for number in range(20):
                weights = {
                    each.name: {"url": each.address, "weight": 1 + (number + place) % 7}
                    for place, each in enumerate(backends[: 3 + number % 2])
                }
                timeouts = {"idle": f"{30 + number}s"}  # the route itself is rebuilt
                reload(balancer, weights, sticky_sessions=STICKY, timeouts=timeouts)
                for cookie, body in known.items():
                    answer = await client.ask(with_cookie(cookie))
                    assert (answer.body, "set-cookie" in answer) == (body, False)


async def test_backends_that_change_their_order_or_their_address_keep_their_clients() -> None:
    a, b, c = three()
    async with balancing(a, b, c, sticky_sessions=STICKY) as balancer:
        known = await clients(balancer, 3)
        async with Backend(name="a") as moved:
            reload(balancer, {"c": c, "a": moved, "b": b}, sticky_sessions=STICKY)
            assert {cookie: (await balancer.ask(with_cookie(cookie))).body for cookie in known} == known
            assert moved.requests


async def test_a_reload_goes_on_with_a_secret_whose_file_is_gone(tmp_path: Path) -> None:
    backends = three()
    sticky = {"secret_file": str(tmp_path / "sticky.key")}
    async with balancing(*backends, sticky_sessions=sticky) as balancer:
        known = await clients(balancer, 3)
        (tmp_path / "sticky.key").unlink()
        reload(balancer, backends, sticky_sessions=sticky, timeouts={"idle": "30s"})
        assert {cookie: (await balancer.ask(with_cookie(cookie))).body for cookie in known} == known


async def test_a_route_that_a_reload_adds_keeps_its_secret_too(tmp_path: Path) -> None:
    backends = three()
    file = tmp_path / "new" / "sticky.key"
    async with balancing(*backends) as balancer:
        assert "set-cookie" not in await balancer.ask(GET)
        reload(balancer, backends, sticky_sessions={"secret_file": str(file)})
        known = await clients(balancer, 3)
        assert len(file.read_bytes()) == 32
        assert {cookie: (await balancer.ask(with_cookie(cookie))).body for cookie in known} == known


CONFIG = """\
listeners: {{web: {{address: "127.0.0.1:{port}"}}}}
access_log: {{format: "off"}}
routes:
  "*":
    backends: {{a: "{a}", b: "{b}", c: "{c}"}}
    sticky_sessions: {sticky}
"""


def test_a_restart_keeps_every_client(tmp_path: Path) -> None:
    def ask(port: int, cookie: str = "") -> tuple[str | None, str | None]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/", headers={"Cookie": cookie} if cookie else {})
            answer = connection.getresponse()
            answer.read()
            return answer.headers["X-Backend"], answer.headers["Set-Cookie"]
        finally:
            connection.close()

    port = free_port()
    with backend("a") as a, backend("b") as b, backend("c") as c:
        text = CONFIG.format(port=port, a=a.address, b=b.address, c=c.address, sticky="true")
        (tmp_path / "lb.yaml").write_text(text)
        known: dict[str, str | None] = {}
        file = tmp_path / "data" / "sticky.key"
        for _ in range(2):
            with lb("run", "-c", "lb.yaml", cwd=tmp_path) as run:
                run.wait_for("twice quits")
                assert file.stat().st_mode & 0o777 == 0o600
                if not known:
                    for _ in range(3):
                        name, cookie = ask(port)
                        assert cookie is not None
                        known[cookie.partition(";")[0]] = name
                    assert set(known.values()) == {"a", "b", "c"}
                for cookie, name in known.items():
                    assert ask(port, cookie) == (name, None)
                run.signal(signal.SIGTERM)
                assert run.wait() == 0
                assert "WARNING" not in run.errors
        assert os.listdir(tmp_path / "data") == ["sticky.key"]


def test_check_and_explain_make_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = CONFIG.format(port=free_port(), a="127.0.0.1:1", b="127.0.0.1:2", c="127.0.0.1:3", sticky="true")
    (tmp_path / "lb.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    cookie = "Cookie: lb_sticky=0123456789abcdef"
    assert status_of(["check", "lb.yaml"]) == 0
    assert status_of(["explain", "GET", "http://x/", "-c", "lb.yaml"]) == 0
    assert status_of(["explain", "GET", "http://x/", "-c", "lb.yaml", "-H", cookie]) == 0
    assert os.listdir(tmp_path) == ["lb.yaml"]


async def test_explain_knows_the_clients_of_the_running_balancer(tmp_path: Path) -> None:
    backends = three()
    sticky = {"secret_file": str(tmp_path / "sticky.key")}
    async with balancing(*backends, sticky_sessions=sticky) as balancer:
        known = await clients(balancer, 3)
        another = LoadBalancer(config_from_tree(tree(backends, sticky_sessions=sticky), balancer.balancer.plugins))
        found = {cookie: another.explain("GET", "http://x/", headers={"Cookie": cookie}).choice for cookie in known}
        assert found == {cookie: body.decode() for cookie, body in known.items()}


async def test_a_secret_that_cannot_be_kept_is_told_with_its_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / "sticky.key"
    backends = three()
    sticky = {"secret_file": str(path)}
    with caplog.at_level(logging.WARNING, logger="lb.sessions"):
        async with balancing(*backends, sticky_sessions=sticky) as balancer:
            (record,) = caplog.records
            assert record.getMessage().startswith(f"{path} cannot keep the secret of sticky cookies: Not a directory")
            assert "will not survive a restart" in record.getMessage()
            known = await clients(balancer, 3)
            reload(balancer, backends, sticky_sessions=sticky, timeouts={"idle": "30s"})
            assert {cookie: (await balancer.ask(with_cookie(cookie))).body for cookie in known} == known
    assert len(caplog.records) == 1


def test_a_secret_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lb.yaml").write_text(
        'routes: {"*": {backends: [127.0.0.1:1], sticky_sessions: {secret: "${LB_STICKY_SECRET}"}}}'
    )
    config = load_config(tmp_path / "lb.yaml", Plugins.discover(), {"LB_STICKY_SECRET": SECRET})
    (choice,) = [each for each in config.routes[0].features if each.name == "sticky_sessions"]
    assert isinstance(choice.settings, StickySettings)
    assert choice.settings.secret.get_secret_value() == SECRET
    assert SECRET not in repr(config)


# other features


async def test_a_split_that_is_sticky_keeps_pool_and_backend() -> None:
    async with Backend(name="a") as a, Backend(name="b") as b, Backend(name="c") as c, Backend(name="d") as d:
        split = {"pools": [{"use": "self", "weight": 1}, {"use": "canary", "weight": 1, "sticky": True}]}
        config = tree([a, b], split=split, sticky_sessions=STICKY)
        config["pools"] = {"canary": {"backends": {"c": c.address, "d": d.address}}}
        async with balancing(config=config) as balancer:
            seen: set[bytes] = set()
            for _ in range(8):
                answer = await balancer.ask(GET)
                cookies = "; ".join(each.partition(b";")[0].decode() for each in answer.all("set-cookie"))
                assert len(answer.all("set-cookie")) == 2
                for _ in range(3):
                    again = await balancer.ask(with_cookie(cookies))
                    assert (again.body, "set-cookie" in again) == (answer.body, False)
                seen.add(answer.body)
            assert seen == {b"a", b"b", b"c", b"d"}


async def test_a_cookie_of_another_pool_of_the_route_does_not_lead_there() -> None:
    async with Backend(name="a") as a, Backend(name="c") as c:
        split = [{"use": "self", "weight": 1}, {"use": "canary", "weight": 0, "header": {"X-Beta": "1"}}]
        config = tree([a], split=split, sticky_sessions=STICKY)
        config["pools"] = {"canary": {"backends": {"c": c.address}}}
        async with balancing(config=config) as balancer:
            mine = await client_of(balancer, "a")
            answer = await balancer.ask(request("/", b"", "X-Beta: 1", f"Cookie: {mine}"))
            assert (answer.body, cookie_of(answer) != mine) == (b"c", True)
            answer = await balancer.ask(with_cookie(cookie_of(answer)))
            assert (answer.body, cookie_of(answer)) == (b"a", mine)


async def test_it_comes_before_the_strategy() -> None:
    names = [Backend(name=name) for name in "abc"]
    async with balancing(*names, strategy="first", sticky_sessions=STICKY) as balancer:
        pool = balancer.balancer.routes["*"].pool
        pool.set_health(the(balancer, "a"), "down")
        mine = await client_of(balancer, "b")
        pool.set_health(the(balancer, "a"), "up")
        assert (await balancer.ask(GET)).body == b"a"
        exchange = request("/", b"", "X-Request-Id: sticky-1", f"Cookie: {mine}")
        assert (await balancer.ask(exchange)).body == b"b"
        (record,) = balancer.balancer.engine.decisions.find("sticky-1")
        assert (record["who"], record["choice"]) == ("sticky_sessions", "b")
        assert record["why"] == "the client's own, by the cookie lb_sticky"


async def test_clients_of_a_backup_stay_with_it() -> None:
    async with Backend(name="a") as a, Backend(name="b") as b:
        backends: dict[str, Address] = {"a": a, "b": {"url": b.address, "backup": True}}
        async with balancing(config=tree(backends, sticky_sessions=STICKY)) as balancer:
            pool = balancer.balancer.routes["*"].pool
            pool.set_health(the(balancer, "a"), "down")
            mine = await client_of(balancer, "b")
            pool.set_health(the(balancer, "a"), "up")
            assert (await balancer.ask(GET)).body == b"a"
            assert (await balancer.ask(with_cookie(mine))).body == b"b"


# by a header

BY_USER = "header:X-User"


def user(name: str) -> bytes:
    return request("/", b"", f"x-user: {name}")


async def homes(balancer: Running, count: int = 60) -> dict[str, bytes]:
    """Where users are served."""
    names = [f"user{number}" for number in range(count)]
    async with await balancer.client() as client:
        answers = {name: await client.ask(user(name)) for name in names}
    assert not any("set-cookie" in answer for answer in answers.values())
    return {name: answer.body for name, answer in answers.items()}


async def test_by_header_requests_with_the_same_value_go_to_the_same_backend() -> None:
    async with balancing(*three(), sticky_sessions=BY_USER) as balancer:
        found = await homes(balancer)
        assert set(found.values()) == {b"a", b"b", b"c"}
        assert await homes(balancer) == found
        assert {(await balancer.ask(GET)).body for _ in range(3)} == {b"a", b"b", b"c"}  # without the header
        assert {(await balancer.ask(user(""))).body for _ in range(3)} == {b"a", b"b", b"c"}


async def test_by_header_a_restart_and_reloads_change_nothing() -> None:
    backends = three()
    async with backends[0], backends[1], backends[2]:
        async with balancing(*backends, sticky_sessions=BY_USER) as balancer:
            found = await homes(balancer)
            for number in range(20):
                order = backends[number % 3 :] + backends[: number % 3]
                reload(balancer, order, sticky_sessions=BY_USER, timeouts={"idle": f"{30 + number}s"})
            assert await homes(balancer) == found
        async with balancing(*backends, sticky_sessions=BY_USER) as balancer:
            assert await homes(balancer) == found


async def test_by_header_only_the_users_of_a_dead_backend_move_and_they_return() -> None:
    backends = three()
    async with balancing(*backends, sticky_sessions=BY_USER) as balancer:
        pool = balancer.balancer.routes["*"].pool
        found = await homes(balancer)
        await backends[0].stop()  # each request is tried there, until it is ejected
        moved = await homes(balancer)
        assert set(moved.values()) == {b"b", b"c"}
        assert {name: body for name, body in moved.items() if found[name] != b"a"} == {
            name: body for name, body in found.items() if body != b"a"
        }
        assert "backend_ejected" in balancer.events
        assert await homes(balancer) == moved
        await backends[0].start()
        pool.restore(the(balancer, "a"))
        assert await homes(balancer) == found


async def test_by_header_a_draining_backend_keeps_its_users_until_the_deadline() -> None:
    async with balancing(*three(), sticky_sessions=BY_USER) as balancer:
        pool = balancer.balancer.routes["*"].pool
        found = await homes(balancer)
        pool.set_mode(the(balancer, "a"), "draining", seconds=30)
        assert await homes(balancer) == found
        assert {(await balancer.ask(GET)).body for _ in range(4)} == {b"b", b"c"}
        the(balancer, "a").drains_until = pool.clock()
        assert set((await homes(balancer)).values()) == {b"b", b"c"}


async def test_by_header_a_full_backends_user_goes_to_the_next() -> None:
    gate = asyncio.Event()
    async with held("a", gate) as a, held("b", gate) as b:
        backends: dict[str, Address] = {each.name: {"url": each.address, "max_connections": 1} for each in (a, b)}
        async with balancing(config=tree(backends, sticky_sessions=BY_USER)) as balancer:
            found = await homes(balancer, 20)
            mine = next(name for name, body in found.items() if body == b"a")
            holding = asyncio.create_task(balancer.ask(request("/held", b"", f"X-User: {mine}")))
            await until(lambda: the(balancer, "a").in_flight)
            assert (await balancer.ask(user(mine))).body == b"b"
            assert balancer.last.flags == ("repicked",)
            gate.set()
            await holding
            assert (await balancer.ask(user(mine))).body == b"a"


# what is said about it


async def test_routes_of_a_host_that_take_each_others_cookie_are_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tree(["127.0.0.1:1"], sticky_sessions=STICKY)
    config["routes"]["*"]["match"] = [
        {"path_prefix": "/shared"},
        {"path_prefix": "/own", "backends": ["127.0.0.1:2"]},
        {"path_prefix": "/named", "backends": ["127.0.0.1:3"], "sticky_sessions": {"cookie": "another"}},
    ]
    with caplog.at_level(logging.WARNING, logger="lb.sessions"):
        async with balancing(config=config):
            (record,) = caplog.records
    assert "the routes '*' and '* /own' have different backends and the same cookie lb_sticky" in record.getMessage()


async def test_a_name_that_looks_like_an_applications_session_is_warned_about_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lb_sessions._warn_of_name.cache_clear()
    sticky = {**STICKY, "cookie": "JSESSIONID"}
    backends = three()
    with caplog.at_level(logging.WARNING, logger="lb.sessions"):
        async with balancing(*backends, sticky_sessions=sticky) as balancer:
            reload(balancer, backends, sticky_sessions=sticky, timeouts={"idle": "30s"})
            answer = await balancer.ask(GET)
            assert (await balancer.ask(with_cookie(cookie_of(answer)))).body == answer.body
    (record,) = caplog.records
    assert "JSESSIONID looks like an application's session" in record.getMessage()


async def test_the_state_counts_clients() -> None:
    async with balancing(*three(), sticky_sessions=STICKY) as balancer:
        mine = await client_of(balancer, "a")
        balancer.balancer.routes["*"].pool.set_health(the(balancer, "a"), "down")
        await balancer.ask(with_cookie(mine))
        part = dict(balancer.balancer.routes["*"].parts)["sticky_sessions"]
        assert part.describe().endswith("clients given a backend, 1 moved to another")


async def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    backends = {name: [Backend(name=name + each) for each in "12"] for name in ("shop", "api", "app")}
    plugins = Plugins.discover()
    config = load_config(ROOT / "examples/config/sticky_sessions.yaml", plugins, {})
    assert [route.name for route in config.routes] == ["shop.example.com", "api.example.com", "app.example.com"]
    for pair in backends.values():
        for each in pair:
            await each.start()
    try:
        routes = {
            route.name: {
                "backends": {each.name: each.address for each in backends[route.name.partition(".")[0]]},
                "sticky_sessions": next(
                    each.settings.model_dump(mode="python", exclude={"secret"})
                    for each in route.features
                    if each.name == "sticky_sessions"
                )
                | {"ttl": "12h"},
            }
            for route in config.routes
        }
        made = {"listeners": {"web": "127.0.0.1:0"}, "access_log": False, "routes": routes}
        async with balancing(config=made) as balancer:
            shop = await balancer.ask(request(host="shop.example.com"))
            assert TOKEN.match(shop["set-cookie"])
            app = await balancer.ask(request(host="app.example.com"))
            assert b"app_backend=" in app["set-cookie"]
            assert app["set-cookie"].endswith(
                b"; Path=/; Domain=example.com; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"
            )
            for host, field in (
                ("shop.example.com", f"Cookie: {cookie_of(shop)}"),
                ("app.example.com", f"Cookie: {cookie_of(app)}"),
                ("api.example.com", "X-User-Id: 42"),
            ):
                found = {(await balancer.ask(request("/", b"", field, host=host))).body for _ in range(4)}
                assert len(found) == 1
            assert os.listdir(tmp_path) == ["data"]
    finally:
        for pair in backends.values():
            for each in pair:
                await each.stop()
