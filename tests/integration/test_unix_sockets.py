"""Unix sockets on both sides: listeners with their files, and backends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lb_core.config import config_from_tree
from lb_core.errors import StartError
from tests.support.backends import Backend
from tests.support.balancing import balancing, tree, until
from tests.support.client import Client
from tests.support.services import require
from tests.support.wire import Message, read_body, read_head, request, response

LB = Path(sys.executable).with_name("lb")


@asynccontextmanager
async def serving(path: Path, body: bytes = b"unix") -> AsyncIterator[list[Message]]:
    """A backend on a unix socket; the requests it has seen."""
    seen: list[Message] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (message := await read_head(reader)) is not None:
                if {"content-length", "transfer-encoding"} & {name.decode() for name, _ in message.fields}:
                    await read_body(reader, message)
                seen.append(message)
                writer.write(response(body))
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield seen
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def client_at(path: Path) -> Client:
    return Client(*await asyncio.open_unix_connection(str(path)))


async def ask(path: Path, data: bytes) -> Message:
    async with await client_at(path) as client:
        return await client.ask(data)


def listening(path: Path, **options: Any) -> dict[str, Any]:
    return {"listener": {"address": f"unix:{path}", **options}}


def dead(path: Path) -> None:
    """The file of a socket nobody listens on: what a killed process leaves."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


# listeners


async def test_a_listener(tmp_path: Path) -> None:
    path = tmp_path / "lb.sock"
    backend = Backend()
    async with balancing(backend, **listening(path)) as balancer:
        assert balancer.server.urls == [f"unix:{path}"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        async with await client_at(path) as client:
            for body in (b"", b"hello", b"x" * 300_000):
                answer = await client.ask(request("/", body, "X-Forwarded-For: 1.2.3.4"))
                assert (answer.status, answer.body) == (200, b"backend")
        for message in backend.messages:
            for name in ("x-forwarded-for", "x-real-ip", "x-forwarded-port"):
                assert name not in message
            assert (message["x-forwarded-proto"], message["x-forwarded-host"]) == (b"http", message["host"])
        exchange = balancer.last
        assert (exchange.client, exchange.connection.peer, exchange.connection.port) == ("", "", 0)
    assert not path.exists()


async def test_curl_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "lb.sock"
    async with balancing(Backend(), **listening(path)):
        command = [require("curl"), "-sS", "--unix-socket", str(path), "http://app.example/x"]
        ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=10, check=False)
        assert (ended.returncode, ended.stdout) == (0, b"backend")


@pytest.mark.parametrize(
    ("trusted", "expected"),
    [
        ([], [[], [], [b"http"], []]),
        (["127.0.0.0/8"], [[], [], [b"http"], []]),
        (["unix"], [[b"192.0.2.9"], [b"192.0.2.9"], [b"https"], [b"443"]]),
        (["unix", "192.0.2.0/24"], [[b"192.0.2.9"], [b"192.0.2.9"], [b"https"], [b"443"]]),
    ],
)
async def test_a_unix_peer_is_believed_where_unix_is_trusted(
    tmp_path: Path, trusted: list[str], expected: list[list[bytes]]
) -> None:
    path = tmp_path / "lb.sock"
    backend = Backend()
    fields = ("X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443")
    async with balancing(backend, **listening(path), top={"trusted_proxies": trusted}) as balancer:
        assert (await ask(path, request("/", b"", *fields))).status == 200
        (message,) = backend.messages
        names = ("x-forwarded-for", "x-real-ip", "x-forwarded-proto", "x-forwarded-port")
        assert [message.all(name) for name in names] == expected
        assert balancer.last.client == ("192.0.2.9" if "unix" in trusted else "")
        assert (await ask(path, request("/", b"", "X-Forwarded-Proto: https"))).status == 200
        assert [backend.messages[1].all(name) for name in names[:2]] == [[], []]


async def test_a_tcp_client_is_no_unix_peer() -> None:
    backend = Backend()
    async with balancing(backend, top={"trusted_proxies": ["unix"]}) as balancer:
        assert (await balancer.ask(request("/", b"", "X-Forwarded-For: 1.2.3.4"))).status == 200
        assert backend.messages[0]["x-forwarded-for"] == b"127.0.0.1"


async def test_the_proxy_protocol_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "lb.sock"
    backend = Backend()
    async with balancing(backend, **listening(path, proxy_protocol=["unix"])) as balancer:
        header = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
        assert (await ask(path, header + request("/"))).status == 200
        assert (backend.messages[0]["x-real-ip"], backend.messages[0]["x-forwarded-port"]) == (b"192.0.2.7", b"443")
        assert (await ask(path, b"PROXY UNKNOWN\r\n" + request("/"))).status == 200
        assert "x-real-ip" not in backend.messages[1]
        async with await client_at(path) as client:
            await client.send(request("/"))
            assert await client.end(within=1) == b""
        assert balancer.events.count("proxy_header_refused") == 1


