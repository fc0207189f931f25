"""Backends by name: a real DNS server, real backends at several addresses of this machine, and what clients see."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from lb_core.config import config_from_tree
from lb_core.engine import connections
from lb_core.resolving import DnsResolver, Resolution, SystemResolver
from tests.support.backends import Backend, Request, unresponsive
from tests.support.balancing import Running, balancing, tree, until
from tests.support.dns_server import DnsServer, Mode
from tests.support.wire import request, response

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.figures import Measured

ONE, TWO, THREE, SIX = "127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"
GET = request("/")


class Nowhere:
    """Stands for the system where it knows no more than DNS."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def resolve(self, host: str) -> Resolution:
        self.asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class Table:
    """A resolver that answers from a table; `ttl` is for all."""

    def __init__(self, ttl: float = 30.0, **hosts: tuple[str, ...]) -> None:
        self.hosts = hosts
        self.ttl = ttl
        self.asked = 0

    async def resolve(self, host: str) -> Resolution:
        self.asked += 1
        if host not in self.hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return Resolution(self.hosts[host], self.ttl)


def dns_resolver(dns: DnsServer, system: Nowhere | None = None, *, limit: float = 1.0) -> DnsResolver:
    return DnsResolver(system or Nowhere(), nameservers=["127.0.0.1"], port=dns.port, limit=limit, hosts="/nowhere")


@asynccontextmanager
async def at(*hosts: str) -> AsyncIterator[dict[str, Backend]]:
    """Backends at these addresses, all on one port; each answers with its address."""
    for _ in range(20):
        try:
            async with AsyncExitStack() as stack:
                found: dict[str, Backend] = {}
                for host in hosts:
                    port = found[hosts[0]].port if found else 0
                    found[host] = await stack.enter_async_context(Backend(name=host, host=host, port=port))
                yield found
                return
        except OSError:
            if len(found) == len(hosts):
                raise  # from the test itself
    raise AssertionError("no port that is free at all addresses")


async def who(balancer: Running, times: int) -> list[str]:
    """Who answers requests over backend connections that are new each time."""
    answers = []
    for _ in range(times):
        for backend in balancer.balancer.engine.backends:
            connections.drop(backend)
        answers.append((await balancer.ask(GET)).body.decode())
    return answers


# the resolver that asks DNS


async def test_both_families_and_the_shortest_time_to_live() -> None:
    async with DnsServer() as dns:
        dns.set("web.test", TWO, THREE, SIX, ttl=40)
        dns.records["web.test", "AAAA"] = 7, [SIX]
        found = await dns_resolver(dns).resolve("web.test")
    assert found == Resolution((SIX, TWO, THREE), 7.0)
    assert sorted(dns.asked) == [("web.test", "A"), ("web.test", "AAAA")]


async def test_an_alias_that_runs_out_sooner_decides() -> None:
    async with DnsServer() as dns:
        dns.set("pod.test", TWO, ttl=300)
        dns.alias("web.test", "pod.test", ttl=3)
        assert await dns_resolver(dns).resolve("web.test") == Resolution((TWO,), 3.0)


@pytest.mark.parametrize("broken", ["A", "AAAA"])
async def test_a_server_that_fails_one_family_gives_the_other(broken: str) -> None:
    async with DnsServer() as dns:
        dns.set("web.test", TWO, SIX)
        dns.failing = {broken}
        found = await dns_resolver(dns).resolve("web.test")
    assert found.addresses == ((SIX,) if broken == "A" else (TWO,))


@pytest.mark.parametrize("mode", list(Mode))
async def test_what_dns_cannot_answer_is_asked_of_the_system(mode: Mode) -> None:
    system = Nowhere()
    async with DnsServer() as dns:
        dns.mode = mode
        begin = time.monotonic()
        with pytest.raises(OSError, match="not known"):
            await dns_resolver(dns, system, limit=0.3).resolve("nobody.test")
        assert time.monotonic() - begin < 1.5
    assert system.asked == ["nobody.test"]


async def test_a_resolv_conf_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.3\n")
    resolver = DnsResolver(Nowhere(), resolv_conf=str(path))
    first = resolver._prepare("web.example")
    assert first is not None
    assert first.nameservers == ["127.0.0.3"]
    assert resolver._prepare("web.example") is first
    path.write_text("nameserver 127.0.0.4\n")
    os.utime(path, ns=(1, 1))
    second = resolver._prepare("web.example")
    assert second is not None
    assert second.nameservers == ["127.0.0.4"]


