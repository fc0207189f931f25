"""A backend in a process of its own with answers that no buffers hold: `python -m tests.support.large_backend`.

`/large` is 8 MB and `/page` 256 KB, written as far as they are read; everything else is a few bytes. Bodies of requests
are not read to their end.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from lb_core.listening import TCP_NOTSENT_LOWAT, UNSENT
from tests.support.repository import ROOT
from tests.support.uncovered import environment

PIECE = bytes(64 * 1024)
PIECES = {b"GET /large": 128, b"GET /page ": 4}


class Answering(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.left = 0
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for head in data.split(b"\r\n\r\n")[:-1]:
            pieces = PIECES.get(head[:10])
            if pieces is not None:
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(PIECE) * pieces))
                self.left = pieces
                self._write()
            elif head.startswith((b"GET", b"HEAD")):
                body = b"" if head.startswith(b"HEAD") else b"hello\n"
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + body)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._write()

    def _write(self) -> None:
        while self.left and not self.paused:
            self.left -= 1
            self.transport.write(PIECE)


@contextmanager
def large_backend() -> Iterator[int]:
    """Such a process; yields its port."""
    command = [sys.executable, "-m", "tests.support.large_backend"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def main() -> None:
    """Listen, print the port, and serve until killed or until the parent has gone."""
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listening.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT)  # it stands for a machine of its own
    server = await loop.create_server(Answering, sock=listening, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    gone = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), gone.set)
    await gone.wait()


if __name__ == "__main__":
    import uvloop

    from tests.support.slow import raise_file_limit

    raise_file_limit()
    uvloop.run(main())