@pytest.mark.parametrize("mode", ["0600", "0666", "0777"])
async def test_the_rights_on_its_file(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "lb.sock"
    async with balancing(Backend(), **listening(path, mode=mode)) as balancer:
        assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
        config = config_from_tree(tree(["127.0.0.1:1"], **listening(path, mode="0640")), balancer.balancer.plugins)
        balancer.balancer.apply(config)
        await balancer.server.traffic.match()
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_a_file_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "lb.sock"
    dead(path)
    async with balancing(Backend(), **listening(path)):
        assert (await ask(path, request("/"))).status == 200


async def test_a_socket_somebody_listens_on_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "lb.sock"
    async with serving(path):
        with pytest.raises(StartError, match=f"listener 'web': {path} is taken, a process listens there"):
            async with balancing(Backend(), **listening(path)):
                pass
        assert path.exists()
        assert (await ask(path, request("/"))).body == b"unix"


async def test_a_socket_whose_queue_is_full_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "lb.sock"
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        fillers = []
        try:
            while True:
                filler = socket.socket(socket.AF_UNIX)
                fillers.append(filler)
                filler.setblocking(False)
                filler.connect(str(path))
        except BlockingIOError:
            pass
        with pytest.raises(StartError, match="is taken"):
            async with balancing(Backend(), **listening(path)):
                pass
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file", "is there and is no socket: remove it"),
        ("link", "is there and is no socket: remove it"),
        ("missing/lb.sock", "there is no directory"),
        ("file/lb.sock", "there is no directory"),
    ],
)
async def test_places_where_it_cannot_be(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(StartError, match=message):
        async with balancing(Backend(), **listening(tmp_path / name)):
            pass
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "link").is_symlink()


async def test_the_file_of_another_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "lb.sock"
    async with balancing(Backend(), **listening(path)):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
            theirs = path.stat().st_ino
    assert path.stat().st_ino == theirs


async def test_listeners_come_and_go_with_a_reload(tmp_path: Path) -> None:
    one, two = tmp_path / "one.sock", tmp_path / "two.sock"
    backend = Backend()
    async with balancing(backend, **listening(one)) as balancer, await client_at(one) as kept:
        assert (await kept.ask(request("/"))).status == 200
        inode = one.stat().st_ino

        async def listen_on(*paths: Path) -> None:
            listeners = {path.stem: f"unix:{path}" for path in paths}
            config = config_from_tree({**tree([backend]), "listeners": listeners}, balancer.balancer.plugins)
            balancer.balancer.apply(config)
            await balancer.server.traffic.match()

        await listen_on(one, two)
        assert one.stat().st_ino == inode
        assert [(await ask(path, request("/"))).status for path in (one, two)] == [200, 200]
        assert (await kept.ask(request("/"))).status == 200
        await listen_on(two)
        await until(lambda: not one.exists())
        assert (await ask(two, request("/"))).status == 200


async def test_a_drain_removes_the_file_at_once_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lb.sock"
    backend = Backend([0.4, response(b"late")])
    async with balancing(backend, **listening(path)) as balancer, await client_at(path) as client:
        asking = asyncio.create_task(client.ask(request("/")))
        await until(lambda: backend.requests)
        balancer.server.request_stop()
        await until(lambda: not path.exists(), within=0.3)
        answer = await asking
        assert (answer.status, answer.body, answer["connection"]) == (200, b"late", b"close")


# backends


