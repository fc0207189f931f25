"""Upgrades: a WebSocket becomes a tunnel after the backend's 101, and nothing else does."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.integration.lb_process import LbProcess, free_port
from tests.support.backends import Backend, Request
from tests.support.balancing import balancing, tree, until
from tests.support.client import reset
from tests.support.wire import Cut, request, response

if TYPE_CHECKING:
    import websockets

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Kept: 1\r\n\r\n"
HELLO = request("/chat", b"", *UPGRADE)
SOCKETS, TURNS = 1000, 5
PROTOCOLS = [Subprotocol("chat.v2"), Subprotocol("chat.v1")]


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        if message == "close":
            await connection.close(4001, "as you wish")
        await connection.send(message)


async def test_a_real_client_and_a_real_server() -> None:
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with balancing(address) as balancer:
            url = f"ws://127.0.0.1:{balancer.port}/chat"
            async with connect(url, max_size=None, proxy=None) as socket:
                for message in ("text", b"bytes", "", os.urandom(1_000_000), "x" * 70_000):
                    await socket.send(message)
                    assert await socket.recv() == message
                await (await socket.ping())
                assert balancer.balancer.engine.backends[0].in_flight == 1
                await asyncio.gather(*[socket.send(str(number)) for number in range(200)])
                assert [await socket.recv() for _ in range(200)] == [str(number) for number in range(200)]
                await socket.send("close")
                with pytest.raises(ConnectionClosed) as closed:
                    await socket.recv()
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you wish")
            await until(lambda: balancer.completed)
            assert balancer.last.status == 101
            assert balancer.last.bytes_in > 1_000_000 < balancer.last.bytes_out


async def test_compression_and_subprotocols_are_agreed_by_the_ends() -> None:
    async with serve(echo, "127.0.0.1", 0, max_size=None, subprotocols=PROTOCOLS[1:]) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with balancing(address) as balancer:
            url = f"ws://127.0.0.1:{balancer.port}/chat"
            async with connect(url, max_size=None, proxy=None, subprotocols=PROTOCOLS) as socket:
                assert socket.subprotocol == "chat.v1"
                assert [extension.name for extension in socket.protocol.extensions] == ["permessage-deflate"]
                message = "all work and no play " * 50_000
                for _ in range(2):
                    await socket.send(message)
                    assert await socket.recv() == message
            await until(lambda: balancer.completed)
            assert balancer.last.bytes_in < len(message) / 10, "it went through compressed"


async def test_large_messages_parts_and_pings_between() -> None:
    async with serve(echo, "127.0.0.1", 0, max_size=None, compression=None) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with balancing(address) as balancer:
            url = f"ws://127.0.0.1:{balancer.port}/chat"
            async with connect(url, max_size=None, proxy=None, compression=None) as socket:
                large = os.urandom(16 * 1024 * 1024)
                await socket.send(large)
                assert await socket.recv() == large

                async def parts() -> AsyncIterator[bytes]:
                    for start in range(0, 1_000_000, 10_000):
                        await socket.ping()
                        yield large[start : start + 10_000]

                await socket.send(parts())
                assert await socket.recv() == large[:1_000_000]


@pytest.mark.slow
async def test_a_thousand_at_once(tmp_path: Path) -> None:
    """Each hears its own messages and nobody else's; the figures are printed, the memory of one is bounded."""
    port = free_port()
    async with serve(echo, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=1024) as server:
        path = tmp_path / "lb.yaml"
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        path.write_text(yaml.safe_dump(tree([address], listener={"address": f"127.0.0.1:{port}"})))
        started = LbProcess("run", "-c", str(path))
        try:
            await asyncio.to_thread(started.wait_for, "twice quits")
            url = f"ws://127.0.0.1:{port}/chat"

            async def open_one() -> ClientConnection:
                return await connect(url, proxy=None, compression=None, ping_interval=None, open_timeout=20)

            await (await open_one()).close()
            before = resident(started)
            begin = time.monotonic()
            sockets: list[ClientConnection] = []
            while len(sockets) < SOCKETS:
                sockets += await asyncio.gather(*[open_one() for _ in range(100)])
            opened = time.monotonic() - begin
            silent = resident(started)

            async def talk(number: int, socket: ClientConnection) -> None:
                for turn in range(TURNS):
                    message = f"{number}.{turn}." + "x" * (number % 500)
                    await socket.send(message)
                    assert await socket.recv() == message

            begin = time.monotonic()
            await asyncio.gather(*[talk(*each) for each in enumerate(sockets)])
            took = time.monotonic() - begin
            busy = resident(started)
            each = (busy - before) / SOCKETS
            print(
                f"{SOCKETS} sockets opened in {opened:.1f} s; {SOCKETS * TURNS / took:,.0f} messages/s there and back; "
                f"{(silent - before) / SOCKETS / 1024:.1f} KiB a tunnel when silent, {each / 1024:.1f} KiB after"
            )
            assert each < 16 * 1024
            await asyncio.gather(*[socket.close() for socket in sockets])
            assert "Traceback" not in started.errors
        finally:
            await asyncio.to_thread(started.close)


