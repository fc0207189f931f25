"""SIGUSR2: a new process takes the sockets over; nothing is lost, nothing is refused, and a bad one changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lb_core
from lb_core import successor
from lb_core.handover import Lines, Offer, Predecessor, State
from lb_core.successor import Successor, UpgradeFailed
from tests.integration.test_nodes import command
from tests.integration.test_readiness import asked
from tests.integration.test_systemd import Manager
from tests.integration.upgrading import Service, alive, service
from tests.support.backends import Backend, Request
from tests.support.balancing import until
from tests.support.client import Client
from tests.support.load import Load
from tests.support.wire import request, response

if TYPE_CHECKING:
    from tests.support.figures import Measured

GET = request()
CONNECTIONS = 6
READY = (200, {"ready": True})


async def quickly(seen: Request) -> None:
    """An answer after a moment; a larger body takes its time."""
    if seen.message.target == b"/slow":
        await asyncio.sleep(1.0)
    await asyncio.sleep(0.002)
    seen.write(response(b"fine"))


async def ask(port: int, target: str = "/") -> int:
    """The status of a request over a connection of its own."""
    async with await Client.connect(port) as client:
        return (await client.ask(request(target))).status


@contextlib.asynccontextmanager
async def under_load(running: Service) -> AsyncIterator[tuple[Load, list[int]]]:
    """Kept connections, new ones, and somebody who asks whether it is ready; nothing of it may fail."""
    load, stop = Load(running.port, connections=CONNECTIONS, pause=0.005), asyncio.Event()
    answered: list[int] = []
    ready: set[int] = set()

    async def newcomers() -> None:
        while not stop.is_set():
            answered.append(await ask(running.port))
            await asyncio.sleep(0.002)

    async def watch() -> None:
        while not stop.is_set():
            ready.add((await asked(running.ready))[0])
            await asyncio.sleep(0.02)

    tasks = [asyncio.create_task(each) for each in (load.run(), newcomers(), newcomers(), watch())]
    await until(lambda: load.total > 20 and len(answered) > 10, within=10)
    yield load, answered
    load.stop()
    stop.set()
    await asyncio.gather(*tasks)
    assert load.lost == []
    assert load.answers.keys() == {200}
    assert set(answered) == {200}
    assert ready == {200}


@pytest.mark.parametrize("workers", [1, 2])
async def test_five_upgrades_under_load_lose_nothing(tmp_path: Path, workers: int, measured: Measured) -> None:
    async with (
        Backend(quickly) as one,
        service(tmp_path, {"routes": {"*": [one.address]}, "workers": workers}) as running,
    ):
        async with under_load(running) as (load, answered):
            for _ in range(5):
                before = load.total, len(answered)
                await running.upgrade()
                await until(lambda before=before: load.total > before[0] + 20 and len(answered) > before[1] + 5)
        assert len(set(running.pids)) == 6
        assert [alive(pid) for pid in running.pids] == [False] * 5 + [True]
        assert load.closed >= 5 * CONNECTIONS, "every kept connection was told to come again"
        assert "Traceback" not in running.errors
    total = load.total + len(answered)
    measured(f"5 upgrades under load, workers: {workers}", f"0 of {total} lost, 0 refused")


@pytest.mark.timed
async def test_what_is_under_way_ends_in_the_old_process(tmp_path: Path) -> None:
    """A slow answer, and a connection that is open but has said nothing yet."""
    async with (
        Backend(quickly) as one,
        service(tmp_path, {"routes": {"*": [one.address]}}) as running,
        await Client.connect(running.port) as slow,
        await Client.connect(running.port) as silent,
    ):
        await slow.send(request("/slow"))
        await until(lambda: one.requests)
        old = running.pids[-1]
        running.signal(signal.SIGUSR2)
        await running.until(lambda: len(running.pids) == 2)
        assert (await silent.ask(GET)).status == 200
        assert await ask(running.port) == 200
        assert alive(old), "it still has a request"
        assert (await slow.answer()).body == b"fine"
        await running.until(lambda: not alive(old))


async def test_the_files_of_unix_sockets_stay(tmp_path: Path) -> None:
    path = tmp_path / "lb.sock"
    async with (
        Backend(quickly) as one,
        service(
            tmp_path,
            {"routes": {"*": [one.address]}, "listeners": {"local": {"address": f"unix:{path}"}}},
            covered=True,
        ) as running,
    ):
        for _ in range(2):  # so that one which has inherited the file hands it over, too
            inode = path.stat().st_ino
            await running.upgrade()
            assert path.stat().st_ino == inode
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(GET)
            assert (await reader.read(100)).startswith(b"HTTP/1.1 200 ")
            writer.close()
            (node,) = json.loads((await asyncio.to_thread(command, "nodes", "--json", control=running.control)).stdout)[
                "nodes"
            ]
            assert node["state"] == "up"
        assert await asked(running.ready) == READY
        running.signal(signal.SIGTERM)
        await running.until(lambda: not path.exists())
        await running.until(lambda: not running.control.exists())


def install(folder: Path, version: str) -> None:
    """A copy of the package with another version."""
    source = Path(lb_core.__file__).parent
    shutil.copytree(source, folder / "lb_core", ignore=shutil.ignore_patterns("__pycache__", "demo", "testing"))
    face = folder / "lb_core" / "__init__.py"
    text = face.read_text()
    assert f'__version__ = "{lb_core.__version__}"' in text
    face.write_text(text.replace(f'__version__ = "{lb_core.__version__}"', f'__version__ = "{version}"'))


def plugin(folder: Path, name: str, source: str) -> None:
    """A distribution with a plugin, installed into a folder."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[lb]\n{name} = {name}\n")