async def test_a_backend(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    async with serving(path) as seen, balancing(f"unix:{path}") as balancer:
        (backend,) = balancer.balancer.engine.backends
        assert backend.address == f"unix:{path}"
        async with await balancer.client() as client:
            for body in (b"", b"hello", b"x" * 300_000):
                answer = await client.ask(request("/", body, host="app.example"))
                assert (answer.status, answer.body) == (200, b"unix")
        assert [message["host"] for message in seen] == [b"app.example"] * 3
        assert seen[0]["x-forwarded-for"] == b"127.0.0.1"
        assert len(backend.idle) == 1


async def test_its_own_host(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    async with serving(path) as seen, balancing({"url": f"unix://{path}"}, host_header="backend") as balancer:
        assert (await balancer.ask(request("/", host="app.example"))).status == 200
        assert (await balancer.ask(b"GET / HTTP/1.0\r\n\r\n")).status == 200
        assert [message["host"] for message in seen] == [b"localhost"] * 2


@pytest.mark.parametrize("state", ["missing", "stale", "file", "forbidden directory"])
async def test_a_backend_that_is_not_there(tmp_path: Path, state: str) -> None:
    path = tmp_path / "app.sock"
    if state == "stale":
        dead(path)
    elif state == "file":
        path.write_text("no socket")
    elif state == "forbidden directory":
        path = Path("/proc/1/nothing/app.sock")
    async with Backend() as other, balancing({"url": f"unix:{path}"}, other) as balancer:
        for _ in range(4):
            answer = await balancer.ask(request("/", b"sent once", method="POST"))
            assert (answer.status, answer.body) == (200, b"backend")
        assert {exchange.attempts for exchange in balancer.completed} <= {1, 2}
        assert any(exchange.attempts == 2 for exchange in balancer.completed)


async def test_the_only_backend_is_not_there(tmp_path: Path) -> None:
    async with balancing(f"unix:{tmp_path}/app.sock") as balancer:
        assert (await balancer.ask(request("/"))).status == 502
        assert f"cannot connect to unix:{tmp_path}/app.sock: No such file" in str(balancer.last.error)


@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_health_checks(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "app.sock"
    check = {"type": kind, "interval": "50ms", "interval_down": "50ms", "healthy_after": 1, "unhealthy_after": 1}
    async with balancing(f"unix:{path}", health_check=check) as balancer:
        (backend,) = balancer.balancer.engine.backends
        async with serving(path) as seen:
            await until(lambda: backend.health == "up")
            if kind == "http":
                assert (seen[0].target, seen[0]["host"]) == (b"/", b"localhost")
            assert (await balancer.ask(request("/"))).body == b"unix"
        await until(lambda: backend.health == "down")
        assert backend.reason.endswith("no such file or directory")
        async with serving(path):
            await until(lambda: backend.health == "up")


@pytest.mark.parametrize(
    ("answer", "method", "healthy"),
    [
        (response(b"fine"), "GET", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD", True),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "GET", True),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", "GET", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 100_000, "GET", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "GET", False),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "GET", False),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "GET", False),
        (b"SSH-2.0-x\r\n", "GET", False),
        (b"", "GET", False),
    ],
)
async def test_answers_to_a_health_check(tmp_path: Path, answer: bytes, method: str, healthy: bool) -> None:
    path = tmp_path / "app.sock"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    check = {"method": method, "interval": "50ms", "timeout": "1s"}
    async with balancing(f"unix:{path}", health_check=check) as balancer:
        (backend,) = balancer.balancer.engine.backends
        (task,) = balancer.balancer._checks.values()
        results: list[bool] = []
        for route in balancer.balancer.routes.values():
            route.on_health_result = lambda _, result: results.append(result.ok)
        await until(lambda: len(results) >= 2)
        assert set(results) == {healthy}
        assert (backend.health == "up") is healthy
        assert not task.done()
    server.close()


async def test_a_websocket_over_unix_sockets_on_both_sides(tmp_path: Path) -> None:
    path, app = tmp_path / "lb.sock", tmp_path / "app.sock"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()

    server = await asyncio.start_unix_server(serve, str(app))
    async with balancing(f"unix:{app}", **listening(path)), await client_at(path) as client:
        answer = await client.ask(request("/", b"", "Upgrade: websocket", "Connection: Upgrade"))
        assert answer.status == 101
        await client.send(b"hello")
        assert await client.reader.readexactly(5) == b"HELLO"
    server.close()


def test_lb_run_with_a_backend_on_a_unix_socket(tmp_path: Path) -> None:
    """The command: its overview, a drained end, and what a kill leaves behind is no hindrance."""
    listener, app = tmp_path / "lb.sock", tmp_path / "a.sock"
    command = [str(LB), "run", f"unix:{app}", "--listen", f"unix:{listener}", "--access-log", "json"]

    async def over(ending: int) -> tuple[str, str, int]:
        async with serving(app):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
            try:
                before = listener.stat().st_ino if listener.exists() else 0
                end = time.monotonic() + 10
                while time.monotonic() < end and process.poll() is None:
                    if listener.exists() and listener.stat().st_ino != before:
                        break
                    await asyncio.sleep(0.05)
                await asyncio.sleep(1.0)
                assert (await ask(listener, request("/"))).body == b"unix"
                process.send_signal(ending)
                out, err = await asyncio.to_thread(process.communicate, timeout=10)
            finally:
                process.kill()
            return out, err, process.returncode

    _, _, status = asyncio.run(over(signal.SIGKILL))
    assert status == -signal.SIGKILL
    assert listener.exists()
    out, err, status = asyncio.run(over(signal.SIGTERM))
    assert status == 0, err
    assert not listener.exists()
    assert f"unix:{listener}" in err
    assert f"(unix:{app})" in err
    line = json.loads(out.splitlines()[-1])
    assert (line["client"], line["status"]) == ("", 200)


def test_lb_explain_and_routes_show_it(tmp_path: Path) -> None:
    file = tmp_path / "lb.yaml"
    file.write_text('routes: {"*": ["unix:/run/app.sock", {url: "unix:///run/b.sock", name: b}]}\n')
    for command in (["routes"], ["explain", "GET", "http://example.com/"]):
        shown = subprocess.run(
            [str(LB), *command, "-c", str(file)], capture_output=True, text=True, timeout=20, check=True
        )
        assert "unix:/run/app.sock" in shown.stdout
        assert "unix:/run/b.sock" in shown.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_the_mode_keeps_others_out(tmp_path: Path) -> None:
    path = tmp_path / "lb.sock"
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    script = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    for mode, status in (("0600", 1), ("0666", 0)):
        async with balancing(Backend(), **listening(path, mode=mode)):
            ended = await asyncio.to_thread(
                subprocess.run,
                ["/usr/bin/python3", "-c", script],
                user=65534,
                group=65534,
                extra_groups=[],
                capture_output=True,
                timeout=10,
                check=False,
            )
            assert ended.returncode == status, ended.stderr