def resident(started: LbProcess) -> int:
    """The process's resident memory, in bytes."""
    return int(Path(f"/proc/{started.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_server_that_refuses_is_heard() -> None:
    async def refuse(connection: ServerConnection, _: object) -> websockets.Response:
        return connection.respond(403, "members only\n")

    async with (
        serve(echo, "127.0.0.1", 0, process_request=refuse) as server,
        balancing(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as balancer,
    ):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{balancer.port}/", proxy=None)
        assert (refused.value.response.status_code, refused.value.response.body) == (403, b"members only\n")


async def tunnel(seen: Request) -> None:
    """Switch, greet in the same write, then echo."""
    seen.write(SWITCHED + b"greeting")
    while data := await seen.connection.reader.read(65536):
        seen.write(data)


async def test_what_the_backend_sees_and_what_the_client_sees() -> None:
    backend = Backend(tunnel)
    async with balancing(backend) as balancer, await balancer.client() as client:
        answer = await client.ask(HELLO)
        assert (answer.status, answer["upgrade"], answer["connection"], answer["x-kept"]) == (
            101,
            b"websocket",
            b"Upgrade",
            b"1",
        )
        message = backend.messages[0]
        assert (message["upgrade"], message["connection"]) == (b"websocket", b"Upgrade")
        assert message["sec-websocket-key"] == b"dGhlIHNhbXBsZSBub25jZQ=="
        assert message["x-forwarded-for"] == b"127.0.0.1"
        async with asyncio.timeout(2):
            assert await client.reader.readexactly(8) == b"greeting"
            for data in (b"x", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 300_000):
                await client.send(data)
                assert await client.reader.readexactly(len(data)) == data


async def test_bytes_sent_before_the_switch_are_not_lost() -> None:
    backend = Backend(tunnel)
    async with balancing(backend) as balancer, await balancer.client() as client:
        await client.send(HELLO + b"early bird")
        assert (await client.answer()).status == 101
        async with asyncio.timeout(2):
            assert await client.reader.readexactly(18) == b"greetingearly bird"


@pytest.mark.parametrize("who", ["client", "backend"])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_either_end_ends_the_other(who: str, how: str) -> None:
    backend = Backend(tunnel)
    async with balancing(backend) as balancer, await balancer.client() as client:
        await client.ask(HELLO)
        writer = client.writer if who == "client" else backend.connections[0].writer
        if how == "close":
            writer.close()
        else:
            reset(writer)
        if who == "backend":
            assert await client.end(within=0.5) in (b"", b"greeting")
            client.writer.close()
        await until(lambda: backend.connections[0].ended.is_set(), within=0.5)
        await until(lambda: balancer.completed, within=0.5)
        assert not balancer.in_flight()


async def test_a_silent_tunnel_has_its_own_timeout() -> None:
    backend = Backend(tunnel)
    timeouts = {"idle": "300ms", "response_header": "300ms", "tunnel_idle": "1500ms"}
    listener = {"timeouts": {"keep_alive": "300ms", "body": "300ms", "header": "300ms"}}
    async with balancing(backend, timeouts=timeouts, listener=listener) as balancer, await balancer.client() as client:
        await client.ask(HELLO)
        await client.reader.readexactly(8)
        for _ in range(3):
            assert await client.silent(0.5)
            await client.send(b"x")
            await client.reader.readexactly(1)
        begin = asyncio.get_running_loop().time()
        assert await client.end(within=3) == b""
        assert 1.5 < asyncio.get_running_loop().time() - begin < 2.9


async def test_a_tunnel_presses_back() -> None:
    backend = Backend()
    sent = 0

    async def floods(seen: Request) -> None:
        nonlocal sent
        seen.write(SWITCHED)
        for _ in range(320):
            seen.write(b"x" * 100_000)
            await seen.connection.writer.drain()
            sent += 100_000
        seen.connection.writer.close()

    backend.script = floods
    async with balancing(backend) as balancer, await balancer.client() as client:
        await client.ask(HELLO)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        last = -1
        while last != sent:
            last = sent
            await asyncio.sleep(0.2)
        assert sent < 16_000_000
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await client.end(within=10)) == 32_000_000


NO_UPGRADE = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    "TLS": ("Connection: upgrade", "Upgrade: TLS/1.3"),
    "not named in Connection": ("Upgrade: websocket",),
    "one of a list": ("Connection: upgrade", "Upgrade: h2c, websocket"),
    "two fields": ("Connection: upgrade", "Upgrade: websocket", "Upgrade: h2c"),
}


@pytest.mark.parametrize("name", NO_UPGRADE)
async def test_other_upgrades_are_dropped_and_the_request_served(name: str) -> None:
    backend = Backend()
    async with balancing(backend) as balancer, await balancer.client() as client:
        for _ in range(2):
            assert (await client.ask(request("/", b"", *NO_UPGRADE[name]))).status == 200
        assert all("upgrade" not in message and "connection" not in message for message in backend.messages)
        backend.script = SWITCHED
        assert (await client.ask(request("/", b"", *NO_UPGRADE[name]))).status == 502


async def test_a_backend_that_does_not_switch_answers_as_always() -> None:
    backend = Backend(response(b"no sockets here"))
    async with balancing(backend) as balancer, await balancer.client() as client:
        for _ in range(2):
            assert (await client.ask(HELLO)).body == b"no sockets here"
        assert (await client.ask(request())).body == b"no sockets here"
        assert balancer.last.status == 200


async def test_a_switch_without_the_right_fields_is_no_switch() -> None:
    backend = Backend(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    async with balancing(backend) as balancer, await balancer.client() as client:
        try:
            assert (await client.ask(HELLO)).status == 502
        except Cut:
            pytest.fail("a 101 that does not name the protocol should be answered with 502")
