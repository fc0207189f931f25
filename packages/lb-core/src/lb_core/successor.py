"""The process that takes this one's place: the same command in a fresh interpreter, so that what is installed now runs.

It inherits the listening sockets, starts as any process does, asks for the state at the last moment, and says when it
serves. What it writes to standard error until then is passed on, and its last lines are kept in case it does not.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lb_core.environment import HANDOVER, process_environment
from lb_core.errors import LbError
from lb_core.handover import Lines, Offer, State
from lb_core.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core.listening import Address

log = logging.getLogger("lb.upgrade")

WITHIN = 60.0
"""Seconds in which the new process must serve."""
LAST_LINES = 20
KILL_AFTER = 2.0
LOOK_EVERY = 0.02
FIRST = 1
"""The number of the process whose end is the end of its container."""


class UpgradeFailed(LbError):
    """The new process does not serve; this one goes on."""


class Successor:
    """A process that takes this one's place. `pid` and `version` are what it says of itself."""

    def __init__(self, offer: Offer, *, within: float = WITHIN) -> None:
        self.pid = 0
        self.version = ""
        self.taken: set[Address] = set()
        self._offer = offer
        self._within = within
        self._lines: Lines | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = _Tail()

    async def start(self, state: Callable[[], State]) -> None:
        """Start it and wait until it serves; `state` is asked for when it needs to know. Raises UpgradeFailed."""
        if os.getpid() == FIRST:
            raise UpgradeFailed("this is process 1, whose end ends its container: replace the container instead")
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise self._failed(f"{type(error).__name__}: {error}") from error
        lines = self._lines = Lines(ours)
        try:
            stderr = self._begin(theirs)
            theirs.close()
            async with asyncio.timeout(self._within):
                await lines.send(self._offer.message(stderr))
                await self._converse(lines, state)
        except TimeoutError:
            raise self._failed(f"it does not serve within {format_duration(self._within)}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._failed(f"{type(error).__name__}: {error}") from error
        finally:
            theirs.close()

    async def left(self) -> None:
        """Tell it that this process accepts no more."""
        if self._lines is not None:
            with suppress(OSError):
                await self._lines.send({"left": True})
            self._lines.close()
        self._errors.close()
        if self._process is not None:
            self._process.returncode = 0  # nobody waits for it: it outlives this process

    async def end(self) -> None:
        """End it, where it has not taken over."""
        if self._lines is not None:
            self._lines.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            await self._wait(KILL_AFTER)
            if self._process.poll() is None:
                self._process.kill()
                await self._wait(KILL_AFTER)
        self._errors.close()

    def _begin(self, theirs: socket.socket) -> int:
        """Start the process; returns the descriptor of the standard error that it will have."""
        stderr = os.dup(2)
        try:
            descriptors = [theirs.fileno(), stderr, *(each.fileno() for each in self._offer.sockets)]
            self._process = subprocess.Popen(
                command(),
                env=environment(theirs.fileno()),
                stderr=self._errors.open(),
                pass_fds=descriptors,
            )
        finally:
            self._errors.opened()
            os.close(stderr)
        return stderr

    async def _converse(self, lines: Lines, state: Callable[[], State]) -> None:
        while (message := await lines.receive()) is not None:
            if message.get("ask") == "state":
                await lines.send(_as_message(state()))
            elif message.get("ready"):
                self.pid, self.version = int(message["pid"]), str(message["version"])
                self.taken = {(str(host), int(port), str(path)) for host, port, path in message["taken"]}
                return
        await self._wait(KILL_AFTER)
        status = self._process.poll() if self._process is not None else None
        raise self._failed("it ended" + (f" with status {status}" if status is not None else ""))

    async def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._process is not None and self._process.poll() is None and time.monotonic() < end:
            await asyncio.sleep(LOOK_EVERY)

    def _failed(self, why: str) -> UpgradeFailed:
        lines = self._errors.lines()
        return UpgradeFailed("\n".join((f"the new process does not serve: {why}; this one goes on", *lines)))


class _Tail:
    """What a process writes to its standard error: passed on, and the last lines kept."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=LAST_LINES)
        self._rest = b""
        self._read = self._write = -1

    def open(self) -> int:
        """The descriptor to write to."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        asyncio.get_running_loop().add_reader(self._read, self._readable)
        return self._write

    def opened(self) -> None:
        """The process has it now."""
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def lines(self) -> list[str]:
        """The last ones."""
        self._readable()
        kept = [*self._lines, self._rest] if self._rest else [*self._lines]
        return [line.decode(errors="replace") for line in kept]

    def close(self) -> None:
        """Read no more."""
        self._readable()
        if self._read >= 0:
            asyncio.get_running_loop().remove_reader(self._read)
            os.close(self._read)
            self._read = -1

    def _readable(self) -> None:
        while self._read >= 0:
            try:
                data = os.read(self._read, 65536)
            except BlockingIOError:
                return
            if not data:
                asyncio.get_running_loop().remove_reader(self._read)
                os.close(self._read)
                self._read = -1
                return
            with suppress(OSError):
                os.write(2, data)
            *whole, self._rest = (self._rest + data).split(b"\n")
            self._lines.extend(whole)


def command() -> list[str]:
    """The command line of this process, for a fresh interpreter."""
    return [sys.executable, *sys.orig_argv[1:]]


def environment(descriptor: int) -> dict[str, str]:
    """That of this process, with what tells the new one that there is something to take over."""
    environ = process_environment()
    environ.pop("WATCHDOG_PID", None)  # that is this one
    return {**environ, HANDOVER: str(descriptor)}


def _as_message(state: State) -> dict[str, Any]:
    """What JSON can carry of the state."""
    messages = []
    for topic, message in state.messages:
        try:
            json.dumps(message)
        except (TypeError, ValueError):
            log.exception("the state of %s cannot be handed over", topic)
        else:
            messages.append([topic, message])
    return {"messages": messages, "drained": state.drained}
