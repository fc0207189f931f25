"""Two clients: one over a socket, and one that decides what each single read of the balancer brings."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.support.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

_numbers = count(1)


def fresh_address(network: int) -> str:
    """An address nobody has had yet."""
    number = next(_numbers)
    return f"{network}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


class Feed(asyncio.Transport):
    """A transport that hands the protocol exactly the reads it is told, and keeps what is written for a reader."""

    def __init__(self, make: Callable[[], Any], peer: str) -> None:
        super().__init__()
        self.reader = asyncio.StreamReader(limit=1 << 20)
        self.written = bytearray()
        self.closed = False
        self._ended = False
        self._paused = False
        self._pieces: deque[bytes] = deque()
        self._peer = peer
        self.protocol: Any = make()
        self.protocol.connection_made(self)

    # what the client does

    def feed(self, piece: bytes) -> None:
        """Let one read bring this."""
        self._pieces.append(piece)
        self._pump()

    def leave(self) -> None:
        """The client closes its end."""
        if not self.closed:
            self.closed = True
            self._end()
            self.protocol.connection_lost(None)

    def _pump(self) -> None:
        while self._pieces and not self._paused and not self.closed:
            self.protocol.data_received(self._pieces.popleft())

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self.reader.feed_eof()

    # what the protocol calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed and not self._ended:
            self.written += data
            self.reader.feed_data(bytes(data))

    def write_eof(self) -> None:
        self._end()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._end()
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            if not self._ended:
                self._ended = True
                self.reader.set_exception(ConnectionResetError("aborted"))
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        asyncio.get_running_loop().call_soon(self._pump)

    def is_reading(self) -> bool:
        return not self._paused

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        found: asyncio.BaseProtocol = self.protocol
        return found

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": (self._peer, 40000), "sockname": ("127.0.0.1", 8080)}.get(name, default)


class Fed(Client):
    """A client over a Feed."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.address = fresh_address(10)
        self.feeding = Feed(make, self.address)
        self.reader = self.feeding.reader
        self.interim = []

    async def send(self, *parts: bytes | float) -> None:
        """Each part is one read; between them the loop turns once."""
        for index, part in enumerate(parts):
            if index:
                await asyncio.sleep(0)
            if isinstance(part, bytes):
                self.feeding.feed(part)

    @property
    def ended(self) -> bool:
        """Whether the balancer has ended its side."""
        return self.feeding._ended

    def leave(self) -> None:
        """Go."""
        self.feeding.leave()


class Connected(Client):
    """A client over a socket of the loopback, from an address of its own."""

    address: str

    @classmethod
    async def open(cls, port: int) -> Connected:
        """Connect to a port of 127.0.0.1."""
        sock = socket.socket()
        address = fresh_address(127)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((address, 0))
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        made = cls(*await asyncio.open_connection(sock=sock, limit=1 << 20))
        made.address = address
        return made

    @property
    def ended(self) -> bool:
        """Whether the balancer has ended its side."""
        return self.reader.at_eof() or self.reader.exception() is not None

    def leave(self) -> None:
        """Go."""
        self.writer.transport.abort()
