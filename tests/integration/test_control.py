"""Commands that reach the running balancer: `lb explain --live`, `lb explain --why`, and those of plugins."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lb_core import Command, LbError, LoadBalancer, Route, hookimpl
from lb_core.config import config_from_tree
from lb_core.control.client import ask
from lb_core.control.places import sockets
from lb_core.documents import Document
from lb_core.features import Feature
from lb_core.plugins import Plugins
from lb_core.server import Server
from lb_core.settings import Settings
from tests.integration.lb_process import BackendProcess, LbProcess, backend, free_port, get, lb
from tests.support.backends import Backend
from tests.support.client import Client
from tests.support.wire import request

TIMEOUT = 30


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runtime directory for the processes of these tests alone."""
    folder = tmp_path_factory.mktemp("run")
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    yield folder
    del os.environ["XDG_RUNTIME_DIR"]
    if before is not None:
        os.environ["XDG_RUNTIME_DIR"] = before


@pytest.fixture(scope="module")
def served(place: Path) -> Iterator[tuple[LbProcess, BackendProcess, int]]:
    """A running `lb` before one backend."""
    port = free_port()
    file = place / "lb.yaml"
    with backend("web1") as web1:
        file.write_text(
            f'listeners: {{web: "127.0.0.1:{port}"}}\naccess_log: off\n'
            f"routes: {{shop.example: {{backends: {{web1: '{web1.address}'}}, health_check: {{type: tcp}}}}}}\n"
        )
        with lb("run", "-c", str(file)) as running:
            running.wait_for("plugins:")
            os.environ["LB_CONTROL"] = str(
                place / "lb" / f"{running.process.pid}.sock"
            )  # others may run on this machine
            yield running, web1, port
            del os.environ["LB_CONTROL"]


class Told:
    """A command that has ended."""

    def __init__(self, *args: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "lb_core.cli", *args], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr


Served = tuple[LbProcess, BackendProcess, int]


def test_live_shows_the_states_of_now(served: Served, place: Path) -> None:
    _, web1, port = served
    assert get(port, host="shop.example")[0] == 200
    live = Told("explain", "get", "http://shop.example/", "--live")
    assert live.status == 0, live.err
    assert "sent to " + web1.address in live.out
    assert "assumed" not in live.out
    from_file = Told("explain", "GET", "http://shop.example/", "-c", str(place / "lb.yaml"))
    assert "up: assumed, nothing is checked here" in from_file.out
    wrong = Told("explain", "GET", "http://[x/", "--live")
    assert (wrong.status, "no URL to ask about" in wrong.err) == (1, True)


def test_why_tells_of_a_request_that_was_served(served: Served) -> None:
    _, _, port = served
    marked = ["curl", "-s", "-H", "Host: shop.example", "-H", "X-Request-Id: look-at-me", f"127.0.0.1:{port}/cart?x=1"]
    for _ in range(2):
        subprocess.run(marked, check=True, capture_output=True, timeout=TIMEOUT)
    told = Told("explain", "--why", "look-at-me")
    assert told.status == 0, told.err
    assert told.out.count("request   GET shop.example/cart?x=1") == 2, "two requests had the id"
    assert "choice   web1, chosen by least_connections" in told.out
    assert "because  fewest requests in flight: 0 of 0" in told.out
    assert "outcome   200 after " in told.out
    data = json.loads(Told("explain", "--why", "look-at-me", "--json").out)
    assert [each["choice"] for each in data["decisions"]] == ["web1", "web1"]


def test_an_unknown_id_is_told_with_what_to_do(served: Served) -> None:
    told = Told("explain", "--why", "never-seen")
    assert (told.status, told.out) == (1, "")
    assert "nothing is recorded of request 'never-seen'" in told.err
    assert "decisions are kept" in told.err
    assert "curl -H 'X-Request-Id: look-at-me'" in told.err
    told = Told("explain", "--why", "never-seen", "--json")
    assert (told.status, json.loads(told.out)["decisions"]) == (1, [])


def test_why_takes_nothing_else(served: Served) -> None:
    told = Told("explain", "GET", "--why", "x")
    assert (told.status, "give its X-Request-Id alone" in told.err) == (2, True)


