"""Memory of idle connections and of large bodies: `make bench-memory`."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from benchmarks import cpu
from benchmarks.backends import FILES, start_backends
from benchmarks.client import Client, head
from benchmarks.peers import PEERS, Peer, start_peer
from benchmarks.processes import Failed, Processes, raise_file_limit
from benchmarks.report import write_section

if TYPE_CHECKING:
    from collections.abc import Iterator

WARM_UP = 200
SAMPLE_SECONDS = 0.02
GIB = FILES["1g"]


@dataclass(frozen=True)
class Figure:
    """Something measured and what it may be at most."""

    name: str
    value: float
    unit: str
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the limit holds."""
        return self.value <= self.limit

    def __str__(self) -> str:
        word = "pass" if self.passed else "FAIL"
        return f"{word}  {self.name:<46} {self.value:7.2f} {self.unit} (at most {self.limit:g})"


def main() -> int:
    """Measure, print, and return 1 when a limit is passed."""
    options = _options()
    try:
        figures = _measure(options.peer, options.connections)
    except Failed as error:
        print(f"bench-memory: {error}", file=sys.stderr)
        return 1
    text = "\n".join(str(figure) for figure in figures)
    print(text)
    if options.write:
        today = datetime.now(UTC).date().isoformat()
        write_section("memory", f"{today}, `make bench-memory`\n\n```text\n{text}\n```")
    return 0 if all(figure.passed for figure in figures) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-memory", description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--peer", choices=list(PEERS), default="lb")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    return parser.parse_args()


def _measure(name: str, connections: int) -> list[Figure]:
    raise_file_limit(connections + 1000)
    with Processes() as processes:
        backends = start_backends(processes)
        peer = start_peer(name, processes, backends)
        client = Client(peer.port)
        for _ in range(WARM_UP):
            client.send(head("GET", "/"))
            client.receive()
        down, up = _download(peer, client), _upload(peer, client)
        idle, p99 = _idle(peer, connections)
    return [
        Figure(f"{connections:,} idle connections, each", idle, "kB", 8),
        Figure(f"p99 of a GET with {connections:,} of them open", p99, "ms", 10),
        Figure("growth while 1 GiB goes down", down / 1024, "MB", 8),
        Figure("growth while 1 GiB goes up", up / 1024, "MB", 8),
    ]


def _idle(peer: Peer, connections: int) -> tuple[float, float]:
    """Memory in kB of a connection that has served one request and waits, and p99 in ms of a GET among them."""
    pids = cpu.tree(peer.pid)
    before = cpu.rss_kb(pids)
    request = head("GET", "/")
    clients = []
    for number in range(connections):
        clients.append(Client(peer.port, f"127.0.1.{number % 8 + 1}"))  # several addresses: ports of one run out
        clients[-1].send(request)
        clients[-1].receive()
    each = (cpu.rss_kb(pids) - before) / connections
    times = []
    for client in clients[:: max(1, connections // 1000)]:
        began = time.perf_counter()
        client.send(request)
        client.receive()
        times.append((time.perf_counter() - began) * 1000)
    for client in clients:
        client.close()
    return each, sorted(times)[len(times) * 99 // 100]


def _download(peer: Peer, client: Client) -> int:
    with _growth(peer) as kilobytes:
        client.send(head("GET", "/file/1g"))
        if client.receive() != GIB:
            raise Failed(f"the download is not {GIB} bytes long")
    return max(kilobytes)


def _upload(peer: Peer, client: Client) -> int:
    with _growth(peer) as kilobytes:
        client.send(head("POST", "/upload", GIB))
        client.send_body(GIB)
        client.receive()
    return max(kilobytes)


@contextmanager
def _growth(peer: Peer) -> Iterator[list[int]]:
    """Watch by how many kB the peer is larger than when the block began."""
    pids = cpu.tree(peer.pid)
    before = cpu.rss_kb(pids)
    kilobytes = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            kilobytes.append(cpu.rss_kb(pids) - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield kilobytes
    finally:
        done.set()
        watcher.join()


if __name__ == "__main__":
    raise SystemExit(main())