# addresses that change


async def test_addresses_are_followed_at_their_time_to_live(measured: Measured) -> None:
    async with DnsServer() as dns, at(TWO, THREE) as web:
        dns.set("web.test", TWO, ttl=1)
        async with balancing(f"web.test:{web[TWO].port}", resolver=dns_resolver(dns)) as balancer:
            assert (await balancer.ask(GET)).body == TWO.encode()
            dns.set("web.test", THREE, ttl=1)
            changed = time.monotonic()
            async with asyncio.timeout(4):
                while (await balancer.ask(GET)).body != THREE.encode():
                    await asyncio.sleep(0.02)
            took = time.monotonic() - changed
            assert took < 1.6
            measured("a changed address of a name with 1 s to live is followed within", f"{took:.2f} s")
            assert "name_resolved" in balancer.events
            assert await who(balancer, 3) == [THREE] * 3


async def test_a_failed_connection_has_the_name_looked_up_at_once(measured: Measured) -> None:
    """The backend has moved long before its answer runs out: within a second nobody sees an error any more."""
    resolver = Table(web=(TWO,))
    async with (
        at(TWO, THREE) as web,
        balancing(f"web:{web[TWO].port}", resolver=resolver, ejection=False) as balancer,
    ):
        assert await who(balancer, 1) == [TWO]
        await web[TWO].stop()
        await asyncio.sleep(1.0)  # the lookup of the start lies behind
        resolver.hosts["web"] = (THREE,)
        begin = time.monotonic()
        statuses = [(await balancer.ask(GET)).status]
        while statuses[-1] != 200:
            await asyncio.sleep(0.01)
            statuses.append((await balancer.ask(GET)).status)
        took = time.monotonic() - begin
        assert took < 0.2
        assert resolver.asked == 2
        measured("requests lost to a backend that moved, looked up again at once", f"{statuses.count(502)}")


async def test_a_refusing_backend_has_its_name_looked_up_once_a_second_at_most() -> None:
    async with at(TWO) as web:
        port = web[TWO].port
    resolver = Table(web=(TWO,))
    async with balancing(f"web:{port}", resolver=resolver, ejection=False) as balancer:
        end = time.monotonic() + 2.2
        while time.monotonic() < end:
            assert (await balancer.ask(GET)).status == 502
            await asyncio.sleep(0.01)
    assert 2 <= resolver.asked <= 4


# several addresses


async def test_all_addresses_share_the_load() -> None:
    async with at(TWO, THREE, SIX) as web:
        resolver = Table(web=(TWO, THREE, SIX))
        async with balancing(f"web:{web[TWO].port}", resolver=resolver) as balancer:
            answers = await who(balancer, 30)
    assert {host: answers.count(host) for host in web} == {TWO: 10, THREE: 10, SIX: 10}


async def test_an_address_that_refuses_costs_no_request_and_stands_last() -> None:
    async with at(TWO, THREE) as web:
        await web[TWO].stop()
        resolver = Table(web=(TWO, THREE))
        async with balancing(f"web:{web[THREE].port}", resolver=resolver) as balancer:
            begin = time.monotonic()
            assert await who(balancer, 20) == [THREE] * 20
            assert time.monotonic() - begin < 1.0
            assert balancer.balancer.engine.backends[0].failures == 0


async def test_a_silent_address_is_overtaken_after_a_quarter_of_a_second(measured: Measured) -> None:
    async with at(TWO, THREE) as web:
        await web[TWO].stop()
        with unresponsive(TWO, web[THREE].port):
            resolver = Table(web=(TWO, THREE))
            async with balancing(f"web:{web[THREE].port}", resolver=resolver) as balancer:
                times = []
                for _ in range(6):
                    begin = time.monotonic()
                    assert await who(balancer, 1) == [THREE]
                    times.append(time.monotonic() - begin)
                assert 0.25 <= times[0] < 0.45
                assert max(times[1:]) < 0.1, "it stands last for ten seconds"
                measured(
                    "a request to a name whose first address is silent takes",
                    f"{times[0]:.3f} s, then {max(times[1:]):.3f} s",
                )


async def test_who_was_overtaken_is_closed_and_not_used() -> None:
    """Both connect: the slower is closed without a byte, whichever it is."""
    async with at(TWO, THREE) as web:
        resolver = Table(web=(TWO, THREE))
        async with balancing(f"web:{web[TWO].port}", resolver=resolver) as balancer:
            await who(balancer, 10)
            assert all(connection.received for backend in web.values() for connection in backend.connections)
            assert sum(len(backend.connections) for backend in web.values()) == 10


