"""Going down under load, again and again: whoever was heard is answered, whoever stays is told to leave."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from lb_core import Exchange, hookimpl
from lb_core.balancer import LoadBalancer
from lb_core.server import Server
from tests.integration.lb_process import free_port
from tests.integration.test_drain import process, status_of
from tests.support.backends import Backend, Request
from tests.support.balancing import balancing, tree, until
from tests.support.client import Client
from tests.support.load import Load
from tests.support.wire import Cut, request, response

if TYPE_CHECKING:
    from tests.support.figures import Measured

pytestmark = pytest.mark.timed
GET = request()


async def quickly(seen: Request) -> None:
    """An answer after as long as a small application takes."""
    await asyncio.sleep(0.005)
    seen.write(response(b"done"))


class Turns:
    """Processes start while another ends; what is measured of one is measured of one at a time."""

    def __init__(self) -> None:
        self.starting = asyncio.Semaphore(2)
        self.ending = asyncio.Lock()


async def go_down(path: Path, connections: int, turns: Turns) -> tuple[Load, float]:
    """SIGTERM while so many kept connections ask; returns the load and how long the end took."""
    async with turns.starting, Backend(quickly) as backend, process(path, backend) as (started, port), turns.ending:
        load = Load(port, connections=connections, reconnect=False)
        loading = asyncio.create_task(load.run())
        await until(lambda: load.total > 2 * connections, within=10)
        begin = time.monotonic()
        started.signal(signal.SIGTERM)
        await asyncio.wait_for(loading, 5)
        assert await status_of(started, 5) == 0
        assert load.total == len(backend.requests), "each was sent once and answered"
        return load, time.monotonic() - begin


@pytest.mark.slow
@pytest.mark.parametrize("connections", [32, 200])
async def test_twenty_ends_under_load_lose_nothing(tmp_path: Path, connections: int, measured: Measured) -> None:
    total = closed = 0
    longest = 0.0
    turns = Turns()
    ends = [go_down(tmp_path / f"{number}.yaml", connections, turns) for number in range(20)]
    for load, took in await asyncio.gather(*ends):
        assert load.lost == []
        assert load.answers.keys() == {200}
        total, closed, longest = total + load.total, closed + load.closed, max(longest, took)
    assert closed == 20 * connections, "each connection was told with its last answer"
    assert longest < 1.5
    what = f"SIGTERM, 20 times, {connections} kept connections"
    measured(what, f"0 of {total} lost, ended in {longest:.2f} s at most")


@pytest.mark.slow
async def test_newcomers_are_served_or_refused_and_nothing_between(tmp_path: Path, measured: Measured) -> None:
    """A client whose connection was made is answered, though the sockets close at just that moment."""
    answered = refused = 0
    lost: list[str] = []

    async def come(port: int) -> None:
        nonlocal answered, refused
        while True:
            try:
                client = await Client.connect(port)
            except (ConnectionRefusedError, ConnectionResetError):  # reset: its handshake was not complete
                refused += 1
                return
            async with client:
                try:
                    assert (await client.ask(GET)).status == 200
                    answered += 1
                except (Cut, TimeoutError) as error:
                    lost.append(f"{type(error).__name__} {error}")

    async def go(path: Path, turns: Turns) -> None:
        async with turns.starting, Backend(quickly) as backend, process(path, backend) as (started, port), turns.ending:
            coming = [asyncio.create_task(come(port)) for _ in range(64)]
            before = answered
            await until(lambda: answered > before + 200, within=10)
            started.signal(signal.SIGTERM)
            await asyncio.wait_for(asyncio.gather(*coming), 5)
            assert await status_of(started, 5) == 0

    turns = Turns()
    await asyncio.gather(*[go(tmp_path / f"{number}.yaml", turns) for number in range(10)])
    assert lost == []
    assert refused == 640
    measured("SIGTERM, 10 times, a connection a request", f"0 of {answered} lost, newcomers refused at once")


async def test_idle_connections_are_closed_at_once(tmp_path: Path, measured: Measured) -> None:
    async with Backend() as backend, process(tmp_path / "lb.yaml", backend, drain="30s") as (started, port):
        idle = [await Client.connect(port) for _ in range(100)]
        for client in idle[:50]:
            await client.ask(GET)  # the others never say a word
        begin = time.monotonic()
        started.signal(signal.SIGTERM)
        ends = await asyncio.gather(*[client.end(within=2) for client in idle])
        took = time.monotonic() - begin
        assert ends == [b""] * 100
        assert took < 0.5
        assert await status_of(started, 2) == 0
        whole = time.monotonic() - begin
        assert whole < 1.0
        for client in idle:
            client.writer.close()
    measured("SIGTERM, 100 idle connections", f"closed in {took:.2f} s, ended in {whole:.2f} s")


@pytest.mark.parametrize("seconds", [0.5, 1.5])
async def test_the_end_comes_with_the_longest_request(tmp_path: Path, seconds: float, measured: Measured) -> None:
    async with (
        Backend((seconds, response(b"long"))) as backend,
        process(tmp_path / "lb.yaml", backend, drain="30s") as (started, port),
        await Client.connect(port) as client,
    ):
        await client.send(GET)
        await until(lambda: backend.requests)
        begin = time.monotonic()
        started.signal(signal.SIGTERM)
        answer = await client.answer()
        assert (answer.body, answer["connection"]) == (b"long", b"close")
        assert await status_of(started, 5) == 0
        took = time.monotonic() - begin
    assert took < seconds + 0.5
    measured(f"SIGTERM, a request of {seconds:g} s", f"answered, ended in {took:.2f} s")


@pytest.mark.parametrize("how", ["grace", "second signal", "second signal at once"])
async def test_what_would_last_is_cut(tmp_path: Path, how: str, measured: Measured) -> None:
    drain = "1s" if how == "grace" else "30s"
    async with (
        Backend((10.0, response(b"late"))) as backend,
        process(tmp_path / "lb.yaml", backend, drain=drain) as (started, port),
        await Client.connect(port) as client,
    ):
        await client.send(GET)
        await until(lambda: backend.requests)
        begin = time.monotonic()
        started.signal(signal.SIGTERM)
        if how != "grace":
            await asyncio.sleep(0.2 if how == "second signal" else 0)
            started.signal(signal.SIGINT)
        with pytest.raises(Cut):
            await client.answer()
        assert await status_of(started, 5) == 0
        took = time.monotonic() - begin
        assert "Traceback" not in started.errors
    assert took < 1.5 if how == "grace" else took < 0.8
    measured(f"SIGTERM, a request of 10 s, {how}", f"cut, status 0, ended in {took:.2f} s")


async def test_a_connection_made_in_the_last_moment_is_told_too(tmp_path: Path) -> None:
    """Connections that were still in the kernel's queue when the signal came do not hold up the end."""
    async with Backend(quickly) as backend, process(tmp_path / "lb.yaml", backend, drain="20s") as (started, port):
        load = Load(port, connections=100, reconnect=False, pause=0.02)
        started.signal(signal.SIGSTOP)
        loading = asyncio.create_task(load.run())
        await asyncio.sleep(0.3)  # 100 connections wait to be accepted
        started.signal(signal.SIGTERM)
        started.signal(signal.SIGCONT)
        begin = time.monotonic()
        await asyncio.wait_for(loading, 10)
        assert load.lost == []
        assert load.closed == 100
        assert await status_of(started, 5) == 0
        assert time.monotonic() - begin < 2.0


