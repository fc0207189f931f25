"""`lb nodes`: this node seen from the command line, drained and taken back."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lb_core import __version__
from lb_core.balancer import LoadBalancer
from lb_core.errors import LbError
from lb_core.node import Load, Node
from lb_core.sharing import Member
from tests.integration.lb_process import LbProcess, backend, free_port, get, wait_until
from tests.integration.test_readiness import ask
from tests.support.uncovered import environment


def command(*arguments: str, control: Path) -> subprocess.CompletedProcess[str]:
    """`lb` with these arguments, at a control socket."""
    called = [sys.executable, "-m", "lb_core.cli", *arguments, "--control", str(control)]
    return subprocess.run(called, capture_output=True, text=True, timeout=30, check=False, env=environment())


@contextlib.contextmanager
def process(tmp_path: Path, address: str, **options: Any) -> Iterator[tuple[LbProcess, int, int]]:
    """`lb run` with a control socket in the directory: the process, its port, that of the readiness endpoint."""
    port, ready = free_port(), free_port()
    tree = {
        "listeners": {"web": f"127.0.0.1:{port}"},
        "readiness": f"127.0.0.1:{ready}",
        "control": str(tmp_path / "control.sock"),
        "access_log": False,
        "routes": {"*": [address]},
        **options,
    }
    (tmp_path / "lb.yaml").write_text(yaml.safe_dump(tree))
    started = LbProcess("run", "-c", str(tmp_path / "lb.yaml"), "--drain", "2s")
    try:
        started.wait_for("twice quits")
        yield started, port, ready
    finally:
        started.close()


def test_a_node_is_shown_drained_and_taken_back(tmp_path: Path) -> None:
    control = tmp_path / "control.sock"
    with backend("one") as one, process(tmp_path, one.address) as (started, port, ready):
        for _ in range(5):
            assert get(port) == (200, "one")
        shown = command("nodes", control=control)
        assert shown.returncode == 0, shown.stderr
        header, row = shown.stdout.splitlines()
        assert header.split()[:3] == ["NODE", "STATE", "VERSION"]
        assert re.search(rf"\(this one\) +up +{re.escape(__version__)} +\d+s +1 ", row)

        drained = command("nodes", "drain", control=control)
        assert "is draining: it goes on serving" in drained.stdout, drained.stderr
        assert ask(ready) == (503, {"ready": False, "reason": "draining"})
        assert get(port) == (200, "one"), "whoever comes is served"
        started.wait_for("node draining: /ready says 503, connections are still accepted (lb nodes)")
        assert "is draining already" in command("nodes", "drain", control=control).stdout
        (node,) = json.loads(command("nodes", "--json", control=control).stdout)["nodes"]
        assert node["state"] == "draining"
        assert node["own"] is True
        assert node["workers"] == 1
        assert re.fullmatch("[0-9a-f]{8}", node["config"])
        assert time.time() - node["since"] < 60

        assert "is ready again" in command("nodes", "resume", node["name"], control=control).stdout
        assert ask(ready) == (200, {"ready": True})
        started.wait_for("node resumed: /ready says 200 again")
        assert "was not draining" in command("nodes", "resume", control=control).stdout
        assert started.process.poll() is None


def test_a_wrong_order_says_what_there_is(tmp_path: Path) -> None:
    control = tmp_path / "control.sock"
    with backend("one") as one, process(tmp_path, one.address) as (_, _, ready):
        done = command("nodes", "drian", control=control)
        assert done.returncode == 1
        assert "there are `lb nodes drain [NODE]` and `lb nodes resume [NODE]`" in done.stderr
        done = command("nodes", "drain", "edge2", control=control)
        assert done.returncode == 1
        assert "no node 'edge2' is known here: this one is" in done.stderr
        done = command("nodes", "drain", "edge2", "now", control=control)
        assert done.returncode == 2
        assert ask(ready) == (200, {"ready": True})


def test_a_changed_file_shows(tmp_path: Path) -> None:
    control = tmp_path / "control.sock"

    def version() -> str:
        return str(json.loads(command("nodes", "--json", control=control).stdout)["nodes"][0]["config"])

    with backend("one") as one, process(tmp_path, one.address) as (started, _, _):
        before = version()
        path = tmp_path / "lb.yaml"
        path.write_text(path.read_text() + "no_route_status: 410\n")
        started.signal(signal.SIGHUP)
        wait_until(lambda: version() != before)
        before = version()
        path.write_text(path.read_text() + "no_route_status: many\n")
        started.signal(signal.SIGHUP)
        wait_until(lambda: "config refused" in started.errors)
        assert version() == before, "a refused file is in force nowhere"


class Others:
    """A cluster of two, as far as this node is told."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, str]] = []

    def members(self) -> list[Member]:
        now = time.time()
        return [
            Member("edge1", "1.2.0", "up", now - 90_000, workers=2, requests_per_second=812.5, leader=True, own=True),
            Member("edge2", "1.1.0", "gone", now - 7_300, seen=12.3, in_flight=3, connections=40, config="f00"),
        ]

    def publish(self, topic: str, message: Any) -> None:
        """Nobody hears."""

    def order(self, node: str, what: str) -> None:
        if node != "edge2":
            raise LbError(f"there is no node {node!r}")
        self.orders.append((node, what))


def test_in_a_cluster_every_node_is_shown_and_can_be_asked() -> None:
    balancer, others = LoadBalancer(), Others()
    balancer.sharing.attach(others)
    nodes = balancer.plugins.commands["nodes"]
    lines = nodes.call(balancer, ()).splitlines()
    assert lines[1].split("  ")[0] == "edge1 (this one, leader)"
    assert re.search(r" 1d +2 +812\.5 ", lines[1])
    assert re.search(r"^edge2 +gone, 12s ago +1\.1\.0 +2h +1 +0\.0 +3 +40 +f00$", lines[2])
    assert nodes.call(balancer, ("drain", "edge2")) == "edge2 is asked to drain; `lb nodes` shows what it does"
    assert others.orders == [("edge2", "drain")]
    assert balancer.node.ready is False, "it has not started"
    with pytest.raises(LbError, match="there is no node 'edge3'"):
        nodes.call(balancer, ("drain", "edge3"))
    nodes.call(balancer, ("drain", "edge1"))
    assert balancer.node.reason == "draining"


def test_what_a_node_says_of_itself() -> None:
    now, requests, changes = [1000.0], [0], []
    node = Node(lambda event: None, lambda: Load(requests[0], 2, 3, 4), version="1", clock=lambda: now[0])
    node.on_change.append(lambda: changes.append(node.reason))
    assert node.reason == "starting"
    node.opened()
    assert node.drain()
    assert not node.drain()
    node.has_workers(False)
    assert node.resume()
    node.has_workers(True)
    node.ends()
    assert not node.resume()
    assert changes == ["", "draining", "no_worker", "", "draining"]
    assert node.requests_per_second == 0.0
    for _ in range(20):
        node.sample()
        now[0] += 1
        requests[0] += 50
    assert node.requests_per_second == 50.0
    assert node.member() == Member(node.name, "1", "draining", 1000.0, 0.0, 4, 50.0, 2, 3, own=True)
