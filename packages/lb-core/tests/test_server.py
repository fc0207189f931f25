"""The server in this process: listeners, drain and reload over real connections to real backends."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lb_core import LoadBalancer, hookimpl
from lb_core.config import config_from_tree
from lb_core.demo.backend import Site
from lb_core.errors import StartError
from lb_core.plugins import Plugins
from lb_core.server import Server, loop_factory

if TYPE_CHECKING:
    from lb_core.events import Event


class Heard:
    """A plugin that keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def free_port() -> int:
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port in 100 tries")


@asynccontextmanager
async def site(name: str = "blue", latency: float = 0.0) -> AsyncIterator[str]:
    """A real backend in this loop; what it is still thinking about at the end is forgotten."""
    serving = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(asyncio.CancelledError):
            await Site(name, latency).serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    tasks = [task for task in serving if task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks)


def balancer_on(backend: str, *ports: int) -> LoadBalancer:
    plugins = Plugins.discover(extra=[Heard()])
    listeners = {f"l{number}": {"address": f"127.0.0.1:{port}"} for number, port in enumerate(ports)}
    tree = {"listeners": listeners, "access_log": "off", "routes": {"*": [backend]}}
    return LoadBalancer(config_from_tree(tree, plugins), plugins=plugins)


def heard(balancer: LoadBalancer) -> Heard:
    found = next(each.object for each in balancer.plugins.loaded if isinstance(each.object, Heard))
    assert isinstance(found, Heard)
    return found