class Busy:
    """Holds up the loop for half a second."""

    @hookimpl
    def before_request(self, exchange: Exchange) -> None:
        if exchange.path == "/busy":
            time.sleep(0.5)


@pytest.mark.parametrize("why", ["the end", "idle for too long"])
async def test_a_request_that_came_in_time_is_not_closed_upon(why: str) -> None:
    """The loop is busy while the time of an idle connection passes; a request that the kernel holds by then counts."""
    listener = {"timeouts": {"keep_alive": "500ms"}}
    async with balancing(Backend(), plugins=[Busy()], listener=listener, drain=5) as balancer:
        with socket.create_connection(("127.0.0.1", balancer.port), timeout=5) as kept:
            kept.sendall(GET)
            assert (await asyncio.to_thread(kept.recv, 65536)).startswith(b"HTTP/1.1 200")
            (idle,) = balancer.connections
            async with await balancer.client() as client:
                if why == "the end":
                    balancer.server.request_stop()
                    await asyncio.sleep(0.1)
                else:
                    await asyncio.sleep(idle.deadline - time.monotonic() - 0.2)
                threading.Timer(0.3, kept.sendall, [GET]).start()
                await client.send(request("/busy"))
                answer = await asyncio.to_thread(kept.recv, 65536)
        assert answer.startswith(b"HTTP/1.1 200")
        assert (b"Connection: close" in answer) == (why == "the end")