RAISES = """
from contextlib import asynccontextmanager
from lb_core import hookimpl

@hookimpl
@asynccontextmanager
async def lifespan(balancer):
    raise RuntimeError("no such table: accounts")
    yield
"""


async def test_another_version_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("8.1.0", "8.2.0"):
        install(tmp_path / version, version)
    current = tmp_path / "current"
    current.symlink_to("8.1.0")
    monkeypatch.setenv("PYTHONPATH", str(current))

    async with (
        Backend(quickly) as one,
        service(tmp_path, {"routes": {"*": [one.address]}, "workers": 2}) as running,
    ):
        async with under_load(running):
            (tmp_path / "next").symlink_to("8.2.0")
            (tmp_path / "next").rename(current)
            await running.upgrade()
        assert running.versions == ["8.2.0"]
        assert ", 8.1.0, drains" in running.errors
        shown = await asyncio.to_thread(command, "nodes", "--json", control=running.control)
        (node,) = json.loads(shown.stdout)["nodes"]
        assert (node["version"], node["workers"]) == ("8.2.0", 2)


async def test_a_new_version_that_does_not_start_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be used, a plugin that raises, a program that cannot be imported; and then one that works."""
    installed = tmp_path / "installed"
    installed.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(installed))
    async with Backend(quickly) as one, service(tmp_path, {"routes": {"*": [one.address]}}) as running:
        async with under_load(running):
            good = running.file.read_text()
            running.file.write_text("routes: {'*': [nowhere:0]}\n")
            running.signal(signal.SIGUSR2)
            await running.said("upgrade failed: the new process does not serve: it ended with status 3")
            await running.said("\n         lb: " + str(running.file))
            running.file.write_text(good)

            plugin(installed, "accounts", RAISES)
            running.signal(signal.SIGUSR2)
            await running.said("it ended with status 1")
            await running.said("\n         lb: plugin 'accounts' failed to start: no such table: accounts")

            (installed / "click.py").write_text("raise ImportError('half installed')\n")
            running.signal(signal.SIGUSR2)
            await running.said("\n         ImportError: half installed")
            await running.said("upgrade failed", times=3)
            assert len(running.pids) == 1

            shutil.rmtree(installed)
            await running.upgrade()
        assert "restart_needed" not in running.errors


async def test_another_order_while_one_is_under_way_is_ignored(tmp_path: Path) -> None:
    async with Backend(quickly) as one, service(tmp_path, {"routes": {"*": [one.address]}}) as running:
        running.signal(signal.SIGUSR2)
        await running.said("upgrading: pid")
        running.signal(signal.SIGUSR2)
        await running.said("SIGUSR2 is ignored: an upgrade is under way")
        await running.until(lambda: len(running.pids) == 2)
        assert await ask(running.port) == 200
        assert running.errors.count("upgrading:") == 1


async def test_sigterm_ends_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Backend(quickly) as one, service(tmp_path, {"routes": {"*": [one.address]}}) as running:
        running.signal(signal.SIGUSR2)
        await running.said("upgrading: pid")
        running.started.signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.started.wait, 10) == 0  # its output is at its end: nobody else has it
        assert "upgraded" not in running.errors
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(running.port)


async def test_workers_are_taken_up_and_given_up_and_listeners_come_and_go(tmp_path: Path) -> None:
    other = tmp_path / "other.sock"
    async with Backend(quickly) as one, service(tmp_path, {"routes": {"*": [one.address]}}) as running:
        listeners = running.tree["listeners"]
        for workers, added in ((2, {"other": {"address": f"unix:{other}"}}), (1, {})):
            running.write(workers=workers, listeners={**listeners, **added})
            async with under_load(running):
                await running.upgrade()
            shown = await asyncio.to_thread(command, "nodes", "--json", control=running.control)
            assert json.loads(shown.stdout)["nodes"][0]["workers"] == workers
            assert other.exists() == bool(added)
        *_, opened = [line for line in running.errors.splitlines() if "listener open: web" in line]
        assert opened.count("http://") == 1, "of the sockets that two workers had, one is enough to name"
        assert "Traceback" not in running.errors


async def test_what_is_known_of_backends_and_an_operators_order_go_on(tmp_path: Path) -> None:
    checks = 0

    async def first_check_only(seen: Request) -> None:
        nonlocal checks
        if seen.message.target == b"/health":
            checks += 1
            if checks > 1:
                await asyncio.sleep(30)
        seen.write(response(b"fine"))

    backends = {
        "health_check": {"path": "/health", "interval": "30s", "timeout": "20s"},
    }
    async with Backend(first_check_only) as one:
        routes = {"*": {"backends": {"one": one.address}, **backends}}
        async with service(tmp_path, {"routes": routes}) as running:
            await running.said("one of *: up")
            await asyncio.to_thread(command, "nodes", "drain", control=running.control)
            await running.upgrade()
            begin = time.monotonic()
            assert await ask(running.port) == 200
            assert time.monotonic() - begin < 2, "it was up before, and is not asked first"
            assert await asked(running.ready) == (503, {"ready": False, "reason": "draining"})
            await asyncio.to_thread(command, "nodes", "resume", control=running.control)
            assert await asked(running.ready) == READY
            assert running.errors.count("one of *: up") == 1, "that is told once"


async def test_systemd_is_told_who_the_service_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    with contextlib.closing(manager):
        await told_of_an_upgrade(tmp_path, manager)


async def told_of_an_upgrade(tmp_path: Path, manager: Manager) -> None:
    """What a manager hears before, while and after the process changes."""
    async with Backend(quickly) as one, service(tmp_path, {"routes": {"*": [one.address]}}) as running:
        reading = asyncio.create_task(asyncio.to_thread(manager.wait_for, "MAINPID=", within=30.0))
        await running.upgrade()
        await reading
        told = manager.told
        assert [line for line in told if line.startswith("MAINPID=")] == [f"MAINPID={running.pids[-1]}"]
        assert "STOPPING=1" not in told
        await asyncio.to_thread(manager.wait_for, "READY=1", 2)
        await asyncio.to_thread(manager.wait_for, "WATCHDOG=1", manager.told.count("WATCHDOG=1") + 2)
        running.signal(signal.SIGTERM)
        await asyncio.to_thread(manager.wait_for, "STOPPING=1")


async def test_one_that_does_not_serve_in_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys, time; print('still thinking', file=sys.stderr, flush=True); time.sleep(60)"
    monkeypatch.setattr(successor, "command", lambda: [sys.executable, "-c", program])
    next_one = Successor(Offer({}), within=1.0)
    with pytest.raises(UpgradeFailed, match=r"it does not serve within 1s; this one goes on\nstill thinking"):
        await next_one.start(State)
    assert next_one._process is not None
    pid = next_one._process.pid
    assert alive(pid)
    await next_one.end()
    assert not alive(pid)


async def test_the_first_process_of_a_container_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(UpgradeFailed, match=r"this is process 1, .*: replace the container instead"):
        await Successor(Offer({})).start(State)


async def test_one_that_was_never_started_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    next_one = Successor(Offer({}))
    with pytest.raises(UpgradeFailed):
        await next_one.start(State)
    await next_one.end()


def test_a_format_of_the_future_is_refused() -> None:
    ours, theirs = socket.socketpair()
    ours.sendall(b'{"handover": 2, "pid": 1}\n')
    with pytest.raises(Exception, match="in a way that this version does not know: stop it, then start this one"):
        Predecessor(theirs)
    ours.close()
    theirs.close()


async def test_keys_of_the_future_are_ignored_and_a_lost_predecessor_is_no_obstacle() -> None:
    ours, theirs = socket.socketpair()
    first = Offer({}).message(-1) | {"weather": "fine", "version": "9.0"}
    await Lines(ours).send(first)
    predecessor = Predecessor(theirs)
    assert predecessor.version == "9.0"
    assert predecessor.take([("", 80, "")]) == {}
    ours.close()
    assert await predecessor.state() == State()
    await predecessor.succeeded()


def test_a_variable_that_names_no_socket_is_an_error(tmp_path: Path) -> None:
    called = [sys.executable, "-m", "lb_core.cli", "run", "127.0.0.1:9", "--listen", "127.0.0.1:0"]
    environ = {**os.environ, "LB_HANDOVER": "77"}
    done = subprocess.run(called, capture_output=True, text=True, timeout=20, check=False, env=environ, cwd=tmp_path)
    assert done.returncode == 1
    assert "LB_HANDOVER=77 is no socket: unset it" in done.stderr
