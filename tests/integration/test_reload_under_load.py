"""Twenty reloads of a real file under load: nothing lost, nothing refused, nothing forgotten, no tunnel cut."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from lb_core.balancer import LoadBalancer
from lb_core.plugins import Plugins
from lb_core.server import Server
from tests.integration.lb_process import LbProcess, free_port
from tests.integration.test_websocket import echo
from tests.support.backends import Backend, Request
from tests.support.balancing import Observer, until
from tests.support.client import Client
from tests.support.load import Load
from tests.support.wire import request, response

if TYPE_CHECKING:
    from tests.support.figures import Measured

GET = request()
RELOADS = 20


async def quickly(seen: Request) -> None:
    """An answer after a moment, with a body over which the backend may be recognised; /health is always well."""
    await asyncio.sleep(0.002)
    seen.write(response(b"fine", "X-Backend: fine"))


class File:
    """A configuration file that changes: a route's answerer, timeouts, a second listener that comes and goes."""

    def __init__(self, path: Path, port: int, extra: int, *, one: Backend, two: Backend, sockets: str) -> None:
        self.path = path
        self.port = port
        self.extra = extra
        self.one, self.two = one, two
        self.sockets = sockets

    def write(self, index: int) -> None:
        """The file as of reload `index`."""
        # the load counts every connection that is closed, so none may reach its number of requests
        listeners: dict[str, Any] = {"web": {"address": f"127.0.0.1:{self.port}", "limits": {"requests": 0}}}
        if index % 2:
            listeners["more"] = {"address": f"127.0.0.1:{self.extra}"}
        routes: dict[str, Any] = {
            "example.com": {
                "backends": {"one": self.one.address, "two": self.two.address},
                "health_check": {"path": "/health", "interval": "10s"},
                "timeouts": {"connect": f"{index + 1}s"},
                "ejection": {"duration": "60s"},
            },
            "sockets.example": {"backends": [self.sockets]},
            "changing.example": {"backends": [(self.one, self.two)[index % 2].address]},
            f"only-{index}.example": {"backends": [self.one.address]},
        }
        self.path.write_text(yaml.safe_dump({"listeners": listeners, "access_log": False, "routes": routes}))


async def newcomers(port: int, stop: asyncio.Event, answered: list[int]) -> None:
    """A connection a request, none of which may be refused or lost."""
    while not stop.is_set():
        async with await Client.connect(port) as client:
            answered.append((await client.ask(GET)).status)


@contextlib.asynccontextmanager
async def under_load(port: int) -> AsyncIterator[tuple[Load, list[int]]]:
    """Kept connections and new ones, all asking; on leaving, nothing may have been lost or refused."""
    load, stop = Load(port, connections=16, pause=0.002), asyncio.Event()
    answered: list[int] = []
    tasks = [asyncio.create_task(load.run())]
    tasks += [asyncio.create_task(newcomers(port, stop, answered)) for _ in range(4)]
    await until(lambda: load.total > 50 and len(answered) > 10, within=10)
    yield load, answered
    load.stop()
    stop.set()
    await asyncio.gather(*tasks)
    assert load.lost == []
    assert load.answers.keys() == {200}
    assert load.closed == 0, "no kept connection was told to leave"
    assert set(answered) == {200}


async def test_twenty_reloads_lose_nothing_and_forget_nothing(tmp_path: Path, measured: Measured) -> None:
    observer = Observer()
    async with (
        Backend(quickly, name="one") as one,
        Backend(quickly, name="two") as two,
        serve(echo, "127.0.0.1", 0) as sockets,
    ):
        address = f"127.0.0.1:{sockets.sockets[0].getsockname()[1]}"
        file = File(tmp_path / "lb.yaml", free_port(), free_port(), one=one, two=two, sockets=address)
        file.write(0)
        balancer = LoadBalancer.from_file(file.path, plugins=Plugins.discover(extra=[observer]))
        server = Server(balancer, watch=False, signals=False, drain=2)
        serving = asyncio.create_task(server.serve())
        await server.started.wait()
        await until(lambda: all(each.health == "up" for each in balancer.pools["example.com"].backends))
        async with (
            under_load(file.port) as (load, answered),
            connect("ws://sockets.example/", host="127.0.0.1", port=file.port, proxy=None) as socket,
        ):
            pool = balancer.pools["example.com"]
            backends, checks = pool.backends, observer_count(observer, "backend_up")
            pool.eject(backends[1], "for the test")
            for index in range(1, RELOADS + 1):
                seen = balancer.routes["example.com"].requests, backends[0].requests
                file.write(index)
                assert await server.reload()
                assert balancer.pools["example.com"].backends == backends, "the same objects"
                assert (balancer.routes["example.com"].requests, backends[0].requests) >= seen
                assert [each.state for each in backends] == ["up", "ejected"]
                await changed(file, index)
                await socket.send(f"still there {index}")
                assert await asyncio.wait_for(socket.recv(), 2) == f"still there {index}"
                await asyncio.sleep(0.02)
            assert observer_count(observer, "backend_up") == checks, "no check began anew"
            assert backends[1].in_flight == 0
        total = load.total + len(answered)
        assert balancer.routes["example.com"].requests == total
        assert sum(each.requests for each in backends) == total
        assert observer_count(observer, "config_loaded") == RELOADS
        server.request_stop()
        assert await asyncio.wait_for(serving, 3) == 0
    measured(f"{RELOADS} reloads under load", f"0 of {total} lost, 0 refused; WebSocket, counters and states kept")


