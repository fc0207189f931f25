"""Three nodes of a cluster as processes, and requests to them at given rates; for tests of limits across nodes."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.lb_process import LbProcess, free_port, lb, wait_until

CONNECTIONS = 4
REQUEST = b"GET / HTTP/1.1\r\nHost: limited.test\r\n\r\n"


@dataclass
class Node:
    """A running `lb` of the cluster."""

    name: str
    port: int
    process: LbProcess


CONFIG = """
listeners: {{web: {{address: "127.0.0.1:{port}"}}}}
cluster: {{redis: "{redis}", node: {name}}}
workers: {workers}
access_log: off
routes:
  limited.test:
    backends: {{one: "{backend}"}}
    rate_limit: {limit}
"""


def start(
    stack: ExitStack, folder: Path, backend: str, limit: str, redis: Sequence[str], *, workers: int = 1, first: int = 0
) -> list[Node]:
    """A node for each URL of Redis, all of one cluster, joined; the stack ends them. `first` is the first's number."""
    started = []
    for number, url in enumerate(redis, first):
        port, name = free_port(), f"node-{number}"
        file = folder / f"{name}.yaml"
        file.write_text(CONFIG.format(port=port, redis=url, name=name, backend=backend, limit=limit, workers=workers))
        started.append(Node(name, port, stack.enter_context(lb("run", "-c", str(file), cwd=folder))))
    for node in started:
        node.process.wait_for("cluster joined")
    return started


@dataclass
class Load:
    """Requests to several ports, at `rates` a second each, which may be changed at any time."""

    ports: Sequence[int]
    rates: list[float]
    passed: list[tuple[float, int]] = field(default_factory=list)
    """When an answer 200 was asked for, and the number of its node."""
    failed: list[str] = field(default_factory=list)
    refused: int = 0
    longest: float = 0.0

    def __post_init__(self) -> None:
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ends.set()
        self._thread.join(20)

    def between(self, begin: float, end: float) -> int:
        """How many were let through from one time of day to another."""
        return sum(begin <= time < end for time, _ in list(self.passed))

    async def _run(self) -> None:
        queues: list[asyncio.Queue[float]] = [asyncio.Queue() for _ in self.ports]
        clients = [
            asyncio.create_task(self._client(number, queue))
            for number, queue in enumerate(queues)
            for _ in range(CONNECTIONS)
        ]
        owed = [0.0 for _ in self.ports]
        last = time.monotonic()
        while not self._ends.is_set():
            await asyncio.sleep(0.002)
            now = time.monotonic()
            for number, queue in enumerate(queues):
                owed[number] = min(owed[number] + self.rates[number] * (now - last), 100.0)
                while owed[number] >= 1.0:
                    owed[number] -= 1.0
                    queue.put_nowait(now)
            last = now
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _client(self, number: int, queue: asyncio.Queue[float]) -> None:
        writer = None
        try:
            while True:
                await queue.get()
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[number])
                begin = time.time()
                try:
                    async with asyncio.timeout(5):  # wait_for of 3.11 may swallow the cancellation
                        status, close = await self._request(reader, writer)
                except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                    self.failed.append(f"node {number}: {error!r}")
                    writer.close()
                    writer = None
                    continue
                if close:
                    writer.close()
                    writer = None
                self.longest = max(self.longest, time.time() - begin)
                if status == 200:
                    self.passed.append((begin, number))
                elif status == 429:
                    self.refused += 1
                else:
                    self.failed.append(f"node {number}: status {status}")
        finally:
            if writer is not None:
                writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bool]:
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await reader.readexactly(int(line.partition(b":")[2]))
        return int(head[9:12]), b"connection: close" in head.lower()


class Windows:
    """The aligned windows of a limit, by the time of day."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def next(self) -> float:
        """When the next begins."""
        return (time.time() // self.seconds + 1) * self.seconds

    def wait(self, moment: float) -> None:
        """Until a time of day."""
        wait_until(lambda: time.time() >= moment, within=max(0.1, moment - time.time() + 5))


class Wire:
    """A way to a port that can be cut: connections stay, and nothing goes through."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Nothing goes through from now on."""
        self._open.clear()

    def mend(self) -> None:
        """It does again, with all that was sent meanwhile."""
        self._open.set()

    def close(self) -> None:
        """End it, and every connection."""
        self._open.set()
        self._listener.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target), 5)
                except OSError:
                    client.close()
                    continue
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
