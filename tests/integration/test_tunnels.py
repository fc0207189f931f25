"""Tunnels: how they end, what they hold, what they count as, and what a reload does to them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from lb_core import Exchange, hookimpl
from lb_core.balancer import LoadBalancer
from lb_core.config import config_from_tree
from lb_core.engine import tunnel as tunnels
from lb_core.plugins import Plugins
from lb_core.server import Server
from tests.integration.test_websocket import HELLO, SWITCHED, UPGRADE, tunnel
from tests.support.backends import Backend, Connection, Request
from tests.support.balancing import Running, balancing, tree, until
from tests.support.client import Client, reset
from tests.support.wire import request, response

LARGE = 12_000_000
"""More than the kernel takes on loopback on both sides of us together."""
HELD = 64 * 1024 + 256_000
"""What we hold for one direction: the mark, and the one read that passed it."""


async def switches(seen: Request) -> None:
    """Switch, and leave the connection to the test."""
    seen.write(SWITCHED)
    await asyncio.sleep(3600)


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[tuple[Running, Client, Connection]]:
    """A balancer, and both ends of a tunnel through it."""
    backend = Backend(switches)
    async with balancing(backend, **options) as balancer, await balancer.client() as client:
        assert (await client.ask(HELLO)).status == 101
        yield balancer, client, backend.connections[0]


def end_of(who: str, client: Client, backend: Connection) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The reader and writer of the client or the backend."""
    return (client.reader, client.writer) if who == "client" else (backend.reader, backend.writer)


