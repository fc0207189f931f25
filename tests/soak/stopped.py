"""Clients that ask for much and read nothing, and backends that read nothing of an upload: who holds what comes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.soak.connection import open_connection
from tests.soak.memory import own_kb, queued
from tests.soak.mixture import HOST, head

if TYPE_CHECKING:
    from tests.soak.setting import Setting

SIZE = 64_000_000
CLIENTS = 10
EACH = 1000
"""kB of every stopped exchange that may wait in the balancer, beyond the buffers of its sockets."""
AFTER = 4096
SETTLE = 1.5


@dataclass
class Stopped:
    """Memory in kB: what waited in the balancer, by count of bytes and by its memory, and what stayed afterwards."""

    what: str
    taken: float
    growth: int
    left: int

    @property
    def failures(self) -> list[str]:
        """What is beyond its limit."""
        found = []
        if self.taken / CLIENTS > EACH:
            found.append(f"{self.what}: {self.taken / CLIENTS:.0f} kB each wait in the balancer, at most {EACH}")
        if self.growth / CLIENTS > EACH:
            found.append(f"{self.what}: {self.growth / CLIENTS:.0f} kB each of memory, at most {EACH}")
        if self.left > AFTER:
            found.append(f"{self.what}: {self.left} kB stay when they have gone, at most {AFTER}")
        return found

    def __str__(self) -> str:
        return (
            f"{CLIENTS} {self.what}: {self.taken / CLIENTS:.0f} kB each taken beyond socket buffers (at most {EACH}), "
            f"memory +{self.growth / 1024:.2f} MB meanwhile, {self.left / 1024:+.2f} MB when they had gone"
        )


async def stopped_readers(balancer: Setting) -> Stopped:
    """Ten clients ask for 64 MB and do not read."""
    ports = (balancer.port, *balancer.backends)
    before, account = own_kb(balancer.pid), await _written(balancer)
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            client = stack.enter_context(closing(socket.create_connection(("127.0.0.1", balancer.port))))
            client.sendall(head(f"/bytes/{SIZE}"))
        await _settles(lambda: queued(ports))
        taken = await _written(balancer) - account - queued(ports)
        growth = own_kb(balancer.pid) - before
    await asyncio.sleep(SETTLE)
    return Stopped("stopped readers of 64 MB", max(taken, 0) / 1000, growth, own_kb(balancer.pid) - before)


async def stopped_uploads(balancer: Setting) -> Stopped:
    """Ten uploads of 64 MB to a backend that does not read."""
    ports = (balancer.port, *balancer.backends)
    before, account = own_kb(balancer.pid), await _read(balancer)
    begin = f"POST /never HTTP/1.1\r\nHost: big.{HOST}\r\nContent-Length: {SIZE}\r\n\r\n".encode()
    piece = bytes(65536)
    left: dict[socket.socket, int] = {}
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            client = stack.enter_context(closing(socket.create_connection(("127.0.0.1", balancer.port))))
            client.sendall(begin)
            client.setblocking(False)
            left[client] = SIZE
        idle = 0
        while idle < 20:  # a second in which no socket takes any more
            moved = 0
            for client, wanted in left.items():
                count = _send(client, piece[:wanted]) if wanted else 0
                left[client] -= count
                moved += count
            idle = 0 if moved else idle + 1
            await asyncio.sleep(0 if moved else 0.05)
        taken = CLIENTS * SIZE - sum(left.values()) - (await _read(balancer) - account) - queued(ports)
        growth = own_kb(balancer.pid) - before
    await asyncio.sleep(SETTLE)
    return Stopped("uploads of 64 MB to a stopped backend", max(taken, 0) / 1000, growth, own_kb(balancer.pid) - before)


def _send(client: socket.socket, piece: bytes) -> int:
    try:
        return client.send(piece)
    except BlockingIOError:
        return 0


async def _written(balancer: Setting) -> int:
    return sum([await _account(port, 0) for port in balancer.backends])


async def _read(balancer: Setting) -> int:
    return sum([await _account(port, 1) for port in balancer.backends])


async def _account(port: int, column: int) -> int:
    """What a backend tells of itself, asked directly."""
    connection = await open_connection(port)
    connection.write(head("/account"))
    answer = await connection.answer()
    connection.transport.abort()
    await asyncio.sleep(0)
    return int(answer.body.split()[column])


async def _settles(measure: Callable[[], int]) -> None:
    """Wait until a measure stays the same for a second."""
    last, same = -1, 0
    while same < 5:
        now = measure()
        same = same + 1 if now == last else 0
        last = now
        await asyncio.sleep(0.2)
