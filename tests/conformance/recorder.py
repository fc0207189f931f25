"""A backend that records every request exactly, judges it strictly, and answers so that the asker can be told.

Requests are filed under the client that the balancer names in X-Forwarded-For: each run of a case has an address of
its own, so runs can go on side by side over the same pool, each watching for the others' answers.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.conformance.strict import Violation, check_body, check_request, client_of
from tests.support.client import reset
from tests.support.wire import Cut, read_body, read_head

if TYPE_CHECKING:
    from tests.support.wire import Message


class Link:
    """One connection from the balancer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.served = 0
        self.ended = asyncio.Event()


class Script:
    """What to answer to one target: pieces, each to arrive by itself, then keep, close or reset."""

    def __init__(self, pieces: list[bytes], end: str) -> None:
        self.pieces = pieces
        self.end = end
        self.asked = 0
        self.link: Link | None = None
        self.served = 0
        """Which request of its connection this was."""


class Recorder:
    """The backend; `seen` holds the requests by client, `violations` what must not have been sent."""

    def __init__(self) -> None:
        self.seen: dict[bytes, list[Message]] = defaultdict(list)
        self.violations: list[str] = []
        self.scripts: dict[bytes, Script] = {}
        self.port = 0
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=1 << 20), self._connected, loop=loop)

        self._server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for link in self._links:
            link.writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        self._links.add(link)
        task = asyncio.get_running_loop().create_task(self._serve(link))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, link: Link) -> None:
        try:
            while (message := await read_head(link.reader)) is not None:
                link.served += 1
                try:
                    check_request(message)
                    self.seen[client_of(message)].append(message)
                    await self._answer(link, message)
                except (Violation, AssertionError, ValueError) as problem:
                    self.violations.append(str(problem))
                    break
                if link.writer.is_closing():
                    break
        except (Cut, ConnectionError, RuntimeError):
            pass  # the balancer has left (uvloop: RuntimeError, the handler is closed); what arrived is recorded
        finally:
            link.writer.transport.abort()
            link.ended.set()
            self._links.discard(link)

    async def _answer(self, link: Link, message: Message) -> None:
        if "expect" in message:
            link.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await read_body(link.reader, message)
        check_body(message)
        script = self.scripts.get(message.target)
        if script is not None:
            await self._play(link, script)
        elif "upgrade" in message:
            await self._tunnel(link)
        else:
            link.writer.write(echo(message))

    async def _play(self, link: Link, script: Script) -> None:
        script.asked += 1
        script.link, script.served = link, link.served
        for piece in script.pieces:
            link.writer.write(piece)
            # the balancer runs in this loop: after two turns it has read what stands in its socket
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        if script.end == "close":
            link.writer.close()
        elif script.end == "reset":
            reset(link.writer)

    async def _tunnel(self, link: Link) -> None:
        link.writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        with suppress(ConnectionError):
            while data := await link.reader.read(65536):
                link.writer.write(data)
        link.writer.close()


def echo(message: Message) -> bytes:
    """The answer to a request: who asked for what, and with which body."""
    body = b"" if message.method == b"HEAD" else b"%b %b %b" % (client_of(message), message.method, message.target)
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Client: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        client_of(message),
        len(body),
        body,
    )