async def write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write everything in good portions."""
    for start in range(0, len(data), 100_000):
        writer.write(data[start : start + 100_000])
        await writer.drain()


async def stuck(sent: Any) -> int:
    """Wait until a count stands still; returns it."""
    last = -1
    while last != sent():
        last = sent()
        await asyncio.sleep(0.15)
    return last


# how they end


@pytest.mark.parametrize("first", ["client", "backend"])
async def test_half_closed_the_other_direction_goes_on(first: str) -> None:
    async with opened() as (balancer, client, backend), asyncio.timeout(5):
        second = "backend" if first == "client" else "client"
        reader, writer = end_of(first, client, backend)
        other_reader, other_writer = end_of(second, client, backend)
        await write(writer, b"last words")
        writer.write_eof()
        assert await other_reader.read(100) == b"last words"
        assert await other_reader.read(100) == b""
        for index in range(5):
            await write(other_writer, b"%d" % index)
            assert await reader.read(100) == b"%d" % index
        assert not balancer.completed
        assert balancer.in_flight()
        other_writer.write_eof()
        assert await reader.read(100) == b""
        await until(lambda: balancer.completed)
        exchange = balancer.last
        assert (exchange.status, exchange.flags) == (101, ())
        assert {exchange.bytes_in, exchange.bytes_out} == {10, 5}


@pytest.mark.parametrize("who", ["client", "backend"])
@pytest.mark.parametrize("how", ["close", "half-close"])
async def test_what_was_sent_last_arrives(who: str, how: str) -> None:
    async with opened() as (balancer, client, backend), asyncio.timeout(15):
        _, writer = end_of(who, client, backend)
        reader, other = end_of("backend" if who == "client" else "client", client, backend)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        data = bytes(range(250)) * (LARGE // 250)
        writing = asyncio.create_task(write(writer, data))
        await asyncio.sleep(0.3)
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        reading = asyncio.create_task(reader.read())  # all of it may be more than the kernel holds
        await writing
        if how == "close":
            writer.close()
        else:
            writer.write_eof()
        assert await reading == data
        other.close()
        await until(lambda: balancer.completed)
        assert max(balancer.last.bytes_in, balancer.last.bytes_out) == LARGE


async def test_half_closed_and_silent_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnels, "HALF_CLOSED", 0.5)
    async with opened() as (balancer, client, _):
        client.writer.write_eof()
        begin = asyncio.get_running_loop().time()
        await until(lambda: balancer.completed)
        assert 0.5 < asyncio.get_running_loop().time() - begin < 2
        assert await client.end(within=0.5) == b""


@pytest.mark.parametrize("who", ["client", "backend"])
async def test_a_reset_ends_both_and_is_said(who: str) -> None:
    async with opened() as (balancer, client, backend):
        reset(end_of(who, client, backend)[1])
        await until(lambda: balancer.completed, within=0.2)
        assert balancer.last.flags == ("client_gone" if who == "client" else "reset",)
        if who == "client":
            await until(lambda: backend.reader.at_eof() or backend.reader.exception(), within=0.2)
        else:
            assert await client.end(within=0.2) == b""


async def fill(writer: asyncio.StreamWriter, ours: asyncio.Transport) -> None:
    """Write until we hold some bytes for an end that does not read: fewer than would press back."""
    while not ours.get_write_buffer_size():
        writer.write(b"x" * 10_000)
        await asyncio.sleep(0.001)
    assert ours.get_write_buffer_size() < 64 * 1024


def transport_to_the_backend(balancer: Running) -> asyncio.Transport:
    """Ours, of the only tunnel."""
    exchange = balancer.connections[0].exchange
    assert exchange is not None
    assert exchange.upstream is not None
    return exchange.upstream.transport


async def test_the_last_bytes_do_not_wait_for_ever_for_a_backend() -> None:
    async with opened() as (balancer, client, backend):
        backend.reader._transport.pause_reading()  # type: ignore[attr-defined]
        ours = transport_to_the_backend(balancer)
        await fill(client.writer, ours)
        client.reset()
        await until(lambda: balancer.completed, within=0.5)
        assert ours.get_write_buffer_size() > 0, "given a moment"
        await until(lambda: not ours.get_write_buffer_size(), within=tunnels.FLUSH + 0.5)


async def test_a_client_that_leaves_unseen_because_the_backend_takes_nothing() -> None:
    async with opened(timeouts={"idle": "500ms"}) as (balancer, client, backend):
        backend.reader._transport.pause_reading()  # type: ignore[attr-defined]
        writing = asyncio.create_task(client.send(b"x" * LARGE))
        await until(lambda: balancer.connections[0].held)
        client.reset()
        await writing
        await until(lambda: balancer.completed, within=3)
        assert balancer.last.flags == ("read_timeout",)


async def test_a_client_that_takes_nothing_is_cut() -> None:
    async with opened(listener={"timeouts": {"write": "500ms"}}) as (balancer, client, backend):
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        writing = asyncio.create_task(write(backend.writer, b"x" * LARGE))
        await until(lambda: balancer.completed, within=5)
        assert balancer.last.flags == ("write_timeout",)
        await asyncio.gather(writing, return_exceptions=True)


async def test_the_last_bytes_do_not_wait_for_ever_for_a_client() -> None:
    async with opened(listener={"timeouts": {"write": "500ms"}}) as (balancer, client, backend):
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        ours = balancer.connections[0].transport
        await fill(backend.writer, ours)
        reset(backend.writer)
        await until(lambda: balancer.completed)
        assert ours.get_write_buffer_size() > 0, "given a moment"
        await until(lambda: not balancer.connections, within=4)


# what they hold


@pytest.mark.parametrize("who", ["client", "backend", "both"])
async def test_who_does_not_read_is_not_read_for(who: str) -> None:
    async with opened() as (balancer, client, backend):
        stopped = ["client", "backend"] if who == "both" else [who]
        writing = []
        for each in stopped:
            end_of(each, client, backend)[0]._transport.pause_reading()  # type: ignore[attr-defined]
            other = "backend" if each == "client" else "client"
            writing.append(asyncio.create_task(write(end_of(other, client, backend)[1], b"x" * LARGE)))
        connection = balancer.connections[0]
        exchange = connection.exchange
        assert exchange is not None
        assert exchange.upstream is not None
        passed = await stuck(lambda: exchange.bytes_in + exchange.bytes_out)
        held = connection.transport.get_write_buffer_size(), exchange.upstream.transport.get_write_buffer_size()
        print(f"stopped reader ({who}): {held[0]} bytes held for the client, {held[1]} for the backend")
        assert all(size <= HELD for size in held)
        assert sum(size > 0 for size in held) == len(stopped)
        assert passed < LARGE * len(stopped)
        for each in stopped:
            end_of(each, client, backend)[0]._transport.resume_reading()  # type: ignore[attr-defined]
        reading = [asyncio.create_task(reader.read()) for reader in (client.reader, backend.reader)]
        await asyncio.gather(*writing)
        client.writer.write_eof()
        backend.writer.write_eof()
        whole = [LARGE if "client" in stopped else 0, LARGE if "backend" in stopped else 0]
        assert [len(await each) for each in reading] == whole


# what they count as


async def test_they_count_as_in_flight() -> None:
    one, two = Backend(tunnel, name="one"), Backend(tunnel, name="two")
    async with balancing(one, two, strategy="least_connections") as balancer:
        clients = [await balancer.client() for _ in range(10)]
        for index, client in enumerate(clients):
            assert (await client.ask(request(f"/{index}", b"", *UPGRADE))).status == 101
        counts = {backend.name: backend for backend in balancer.balancer.engine.backends}
        assert (counts["one"].in_flight, counts["two"].in_flight) == (5, 5)
        assert balancer.balancer.routes["*"].requests == 10
        for message in one.messages:
            clients[int(message.target[1:])].writer.close()
        await until(lambda: counts["one"].in_flight == 0)
        one.script = two.script = response(b"plain")
        for _ in range(4):
            await balancer.ask(request())
        assert len(one.requests) == 5 + 4, "requests go where no tunnels are"
        for client in clients:
            client.writer.close()
        await until(lambda: len(balancer.completed) == 14)
        assert (counts["one"].requests, counts["two"].requests) == (9, 5)


async def test_they_fill_a_backend() -> None:
    backend = Backend(tunnel)
    limited = {"url": "", "max_connections": 1}
    async with backend:
        limited["url"] = backend.address
        config = tree({"one": limited}, timeouts={"queue": "100ms"})
        async with balancing(config=config) as balancer, await balancer.client() as client:
            assert (await client.ask(HELLO)).status == 101
            assert (await balancer.ask(HELLO)).status == 503
            client.writer.close()
            await until(lambda: len(balancer.completed) == 2)
            backend.script = response(b"room again")
            assert (await balancer.ask(request())).status == 200


async def test_the_access_log_has_a_line_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    backend = Backend(tunnel)
    async with backend:
        config = tree([backend], top={"access_log": {"format": "json", "file": str(path)}})
        async with balancing(config=config) as balancer, await balancer.client() as client:
            await client.ask(HELLO)
            await client.reader.readexactly(8)
            await client.send(b"12345")
            await client.reader.readexactly(5)
            await asyncio.sleep(0.3)
            assert not balancer.completed
            client.writer.close()
            await until(lambda: balancer.completed)
    (line,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert (line["status"], line["bytes_in"], line["bytes_out"], line["flags"]) == (101, 5, 13, "")
    assert line["duration"] > 0.3


# what a reload does to them


def apply(balancer: Running, configuration: dict[str, Any]) -> None:
    configuration["listeners"]["web"]["address"] = f"127.0.0.1:{balancer.port}"
    balancer.balancer.apply(config_from_tree(configuration, balancer.balancer.plugins))


@pytest.mark.parametrize("how", ["drained", "removed"])
async def test_they_outlive_their_backend_s_place_in_the_pool(how: str) -> None:
    backend, other = Backend(tunnel, name="one"), Backend(name="other")
    async with other, balancing(backend) as balancer, await balancer.client() as client, asyncio.timeout(5):
        await client.ask(HELLO)
        leaving = balancer.balancer.engine.backends[0]
        for _ in range(3):
            apply(balancer, tree([other] if how == "removed" else [backend, other]))
            if how == "drained":
                balancer.balancer.routes["*"].pool.set_mode(leaving, "draining")
        await client.reader.readexactly(8)
        for size in (1, 500_000):
            await client.send(b"x" * size)
            assert await client.reader.readexactly(size) == b"x" * size
        assert (await balancer.ask(request())).body == b"other", "new requests go elsewhere"
        assert leaving.in_flight == 1
        client.writer.close()
        await until(lambda: leaving.in_flight == 0)
        await until(lambda: backend.connections[0].ended.is_set())
        assert [exchange.status for exchange in balancer.completed] == [200, 101]
        assert balancer.last.backend is leaving


async def test_a_listener_that_leaves_gives_them_its_grace(tmp_path: Path) -> None:
    path = tmp_path / "lb.yaml"
    async with Backend(tunnel) as backend:
        path.write_text(yaml.safe_dump(tree([backend])))
        balancer = LoadBalancer.from_file(path, plugins=Plugins.discover())
        server = Server(balancer, watch=False, signals=False, drain=1.0)
        serving = asyncio.create_task(server.serve())
        await server.started.wait()
        old = int(server.urls[0].rpartition(":")[2])
        async with await Client.connect(old) as client:
            await client.ask(HELLO)
            await client.reader.readexactly(8)
            path.write_text(yaml.safe_dump(tree([backend], listener={"address": "localhost:0"})))
            begin = asyncio.get_running_loop().time()
            assert await server.reload()
            with pytest.raises(ConnectionRefusedError):
                await Client.connect(old)
            await asyncio.sleep(0.4)
            await client.send(b"x")
            assert await client.reader.readexactly(1) == b"x", "it lives on during the grace"
            assert await client.end(within=2) == b""
            assert 0.9 < asyncio.get_running_loop().time() - begin < 2
            await until(lambda: backend.connections[0].ended.is_set(), within=0.5)
        server.request_stop()
        assert await serving == 0


# how they begin


BAD_SWITCHES = {
    "without Upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
    "without Connection": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    "to another protocol": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "to two": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n\r\n",
    "in HTTP/1.0": b"HTTP/1.0 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "with a length": SWITCHED[:-2] + b"Content-Length: 5\r\n\r\nhello",
    "chunked": SWITCHED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_SWITCHES)
async def test_a_switch_that_is_none_is_refused(name: str) -> None:
    backend = Backend(BAD_SWITCHES[name])
    async with balancing(backend) as balancer, await balancer.client() as client:
        assert (await client.ask(HELLO)).status == 502
        assert balancer.last.flags
        backend.script = response(b"and on")
        assert (await client.ask(request())).body == b"and on", "the client's connection goes on"
        assert len(backend.connections) == 2, "the backend's does not"


async def test_a_switch_says_no_length() -> None:
    backend = Backend(SWITCHED[:-2] + b"Content-Length: 0\r\n\r\n")
    async with balancing(backend) as balancer, await balancer.client() as client:
        answer = await client.ask(HELLO)
        assert answer.status == 101
        assert "content-length" not in answer
        client.writer.close()


REFUSALS = {
    200: response(b"a page"),
    401: response(b"who are you?", "WWW-Authenticate: Basic", status=401),
    426: response(b"version 13, please", "Sec-WebSocket-Version: 13", status=426),
    503: response(b"", "Retry-After: 1", status=503),
}


@pytest.mark.parametrize("status", REFUSALS)
async def test_an_answer_that_is_no_switch_passes(status: int) -> None:
    backend = Backend(REFUSALS[status])
    async with balancing(backend) as balancer, await balancer.client() as client:
        for _ in range(2):
            answer = await client.ask(HELLO)
            assert answer.status == status
            assert bytes(answer.raw) == REFUSALS[status]
        backend.script = tunnel
        assert (await client.ask(HELLO)).status == 101
        assert len(backend.connections) == 1, "all over one connection"


async def test_an_upgrade_has_no_body_and_is_a_get() -> None:
    backend = Backend()
    async with balancing(backend) as balancer, await balancer.client() as client:
        assert (await balancer.ask(request("/", b"body", *UPGRADE, method="GET"))).status == 400
        chunked = request("/", b"", *UPGRADE, "Transfer-Encoding: chunked") + b"0\r\n\r\n"
        assert (await balancer.ask(chunked)).status == 400
        assert not backend.requests
        assert (await client.ask(request("/", b"", *UPGRADE, "Content-Length: 0", method="POST"))).status == 200
        assert "upgrade" not in backend.messages[0]
        assert "connection" not in backend.messages[0]


async def test_negotiation_is_the_ends_own_affair() -> None:
    offers = 'permessage-deflate; client_max_window_bits, x-odd; a="b"', "chat.v2, chat.v1"
    chosen = b'Sec-WebSocket-Extensions: x-odd; a="b"\r\nSec-WebSocket-Protocol: chat.v1\r\n'
    backend = Backend(SWITCHED[:-2] + chosen + b"Sec-WebSocket-Accept: any\r\n\r\n")
    fields = (f"Sec-WebSocket-Extensions: {offers[0]}", f"Sec-WebSocket-Protocol: {offers[1]}", "Origin: null")
    async with balancing(backend) as balancer, await balancer.client() as client:
        answer = await client.ask(request("/", b"", *UPGRADE, *fields))
        assert bytes(answer.raw) == SWITCHED[:-2] + chosen + b"Sec-WebSocket-Accept: any\r\n\r\n"
        message = backend.messages[0]
        assert message["sec-websocket-extensions"].decode() == offers[0]
        assert message["sec-websocket-protocol"].decode() == offers[1]
        assert message["sec-websocket-version"] == b"13"
        assert message["origin"] == b"null"
        client.writer.close()


async def test_a_plugin_may_add_to_the_switch() -> None:
    class Cookie:
        @hookimpl
        def on_response(self, exchange: Exchange) -> None:
            exchange.response_headers["Set-Cookie"] = "seat=7"

    async with balancing(Backend(tunnel), plugins=[Cookie()]) as balancer, await balancer.client() as client:
        answer = await client.ask(HELLO)
        assert answer["set-cookie"] == b"seat=7"
        assert answer["upgrade"] == b"websocket"
        assert await client.reader.readexactly(8) == b"greeting"
        client.writer.close()


# without uvloop


@pytest.mark.parametrize(
    "test",
    [
        partial(test_half_closed_the_other_direction_goes_on, "client"),
        partial(test_half_closed_the_other_direction_goes_on, "backend"),
        partial(test_what_was_sent_last_arrives, "client", "half-close"),
        partial(test_what_was_sent_last_arrives, "backend", "close"),
        partial(test_a_reset_ends_both_and_is_said, "client"),
        partial(test_a_reset_ends_both_and_is_said, "backend"),
        test_the_last_bytes_do_not_wait_for_ever_for_a_backend,
        test_a_client_that_leaves_unseen_because_the_backend_takes_nothing,
        partial(test_who_does_not_read_is_not_read_for, "both"),
    ],
    ids=lambda test: " ".join((getattr(test, "func", test).__name__[5:], *getattr(test, "args", ()))),
)
def test_the_same_on_asyncio_s_own_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(test())
