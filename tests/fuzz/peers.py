"""Both ends of a lane: a client's connection, and the backend's, which reads strictly, records and answers."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, cast

from tests.fuzz.outcome import Seen
from tests.fuzz.reading import Malformed, Message, read_request

if TYPE_CHECKING:
    from tests.fuzz.lanes import Lane


class Peer(asyncio.Protocol):
    """A client's connection: keeps all it gets, and how it ended."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.received = b""
        self.ended = "open"
        self.transport = cast("asyncio.Transport", None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.lane.moved += 1
        self.received += data

    def eof_received(self) -> bool:
        self.lane.moved += 1
        self.ended = "closed"
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lane.moved += 1
        if self.ended == "open":
            self.ended = "reset" if exc is not None else "closed"

    def reset(self) -> None:
        """End with RST."""
        reset(self.transport)


class BackendPeer(asyncio.Protocol):
    """A connection to the backend: reads strictly, records, answers."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.number = 0
        self.buffer = b""
        self.current: Seen | None = None
        self.tunnel = False
        self.bad = False
        self.transport = cast("asyncio.Transport", None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.lane.moved += 1
        self.lane.opened += 1
        self.number = self.lane.opened
        self.lane.backend_peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lane.moved += 1
        self.lane.backend_peers.discard(self)

    def data_received(self, data: bytes) -> None:
        self.lane.moved += 1
        if self.bad:
            return
        if self.tunnel and self.current is not None:
            self.current.tunnel += data
            return
        self.buffer += data
        try:
            self._read()
        except Malformed as error:
            self.bad = True
            self.lane.outcome.malformed.append(f"{error}: {self.buffer[:400]!r}")
            self.transport.abort()

    def _read(self) -> None:
        while self.buffer:
            if self.buffer[:1] in b"\r\n":
                raise Malformed("an empty line before a request")
            message = read_request(self.buffer)
            if message is None:
                return
            self._record(message)
            if message.broken:
                raise Malformed(message.broken)
            if not message.complete:
                return
            self.buffer = self.buffer[message.end :]
            current, self.current = cast("Seen", self.current), None
            self.lane.answer(current, self)
            if self.tunnel:
                current.tunnel, self.buffer, self.current = self.buffer, b"", current

    def _record(self, message: Message) -> None:
        if self.current is not None:
            self.current.message = message
            return
        self.current = Seen(message, self.number)
        if self.lane.is_sentinel(message):
            self.lane.outcome.reused.add(self.number)
        else:
            self.lane.outcome.seen.append(self.current)
            if message.complete:
                return
            if self.lane.input is not None and self.lane.input.early:
                self.lane.answer(self.current, self)
            elif message.all(b"expect"):
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST instead of FIN."""
    opened = transport.get_extra_info("socket")
    if opened is not None and opened.fileno() >= 0:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
