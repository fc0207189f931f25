"""A client that sends bytes as given and reads whole answers."""

from __future__ import annotations

import asyncio
import socket
import struct
from types import TracebackType

from tests.support.wire import Cut, Message, read_body, read_head

WITHIN = 5.0


class Client:
    """One connection to the balancer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.interim: list[Message] = []

    @classmethod
    async def connect(cls, port: int, *, receive_buffer: int = 0) -> Client:
        """Connect to a port of 127.0.0.1; `receive_buffer` bounds what the kernel reads ahead."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return cls(*await asyncio.open_connection(sock=sock, limit=1 << 20))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)

    async def send(self, *parts: bytes | float) -> None:
        """Write bytes and wait seconds, in turn. A connection the other side has closed is no error here."""
        try:
            for part in parts:
                if isinstance(part, bytes):
                    self.writer.write(part)
                    await self.writer.drain()
                else:
                    await asyncio.sleep(part)
        except ConnectionError:
            pass

    async def send_bytewise(self, data: bytes) -> None:
        """Write every byte by itself, so that each arrives as a read of its own."""
        for index in range(len(data)):
            await self.send(data[index : index + 1], 0, 0)

    async def answer(self, method: bytes = b"GET", *, within: float = WITHIN) -> Message:
        """The next final answer; interim ones are added to `interim`. Raises Cut, also where nothing came."""
        async with asyncio.timeout(within):
            while True:
                message = await read_head(self.reader)
                if message is None:
                    raise Cut("closed")
                await read_body(self.reader, message, answers=method)
                if message.status >= 200 or message.status == 101:
                    return message
                self.interim.append(message)

    async def ask(self, data: bytes, *, within: float = WITHIN) -> Message:
        """Send a request and read its answer."""
        await self.send(data)
        return await self.answer(data.split(b" ", 1)[0], within=within)

    async def end(self, *, within: float = WITHIN) -> bytes:
        """Everything until the connection has ended; b"" where it ended cleanly and silently."""
        data = b""
        async with asyncio.timeout(within):
            try:
                while part := await self.reader.read(1 << 20):
                    data += part
            except ConnectionError:
                pass
        return data

    async def silent(self, seconds: float = 0.1) -> bool:
        """Whether the connection stays open and says nothing."""
        try:
            async with asyncio.timeout(seconds):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False

    def reset(self) -> None:
        """End the connection with a reset."""
        reset(self.writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST instead of FIN."""
    opened = writer.get_extra_info("socket")
    if opened is not None and opened.fileno() >= 0:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