async def test_a_second_signal_also_ends_what_a_reload_has_left_behind(tmp_path: Path) -> None:
    """A request over a listener that is gone since the last reload is drained and cut like any other."""
    path, other = tmp_path / "lb.yaml", free_port()
    async with Backend((20.0,)) as backend, process(path, backend, drain="20s") as (started, port):
        plain = yaml.safe_load(path.read_text())
        two = {**plain, "listeners": {**plain["listeners"], "other": {"address": f"127.0.0.1:{other}"}}}
        path.write_text(yaml.safe_dump(two))
        started.signal(signal.SIGHUP)
        await asyncio.to_thread(started.wait_for, "other listens on")
        async with await Client.connect(other) as client:
            await client.send(GET)
            await until(lambda: backend.requests)
            path.write_text(yaml.safe_dump(plain))
            started.signal(signal.SIGHUP)
            await refused(other)
            assert await client.silent(), "its request goes on"
            begin = time.monotonic()
            started.signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            assert started.process.poll() is None
            started.signal(signal.SIGTERM)
            assert await client.end(within=1) == b""
            assert await status_of(started, 5) == 0
            assert time.monotonic() - begin < 1.5
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port):
        pass  # the port is free again


async def test_a_reload_during_the_end_opens_nothing(tmp_path: Path) -> None:
    path, other = tmp_path / "lb.yaml", free_port()
    async with (
        Backend((1.0, response(b"done"))) as backend,
        process(path, backend) as (started, port),
        await Client.connect(port) as client,
    ):
        await client.send(GET)
        await until(lambda: backend.requests)
        started.signal(signal.SIGTERM)
        await refused(port)
        plain = yaml.safe_load(path.read_text())
        plain["listeners"]["other"] = {"address": f"127.0.0.1:{other}"}
        path.write_text(yaml.safe_dump(plain))
        started.signal(signal.SIGHUP)
        assert (await client.answer()).body == b"done"
        await refused(other)
        assert await status_of(started, 5) == 0
        assert "other listens" not in started.errors


async def test_the_end_may_come_while_a_reload_is_under_way(tmp_path: Path) -> None:
    path = tmp_path / "lb.yaml"
    async with Backend(quickly) as backend:
        path.write_text(yaml.safe_dump(tree([backend])))
        server = Server(LoadBalancer.from_file(path), watch=False, signals=False, drain=2)
        serving = asyncio.create_task(server.serve())
        await server.started.wait()
        reloading = asyncio.create_task(server.reload())
        await asyncio.sleep(0)  # it has read the file, and looks after the listeners in a moment
        server.request_stop()
        assert await reloading
        assert await asyncio.wait_for(serving, 2) == 0


async def refused(port: int) -> None:
    """Wait until nobody listens on a port."""
    async with asyncio.timeout(5):
        while True:
            try:
                client = await Client.connect(port)
            except (ConnectionRefusedError, ConnectionResetError):  # reset: the end came within its handshake
                return
            async with client:
                await asyncio.sleep(0.02)
