"""The endpoint that says whether this node takes traffic, and the delay between saying `no` and refusing."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lb_core.balancer import LoadBalancer
from lb_core.config import config_from_tree
from lb_core.errors import StartError
from lb_core.hooks import hookimpl
from lb_core.plugins import Plugins
from lb_core.server import Server
from tests.integration.lb_process import LbProcess, backend, free_port, get, wait_until
from tests.integration.worker_process import children
from tests.support.backends import Backend
from tests.support.balancing import until
from tests.support.client import Client
from tests.support.load import Load
from tests.support.slow import descriptors
from tests.support.wire import request, response

READY: dict[str, Any] = {"ready": True}


def ask(port: int, path: str = "/ready", method: str = "GET") -> tuple[int, dict[str, Any] | None]:
    """What the endpoint says: the status, and the body where there is one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


async def asked(port: int, path: str = "/ready", method: str = "GET") -> tuple[int, dict[str, Any] | None]:
    """The same beside a running loop."""
    return await asyncio.to_thread(ask, port, path, method)


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) != 0


@contextlib.asynccontextmanager
async def serving(tree: dict[str, Any], *plugins: object, **options: Any) -> AsyncIterator[Server]:
    """A server in this process, which is stopped on leaving."""
    found = Plugins.discover(extra=plugins)
    balancer = LoadBalancer(config_from_tree({"access_log": False, **tree}, found), plugins=found)
    server = Server(balancer, watch=False, signals=False, drain=2, **options)
    task = asyncio.create_task(server.serve())
    started = asyncio.create_task(server.started.wait())
    await asyncio.wait((task, started), return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    try:
        yield server
    finally:
        server.request_stop()
        server.request_stop()
        await asyncio.wait_for(task, 5)


def tree(port: int | None, **options: Any) -> dict[str, Any]:
    """A configuration with a readiness endpoint and one route."""
    return {
        "listeners": {"web": {"address": "127.0.0.1:0"}},
        "routes": {"*": ["127.0.0.1:9"]},
        **({"readiness": f"127.0.0.1:{port}"} if port else {}),
        **options,
    }


async def test_what_it_answers() -> None:
    port = free_port()
    async with serving(tree(port)) as server:
        assert await asked(port) == (200, READY)
        assert await asked(port, "/live") == (200, {"live": True})
        assert await asked(port, "/ready?from=keepalived") == (200, READY)
        assert await asked(port, method="HEAD") == (200, None)
        assert (await asked(port, "/"))[0] == 404
        assert (await asked(port, method="POST"))[0] == 405
        assert server.balancer.node.drain()
        assert await asked(port) == (503, {"ready": False, "reason": "draining"})
        assert await asked(port, method="HEAD") == (503, None)
        assert await asked(port, "/live") == (200, {"live": True})
        assert server.balancer.node.resume()
        server.balancer.node.has_workers(False)
        assert await asked(port) == (503, {"ready": False, "reason": "no_worker"})
        server.balancer.node.has_workers(True)
        assert await asked(port) == (200, READY)
    assert refuses(port)


async def test_it_says_starting_until_every_listener_accepts() -> None:
    port, enter = free_port(), asyncio.Event()

    class Slow:
        @hookimpl
        def lifespan(self, balancer: object) -> contextlib.AbstractAsyncContextManager[None]:
            @contextlib.asynccontextmanager
            async def entered() -> AsyncIterator[None]:
                await enter.wait()
                yield

            return entered()

    found = Plugins.discover(extra=[Slow()])
    balancer = LoadBalancer(config_from_tree(tree(port), found), plugins=found)
    server = Server(balancer, watch=False, signals=False)
    task = asyncio.create_task(server.serve())
    await until(lambda: not refuses(port))
    assert await asked(port) == (503, {"ready": False, "reason": "starting"})
    assert await asked(port, "/live") == (200, {"live": True})
    enter.set()
    await asyncio.wait_for(server.started.wait(), 5)
    assert await asked(port) == (200, READY)
    server.request_stop()
    assert await asyncio.wait_for(task, 5) == 0


async def test_a_taken_port_and_a_bad_address_end_the_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"readiness.*port {port} on 127.0.0.1 is taken"):
            await Server(LoadBalancer(config_from_tree(tree(port))), signals=False).serve()
    bad = tree(None, readiness="192.0.2.1:8081")
    with pytest.raises(StartError, match=r"192\.0\.2\.1 is no address of this machine"):
        await Server(LoadBalancer(config_from_tree(bad)), signals=False).serve()


async def test_a_reload_moves_it_and_a_port_that_is_taken_changes_nothing() -> None:
    first, second = free_port(), free_port()
    async with serving(tree(None)) as server:
        balancer = server.balancer
        events: list[str] = []
        balancer.plugins.add(Hearing(events), "hearing")

        async def reload(new: dict[str, Any]) -> None:
            balancer.apply(config_from_tree({"access_log": False, **new}, balancer.plugins))
            await server.standing.reloaded()

        await reload(tree(first))
        assert await asked(first) == (200, READY)
        await reload(tree(first, no_route_status=410))
        assert await asked(first) == (200, READY)
        await reload(tree(second))
        assert refuses(first)
        assert await asked(second) == (200, READY)
        await reload(tree(None, readiness=f":{second}"))
        assert await asked(second) == (200, READY)
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", first))
            taken.listen()
            await reload(tree(first))
        assert "listener_failed" in events
        assert await asked(second) == (200, READY)
        await reload(tree(None))
        assert refuses(second)


class Hearing:
    """Notes the kinds of events."""

    def __init__(self, kinds: list[str]) -> None:
        self._kinds = kinds

    @hookimpl
    def on_event(self, event: Any) -> None:
        """Note it."""
        self._kinds.append(event.kind)


