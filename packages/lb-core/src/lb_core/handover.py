"""What a process hands to the one that takes its place: listening sockets, and what it knows of backends and limits.

The two talk in lines of JSON over a pair of sockets, because they may be different versions: keys that are not known
are ignored, and a format that is not known is refused. The descriptors themselves are inherited.

    old -> new   {"handover": 1, "pid": 4711, "version": "1.2.0", "run": "9f8e…", "listeners": [{"host", "port", "path",
                  "descriptors"}], "readiness": {"address", "descriptors"}, "stderr": 9}
    new -> old   {"ask": "state"}                    when its plugins have started
    old -> new   {"messages": [[topic, message]], "drained": false}
    new -> old   {"ready": true, "pid": 4712, "version": "1.3.0", "taken": [[host, port, path]]}
    old -> new   {"left": true}                      it accepts no more, and its control socket is closed
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lb_core import __version__
from lb_core.environment import take_handover
from lb_core.errors import StartError

if TYPE_CHECKING:
    from lb_core.listening import Address

FORMAT = 1
FIRST_WITHIN = 10.0
LEFT_WITHIN = 5.0
"""Seconds in which the old process tells what it hands over, and in which it accepts no more."""
LARGEST = 1 << 28
READ = 1 << 16


class Lines:
    """One end of the pair: messages, a line each."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()

    async def send(self, message: Mapping[str, object]) -> None:
        """Send one; raises OSError where nobody is there any more."""
        self._socket.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(self._socket, _line(message))

    async def receive(self) -> dict[str, Any] | None:
        """The next one; None at the end. Raises ValueError for what is none."""
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        while b"\n" not in self._buffer:
            data = b""
            with suppress(ConnectionError):
                data = await loop.sock_recv(self._socket, READ)
            if not data:
                return None
            self._add(data)
        return self._next()

    def receive_now(self, seconds: float) -> dict[str, Any] | None:
        """The same without a loop; raises TimeoutError."""
        self._socket.settimeout(seconds)
        while b"\n" not in self._buffer:
            data = self._socket.recv(READ)
            if not data:
                return None
            self._add(data)
        return self._next()

    def close(self) -> None:
        """Say and hear no more."""
        self._socket.close()

    def _add(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > LARGEST:
            raise ValueError(f"a message of more than {LARGEST} bytes")

    def _next(self) -> dict[str, Any]:
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError(f"{message!r:.100} is no message")
        return message


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be handed over: listening sockets by address, and those of the readiness endpoint."""

    listeners: Mapping[Address, Iterable[socket.socket]]
    readiness: str = ""
    readiness_sockets: Iterable[socket.socket] = ()
    run: str = ""
    """Which run offers it, as other nodes know it."""

    @property
    def sockets(self) -> list[socket.socket]:
        """All of them."""
        return [*(each for sockets in self.listeners.values() for each in sockets), *self.readiness_sockets]

    def message(self, stderr: int) -> dict[str, object]:
        """The first message; `stderr` is the descriptor of the standard error that stays."""
        listeners = [
            {"host": host, "port": port, "path": path, "descriptors": [each.fileno() for each in sockets]}
            for (host, port, path), sockets in self.listeners.items()
        ]
        readiness = {"address": self.readiness, "descriptors": [each.fileno() for each in self.readiness_sockets]}
        first = {"handover": FORMAT, "pid": os.getpid(), "version": __version__, "run": self.run, "stderr": stderr}
        return {**first, "listeners": listeners, "readiness": readiness}


@dataclass(frozen=True, slots=True)
class State:
    """What the old process knows: messages of its channels, and whether an operator has drained it."""

    messages: list[tuple[str, Any]] = field(default_factory=list)
    drained: bool = False


class Predecessor:
    """The process whose place this one takes; `inherited` are its listening sockets."""

    def __init__(self, connection: socket.socket) -> None:
        """Hear what it hands over; raises StartError where that cannot be understood."""
        self._lines = Lines(connection)
        try:
            first = self._lines.receive_now(FIRST_WITHIN)
        except (OSError, ValueError) as error:
            raise StartError(f"the running process hands nothing over: {error}") from error
        if first is None or first.get("handover") != FORMAT:
            raise StartError(
                "the running process hands over in a way that this version does not know: stop it, then start this one"
            )
        self.pid = int(first["pid"])
        self.version = str(first["version"])
        self.run = str(first.get("run", ""))
        self.inherited: dict[Address, list[socket.socket]] = {
            (str(each["host"]), int(each["port"]), str(each["path"])): _opened(each["descriptors"])
            for each in first["listeners"]
        }
        readiness = first.get("readiness") or {"address": "", "descriptors": []}
        self.readiness: tuple[str, list[socket.socket]] = readiness["address"], _opened(readiness["descriptors"])
        self._stderr = int(first.get("stderr", -1))
        self._taken: list[Address] = []

    @classmethod
    def find(cls) -> Predecessor | None:
        """That of this process, asked for once; None where it was started in the usual way. Raises StartError."""
        descriptor = take_handover()
        if descriptor < 0:
            return None
        try:
            connection = socket.socket(fileno=descriptor)
            connection.set_inheritable(False)
        except OSError as error:
            raise StartError(f"LB_HANDOVER={descriptor} is no socket: unset it, and start lb again") from error
        return cls(connection)

    def take(self, addresses: Iterable[Address]) -> dict[Address, list[socket.socket]]:
        """The sockets for these addresses; others are left to the old process."""
        taken = {each: self.inherited.pop(each) for each in addresses if each in self.inherited}
        for sockets in self.inherited.values():
            for each in sockets:
                each.close()
        self.inherited = {}
        self._taken = [*taken]
        return taken

    def take_readiness(self, address: str) -> list[socket.socket]:
        """The sockets of the endpoint, where it stays at this address; none otherwise."""
        before, sockets = self.readiness
        self.readiness = "", []
        if before == address:
            return sockets
        for each in sockets:
            each.close()
        return []

    def own_stderr(self) -> None:
        """Write to the standard error that stays, and not to the one that the old process reads."""
        if self._stderr >= 0:
            os.dup2(self._stderr, 2)

    async def state(self) -> State:
        """What the old process knows; nothing where it has gone."""
        try:
            await self._lines.send({"ask": "state"})
            answer = await self._lines.receive() or {}
        except (OSError, ValueError):
            return State()
        messages = [(str(topic), message) for topic, message in answer.get("messages", ())]
        return State(messages, bool(answer.get("drained")))

    async def succeeded(self) -> None:
        """Say that this process serves, and wait until the old one accepts no more."""
        self.own_stderr()
        message = {"ready": True, "pid": os.getpid(), "version": __version__, "taken": [list(a) for a in self._taken]}
        with suppress(OSError, ValueError, TimeoutError):
            async with asyncio.timeout(LEFT_WITHIN):
                await self._lines.send(message)
                await self._lines.receive()
        self.close()

    def let_go(self) -> None:
        """In a process forked from this one: have nothing of it but the standard error that stays."""
        self.own_stderr()
        for sockets in (*self.inherited.values(), self.readiness[1]):
            for each in sockets:
                each.close()
        self.close()

    def close(self) -> None:
        """Let go of it."""
        self._lines.close()
        if self._stderr >= 0:
            with suppress(OSError):
                os.close(self._stderr)
            self._stderr = -1


def _opened(descriptors: Iterable[int]) -> list[socket.socket]:
    sockets = []
    for descriptor in descriptors:
        each = socket.socket(fileno=descriptor)
        each.set_inheritable(False)
        each.setblocking(False)
        sockets.append(each)
    return sockets


def _line(message: Mapping[str, object]) -> bytes:
    return json.dumps(message).encode() + b"\n"
