"""A client's connection that costs little: a soak needs most of the machine for what it measures."""

from __future__ import annotations

import asyncio
import re
from typing import NamedTuple, cast

_length = re.compile(rb"\r\ncontent-length: *(\d+)").search


class Answer(NamedTuple):
    """A whole answer: status, body, and whether the connection goes on."""

    status: int
    body: bytes
    kept: bool


class Cut(Exception):
    """The connection ended before the answer did."""


class Connection(asyncio.Protocol):
    """One connection; `answer` reads what has been written for."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.ended = False
        self._waiting: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.transport.write(data)

    async def more(self) -> None:
        """Wait for bytes; raises Cut at the end and TimeoutError."""
        if self.ended:
            raise Cut(bytes(self.buffer[:200]))
        self._waiting = asyncio.get_running_loop().create_future()
        await self._waiting

    async def answer(self, *, bodyless: bool = False) -> Answer:
        """The next final answer; `bodyless` after HEAD. Raises Cut."""
        while True:
            head = await self._until(b"\r\n\r\n")
            status = int(head[9:12])
            if status >= 200 or status == 101:
                break
        lower = head.lower()
        kept = b"\r\nconnection: close" not in lower and head.startswith(b"HTTP/1.1")
        if bodyless or status in (101, 204, 304):
            return Answer(status, b"", kept)
        if b"\r\ntransfer-encoding: chunked" in lower:
            return Answer(status, await self._chunks(), kept)
        length = _length(lower)
        if length is not None:
            return Answer(status, await self.take(int(length[1])), kept)
        while not self.ended:
            await self.more()
        return Answer(status, bytes(self.buffer), False)

    async def take(self, size: int) -> bytes:
        """Exactly so many bytes."""
        buffer = self.buffer
        while len(buffer) < size:
            await self.more()
        taken = bytes(buffer[:size])
        del buffer[:size]
        return taken

    async def _until(self, mark: bytes) -> bytes:
        buffer = self.buffer
        while (at := buffer.find(mark)) < 0:
            await self.more()
        found = bytes(buffer[:at])
        del buffer[: at + len(mark)]
        return found

    async def _chunks(self) -> bytes:
        parts = []
        while size := int(await self._until(b"\r\n"), 16):
            parts.append(await self.take(size))
            await self.take(2)
        await self.take(2)
        return b"".join(parts)


async def open_connection(port: int) -> Connection:
    """A new connection to a port of 127.0.0.1."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection
