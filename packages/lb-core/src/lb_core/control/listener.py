"""The balancer's side of the control socket: it accepts, reads lines within bounds, and answers.

It must never cost the traffic anything: connections, the length of a line and the time for one are bounded, whatever
goes wrong is logged, and where no socket can be made the balancer serves without one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from lb_core.control import LARGEST_REQUEST
from lb_core.control.peers import is_trusted, user_at
from lb_core.control.places import directories, make_directory, new_socket
from lb_core.errors import LbError
from lb_core.socket_files import SocketFile, listen_on_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lb_core.control.asks import Asks

log = logging.getLogger("lb.control")

OFF = "off"
SECONDS = 10.0
"""How long a connection may be silent, and how long it may take to read an answer."""
CONNECTIONS = 16


class ControlSocket:
    """The socket of one balancer. `path` is where it is, empty while there is none."""

    def __init__(self, asks: Asks, environ: Mapping[str, str], *, seconds: float = SECONDS) -> None:
        self.path = ""
        self._asks = asks
        self._environ = environ
        self._seconds = seconds
        self._wanted = OFF
        self._server: asyncio.AbstractServer | None = None
        self._file: SocketFile | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def follow(self, wanted: str) -> None:
        """Be where the configuration says: a path, `off`, or empty for the usual place; a warning where that fails."""
        if wanted == self._wanted:
            return
        await self.close()
        self._wanted = wanted
        if wanted == OFF:
            return
        try:
            await self._open(wanted or self._usual())
        except (LbError, OSError) as error:
            log.warning("no command can reach this balancer: %s", error)

    async def close(self) -> None:
        """Stop listening, end what is connected, remove the file."""
        self._wanted, self.path = OFF, ""
        if self._server is not None:
            self._server.close()
        if self._file is not None:
            self._file.remove()
        self._server = self._file = None
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _usual(self) -> str:
        directory = directories(self._environ, os.geteuid())[0]
        make_directory(directory, os.geteuid())
        return str(new_socket(directory, os.getpid()))

    async def _open(self, path: str) -> None:
        opened = listen_on_file("control", path, 0o600, CONNECTIONS)
        self._file = SocketFile(path)
        self._server = await asyncio.start_unix_server(self._accept, sock=opened, limit=LARGEST_REQUEST)
        self.path = path

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # it was accepted just before the end
            writer.transport.abort()
            return

        def ended(task: asyncio.Task[None]) -> None:
            self._connections.discard(task)
            writer.transport.abort()  # also where it was cancelled before its first step

        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(ended)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not is_trusted(user_at(writer.get_extra_info("socket"))):
                await self._refuse(writer, b"only the user of this balancer and root may ask it")
            elif len(self._connections) > CONNECTIONS:
                await self._refuse(writer, b"too many connections: try again")
            else:
                await self._converse(reader, writer)
            writer.close()
            async with asyncio.timeout(self._seconds):
                await writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # it has gone, or is too slow
        except Exception:
            log.exception("a connection to the control socket failed")

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    line = await reader.readline()
            except ValueError:
                await self._refuse(writer, b"this line is longer than %d bytes" % LARGEST_REQUEST)
                return
            if not line.endswith(b"\n"):
                return
            await self._write(writer, await self._asks.answer(line))

    async def _refuse(self, writer: asyncio.StreamWriter, why: bytes) -> None:
        await self._write(writer, b'{"ok": false, "error": "%b"}\n' % why)

    async def _write(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        writer.write(answer)
        async with asyncio.timeout(self._seconds):
            await writer.drain()
