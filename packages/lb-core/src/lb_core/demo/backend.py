"""A small HTTP/1.1 server to balance over: `python -m lb_core.demo.backend --name blue --port 9001 --latency-ms 5`.

Prints its port once it listens. Answers every path after its latency, and `/health` at once. With `--with-parent` it
ends when its standard input ends, which also happens when the parent is killed outright.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import sys

HEAD_MOST = 64 * 1024


class Site:
    """What one backend answers."""

    def __init__(self, name: str, latency: float) -> None:
        self.name = name
        self.latency = latency

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until either side ends it."""
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            try:
                while await self._answer(reader, writer):
                    pass
            finally:
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "transfer-encoding" in fields:
            writer.write(b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return False
        await reader.readexactly(int(fields.get("content-length", "0")))
        method, path, _ = request_line.split(" ", 2)
        if path != "/health":
            await asyncio.sleep(self.latency * random.uniform(0.8, 1.2))
        body = f"{self.name} answers {method} {path}\n".encode("latin-1")
        answer = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{answer}X-Backend: {self.name}\r\n\r\n".encode("latin-1") + (b"" if method == "HEAD" else body))
        await writer.drain()
        return fields.get("connection", "").lower() != "close"


async def run(site: Site, host: str, port: int, *, with_parent: bool) -> None:
    """Listen and serve, until cancelled or until the parent is gone."""
    server = await asyncio.start_server(site.serve, host, port, limit=HEAD_MOST)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(sys.stdin.fileno(), 4096) else gone.set())
    await gone.wait()
    if with_parent:
        loop.remove_reader(sys.stdin.fileno())


def main() -> None:
    """The command line of one backend."""
    parser = argparse.ArgumentParser(prog="python -m lb_core.demo.backend", description="A small HTTP server.")
    parser.add_argument("--name", default="backend", help="its name, sent in X-Backend")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="time to think before an answer")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input ends")
    options = parser.parse_args()
    site = Site(options.name, options.latency_ms / 1000)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(site, options.host, options.port, with_parent=options.with_parent))


if __name__ == "__main__":
    main()