async def test_all_addresses_in_vain_is_one_failed_attempt_that_names_them() -> None:
    async with at(TWO, SIX) as web:
        port = web[TWO].port
    async with balancing(f"web:{port}", resolver=Table(web=(TWO, SIX))) as balancer:
        assert (await balancer.ask(GET)).status == 502
        assert balancer.last.attempts <= 2
        text = str(balancer.last.error)
        assert f"cannot connect to web:{port}" in text
        assert f"{TWO}: Connection refused" in text
        assert f"{SIX}: Connection refused" in text


async def test_all_addresses_silent_is_a_504_at_the_connect_timeout() -> None:
    async with at(TWO, THREE) as web:
        port = web[TWO].port
    with unresponsive(TWO, port), unresponsive(THREE, port):
        resolver = Table(web=(TWO, THREE))
        options: dict[str, Any] = {"timeouts": {"connect": "600ms"}, "retry": {"attempts": 0}}
        async with balancing(f"web:{port}", resolver=resolver, **options) as balancer:
            begin = time.monotonic()
            assert (await balancer.ask(GET)).status == 504
            assert 0.5 < time.monotonic() - begin < 1.2


# names that do not resolve


async def test_a_name_that_never_resolved_is_a_502_that_says_so() -> None:
    async with DnsServer() as dns, balancing("nobody.test:80", resolver=dns_resolver(dns)) as balancer:
        answer = await balancer.ask(GET)
        assert answer.status == 502
        assert "backend0: cannot connect to nobody.test:80: the name does not resolve" in str(balancer.last.error)
        assert balancer.events.count("name_unresolved") == 1


async def test_it_serves_as_soon_as_the_name_resolves() -> None:
    async with (
        DnsServer() as dns,
        at(TWO) as web,
        balancing(f"web.test:{web[TWO].port}", resolver=dns_resolver(dns), ejection=False) as balancer,
    ):
        assert (await balancer.ask(GET)).status == 502
        dns.set("web.test", TWO)
        begin = time.monotonic()
        while (await balancer.ask(GET)).status != 200:
            await asyncio.sleep(0.02)
        assert time.monotonic() - begin < 1.5
        assert [kind for kind in balancer.events if kind.startswith("name")] == ["name_unresolved", "name_resolved"]


@pytest.mark.parametrize("mode", [Mode.FAIL, Mode.SILENT], ids=["SERVFAIL", "silent"])
async def test_the_last_addresses_serve_on_while_dns_is_down(mode: Mode) -> None:
    async with DnsServer() as dns, at(TWO) as web:
        dns.set("web.test", TWO, ttl=1)
        resolver = dns_resolver(dns, limit=0.3)
        async with balancing(f"web.test:{web[TWO].port}", resolver=resolver) as balancer:
            assert await who(balancer, 1) == [TWO]
            dns.mode = mode
            await until(lambda: "name_unresolved" in balancer.events, within=4)
            assert await who(balancer, 5) == [TWO] * 5
            await asyncio.sleep(1.2)
            assert balancer.events.count("name_unresolved") == 1
            dns.mode = Mode.ANSWER
            await who(balancer, 1)
            (backend,) = balancer.balancer.engine.backends
            assert backend.lookup is not None
            backend.lookup.again()
            await until(lambda: "name_resolved" in balancer.events)


async def test_the_first_request_waits_for_the_name_and_the_loop_does_not() -> None:
    class Slow(Table):
        async def resolve(self, host: str) -> Resolution:
            await asyncio.sleep(0.4)
            return await super().resolve(host)

    async with at(TWO, THREE) as web:
        port = web[TWO].port
        backends = {"slow": f"web:{port}"}
        config = tree(backends)
        config["routes"]["fast.example"] = {"backends": {"fast": f"{THREE}:{port}"}}
        async with balancing(config=config, resolver=Slow(web=(TWO,))) as balancer:
            begin = time.monotonic()
            waiting = asyncio.create_task(balancer.ask(GET))
            await asyncio.sleep(0.01)
            assert (await balancer.ask(request("/", host="fast.example"))).body == THREE.encode()
            assert time.monotonic() - begin < 0.2
            assert (await waiting).body == TWO.encode()
            assert time.monotonic() - begin >= 0.35


