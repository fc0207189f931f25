"""Nodes of a cluster as processes, and a way to cut one of them off from Redis."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from lb_core.control import client
from lb_core.errors import LbError
from tests.integration.lb_process import LbProcess, free_port, get, wait_until


class NodeProcess:
    """`lb run` as one node; `port` is where it takes traffic."""

    def __init__(self, folder: Path, name: str, redis: str, routes: dict[str, Any], **options: Any) -> None:
        self.name = name
        self.port = free_port()
        self.control = folder / f"{name}.sock"
        self.file = folder / f"{name}.json"
        cluster = {"redis": redis, "node": name, **options.pop("cluster", {})}
        tree = {
            "listeners": {"web": f"127.0.0.1:{self.port}"},
            "control": str(self.control),
            "access_log": False,
            "cluster": cluster,
            "routes": routes,
            **options,
        }
        self.file.write_text(json.dumps(tree))
        self.lb = LbProcess("run", "-c", str(self.file), "--drain", "2s")

    def ready(self, *, joined: bool = True) -> None:
        """Wait until it serves, and is part of the cluster."""
        self.lb.wait_for("twice quits")
        if joined:
            self.lb.wait_for("cluster joined")

    def command(self, name: str, *arguments: str) -> str:
        """What a command answers, asked over the control socket."""
        request = {"ask": "command", "name": name, "arguments": list(arguments)}
        return str(client.ask(str(self.control), request, seconds=10))

    def data(self, name: str, *arguments: str) -> Any:
        """The same as data."""
        request = {"ask": "command", "name": name, "arguments": list(arguments), "json": True}
        return json.loads(client.ask(str(self.control), request, seconds=10))

    def members(self) -> dict[str, dict[str, Any]]:
        """What it knows of every node, by name."""
        found = self.data("nodes")
        return {each["name"]: each for each in (found["nodes"] if isinstance(found, dict) else found)}

    def states(self) -> dict[str, str]:
        """The state of every node that it knows."""
        return {name: str(each["state"]) for name, each in self.members().items()}

    def leader(self) -> str:
        """Who leads, as it knows."""
        return next((name for name, each in self.members().items() if each["leader"]), "")

    def backend(self, name: str) -> dict[str, Any]:
        """A backend, as `lb backends` tells of it."""
        pools = self.data("backends")["pools"]
        return next(each for pool in pools for each in pool["backends"] if each["name"] == name)

    def get(self, host: str = "x.example") -> tuple[int, str]:
        """One request through it."""
        return get(self.port, host=host)

    def close(self) -> None:
        """End it."""
        with suppress(LbError):
            self.lb.process.kill()
        self.lb.close()


class Cut:
    """A way to Redis that can be cut: bytes go through until `cut`, then none do and the connections stay open."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self._to = port
        self._is_cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._sockets: list[socket.socket] = []
        self._unanswered: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Redis, by this way."""
        return f"redis://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Let nothing through any more."""
        self._is_cut.set()

    def heal(self) -> None:
        """Let everything through again; what was connected meanwhile is dropped."""
        self._is_cut.clear()
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        unanswered, self._unanswered = self._unanswered, []
        for each in unanswered:
            each.close()

    def close(self) -> None:
        """Close everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.heal()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            if self._is_cut.is_set():
                self._unanswered.append(here)  # accepted by the system, answered by nobody
                continue
            try:
                there = socket.create_connection(("127.0.0.1", self._to), 5)
            except OSError:
                here.close()
                continue
            there.settimeout(None)
            self._sockets += [here, there]
            for one, other in ((here, there), (there, here)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if not self._is_cut.is_set():
                    other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)
        one.close()


class Traffic:
    """Requests to some nodes, one after the other, until `stop`; `failed` are those that were not answered with 200."""

    def __init__(self, *nodes: NodeProcess) -> None:
        self.done = 0
        self.failed: list[str] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(node,), daemon=True) for node in nodes]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send no more, and wait for what is under way."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(15)

    def _run(self, node: NodeProcess) -> None:
        while not self._stopping.is_set():
            try:
                status, _ = node.get()
                if status != 200:
                    self.failed.append(f"{node.name}: {status}")
            except OSError as error:
                self.failed.append(f"{node.name}: {error}")
            self.done += 1
            time.sleep(0.005)


def seconds_until(condition: Any, within: float = 15.0) -> float:
    """Wait until a condition holds; returns how long it took."""
    begin = time.monotonic()
    wait_until(condition, within=within)
    return time.monotonic() - begin
