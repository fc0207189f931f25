"""Features on one route: what each promises by itself holds beside the others, in any order and over reloads."""

from __future__ import annotations

import asyncio
import base64
import random
import zlib
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import bcrypt
import pytest

from lb_core.config import config_from_tree
from tests.support.backends import RESET, Backend, Request, Script
from tests.support.balancing import Running, balancing, until
from tests.support.wire import chunked, request, response

GET = request()
BAD = response(b"", status=503)
OK = response(b"ok")
STICKY = {"secret": "0123456789abcdef"}
UPGRADE = request(
    "/chat",
    b"",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class Farm:
    """Backends by name: `a`, `b` of the route, `canary`, `backup`, `shadow` and `auth`."""

    def __init__(self, **scripts: Script) -> None:
        names = {"a": None, "b": None, "canary": None, "backup": None, "shadow": None, "auth": None} | scripts
        self.backends = {name: Backend(script, name=name) for name, script in names.items()}

    async def __aenter__(self) -> Farm:
        await asyncio.gather(*[each.start() for each in self.backends.values()])
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.gather(*[each.stop() for each in self.backends.values()])

    def __getitem__(self, name: str) -> Backend:
        return self.backends[name]

    def config(self, own: str = "a b", canary: str = "canary", **route: Any) -> dict[str, Any]:
        """A route for every host with these sections; whom `split`, `failover` and so on may name is there."""
        pools = {"canary": canary, "shadow": "shadow", "auth": "auth"}
        return {
            "listeners": {"web": "127.0.0.1:0"},
            "access_log": False,
            "routes": {"*": {**self._pool(own), **route}, "backup.example": self._pool("backup")},
            "pools": {name: self._pool(members) for name, members in pools.items()},
        }

    def _pool(self, names: str) -> dict[str, Any]:
        return {"backends": {name: self.backends[name].address for name in names.split()}}


async def ask(balancer: Running, count: int, data: bytes = GET) -> Counter[tuple[int, bytes]]:
    """Who answers, and with what status."""
    answers = [await balancer.ask(data) for _ in range(count)]
    return Counter((each.status, b"".join(each.all("x-backend"))) for each in answers)


def reload(balancer: Running, config: dict[str, Any]) -> None:
    balancer.balancer.apply(config_from_tree(config, balancer.balancer.plugins))


# breakers and pools


@pytest.mark.parametrize(
    "section", [{}, {"circuit_breaker": {"threshold": 5, "timeout": "1h"}}], ids=["ejection", "breaker"]
)
async def test_a_failing_backend_of_a_canary_is_left_alone(section: dict[str, Any]) -> None:
    async with Farm(canary=BAD) as farm:
        split = {"pools": [{"use": "self", "weight": 1}, {"use": "canary", "weight": 1}], "rollback": False}
        config = farm.config("a", "canary b", split=split, **section)
        async with balancing(config=config) as balancer:
            found = await ask(balancer, 80)
            assert len(farm["canary"].requests) == 5
            assert found == {(200, b"a"): 40, (200, b"b"): 35, (503, b""): 5}


async def test_a_failing_backend_of_the_route_that_stands_in_is_left_alone() -> None:
    async with Farm(a=BAD, canary=BAD) as farm:
        config = farm.config("a", circuit_breaker={"threshold": 2, "timeout": "1h"}, failover="backup.example")
        config["routes"]["backup.example"] = farm.config("canary backup")["routes"]["*"]
        async with balancing(config=config) as balancer:
            assert await ask(balancer, 30) == {(503, b""): 4, (200, b"backup"): 26}
            assert balancer.balancer.routes["backup.example"].pool.find("canary").state == "ejected"


async def test_nobody_left_anywhere_says_when_to_come_back() -> None:
    async with Farm(a=BAD, backup=BAD, canary=BAD) as farm:
        split = [{"use": "self", "weight": 1}, {"use": "canary", "weight": 1}]
        breaker = {"threshold": 1, "timeout": "1h"}
        config = farm.config("a", split=split, circuit_breaker=breaker, failover="backup.example")
        async with balancing(config=config) as balancer:
            assert (await ask(balancer, 3)).total() == 3
            assert [len(farm[name].requests) for name in ("a", "canary", "backup")] == [1, 1, 1]
            answer = await balancer.ask(GET)
            assert (answer.status, answer["retry-after"]) == (503, b"3600")
            assert balancer.last.flags == ("breaker_open",)


async def test_an_ejection_that_ends_opens_no_circuit_of_another_rule() -> None:
    """Rules of one host share the pool: here one of them has a breaker, and the route passive ejection."""
    async with Farm(a=BAD) as farm:
        rule = {"path_prefix": "/strict", "circuit_breaker": {"threshold": 1, "timeout": "1h"}}
        ejection = {"consecutive_failures": 1, "duration": "100ms"}
        async with balancing(config=farm.config(ejection=ejection, match=[rule])) as balancer:
            pool = balancer.balancer.routes["*"].pool
            await ask(balancer, 2)
            assert pool.find("a").state == "ejected"
            farm["b"].script = (RESET,)
            await ask(balancer, 1, request("/strict"))
            assert len(farm["a"].requests) == 2, "a served as a last resort, and failed again"
            assert pool.candidates == ()
            await asyncio.sleep(0.15)
            assert pool.candidates == (), "the ejection has ended, the circuit is open"
            assert "backend_restored" not in balancer.events


@pytest.mark.parametrize("scope", ["backend", "route"])
async def test_a_websocket_keeps_no_probe_out(scope: str) -> None:
    """Neither one from before the circuit opened nor one that is a probe itself, both of which may last for hours."""

    def answer(asked: Request) -> bytes:
        return SWITCHED if asked.message.target == b"/chat" else OK

    async with Farm(a=answer) as farm:
        breaker = {"threshold": 1, "timeout": "100ms", "passes": 3, "scope": scope}
        async with AsyncExitStack() as stack:
            balancer = await stack.enter_async_context(balancing(config=farm.config("a", circuit_breaker=breaker)))
            async with await balancer.client() as before, await balancer.client() as probe:
                assert (await before.ask(UPGRADE)).status == 101
                farm["a"].script = BAD
                await ask(balancer, 1)
                farm["a"].script = answer
                await until(lambda: "breaker_half_open" in balancer.events)
                assert (await probe.ask(UPGRADE)).status == 101
                assert [(await balancer.ask(GET)).status for _ in range(3)] == [200] * 3
                assert "breaker_closed" in balancer.events


async def test_routes_without_a_breaker_close_a_circuit_nobody_else_tries() -> None:
    async with Farm(a=BAD) as farm:
        rule = {"path_prefix": "/rare", "circuit_breaker": {"threshold": 1, "timeout": "100ms"}}
        async with balancing(config=farm.config("a", match=[rule])) as balancer:
            await ask(balancer, 1, request("/rare"))
            farm["a"].script = OK
            await until(lambda: "breaker_half_open" in balancer.events)
            await ask(balancer, 3)
            await until(lambda: "breaker_closed" in balancer.events)
            backend = balancer.balancer.routes["*"].pool.backends[0]
            assert (backend.limit, backend.reason) == (backend.max_connections, "")


# sessions, splits, failover, mirror


async def test_split_failover_sticky_mirror_and_breaker_lose_no_get() -> None:
    """Own backends, then the canary, then the backup die; whoever is left serves; then all come back."""
    async with Farm() as farm:
        config = farm.config(
            sticky_sessions=STICKY,
            split=[{"use": "self", "weight": 1}, {"use": "canary", "weight": 1}],
            failover={"backup_domain": "backup.example", "return_after": "100ms"},
            circuit_breaker={"threshold": 1, "timeout": "300ms", "passes": 1},
            mirror={"use": "shadow", "percent": 100},
            retry={"attempts": 3, "budget": "100%"},
        )
        scripts = {name: each.script for name, each in farm.backends.items()}
        async with balancing(config=config) as balancer:
            assert await ask(balancer, 20) == {(200, b"canary"): 10, (200, b"a"): 5, (200, b"b"): 5}
            farm["a"].script = farm["b"].script = (RESET,)
            found = await ask(balancer, 20)
            assert found == {(200, b"canary"): 10, (200, b"backup"): 10}
            farm["canary"].script = (RESET,)
            assert (await ask(balancer, 10)).keys() <= {(200, b"backup")}
            flags = [each.flags for each in balancer.completed if "failover" in each.flags]
            assert all("mirrored" in each for each in flags)
            for name, script in scripts.items():
                farm[name].script = script
            await until(lambda: balancer.events.count("breaker_half_open") == 3)
            await ask(balancer, 12)
            await until(lambda: "failover_ended" in balancer.events)
            last = await ask(balancer, 20)
            assert last[200, b"canary"] == 10
            assert last[200, b"a"] + last[200, b"b"] == 10
            await until(lambda: len(farm["shadow"].requests) == len(balancer.completed))


async def test_a_session_moves_from_what_is_open_or_full_and_waits_in_the_queue() -> None:
    async with Farm() as farm:
        config = farm.config(sticky_sessions=STICKY, circuit_breaker={"threshold": 1, "timeout": "1h"}, slow_start="1s")
        for backend in config["routes"]["*"]["backends"]:
            address = config["routes"]["*"]["backends"][backend]
            config["routes"]["*"]["backends"][backend] = {"address": address, "max_connections": 1}
        async with balancing(config=config) as balancer:
            first = await balancer.ask(GET)
            mine, cookie = first.body.decode(), first["set-cookie"].partition(b";")[0].decode()
            other = "b" if mine == "a" else "a"
            again = request("/", b"", f"Cookie: {cookie}")
            assert "set-cookie" not in await balancer.ask(again)
            farm[mine].script = (RESET,)
            moved = await balancer.ask(again)
            assert (moved.body.decode(), "set-cookie" in moved) == (other, True)
            assert balancer.last.flags == ("retried", "repicked")
            farm[other].script = (0.05, response(other.encode()))
            there = request("/", b"", f"Cookie: {moved['set-cookie'].partition(b';')[0].decode()}")
            answers = await asyncio.gather(*[balancer.ask(there) for _ in range(6)])
            assert {(each.status, each.body.decode()) for each in answers} == {(200, other)}
            assert balancer.balancer.routes["*"].queued == 0


# what stands before the backends


def authorised() -> tuple[dict[str, Any], str]:
    secret = bcrypt.hashpw(b"open", bcrypt.gensalt(4)).decode()
    return {"users": {"ann": secret}}, f"Authorization: Basic {base64.b64encode(b'ann:open').decode()}"


@pytest.mark.parametrize("order", ["as written", "reversed"])
async def test_limit_passwords_forward_auth_edits_and_compression(order: str) -> None:
    page = response(b"text " * 1000, "Content-Type: text/plain")
    async with Farm(a=page, b=page, auth=response(b"", "X-User: ann")) as farm:
        passwords, field = authorised()
        sections: dict[str, Any] = {
            "allow_clients": ["127.0.0.0/8"],
            "rate_limit": {"requests": 8, "window": "1h", "headers": "draft"},
            "basic_auth": passwords,
            "forward_auth": {"use": "auth", "copy_headers": ["X-User"]},
            "edit_headers": {"response": {"set": {"X-Status": "{status}"}}},
            "compression": True,
            "sticky_sessions": STICKY,
            "mirror": {"use": "shadow", "percent": 100},
        }
        if order == "reversed":
            sections = dict(reversed(sections.items()))
        async with balancing(config=farm.config(**sections)) as balancer:
            asked = request("/p", b"", field, "Accept-Encoding: gzip")
            async with await balancer.client() as client:
                answer = await client.ask(asked)
                assert zlib.decompress(answer.body, 31) == b"text " * 1000
                assert (answer["x-status"], answer["ratelimit-policy"]) == (b"200", b'"default";q=8;w=3600')
                assert (await client.ask(b"HEAD" + asked[3:])).body == b""
                await client.send(asked * 2)
                assert [(await client.answer()).status for _ in range(2)] == [200, 200]
            old = await balancer.ask(asked.replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert (old.framing, zlib.decompress(old.body, 31)) == ("length", b"text " * 1000)
            post = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n%b\r\n\r\n" % field.encode()
            assert (await balancer.ask(post + chunked(b"abc", b"def"))).status == 200
            own = [message for name in "ab" for message in farm[name].messages]
            assert [message.body for message in own if message.method == b"POST"] == [b"abcdef"]
            assert {message["x-user"] for message in own} == {b"ann"}
            await until(lambda: len(farm["shadow"].requests) == 6)
            assert (await balancer.ask(request("/p"))).status in (401, 429)
            expecting = b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            refused = await balancer.ask(expecting)
            assert (refused.status in (401, 429), refused["connection"]) == (True, b"close")
            last = [(await balancer.ask(asked)).status for _ in range(3)]
            assert last[-1] == 429


async def test_a_client_that_leaves_while_another_service_decides() -> None:
    """Its body is not read while nobody is there to take it, so that it has gone without our knowing."""
    async with Farm(auth=(0.1, response(b"no", status=403))) as farm:
        config = farm.config(forward_auth={"use": "auth"})
        async with balancing(config=config) as balancer:
            for resets in (False, True):
                async with await balancer.client() as client:
                    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nsome")
                    await asyncio.sleep(0.03)
                    if resets:
                        client.reset()
            await until(lambda: len(balancer.completed) == 2)
            await balancer.settled()


# everything at once


FEATURES: dict[str, Any] = {
    "sticky_sessions": STICKY,
    "circuit_breaker": {"threshold": 3, "timeout": "200ms"},
    "slow_start": "300ms",
    "failover": {"backup_domain": "backup.example", "return_after": "100ms"},
    "mirror": {"use": "shadow", "percent": 30},
    "split": [{"use": "self", "weight": 80}, {"use": "canary", "weight": 20, "sticky": True}],
    "rate_limit": [
        {"requests": 1_000_000, "headers": "draft"},
        {"requests": 500, "algorithm": "concurrency", "name": "c"},
    ],
    "compression": True,
    "edit_headers": {"response": {"set": {"X-Edited": "1"}}},
    "allow_clients": ["127.0.0.0/8"],
    "forward_auth": {"use": "auth"},
    "rewrite": "/r{path}",
    "queue": 500,
}
STRATEGIES = ["least_connections", "ewma", "p2c", "consistent_hash", "first", "round_robin", "ip_hash"]
REQUESTS = [
    GET,
    request("/p", b"abc"),
    request("/big", b"", "Accept-Encoding: gzip"),
    b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
]


def mixed(farm: Farm, chance: random.Random) -> dict[str, Any]:
    """Some of the features in some order, with some strategy."""
    names = chance.sample(sorted(FEATURES), chance.randint(3, len(FEATURES)))
    own = chance.choice(["a b", "a", "b a"])
    return farm.config(own, strategy=chance.choice(STRATEGIES), **{name: FEATURES[name] for name in names})


async def test_reloads_that_add_remove_and_reorder_features_lose_nothing() -> None:
    chance = random.Random(1)
    async with Farm(auth=OK) as farm:
        config = mixed(farm, chance)
        async with balancing(config=config) as balancer:
            statuses: Counter[int] = Counter()
            stopped = asyncio.Event()
            routes = [*balancer.balancer.routes.values()]

            async def client(turn: int) -> None:
                while not stopped.is_set():
                    async with await balancer.client() as connection:
                        for _ in range(100):
                            turn += 1
                            statuses[(await connection.ask(REQUESTS[turn % len(REQUESTS)])).status] += 1

            clients = [asyncio.create_task(client(turn)) for turn in range(8)]
            for _ in range(20):
                await asyncio.sleep(0.08)
                reload(balancer, mixed(farm, chance))
                routes += balancer.balancer.routes.values()
            stopped.set()
            await asyncio.gather(*clients)
            assert list(statuses) == [200], statuses
            assert statuses[200] > 200
            await balancer.settled()
            assert {(each.queued, each.retrying, each.plugin_errors) for each in routes} == {(0, 0, 0)}


async def test_failures_resets_and_reloads_leave_nothing_behind() -> None:
    """Backends fail in all ways, clients go away, features come and go: in the end every count is back at nothing."""
    chance = random.Random(2)
    ways: list[Script] = [OK, OK, BAD, (RESET,), (0.3, OK), (0.02, OK)]
    async with Farm() as farm:
        options = {
            "timeouts": {"queue": "100ms", "response_header": "200ms"},
            "retry": {"attempts": 2, "on": ["connect", "reset", "timeout"]},
        }

        def config() -> dict[str, Any]:
            found = mixed(farm, chance)
            route = found["routes"]["*"]
            route |= options
            route["backends"] = {name: {"address": at, "max_connections": 3} for name, at in route["backends"].items()}
            return found

        async with balancing(config=config()) as balancer:
            stopped = asyncio.Event()
            routes = {*balancer.balancer.routes.values()}

            async def client(chance: random.Random) -> None:
                while not stopped.is_set():
                    async with await balancer.client() as connection:
                        await connection.send(chance.choice(REQUESTS) * chance.randint(1, 3))
                        await asyncio.sleep(chance.random() * 0.02)
                        if chance.random() < 0.3:
                            connection.reset()
                        else:
                            await connection.answer(within=3.0)

            clients = [asyncio.create_task(client(random.Random(seed))) for seed in range(12)]
            for _ in range(15):
                await asyncio.sleep(0.1)
                for name in chance.sample(sorted(farm.backends), 2):
                    farm[name].script = chance.choice(ways)
                reload(balancer, config())
                routes |= {*balancer.balancer.routes.values()}
            stopped.set()
            await asyncio.gather(*clients)
            await balancer.settled()
            assert {(each.queued, each.retrying, each.plugin_errors) for each in routes} == {(0, 0, 0)}
            pools = balancer.balancer.pools.values()
            assert not any(pool.queue for pool in pools)
            assert not any(backend.freed for pool in pools for backend in pool.backends)
            kept = [
                getattr(part, name, None)
                for route in routes
                for _, part in route.parts
                for name in ("_decided", "_new", "_waiting")
            ]
            assert not any(kept), "exchanges that ended are remembered by nobody"


async def test_embedded_in_an_application_the_features_are_the_same() -> None:
    page = response(b"text " * 1000, "Content-Type: text/plain")
    async with AsyncExitStack() as stack:
        farm = await stack.enter_async_context(Farm(a=page, b=page, auth=OK))
        sections = ("sticky_sessions", "circuit_breaker", "mirror", "rate_limit", "compression", "forward_auth")
        config = farm.config(**{name: FEATURES[name] for name in sections})
        running = await stack.enter_async_context(balancing(config=config))
        sent: list[dict[str, Any]] = []

        asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> dict[str, Any]:
            for message in asked:
                return message
            return await asyncio.Future()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(b"host", b"x"), (b"accept-encoding", b"gzip")]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/p",
            "raw_path": b"/p",
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", 80),
        }
        await running.balancer(scope, receive, send)
        assert sent[0]["status"] == 200
        got = dict(sent[0]["headers"])
        assert got[b"content-encoding"] == b"gzip"
        assert got[b"set-cookie"].startswith(b"lb_sticky=")
        body = b"".join(message.get("body", b"") for message in sent[1:])
        assert zlib.decompress(body, 31) == b"text " * 1000