def test_the_socket_is_for_its_owner_and_outlives_garbage(served: Served, place: Path) -> None:
    running, _, port = served
    (path,) = (place / "lb").glob("*.sock")
    assert path.name == f"{running.process.pid}.sock"
    assert (path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    program = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.send(b'\\xff' * 99999)"
    for _ in range(20):
        subprocess.run([sys.executable, "-S", "-c", program, str(path)], check=False, timeout=TIMEOUT)
    assert get(port, host="shop.example")[0] == 200
    assert ask(str(path), {"ask": "status"})["pid"] == running.process.pid


def test_of_several_one_is_chosen_and_what_a_killed_one_left_is_removed(
    served: Served, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, web1, _ = served
    listen = f"127.0.0.1:{free_port()}"
    monkeypatch.delenv("LB_CONTROL")
    with lb("run", web1.address, "--listen", listen, "--access-log", "off") as second:
        second.wait_for("plugins:")
        told = Told("explain", "GET", "http://shop.example/", "--live")
        assert told.status == 1
        assert "balancers run here: choose one with `--control PATH`" in told.err
        assert f"pid {first.process.pid}, {place}/lb.yaml, http://127.0.0.1:" in told.err
        assert f"pid {second.process.pid}, no file, http://{listen}" in told.err
        assert Told("explain", "GET", "http://shop.example/", "--live", "-c", f"{place}/lb.yaml").status == 0
        path = place / "lb" / f"{second.process.pid}.sock"
        assert Told("explain", "GET", "http://any.example/", "--live", "--control", str(path)).status == 0
        second.signal(signal.SIGKILL)
        second.wait()
    assert path.exists()
    assert path not in sockets(os.environ, os.geteuid()), "a dead one does not count"
    with lb("run", web1.address, "--listen", listen, "--access-log", "off") as third:
        third.wait_for("plugins:")
        assert not path.exists()
        third.signal(signal.SIGTERM)
        assert third.wait() == 0
    assert [each.name for each in (place / "lb").iterdir()] == [f"{first.process.pid}.sock"]


def test_the_file_names_the_socket(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others run here too: with `control` in the file, its own balancer is asked and nobody else."""
    monkeypatch.delenv("LB_CONTROL")
    monkeypatch.chdir(tmp_path)
    Path("lb.yaml").write_text("control: ./its.sock\nroutes: {a.example: ['127.0.0.1:9']}\n")
    told = Told("explain", "GET", "a.example", "--live")
    assert (told.status, told.err) == (1, "lb: nobody can be asked at ./its.sock: No such file or directory\n")
    Path("lb.yaml").write_text("routes: {a.example: [")
    told = Told("explain", "GET", "shop.example", "--live", "--control", str(Path("none.sock")))
    assert "nobody can be asked at none.sock" in told.err


def test_without_a_balancer_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    told = Told("explain", "--why", "x", "--control", str(tmp_path / "none.sock"))
    assert told.status == 1
    assert f"lb: nobody can be asked at {tmp_path}/none.sock: No such file or directory" in told.err


# with a plugin, in this process


class TalkativeSettings(Settings):
    """Nothing to set."""


class Talkative:
    def __init__(self, route: Route) -> None:
        self.name = route.name

    def describe(self) -> list[str]:
        return [f"{self.name} is fine", "really"]


class Silent:
    def describe(self) -> str:
        raise ZeroDivisionError("by zero")


def drain(balancer: LoadBalancer, route: str, backend: str) -> str:
    pool = balancer.routes[route].pool
    try:
        pool.set_mode(pool.find(backend), "draining")
    except KeyError as error:
        raise LbError(str(error.args[0])) from None
    return f"{backend} drains"


class Plugin:
    @hookimpl
    def register_features(self) -> Iterator[Feature]:
        yield Feature("talkative", lambda route, _: Talkative(route), TalkativeSettings)
        yield Feature("silent", lambda _, __: Silent(), TalkativeSettings)

    @hookimpl
    def register_commands(self) -> Iterator[Command]:
        yield Command("drain", drain, "Take a backend out of service.", ("ROUTE", "BACKEND"))


def tree(backend: Backend, path: Path | str) -> dict[str, Any]:
    route = {"backends": {"web1": backend.address}, "talkative": True, "silent": True}
    return {
        "listeners": {"web": "127.0.0.1:0"},
        "control": str(path),
        "access_log": False,
        "routes": {"*": route},
    }


async def test_a_command_changes_the_running_balancer_and_live_shows_it(tmp_path: Path) -> None:
    plugins = Plugins.discover(extra=[Plugin()])
    async with Backend(name="web1") as web1:
        balancer = LoadBalancer(config_from_tree(tree(web1, tmp_path / "c.sock"), plugins), plugins=plugins)
        server = Server(balancer, drain=0.2, watch=False, signals=False, control=True)
        serving = asyncio.create_task(server.serve())
        await server.started.wait()

        async def told(**request: Any) -> Any:
            return await asyncio.to_thread(ask, str(tmp_path / "c.sock"), request)

        live = {"ask": "explain", "method": "GET", "url": "http://any.example/"}
        found = await told(**live)
        assert found["states"] == [
            ["talkative", ["* is fine", "really"]],
            ["silent", ["describe failed: ZeroDivisionError('by zero')"]],
        ]
        assert found["backends"][0]["state"] == "up"
        assert await told(ask="command", name="drain", arguments=["*", "web1"]) == "web1 drains"
        assert (await told(**live))["backends"][0]["state"] == "draining"
        async with await Client.connect(int(server.urls[0].rpartition(":")[2])) as client:
            assert (await client.ask(request())).status == 503
        with pytest.raises(LbError, match="no backend 'web9' in '\\*': there are web1"):
            await told(ask="command", name="drain", arguments=["*", "web9"])
        assert (await told(ask="status"))["urls"] == server.urls

        balancer._source = lambda: Document(tree(web1, tmp_path / "moved.sock"), "moved")
        assert await server.reload()
        assert not (tmp_path / "c.sock").exists()
        assert (tmp_path / "moved.sock").exists()
        server.request_stop()
        assert await serving == 0
    assert list(tmp_path.iterdir()) == []


async def test_embedded_and_unless_asked_for_there_is_no_socket(tmp_path: Path) -> None:
    plugins = Plugins.discover(extra=[Plugin()])
    async with Backend(name="web1") as web1:
        balancer = LoadBalancer(config_from_tree(tree(web1, tmp_path / "c.sock"), plugins), plugins=plugins)
        async with balancer.lifespan():
            assert list(tmp_path.iterdir()) == []
        server = Server(balancer, drain=0.2, watch=False, signals=False)
        serving = asyncio.create_task(server.serve())
        await server.started.wait()
        assert list(tmp_path.iterdir()) == []
        server.request_stop()
        assert await serving == 0
