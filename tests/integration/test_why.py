"""The decision record over real sockets: why each request went where it did."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any

from lb_core import Exchange, Response, hookimpl
from tests.support.backends import RESET, Backend, Request, refusing
from tests.support.balancing import Running, balancing, until
from tests.support.wire import request, response

if TYPE_CHECKING:
    from lb_core import Backend as Served

Found = list[dict[str, Any]]


def marked(name: str, target: str = "/") -> bytes:
    return request(target, b"", f"X-Request-Id: {name}")


def why(balancer: Running, name: str) -> Found:
    return balancer.balancer.engine.decisions.find(name)


def backends_of(route: dict[str, Any]) -> dict[str, Any]:
    return {"listeners": {"web": "127.0.0.1:0"}, "access_log": False, "routes": {"*": route}}


async def test_who_chose_among_whom_and_how_it_ended() -> None:
    async with balancing(*[Backend(name=name) for name in "abc"]) as balancer:
        assert (await balancer.ask(marked("look-at-me"))).status == 200
        (found,) = why(balancer, "look-at-me")
        assert [each["name"] for each in found["candidates"]] == ["a", "b", "c"]
        assert found["who"] == "least_connections"
        assert found["why"] == "fewest requests in flight: 0 of 0, 0, 0"
        assert (found["status"], found["attempt"], found["flags"]) == (200, 1, [])
        assert found["duration"] == balancer.last.duration


async def test_requests_with_an_id_of_their_own_are_always_recorded_and_others_one_a_millisecond() -> None:
    async with balancing(Backend(name="a")) as balancer, await balancer.client() as client:
        for number in range(20):
            await client.ask(marked(f"own-{number}"))
        assert all(len(why(balancer, f"own-{number}")) == 1 for number in range(20))
        route = balancer.balancer.routes["*"]
        record = balancer.balancer.engine.decisions
        before = len(record)
        route.due = inf
        for _ in range(20):
            await client.ask(request())
        assert len(record) == before, "none is due"
        route.due = 0.0
        await client.ask(request())
        assert len(record) == before + 1
        assert len(why(balancer, balancer.last.request_id)) == 1


async def test_every_attempt_is_told_in_order() -> None:
    with refusing() as nobody:
        good = Backend(name="good")
        async with good:
            route = {"strategy": "first_always", "backends": {"bad": nobody, "good": good.address}}
            async with balancing(config=backends_of(route), plugins=[FirstAlways()]) as balancer:
                assert (await balancer.ask(marked("tried"))).status == 200
                first, second = why(balancer, "tried")
                assert (first["attempt"], first["choice"]) == (1, "bad")
                assert "refused" in first["error"]
                assert (second["attempt"], second["choice"], second["status"]) == (2, "good", 200)
                assert [each["name"] for each in second["candidates"]] == ["good"]
                assert second["flags"] == ["retried"]


async def test_a_retry_is_recorded_when_the_first_choice_was_not() -> None:
    resets = Backend((RESET,), name="resets")
    async with balancing(resets, retry={"attempts": 1, "on": ["reset"]}) as balancer:
        balancer.balancer.routes["*"].due = inf
        assert (await balancer.ask(request())).status == 502
        first, second = why(balancer, balancer.last.request_id)
        assert (first["attempt"], first["who"], first["choice"]) == (1, "", second["choice"])
        assert (second["attempt"], second["who"], second["status"]) == (2, "least_connections", 502)
        assert first["error"]
        assert second["error"]


async def test_a_full_backend_is_passed_over_and_the_queue_is_told() -> None:
    gate = asyncio.Event()

    async def wait(seen: Request) -> None:
        await gate.wait()
        seen.write(response(b"done"))

    async with Backend(wait) as one, Backend(wait) as two:
        route = {
            "strategy": "first_always",
            "queue": 1,
            "backends": {
                "one": {"url": one.address, "max_connections": 1},
                "two": {"url": two.address, "max_connections": 1},
            },
        }
        async with balancing(config=backends_of(route), plugins=[FirstAlways()]) as balancer:
            asked = [asyncio.create_task(balancer.ask(marked(name))) for name in ("fits", "room")]
            await until(lambda: len(one.requests) + len(two.requests) == 2)
            asked.append(asyncio.create_task(balancer.ask(marked("queued"))))
            await until(lambda: balancer.balancer.routes["*"].queued == 1)
            assert (await balancer.ask(marked("refused"))).status == 503
            await asyncio.sleep(0.02)
            gate.set()
            assert [(await each).status for each in asked] == [200, 200, 200]
            (fits,), (room,), (refused,) = (why(balancer, name) for name in ("fits", "room", "refused"))
            assert (fits["who"], fits["choice"]) == ("first_always", "one")
            assert (room["who"], room["choice"]) == ("room", "two")
            assert room["why"] == "one, chosen by first_always, is full (1 of 1): the least busy one with room"
            assert (refused["who"], refused["choice"], refused["status"]) == ("queue", "", 503)
            assert refused["why"] == "every candidate is full, and so is the queue (1 wait)"
            waits, served = why(balancer, "queued")
            assert (waits["who"], waits["why"]) == ("queue", "every candidate is full: it waits, after 0 others")
            assert served["choice"]
            assert "waited " in served["why"]
            assert " ms in the queue" in served["why"]


class FirstAlways:
    @hookimpl
    def register_strategies(self) -> Any:
        from lb_core import Strategy

        yield Strategy("first_always", TakesFirst)


class TakesFirst:
    @hookimpl
    def select_backend(self, candidates: tuple[Served, ...]) -> Served:
        return candidates[0]


async def test_nobody_and_why_not() -> None:
    async with balancing(Backend(name="a")) as balancer:
        pool = balancer.balancer.routes["*"].pool
        pool.set_mode(pool.backends[0], "maintenance", "new disk")
        assert (await balancer.ask(request())).status == 503
        (found,) = why(balancer, balancer.last.request_id)
        assert (found["who"], found["choice"], found["why"]) == ("nobody", "", "no backend is available")
        assert found["candidates"][0]["state"] == "maintenance: new disk"
        assert (found["status"], found["flags"]) == (503, ["no_backend"])


class Teapot:
    @hookimpl
    async def before_request(self, exchange: Exchange) -> Response | None:
        await asyncio.sleep(0)
        return Response(418, "short and stout") if exchange.path == "/tea" else None


async def test_an_answer_before_any_choice_is_told_for_requests_with_an_id() -> None:
    async with balancing(Backend(name="a"), plugins=[Teapot()]) as balancer:
        assert (await balancer.ask(marked("tea", "/tea"))).status == 418
        (found,) = why(balancer, "tea")
        assert (found["attempt"], found["who"], found["status"]) == (0, "before_request", 418)
        assert (await balancer.ask(marked("coffee"))).status == 200
        assert why(balancer, "coffee")[0]["choice"]
        assert (await balancer.ask(request("/tea"))).status == 418
        assert why(balancer, balancer.last.request_id) == []


class Sticky:
    """Would like another backend, and says so."""

    @hookimpl(tryfirst=True)
    def select_backend(self, exchange: Exchange) -> None:
        exchange.note("cookie lb_sticky names web9, which is gone")


async def test_what_a_plugin_notes_is_recorded_although_none_was_due() -> None:
    async with balancing(Backend(name="a"), plugins=[Sticky()]) as balancer:
        balancer.balancer.routes["*"].due = inf
        assert (await balancer.ask(request())).status == 200
        (found,) = why(balancer, balancer.last.request_id)
        assert found["why"] == "cookie lb_sticky names web9, which is gone"
        assert (found["choice"], found["status"]) == (balancer.last.backend.name, 200)  # type: ignore[union-attr]


async def test_the_record_outlives_a_reload() -> None:
    async with balancing(Backend(name="a")) as balancer:
        await balancer.ask(marked("before"))
        balancer.balancer.apply(balancer.balancer.config)
        await balancer.ask(marked("after"))
        assert len(why(balancer, "before")) == len(why(balancer, "after")) == 1


def down(balancer: Running, route: str) -> None:
    pool = balancer.balancer.routes[route].pool
    for backend in pool.backends:
        pool.set_mode(backend, "maintenance", "new disk")


async def test_failover_is_told() -> None:
    async with Backend(name="main") as main, Backend(name="spare") as spare:
        config = backends_of({"backends": {"main": main.address}, "failover": {"backup_domain": "spare.test"}})
        config["routes"]["spare.test"] = {"backends": {"spare": spare.address}}
        async with balancing(config=config) as balancer:
            assert (await balancer.ask(marked("before"))).body == b"main"
            down(balancer, "*")
            balancer.balancer.routes["*"].due = inf
            assert (await balancer.ask(request())).body == b"spare"
            (found,) = why(balancer, balancer.last.request_id)
            assert (found["route"], found["pool"], found["choice"]) == ("*", "spare.test", "spare")
            assert found["why"].endswith("nobody may be chosen in *: spare.test serves")
            assert found["flags"] == ["failover"]
            down(balancer, "spare.test")
            assert (await balancer.ask(request())).status == 503
            (found,) = why(balancer, balancer.last.request_id)
            assert (found["who"], found["pool"]) == ("nobody", "*")
            assert found["candidates"][0]["state"] == "maintenance: new disk"


async def test_an_open_breaker_and_its_probes_are_told() -> None:
    failing = Backend(response(b"no", status=503), name="failing")
    breaker = {"scope": "route", "threshold": 2, "timeout": "50ms"}
    async with balancing(failing, circuit_breaker=breaker, ejection=False) as balancer:
        for _ in range(2):
            await balancer.ask(request())
        assert (await balancer.ask(request())).status == 503
        (found,) = why(balancer, balancer.last.request_id)
        assert (found["who"], found["flags"]) == ("nobody", ["breaker_open"])
        assert found["why"].startswith("breaker_open: nobody is let through for ")
        await asyncio.sleep(0.06)
        balancer.balancer.routes["*"].due = inf
        await balancer.ask(request())
        (found,) = why(balancer, balancer.last.request_id)
        assert (found["choice"], found["status"]) == ("failing", 503)
        assert found["why"].endswith("breaker_open: let through as a probe")


async def test_a_session_and_that_it_moved_are_told() -> None:
    async with balancing(Backend(name="a"), Backend(name="b"), sticky_sessions={"secret": "x" * 32}) as balancer:
        cookie = (await balancer.ask(request()))["set-cookie"].split(b";")[0].decode()
        first = balancer.last.backend
        assert first is not None
        await balancer.ask(request("/", b"", f"Cookie: {cookie}", "X-Request-Id: stays"))
        (found,) = why(balancer, "stays")
        assert (found["who"], found["choice"]) == ("sticky_sessions", first.name)
        assert found["why"] == "the client's own, by the cookie lb_sticky"
        balancer.balancer.routes["*"].pool.set_mode(first, "maintenance")
        balancer.balancer.routes["*"].due = inf
        await balancer.ask(request("/", b"", f"Cookie: {cookie}"))
        (found,) = why(balancer, balancer.last.request_id)
        assert found["choice"] != first.name
        assert found["why"] == f"its client is {first.name}'s, which is maintenance"
