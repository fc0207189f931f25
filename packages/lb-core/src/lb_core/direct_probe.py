"""A health check over a connection of its own: for backends on unix sockets, and those that are sent a PROXY header.

Such a connection is no client's, so its header says LOCAL (version 2) or UNKNOWN (version 1); a backend that insists on
a header accepts it like any other. It is closed after the answer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httptools

from lb_core.engine.proxy_protocol import write_local

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.pool_sections import HealthCheckConfig

BODY_MOST = 64 * 1024
"""A longer answer is not read to its end."""


class InvalidAnswer(Exception):
    """What came is not an answer that can be trusted."""


async def open_stream(
    backend: Backend, address: str, port: int | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to one address of a backend, or to another port there, that has been told whose it is."""
    if backend.path:
        reader, writer = await asyncio.open_unix_connection(backend.path)
    else:
        reader, writer = await asyncio.open_connection(address, port or backend.port)
    if backend.send_proxy != "off":
        writer.write(write_local(backend.send_proxy))
    return reader, writer


class DirectProbe:
    """Sends a request and reads its answer; `host` is the Host it asks for, empty for the backend's own."""

    def __init__(self, check: HealthCheckConfig, host: str) -> None:
        self._check = check
        self._host = host

    async def ask(self, backend: Backend, address: str, limit: float | None) -> int:
        """The status of the answer; `limit` is for the connection alone."""
        async with asyncio.timeout(limit):
            reader, writer = await open_stream(backend, address, self._check.port)
        try:
            writer.write(
                f"{self._check.method} {self._check.path} HTTP/1.1\r\nHost: {self._host or backend.authority}\r\n"
                "User-Agent: lb-health-check\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode()
            )
            answer = _Answer(without_body=self._check.method == "HEAD")
            while not answer.complete:
                answer.feed(await reader.read(BODY_MOST))
            return answer.status
        finally:
            writer.close()


class _Answer:
    """An answer as it comes, past interim ones."""

    def __init__(self, *, without_body: bool) -> None:
        self.status = 0
        self.complete = False
        self._without_body = without_body
        self._framed = False
        self._size = 0
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """More bytes, or none at the end. Raises InvalidAnswer."""
        if not data:
            if self.status < 200 or self._framed:
                raise InvalidAnswer("the connection ended before the answer did")
            self.complete = True
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:  # what follows an answer that has no body is nothing to us
                raise InvalidAnswer(f"no valid HTTP answer: {error}") from error

    # called by the parser

    def on_message_begin(self) -> None:
        """An answer begins: the first, or the one after an interim one."""
        self._framed = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note whether a body has an end of its own."""
        del value
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        """The status is known; some answers end here."""
        self.status = self._parser.get_status_code()
        if self.status >= 200 and (self._without_body or self.status in (204, 304)):
            self.complete = True

    def on_body(self, body: bytes) -> None:
        """More of the body, which nobody reads."""
        self._size += len(body)
        if self._size > BODY_MOST:
            self.complete = True

    def on_message_complete(self) -> None:
        """The answer has ended."""
        if self.status >= 200:
            self.complete = True
