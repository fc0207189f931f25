"""A real backend for tests: records every byte it is sent and answers by script.

A script is bytes (read the request, answer), a sequence of steps, or a function of the request that returns either or
is a coroutine. Steps are bytes to write, seconds to wait, and:

    BODY    read the request's body; the first step unless EARLY stands there
    EARLY   do not read the body first
    CLOSE   close cleanly
    RESET   close with a reset
"""

from __future__ import annotations

import asyncio
import enum
import inspect
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType

from tests.support.client import reset
from tests.support.wire import Cut, Message, read_body, read_head, response


class Step(enum.Enum):
    """What a script does beside writing and waiting."""

    BODY = enum.auto()
    EARLY = enum.auto()
    CLOSE = enum.auto()
    RESET = enum.auto()


BODY, EARLY, CLOSE, RESET = Step

Steps = Sequence["bytes | float | Step"]


class Connection:
    """One connection to the backend; `received` is every byte of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received = bytearray()
        self.ended = asyncio.Event()
        self.ended_at = 0.0

    def close(self) -> None:
        """Close at once."""
        self.writer.transport.abort()


class Request:
    """A request the backend was sent."""

    def __init__(self, message: Message, connection: Connection) -> None:
        self.message = message
        self.connection = connection
        message.complete = not (
            {"content-length", "transfer-encoding"} & {name.decode("latin-1") for name, _ in message.fields}
        )

    async def body(self) -> bytes:
        """Its body, read to the end."""
        if not self.message.complete:
            await read_body(self.connection.reader, self.message)
        return self.message.body

    def write(self, data: bytes) -> None:
        """Answer with bytes."""
        self.connection.writer.write(data)


Script = bytes | Steps | Callable[[Request], "bytes | Steps | Awaitable[None]"]


class _Tap(asyncio.StreamReader):
    """A reader that tells what arrives."""

    tell: Callable[[bytes], None]

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # uvloop and asyncio give bytes
        self.tell(data)
        super().feed_data(data)


class Backend:
    """A listening backend. `requests` holds each request whose head was complete, `connections` every connection."""

    def __init__(
        self, script: Script | None = None, *, name: str = "backend", host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.script: Script = response(name.encode(), f"X-Backend: {name}") if script is None else script
        self.name = name
        self.host = host
        self.port = port
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """host:port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def messages(self) -> list[Message]:
        """The requests as messages."""
        return [request.message for request in self.requests]

    @property
    def received(self) -> bytes:
        """Every byte of every connection."""
        return b"".join(bytes(connection.received) for connection in self.connections)

    async def __aenter__(self) -> Backend:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the port it had before where it had one."""
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.StreamReaderProtocol:
            reader = _Tap(limit=1 << 20, loop=loop)
            return asyncio.StreamReaderProtocol(reader, self._connected, loop=loop)

        self._server = await loop.create_server(protocol, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and reset every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self.connections:
            connection.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def close_connections(self) -> None:
        """Close every connection as a backend does that finds them idle."""
        for connection in self.connections:
            connection.writer.close()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, _Tap)
        connection = Connection(reader, writer)
        reader.tell = connection.received.extend
        self.connections.append(connection)
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: Connection) -> None:
        watching = asyncio.create_task(self._watch(connection))
        try:
            while (message := await read_head(connection.reader)) is not None:
                request = Request(message, connection)
                self.requests.append(request)
                await self._answer(request)
                if connection.writer.is_closing() or not message.complete:
                    break
        except (Cut, ConnectionError, ValueError, AssertionError, RuntimeError):
            pass  # the other side is gone, or was no HTTP; what arrived is recorded
        finally:
            connection.writer.close()
            watching.cancel()
            self._ended(connection)

    async def _watch(self, connection: Connection) -> None:
        """Notice the end of a connection while a script is busy."""
        with suppress(ConnectionError):
            while not connection.reader.at_eof() and connection.reader.exception() is None:
                await asyncio.sleep(0.01)
        self._ended(connection)

    def _ended(self, connection: Connection) -> None:
        if not connection.ended.is_set():
            connection.ended_at = time.monotonic()
            connection.ended.set()

    async def _answer(self, request: Request) -> None:
        script: object = self.script
        if callable(script):
            script = script(request)
        if inspect.isawaitable(script):
            await script
            return
        steps: Steps = (script,) if isinstance(script, bytes) else script  # type: ignore[assignment]
        if not steps or steps[0] is not EARLY:
            await request.body()
        for step in steps:
            if isinstance(step, bytes):
                request.write(step)
                await request.connection.writer.drain()
            elif step is BODY:
                await request.body()
            elif step is CLOSE:
                request.connection.writer.close()
            elif step is RESET:
                await asyncio.sleep(0.01)
                reset(request.connection.writer)
            elif isinstance(step, (int, float)):
                await asyncio.sleep(step)


def bytewise(data: bytes) -> list[bytes | float | Step]:
    """Steps that write every byte by itself."""
    steps: list[bytes | float | Step] = []
    for index in range(len(data)):
        steps += [data[index : index + 1], 0, 0]
    return steps


@contextmanager
def refusing() -> Iterator[str]:
    """An address where connections are refused: bound, so that nobody else gets it, but not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def unresponsive(host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """An address where connections are neither accepted nor refused: its queue of connections is full."""
    fillers = []
    with socket.socket() as listening:
        listening.bind((host, port))
        listening.listen(0)
        address = listening.getsockname()
        try:
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                fillers.append(filler)
                with suppress(BlockingIOError):
                    filler.connect(address)
            time.sleep(0.05)
            yield f"{host}:{address[1]}"
        finally:
            for filler in fillers:
                filler.close()
