"""Nodes in two network namespaces: what one learns of a backend on loopback is for those that see the same one."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from lb_redis.testing import RedisServer
from tests.integration.cluster_nodes import NodeProcess
from tests.integration.lb_process import backend, free_port, wait_until
from tests.support.services import require

CLONE_NEWNET = 0x40000000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="another network namespace takes root")


def leave_for_another_network() -> None:
    """Let this thread, and what it starts from now on, have a network of its own with nothing but loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        pytest.skip(f"no other network namespace: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=10)


class Way:
    """Carries what is said to a listener, of whichever network, to a port of this one."""

    def __init__(self, listener: socket.socket, port: int) -> None:
        self._listener = listener
        self._port = port
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """Carry no more, once who speaks has ended."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
        self._listener.close()

    def _start(self, run: Callable[..., None], *args: socket.socket) -> None:
        self._threads.append(threading.Thread(target=run, args=args))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self._port))
                self._start(self._copy, here, there)
                self._start(self._copy, there, here)

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)
        one.close()


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    """A thread in another network namespace."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(leave_for_another_network).result()
        yield thread


def test_a_backend_on_loopback_is_another_one_in_another_network(tmp_path: Path, elsewhere: ThreadPoolExecutor) -> None:
    require("redis-server")
    with RedisServer() as redis, backend("one") as good:
        backends = {"good": good.address, "dead": f"127.0.0.1:{free_port()}", "far": "192.0.2.1:80"}
        routes = {"x.example": {"backends": backends, "strategy": "round_robin"}}
        listener = elsewhere.submit(socket.create_server, ("127.0.0.1", redis.port)).result()
        way = Way(listener, redis.port)
        one = NodeProcess(tmp_path, "n1", redis.url, routes)
        two = elsewhere.submit(NodeProcess, tmp_path, "n2", redis.url, routes).result()
        beside = None
        try:
            one.ready()
            two.ready()
            one.command("backends", "maintenance", "x.example", "far")
            wait_until(lambda: two.backend("far")["state"] == "maintenance")
            wait_until(lambda: one.get() and one.backend("dead")["state"] == "ejected")
            beside = NodeProcess(tmp_path, "n3", redis.url, routes)
            beside.ready()
            wait_until(lambda: beside.backend("dead")["state"] == "ejected")
            one.command("backends", "drain", "x.example", "good")
            wait_until(lambda: beside.backend("good")["state"] == "draining")
            one.command("backends", "resume", "x.example", "far")
            wait_until(lambda: two.backend("far")["state"] == "up")
            assert two.backend("dead")["state"] == "up"
            assert two.backend("good")["state"] == "up"
        finally:
            for node in filter(None, (one, two, beside)):
                node.close()
            way.close()
