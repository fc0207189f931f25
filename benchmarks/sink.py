"""A backend that reads every request body to its end and answers 200: `python -m benchmarks.sink PORT`.

nginx answers an upload before it has read it, so it cannot stand at the end of one.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LAST_CHUNK = b"0\r\n\r\n"
_length = re.compile(rb"\r\ncontent-length: *(\d+)").search


class Sink(asyncio.Protocol):
    """One connection: a head, its body, an answer, and again."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._head = b""
        self._left = 0
        self._chunked = False
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        while data:
            if self._chunked:
                data = self._read_chunked(data)
            elif self._left:
                data = self._read_counted(data)
            else:
                data = self._read_head(data)

    def _read_head(self, data: bytes) -> bytes:
        head, end, rest = (self._head + data).partition(b"\r\n\r\n")
        if not end:
            self._head = head
            return b""
        self._head = b""
        lower = head.lower()
        length = _length(lower)
        self._left = int(length[1]) if length else 0
        self._chunked = b"\r\ntransfer-encoding: chunked" in lower
        if not self._left and not self._chunked:
            self._transport.write(OK)
        return rest

    def _read_counted(self, data: bytes) -> bytes:
        taken = min(self._left, len(data))
        self._left -= taken
        if not self._left:
            self._transport.write(OK)
        return data[taken:]

    def _read_chunked(self, data: bytes) -> bytes:
        # The load generator never pipelines, so the last chunk ends what has arrived; its bytes may come split.
        self._tail = (self._tail + data)[-len(LAST_CHUNK) :]
        if self._tail == LAST_CHUNK:
            self._chunked = False
            self._tail = b""
            self._transport.write(OK)
        return b""


async def serve(port: int) -> None:
    """Serve uploads on a loopback port until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