async def test_whoever_asks_badly_is_cut_and_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred silent connections, and heads without an end."""
    from lb_core import readiness

    monkeypatch.setattr(readiness, "SECONDS", 0.4)
    port = free_port()
    async with Backend(response(b"fine")) as fine, serving(tree(port, routes={"*": [fine.address]})) as server:
        before = descriptors(os.getpid())
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
        await asyncio.sleep(0.05)
        assert descriptors(os.getpid()) - before <= 100 + readiness.CONNECTIONS + 2
        async with await Client.connect(int(server.urls[0].rpartition(":")[2])) as client:
            assert (await client.ask(request())).status == 200
        for reader, _ in silent:
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 3) == b""
        for _, writer in silent:
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /ready HTTP/1.1\r\nHost: x\r\n" + b"X-Long: " + b"x" * 20_000)
        with contextlib.suppress(ConnectionError):
            assert not (await asyncio.wait_for(reader.read(), 3)).startswith(b"HTTP/1.1 200")
        writer.close()
        assert await asked(port) == (200, READY)


@contextlib.contextmanager
def process(path: Path, **options: Any) -> Iterator[tuple[LbProcess, int, int]]:
    """`lb run` with an endpoint: the process, its port, that of the endpoint."""
    port, ready = free_port(), free_port()
    content = tree(ready, listeners={"web": {"address": f"127.0.0.1:{port}"}}, access_log=False, **options)
    path.write_text(yaml.safe_dump(content))
    started = LbProcess("run", "-c", str(path), "--drain", "5s")
    try:
        started.wait_for("twice quits")
        yield started, port, ready
    finally:
        started.close()


@pytest.mark.timed
async def test_connections_are_accepted_for_the_delay_and_nothing_is_lost(tmp_path: Path) -> None:
    async with Backend(response(b"fine")) as fine:
        with process(tmp_path / "lb.yaml", routes={"*": [fine.address]}, shutdown_delay="1s") as (started, port, ready):
            assert await asked(ready) == (200, READY)
            load = Load(port, connections=4, pause=0.005)
            loading = asyncio.create_task(load.run())
            await until(lambda: load.total > 20)
            begin = time.monotonic()
            started.signal(signal.SIGTERM)
            while (await asked(ready))[0] == 200:
                await asyncio.sleep(0.01)
            assert time.monotonic() - begin < 0.5
            assert await asked(ready) == (503, {"ready": False, "reason": "draining"})
            assert await asked(ready, "/live") == (200, {"live": True})
            closed = load.closed
            while time.monotonic() - begin < 0.8:
                async with await Client.connect(port) as client:
                    assert (await client.ask(request())).status == 200
            assert load.closed == closed, "no kept connection is told to leave during the delay"
            load.stop()
            await loading
            assert await asyncio.to_thread(started.wait, 5) == 0
            assert 1.0 <= time.monotonic() - begin < 3.0
            assert load.lost == []
            assert load.answers.keys() == {200}
            assert "leaving: not ready; connections are accepted for 1s more" in started.errors


@pytest.mark.timed
def test_a_second_signal_skips_the_delay_and_a_third_the_drain(tmp_path: Path) -> None:
    with (
        backend("slow", latency_ms=20_000) as slow,
        process(tmp_path / "lb.yaml", routes={"*": [slow.address]}, shutdown_delay="30s") as (started, port, ready),
        socket.create_connection(("127.0.0.1", port)) as client,
    ):
        client.sendall(request())
        started.signal(signal.SIGTERM)
        wait_until(lambda: ask(ready)[0] == 503)
        started.signal(signal.SIGTERM)
        started.wait_for("shutdown: draining")
        assert refuses(port)
        assert ask(ready) == (503, {"ready": False, "reason": "draining"})
        assert started.process.poll() is None, "one request is under way"
        started.signal(signal.SIGTERM)
        assert started.wait(5) == 0
        client.settimeout(5)
        assert client.recv(100) == b""


def test_without_it_nothing_listens(tmp_path: Path) -> None:
    with backend("one") as one:
        port = free_port()
        path = tmp_path / "lb.yaml"
        path.write_text(yaml.safe_dump(tree(None, listeners={"web": f"127.0.0.1:{port}"}, routes={"*": [one.address]})))
        started = LbProcess("run", "-c", str(path))
        try:
            started.wait_for("twice quits")
            assert get(port) == (200, "one")
            listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            own = {
                target
                for each in Path(f"/proc/{started.process.pid}/fd").iterdir()
                if (target := str(each.readlink())).startswith("socket:")
            }
            ports = [int(f[1].rpartition(":")[2], 16) for f in listening if f[3] == "0A" and f"socket:[{f[9]}]" in own]
            assert ports == [port]
        finally:
            started.close()


def test_without_any_worker_it_is_not_ready(tmp_path: Path) -> None:
    """Workers that end again and again are replaced after longer and longer pauses."""
    with (
        backend("one") as one,
        process(tmp_path / "lb.yaml", routes={"*": [one.address]}, workers=2) as (started, port, ready),
    ):
        assert ask(ready) == (200, READY)
        (nursery,) = children(started.process.pid)

        def gone() -> bool:
            for worker in children(nursery):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGALRM)
            return ask(ready) == (503, {"ready": False, "reason": "no_worker"})

        wait_until(gone, or_else=lambda: started.errors)
        assert ask(ready, "/live")[0] == 200
        wait_until(lambda: ask(ready) == (200, READY), or_else=lambda: started.errors)
        assert get(port) == (200, "one")
