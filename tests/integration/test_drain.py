"""SIGTERM: nothing that was asked goes unanswered, clients are told to leave, and the process ends with status 0."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.lb_process import LbProcess, free_port
from tests.integration.test_websocket import HELLO, tunnel
from tests.support.backends import Backend, Request
from tests.support.balancing import tree, until
from tests.support.client import Client
from tests.support.load import Load
from tests.support.wire import Cut, request, response

pytestmark = pytest.mark.timed
GET = request()


@contextlib.asynccontextmanager
async def process(
    path: Path, *backends: Backend, drain: str = "5s", **options: Any
) -> AsyncIterator[tuple[LbProcess, int]]:
    """`lb run` as a process of its own, before backends in this one."""
    port = free_port()
    path.write_text(yaml.safe_dump(tree(backends, listener={"address": f"127.0.0.1:{port}"}, **options)))
    started = LbProcess("run", "-c", str(path), "--drain", drain)
    try:
        await asyncio.to_thread(started.wait_for, "twice quits")
        yield started, port
    finally:
        await asyncio.to_thread(started.close)


async def status_of(started: LbProcess, within: float) -> int:
    """Its exit status, which must come in time."""
    return await asyncio.to_thread(started.wait, within)


async def slowly(seen: Request) -> None:
    await asyncio.sleep(0.02)
    seen.write(response(await seen.body()))


@pytest.mark.parametrize("connections", [1, 32])
async def test_sigterm_under_load_loses_nothing(tmp_path: Path, connections: int) -> None:
    async with Backend(slowly) as backend, process(tmp_path / "lb.yaml", backend) as (started, port):
        load = Load(port, connections=connections, reconnect=False)
        loading = asyncio.create_task(load.run())
        await until(lambda: load.total > 5 * connections)
        begin = time.monotonic()
        started.signal(signal.SIGTERM)
        await asyncio.wait_for(loading, 3)
        assert load.lost == []
        assert load.answers.keys() == {200}
        assert load.closed == connections, "each connection was told"
        assert load.total == len(backend.requests)
        assert await status_of(started, 3) == 0
        assert time.monotonic() - begin < 2
        assert "Traceback" not in started.errors


async def test_idle_connections_are_closed_and_the_slow_one_waited_for(tmp_path: Path) -> None:
    async def slow(seen: Request) -> None:
        if seen.message.target == b"/slow":
            await asyncio.sleep(1.0)
        seen.write(response(b"done"))

    async with (
        Backend(slow) as backend,
        process(tmp_path / "lb.yaml", backend) as (started, port),
        await Client.connect(port) as idle,
        await Client.connect(port) as silent,
        await Client.connect(port) as busy,
    ):
        await idle.ask(GET)
        await busy.send(request("/slow"))
        await until(lambda: any(message.target == b"/slow" for message in backend.messages))
        begin = time.monotonic()
        started.signal(signal.SIGTERM)
        assert await idle.end(within=0.8) == b""
        assert await silent.end(within=0.8) == b""
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(port)
        answer = await busy.answer()
        assert (answer.body, answer["connection"]) == (b"done", b"close")
        assert await status_of(started, 2) == 0
        assert time.monotonic() - begin < 1.0 + 1.0


async def test_uploads_and_downloads_under_way_are_finished(tmp_path: Path) -> None:
    async def both(seen: Request) -> None:
        body = await seen.body()
        seen.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for index in range(5):
            seen.write(b"1\r\n%d\r\n" % index)
            await asyncio.sleep(0.1)
        seen.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    async with (
        Backend(both) as backend,
        process(tmp_path / "lb.yaml", backend) as (started, port),
        await Client.connect(port) as client,
    ):
        await client.send(request("/", b"", "Content-Length: 6", method="POST") + b"abc")
        await until(lambda: backend.requests)
        started.signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        await client.send(b"def")
        answer = await client.answer(b"POST")
        assert answer.body == b"01234abcdef"
        assert answer["connection"] == b"close"
        assert await status_of(started, 2) == 0


async def test_requests_sent_ahead_are_not_begun(tmp_path: Path) -> None:
    async with (
        Backend((0.4, response(b"first"))) as backend,
        process(tmp_path / "lb.yaml", backend) as (started, port),
        await Client.connect(port) as client,
    ):
        await client.send(request("/1") + request("/2"))
        await until(lambda: backend.requests)
        started.signal(signal.SIGTERM)
        answer = await client.answer()
        assert (answer.body, answer["connection"]) == (b"first", b"close")
        assert await client.end() == b""
        assert await status_of(started, 2) == 0
        assert [message.target for message in backend.messages] == [b"/1"]


@pytest.mark.parametrize("second", [True, False], ids=["second signal", "end of the grace"])
async def test_what_does_not_end_is_cut(tmp_path: Path, second: bool) -> None:
    async with (
        Backend((30.0,)) as backend,
        process(tmp_path / "lb.yaml", backend, drain="30s" if second else "600ms") as (started, port),
        await Client.connect(port) as client,
    ):
        await client.send(GET)
        await until(lambda: backend.requests)
        begin = time.monotonic()
        started.signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert started.process.poll() is None
        if second:
            started.signal(signal.SIGTERM)
        with pytest.raises(Cut):
            await client.answer()
        assert await status_of(started, 2) == 0
        assert time.monotonic() - begin < 2
        await until(lambda: backend.connections[0].ended.is_set(), within=0.5)


async def test_a_tunnel_is_cut_at_the_end_of_the_grace(tmp_path: Path) -> None:
    async with (
        Backend(tunnel) as backend,
        process(tmp_path / "lb.yaml", backend, drain="800ms") as (started, port),
        await Client.connect(port) as client,
    ):
        await client.ask(HELLO)
        await client.reader.readexactly(8)
        started.signal(signal.SIGTERM)
        await asyncio.sleep(0.4)
        await client.send(b"x")
        assert await client.reader.readexactly(1) == b"x", "it lives on during the grace"
        assert await client.end(within=2) == b""
        assert await status_of(started, 2) == 0