async def test_a_lookup_that_outlasts_the_connect_timeout_is_a_504_that_says_so() -> None:
    class Hanging:
        async def resolve(self, host: str) -> Resolution:
            await asyncio.sleep(60)
            raise AssertionError(host)

    options: dict[str, Any] = {"timeouts": {"connect": "200ms"}, "retry": {"attempts": 0}}
    async with balancing("web:80", resolver=Hanging(), **options) as balancer:
        assert (await balancer.ask(GET)).status == 504
        assert "its name is still being looked up" in str(balancer.last.error)


# connections to addresses that have left


async def test_idle_connections_to_an_address_that_left_are_closed_and_the_others_kept() -> None:
    resolver = Table(1.0, web=(TWO, THREE))
    async with at(TWO, THREE) as web, balancing(f"web:{web[TWO].port}", resolver=resolver) as balancer:
        clients = [await balancer.client() for _ in range(4)]
        await asyncio.gather(*(client.ask(GET) for client in clients))
        assert [len(backend.connections) for backend in web.values()] == [2, 2]
        resolver.hosts["web"] = (THREE,)
        await until(lambda: all(connection.ended.is_set() for connection in web[TWO].connections), within=3)
        assert not any(connection.ended.is_set() for connection in web[THREE].connections)
        for client in clients:
            await client.__aexit__(None, None, None)


async def test_a_busy_connection_to_an_address_that_left_ends_its_exchange_and_is_closed() -> None:
    finish = asyncio.Event()

    async def slow(asked: Request) -> None:
        if asked.message.start.startswith(b"GET /slow"):
            await finish.wait()
        asked.write(response(TWO.encode()))

    resolver = Table(1.0, web=(TWO,))
    async with at(TWO, THREE) as web:
        web[TWO].script = slow
        async with balancing(f"web:{web[TWO].port}", resolver=resolver) as balancer:
            waiting = asyncio.create_task(balancer.ask(request("/slow")))
            await until(lambda: web[TWO].requests)
            resolver.hosts["web"] = (THREE,)
            await until(lambda: "name_resolved" in balancer.events, within=3)
            (backend,) = balancer.balancer.engine.backends
            for _ in range(3):
                assert (await balancer.ask(GET)).body == THREE.encode()
            assert len(web[THREE].connections) == 1, "connections to the new address are kept meanwhile"
            assert isinstance(backend.idle, connections.Moving)
            finish.set()
            answer = await waiting
            assert (answer.status, answer.body, answer.complete) == (200, TWO.encode(), True)
            await asyncio.wait_for(web[TWO].connections[0].ended.wait(), 2)
            assert type(backend.idle) is dict
            assert (await balancer.ask(GET)).body == THREE.encode()
            assert len(web[THREE].connections) == 1


async def test_a_name_that_moves_under_load_loses_nothing() -> None:
    resolver = Table(1.0, web=(TWO,))
    async with at(TWO, THREE) as web, balancing(f"web:{web[TWO].port}", resolver=resolver) as balancer:
        stop = time.monotonic() + 2.0

        async def load() -> list[bytes]:
            answers = []
            async with await balancer.client() as client:
                while time.monotonic() < stop:
                    answer = await client.ask(GET)
                    assert answer.status == 200
                    answers.append(answer.body)
                    await asyncio.sleep(0.004)  # a connection serves a thousand requests
            return answers

        loading = [asyncio.create_task(load()) for _ in range(8)]
        await asyncio.sleep(0.3)
        resolver.hosts["web"] = (THREE,)
        answers = await asyncio.gather(*loading)
        assert all(found[0] == TWO.encode() and found[-1] == THREE.encode() for found in answers)
        (backend,) = balancer.balancer.engine.backends
        assert type(backend.idle) is dict
        assert all(connection.ended.is_set() for connection in web[TWO].connections)