@asynccontextmanager
async def serving(balancer: LoadBalancer, **options: Any) -> AsyncIterator[Server]:
    server = Server(balancer, signals=False, **{"drain": 2.0, **options})
    stop = asyncio.Event()
    task = asyncio.create_task(server.serve(stop))
    started = asyncio.create_task(server.started.wait())
    await asyncio.wait((task, started), return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    try:
        if task.done():
            task.result()
        yield server
    finally:
        stop.set()
        assert await asyncio.wait_for(task, 10) == 0


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[int], Awaitable[Streams]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens connections to a port of 127.0.0.1, and closes them at the end."""
    writers = []

    async def open_connection(port: int) -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    yield open_connection
    for writer in writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def ask(streams: Streams, path: str = "/") -> tuple[int, dict[str, str]]:
    reader, writer = streams
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1")
    status, *lines = head.split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    await reader.readexactly(int(fields.get("content-length", "0")))
    return int(status.split()[1]), fields


async def get(port: int) -> int:
    streams = await asyncio.open_connection("127.0.0.1", port)
    try:
        return (await ask(streams))[0]
    finally:
        streams[1].close()


async def test_several_listeners_share_one_loop() -> None:
    first, second = free_port(), free_port()
    async with site() as backend:
        balancer = balancer_on(backend, first, second)
        async with serving(balancer) as server:
            assert server.urls == [f"http://127.0.0.1:{first}", f"http://127.0.0.1:{second}"]
            assert [await get(first), await get(second)] == [200, 200]
        assert heard(balancer).kinds().count("listener_open") == 2
        assert heard(balancer).kinds()[-1] == "shutdown"
        for port in (first, second):
            with pytest.raises(ConnectionRefusedError):
                await get(port)


async def test_port_0_takes_a_free_one_and_says_which() -> None:
    async with site() as backend, serving(balancer_on(backend, 0)) as server:
        (url,) = server.urls
        port = int(url.rpartition(":")[2])
        assert port > 0
        assert await get(port) == 200


async def test_a_drain_answers_what_is_in_flight_and_closes_idle_connections(connect: Connect) -> None:
    port = free_port()
    async with site(latency=0.6) as backend, serving(balancer_on(backend, port)) as server:
        idle = await connect(port)
        await ask(idle)
        busy = await connect(port)
        answer = asyncio.create_task(ask(busy))
        await asyncio.sleep(0.2)
        server.request_stop()
        assert await asyncio.wait_for(idle[0].read(), 1) == b""
        status, fields = await answer
        assert (status, fields["connection"].lower()) == (200, "close")
        assert await asyncio.wait_for(busy[0].read(), 1) == b""


async def test_a_connection_that_was_just_accepted_may_still_ask(connect: Connect) -> None:
    port = free_port()
    async with site() as backend, serving(balancer_on(backend, port)) as server:
        fresh = await connect(port)
        await asyncio.sleep(0.05)
        server.request_stop()
        await asyncio.sleep(0.05)
        status, fields = await ask(fresh)
        assert (status, fields["connection"].lower()) == (200, "close")


async def test_the_grace_has_an_end_and_what_is_left_is_cut(connect: Connect) -> None:
    port = free_port()
    async with site(latency=30) as backend:
        async with serving(balancer_on(backend, port), drain=0.3):
            stuck = await connect(port)
            answer = asyncio.create_task(ask(stuck))
            await asyncio.sleep(0.1)
            start = time.monotonic()
        assert time.monotonic() - start < 1.5
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await answer


async def test_a_second_request_to_stop_does_not_wait(connect: Connect) -> None:
    port = free_port()
    async with site(latency=30) as backend:
        async with serving(balancer_on(backend, port), drain=20.0) as server:
            stuck = await connect(port)
            answer = asyncio.create_task(ask(stuck))
            await asyncio.sleep(0.1)
            server.request_stop()
            await asyncio.sleep(0.1)
            server.request_stop()
            start = time.monotonic()
        assert time.monotonic() - start < 1.5
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await answer


async def test_a_taken_port_ends_the_start_and_closes_what_was_open() -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        balancer = balancer_on("127.0.0.1:9", port, taken.getsockname()[1])
        with pytest.raises(StartError, match="is taken"):
            await Server(balancer, signals=False).serve()
    with pytest.raises(ConnectionRefusedError):
        await get(port)
    assert heard(balancer).kinds() == []


async def test_plugins_run_from_before_the_first_request_to_after_the_last() -> None:
    seen: list[str] = []

    class Worker:
        @hookimpl
        def lifespan(self, balancer: LoadBalancer) -> Any:
            return work()

        @hookimpl
        def on_complete(self, exchange: Any) -> None:
            seen.append("request")

    @asynccontextmanager
    async def work() -> AsyncIterator[None]:
        seen.append("begin")
        yield
        seen.append("end")

    port = free_port()
    async with site(latency=0.2) as backend:
        plugins = Plugins.discover(extra=[Worker()])
        tree = {"listeners": {"web": f"127.0.0.1:{port}"}, "access_log": "off", "routes": {"*": [backend]}}
        async with serving(LoadBalancer(config_from_tree(tree, plugins), plugins=plugins)):
            asking = asyncio.create_task(get(port))
            await asyncio.sleep(0.1)
        assert await asking == 200
    assert seen == ["begin", "request", "end"]


async def test_a_plugin_that_cannot_start_ends_the_start_and_frees_the_port() -> None:
    class Broken:
        @hookimpl
        def lifespan(self, balancer: LoadBalancer) -> Any:
            return fail()

    @asynccontextmanager
    async def fail() -> AsyncIterator[None]:
        raise OSError("no disk")
        yield

    port = free_port()
    plugins = Plugins.discover(extra=[Broken()])
    tree = {"listeners": {"web": f"127.0.0.1:{port}"}, "access_log": "off", "routes": {"*": ["127.0.0.1:9"]}}
    with pytest.raises(Exception, match=r"Broken.*no disk"):
        await Server(LoadBalancer(config_from_tree(tree, plugins), plugins=plugins), signals=False).serve()
    with pytest.raises(ConnectionRefusedError):
        await get(port)


CONFIG = 'listeners: {{web: "127.0.0.1:{port}"{more}}}\naccess_log: {{format: "off"}}\nroutes: {{"*": [{backend}]}}\n'


def write(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


async def test_reload_opens_closes_and_keeps_listeners(tmp_path: Path, connect: Connect) -> None:
    kept, gone, new = free_port(), free_port(), free_port()
    file = tmp_path / "lb.yaml"
    async with site() as backend:
        write(file, CONFIG.format(port=kept, backend=backend, more=f', old: "127.0.0.1:{gone}"'))
        async with serving(LoadBalancer.from_file(file), watch=False) as server:
            staying = await connect(kept)
            leaving = await connect(gone)
            assert [(await ask(staying))[0], (await ask(leaving))[0]] == [200, 200]
            write(file, CONFIG.format(port=kept, backend=backend, more=f', new: "127.0.0.1:{new}"'))
            assert await server.reload()
            assert await get(new) == 200
            assert (await ask(staying))[0] == 200
            with pytest.raises(ConnectionRefusedError):
                await get(gone)
            assert await asyncio.wait_for(leaving[0].read(), 1) == b""


async def test_a_listener_may_move_to_another_address_of_the_same_port(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "lb.yaml"
    async with site() as backend:
        text = CONFIG.format(port=port, backend=backend, more="")
        write(file, text)
        async with serving(LoadBalancer.from_file(file), watch=False) as server:
            write(file, text.replace(f'"127.0.0.1:{port}"', f'"0.0.0.0:{port}"'))
            assert await server.reload()
            assert server.urls == [f"http://127.0.0.1:{port}"]
            assert await get(port) == 200


async def test_the_files_are_looked_at_and_a_bad_one_changes_nothing(tmp_path: Path, connect: Connect) -> None:
    port, file = free_port(), tmp_path / "lb.yaml"
    async with site("blue") as blue, site("green") as green:
        write(file, CONFIG.format(port=port, backend=blue, more=""))
        ear = Heard()
        balancer = LoadBalancer.from_file(file, plugins=Plugins.discover(extra=[ear]))
        async with serving(balancer):
            client = await connect(port)
            assert (await ask(client))[1]["x-backend"] == "blue"
            write(file, "routes: {a: {backend: [x]}}\n")
            await until(lambda: "config_refused" in ear.kinds())
            assert (await ask(client))[1]["x-backend"] == "blue"
            write(file, CONFIG.format(port=port, backend=green, more=""))
            await until(lambda: "config_loaded" in ear.kinds())
            assert (await ask(client))[1]["x-backend"] == "green"
        assert ear.kinds().count("config_refused") == 1


async def test_a_configuration_applied_by_somebody_else_moves_the_listeners_too() -> None:
    before, after = free_port(), free_port()
    async with site() as backend:
        balancer = balancer_on(backend, before)
        async with serving(balancer):
            assert await get(before) == 200
            balancer.apply(balancer_on(backend, after).config)
            await until(lambda: heard(balancer).kinds().count("listener_open") == 2)
            assert await get(after) == 200


async def test_a_reload_that_fails_in_our_own_code_changes_nothing_and_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> bool:
        raise ZeroDivisionError("the sky fell")

    port = free_port()
    async with site() as backend:
        balancer = balancer_on(backend, port)
        async with serving(balancer) as server:
            monkeypatch.setattr(balancer, "reload", broken)
            assert not await server.reload()
            assert await get(port) == 200
        assert [str(event) for event in heard(balancer).events if event.kind == "config_refused"] == [
            "config_refused: ZeroDivisionError: the sky fell"
        ]
    assert "the sky fell" in caplog.text


async def test_a_new_listener_that_cannot_be_opened_is_told_and_the_others_stay() -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with site() as backend:
            balancer = balancer_on(backend, port)
            async with serving(balancer):
                balancer.apply(balancer_on(backend, port, taken.getsockname()[1]).config)
                await until(lambda: "listener_failed" in heard(balancer).kinds())
                assert await get(port) == 200


async def until(condition: Any) -> None:
    async with asyncio.timeout(8):
        while not condition():
            await asyncio.sleep(0.05)


def test_the_limit_of_open_files_is_raised_to_what_the_system_allows() -> None:
    program = (
        "import resource\n"
        "from lb_core.server import raise_file_limit\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))\n"
        "raise_file_limit()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_the_loop_is_uvloops_and_asyncios_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = loop_factory()()
    assert type(loop).__module__ == "uvloop"
    loop.close()
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is asyncio.new_event_loop