def observer_count(observer: Observer, kind: str) -> int:
    """How many events of a kind there have been."""
    return sum(event.kind == kind for event in observer.events)


async def changed(file: File, index: int) -> None:
    """The new file is in force: the changed route, the one that came and the one that went, the second listener."""
    before = len(file.two.requests)
    async with await Client.connect(file.port) as client:
        assert (await client.ask(request(host="changing.example"))).status == 200
        assert len(file.two.requests) == before + index % 2
        assert (await client.ask(request(host=f"only-{index}.example"))).status == 200
        assert (await client.ask(request(host=f"only-{index - 1}.example"))).status == 404
    if index % 2:
        async with await Client.connect(file.extra) as client:
            assert (await client.ask(request(host="changing.example"))).status == 200
    else:
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(file.extra)


@contextlib.asynccontextmanager
async def process(file: File) -> AsyncIterator[LbProcess]:
    """`lb run` with this file."""
    started = LbProcess("run", "-c", str(file.path), "--drain", "5s")
    try:
        await asyncio.to_thread(started.wait_for, "twice quits")
        yield started
    finally:
        await asyncio.to_thread(started.close)


async def test_twenty_signals_lose_nothing(tmp_path: Path, measured: Measured) -> None:
    """The same with a process of its own and SIGHUP, some of them faster than a reload takes."""
    async with Backend(quickly, name="one") as one, Backend(quickly, name="two") as two:
        file = File(tmp_path / "lb.yaml", free_port(), free_port(), one=one, two=two, sockets=one.address)
        file.write(0)
        async with process(file) as started:
            async with under_load(file.port) as (load, answered):
                for index in range(1, RELOADS + 1):
                    file.write(index)
                    started.signal(signal.SIGHUP)
                    await asyncio.sleep(0.2 if index % 5 else 0)
                async with await Client.connect(file.port) as client:
                    last = request(host=f"only-{RELOADS}.example")
                    async with asyncio.timeout(5):
                        while (await client.ask(last)).status != 200:
                            await asyncio.sleep(0.05)
            started.signal(signal.SIGTERM)
            assert await asyncio.to_thread(started.wait, 5) == 0, started.errors
            assert "Traceback" not in started.errors
    measured(f"{RELOADS} times SIGHUP under load", f"0 of {load.total + len(answered)} lost, 0 refused")


async def test_a_file_that_is_gone_broken_and_repaired(tmp_path: Path, measured: Measured) -> None:
    """Without any signal: a moment without the file is no change, a broken one is refused aloud, a good one taken."""
    async with Backend(quickly, name="one") as one, Backend(quickly, name="two") as two:
        file = File(tmp_path / "lb.yaml", free_port(), free_port(), one=one, two=two, sockets=one.address)
        file.write(0)
        async with process(file) as started, under_load(file.port):
            aside = tmp_path / "aside.yaml"
            file.path.rename(aside)
            await asyncio.sleep(1.5)
            aside.rename(file.path)
            await asyncio.sleep(1.5)
            assert "refused" not in started.errors
            file.path.write_text("routes:\n  example.com: {backends: [")
            await asyncio.to_thread(started.wait_for, "the previous configuration goes on", within=5)
            refusal = started.errors.partition("lb.yaml:2")
            assert refusal[1], f"the line is named: {started.errors}"
            file.write(1)
            async with await Client.connect(file.port) as client:
                async with asyncio.timeout(5):
                    while (await client.ask(request(host="only-1.example"))).status != 200:
                        await asyncio.sleep(0.1)
                assert (await client.ask(request(host="only-0.example"))).status == 404
            assert "Traceback" not in started.errors
    measured("configuration gone for 1.5 s, broken, repaired", "nothing lost, the old one served on, the line named")
