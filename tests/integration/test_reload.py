"""A new configuration under load: nothing is lost, what stays keeps its counters, a bad one changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import yaml

from lb_core.balancer import LoadBalancer
from lb_core.config import config_from_tree
from lb_core.plugins import Plugins
from lb_core.server import Server
from tests.integration.test_websocket import HELLO, tunnel
from tests.support.backends import Backend, Request
from tests.support.balancing import Observer, Running, balancing, tree, until
from tests.support.client import Client
from tests.support.load import Load
from tests.support.wire import request, response

GET = request()


def apply(balancer: Running, configuration: dict[str, Any]) -> None:
    """Swap the configuration, as reload does once a file was read."""
    configuration["listeners"]["web"]["address"] = f"127.0.0.1:{balancer.port}"
    balancer.balancer.apply(config_from_tree(configuration, balancer.balancer.plugins))


async def test_twenty_reloads_under_load_lose_nothing() -> None:
    one, two = Backend(name="one"), Backend(name="two")
    async with balancing(one, two) as balancer:
        load = Load(balancer.port, connections=16, pause=0.001)
        loading = asyncio.create_task(load.run())
        for index in range(20):
            strategy = ("least_connections", "round_robin", "p2c")[index % 3]
            backends = ([one, two], [two], [two, one])[index % 3]
            apply(balancer, tree(backends, strategy=strategy, timeouts={"connect": f"{index + 1}s"}))
            await asyncio.sleep(0.03)
        load.stop()
        await loading
        assert load.lost == []
        assert load.answers.keys() == {200}
        assert load.closed == 0, "no client noticed"
        assert load.total > 200
        assert len(balancer.completed) == load.total
        assert sum(len(backend.requests) for backend in (one, two)) == load.total


async def test_what_stays_keeps_its_counters_and_its_state() -> None:
    one, two = Backend(name="one"), Backend(name="two")
    async with balancing(one, two) as balancer, await balancer.client() as client:
        for _ in range(10):
            await client.ask(GET)
        before = {backend.name: backend for backend in balancer.balancer.engine.backends}
        requests = balancer.balancer.routes["*"].requests
        balancer.balancer.routes["*"].pool.eject(before["one"], "for the test")
        apply(balancer, tree([one, two], strategy="round_robin", max_body="1KB"))
        after = {backend.name: backend for backend in balancer.balancer.engine.backends}
        assert after == before
        assert after["one"].requests == 5
        assert after["one"].state == "ejected"
        assert balancer.balancer.routes["*"].requests == requests == 10
        assert (await client.ask(GET)).body == b"two"
        connections = len(two.connections)
        assert (await client.ask(GET)).body == b"two"
        assert len(two.connections) == connections, "open connections were kept too"


async def test_exchanges_under_way_end_on_the_configuration_they_began_with() -> None:
    gate = asyncio.Event()

    async def slow(seen: Request) -> None:
        await gate.wait()
        seen.write(response(b"old"))

    old, new = Backend(slow, name="old"), Backend(name="new")
    async with new, balancing(old) as balancer:
        asking = [asyncio.create_task(balancer.ask(request("/", body))) for body in (b"", b"a body")]
        await until(lambda: len(old.requests) == 2)
        leaving = balancer.balancer.engine.backends[0]
        apply(balancer, tree([new]))
        assert (await balancer.ask(GET)).body == b"new"
        assert leaving.in_flight == 2
        gate.set()
        assert [(await each).body for each in asking] == [b"old", b"old"]
        await until(lambda: not leaving.in_flight)
        await until(lambda: all(connection.ended.is_set() for connection in old.connections), within=1.0)


async def test_a_tunnel_lives_on() -> None:
    backend, other = Backend(tunnel), Backend(name="other")
    async with other, balancing(backend) as balancer, await balancer.client() as client:
        await client.ask(HELLO)
        apply(balancer, tree([other]))
        await client.send(b"still there")
        async with asyncio.timeout(1):
            assert await client.reader.readexactly(19) == b"greetingstill there"


async def test_kept_connections_follow_the_new_configuration() -> None:
    """Host names once learned, whom to believe, and what a route allows: none of it outlives the reload."""
    one, two = Backend(name="one"), Backend(name="two")
    async with two, balancing(one) as balancer, await balancer.client() as client:
        assert (await client.ask(GET)).body == b"one"
        spoofed = request("/", b"", "X-Forwarded-For: 203.0.113.7")
        await client.ask(spoofed)
        assert one.messages[-1]["x-forwarded-for"] == b"127.0.0.1"
        apply(balancer, tree([two], max_body="3B", top={"trusted_proxies": ["127.0.0.1"]}))
        assert (await client.ask(spoofed)).body == b"two"
        assert two.messages[-1]["x-forwarded-for"] == b"203.0.113.7, 127.0.0.1"
        assert (await client.ask(request("/", b"long"))).status == 413
        apply(
            balancer,
            {"listeners": {"web": {}}, "access_log": False, "routes": {"other.example": {"backends": [one.address]}}},
        )
        assert (await client.ask(GET)).status == 404


async def test_backends_that_are_new_wait_for_their_first_check() -> None:
    one = Backend(name="one")
    two = Backend((0.3, response(b"two")), name="two")
    check = {"path": "/health", "interval": "100ms", "timeout": "2s"}
    async with two, balancing(one, health_check=check) as balancer:
        await until(lambda: "backend_up" in balancer.events)
        apply(balancer, tree([one, two], health_check=check))
        assert {(await balancer.ask(GET)).body for _ in range(4)} == {b"one"}
        await until(lambda: all(backend.health == "up" for backend in balancer.balancer.engine.backends))
        assert {(await balancer.ask(GET)).body for _ in range(2)} == {b"one", b"two"}
        assert balancer.events.count("backend_up") == 2, "the one that stayed was not started again"


async def test_a_file_that_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lb.yaml"
    observer = Observer()
    async with Backend(name="one") as one, Backend(name="two") as two:
        path.write_text(yaml.safe_dump(tree([one])))
        balancer = LoadBalancer.from_file(path, plugins=Plugins.discover(extra=[observer]))
        server = Server(balancer, watch=False, signals=False, drain=0.5)
        serving = asyncio.create_task(server.serve())
        await server.started.wait()
        port = int(server.urls[0].rpartition(":")[2])
        async with await Client.connect(port) as client:
            assert (await client.ask(GET)).body == b"one"
            config, routes = balancer.config, balancer.routes
            for bad in (
                "routes: {",
                yaml.safe_dump(tree([two], strategy="no_such_strategy")),
                yaml.safe_dump(tree([two], timeouts={"connect": 3})),
                yaml.safe_dump(tree([])),
            ):
                path.write_text(bad)
                assert not await server.reload()
                assert observer.events[-1].kind == "config_refused"
                assert "lb.yaml" in observer.events[-1].message
                assert balancer.config is config
                assert balancer.routes is routes
                assert (await client.ask(GET)).body == b"one"
            path.unlink()
            assert not await server.reload()
            assert (await client.ask(GET)).body == b"one"
            path.write_text(yaml.safe_dump(tree([two])))
            assert await server.reload()
            assert observer.events[-1].kind == "config_loaded"
            assert (await client.ask(GET)).body == b"two"
        server.request_stop()
        assert await serving == 0