async def test_a_websocket_outlives_the_address_it_goes_to() -> None:
    async def echo(socket: ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    resolver = Table(1.0, web=(TWO,))
    async with serve(echo, TWO, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with (
            balancing(f"web:{port}", resolver=resolver) as balancer,
            connect(f"ws://127.0.0.1:{balancer.port}/", proxy=None) as websocket,
        ):
            await websocket.send("before")
            assert await websocket.recv() == "before"
            resolver.hosts["web"] = (THREE,)
            await until(lambda: "name_resolved" in balancer.events, within=3)
            (backend,) = balancer.balancer.engine.backends
            assert type(backend.idle) is dict
            await websocket.send("after")
            assert await websocket.recv() == "after"


# health checks, reload, the system's names


@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_health_checks_ask_at_the_same_addresses(kind: str) -> None:
    check = {"type": kind, "path": "/health", "interval": "100ms", "interval_down": "100ms", "timeout": "900ms"}
    async with at(TWO, THREE) as web:
        await web[TWO].stop()
        resolver = Table(1.0, web=(TWO, THREE))
        async with balancing(f"web:{web[THREE].port}", resolver=resolver, health_check=check) as balancer:
            assert (await balancer.ask(GET)).body == THREE.encode()
            await asyncio.sleep(0.5)
            assert "backend_down" not in balancer.events
            resolver.hosts["web"] = (TWO,)
            await until(lambda: "backend_down" in balancer.events, within=4)
            (down,) = [event for event in balancer.observer.events if event.kind == "backend_down"]
            assert "connection refused" in down.message


async def test_a_silent_address_does_not_make_a_backend_fail_its_checks() -> None:
    check = {"path": "/health", "interval": "100ms", "interval_down": "100ms", "timeout": "600ms", "unhealthy_after": 1}
    async with at(TWO, THREE) as web:
        await web[TWO].stop()
        with unresponsive(TWO, web[THREE].port):
            resolver = Table(web=(TWO, THREE))
            async with balancing(f"web:{web[THREE].port}", resolver=resolver, health_check=check) as balancer:
                await until(lambda: len(web[THREE].requests) >= 5)
                (backend,) = balancer.balancer.engine.backends
                assert backend.lookup is not None
                assert [(await backend.lookup.order())[-1] for _ in range(2)] == [TWO, TWO], "it stands last"
                assert balancer.balancer.engine.backends[0].health == "up"
                assert "backend_down" not in balancer.events


async def test_a_check_of_a_name_that_never_resolved_says_so() -> None:
    check = {"path": "/", "interval": "50ms", "unhealthy_after": 1}
    details = []

    async with balancing("web:80", resolver=Table(), health_check=check) as balancer:
        route = balancer.balancer.routes["*"]
        route.on_health_result = lambda backend, result: details.append((result.ok, result.detail))
        await until(lambda: details)
        assert details[0] == (False, "the name does not resolve")
        assert balancer.balancer.engine.backends[0].state == "starting"


async def test_a_reload_keeps_what_is_known_of_a_name() -> None:
    resolver = Table(web=(TWO,))
    async with at(TWO) as web:
        backends: Mapping[str, str] = {"web": f"web:{web[TWO].port}"}
        async with balancing(config=tree(backends), resolver=resolver) as balancer:
            assert (await balancer.ask(GET)).body == TWO.encode()
            (before,) = balancer.balancer.engine.backends
            more = {**backends, "other": f"app:{web[TWO].port}", "same": f"WEB:{web[TWO].port}"}
            resolver.hosts["app"] = (TWO,)
            balancer.balancer.apply(config_from_tree(tree(more), balancer.balancer.plugins))
            after, other, _ = balancer.balancer.engine.backends
            assert after is before
            assert after.lookup is before.lookup
            assert other.lookup is not None
            await until(lambda: other.lookup is not None and other.lookup.addresses)
            assert {(await balancer.ask(GET)).status for _ in range(6)} == {200}
            assert resolver.asked >= 2
            balancer.balancer.apply(config_from_tree(tree({"web": web[TWO]}), balancer.balancer.plugins))
            assert (await balancer.ask(GET)).body == TWO.encode()
            assert [backend.lookup for backend in balancer.balancer.engine.backends] == [None]


@pytest.mark.parametrize("resolver", [None, SystemResolver()], ids=["default", "system"])
async def test_localhost_works(resolver: SystemResolver | None) -> None:
    async with at(ONE) as web, balancing(f"localhost:{web[ONE].port}", resolver=resolver) as balancer:
        assert (await balancer.ask(GET)).body == ONE.encode()


async def test_an_address_as_such_has_no_lookup() -> None:
    resolver = Table()
    async with at(SIX, TWO) as web, balancing(web[SIX], web[TWO], resolver=resolver) as balancer:
        assert {(await balancer.ask(GET)).body for _ in range(4)} == {SIX.encode(), TWO.encode()}
        assert [backend.lookup for backend in balancer.balancer.engine.backends] == [None, None]
    assert resolver.asked == 0
