"""What systemd wants to know of a service of `Type=notify`: sd_notify(3) over the socket that it names.

    READY=1                       connections are accepted; again after a reload
    RELOADING=1 MONOTONIC_USEC=   a reload begins
    STOPPING=1                    the end has begun
    STATUS=                       a line for people: `systemctl status` shows it
    WATCHDOG=1                    it still works; without it for `WatchdogSec=` systemd ends the service
    MAINPID=                      another process is the service from now on

Nothing is sent where no socket is named, and whatever goes wrong stays without consequence.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

log = logging.getLogger("lb.systemd")

TELL_EVERY = 5.0
"""Seconds between two lines of STATUS."""
WAIT = 0.5
"""Seconds to wait for a manager that has ten messages to read already. What comes again anyway does not wait."""
WAIT_FOR_THE_WORST = 5.0
"""The same where the service would be taken for dead if it were not heard."""


class Systemd:
    """The service manager that started this process, if there is one.

    `environ` is the process's environment: `NOTIFY_SOCKET` names the socket (`/path`, or `@name` in the abstract name
    space), `WATCHDOG_USEC` and `WATCHDOG_PID` tell how often to be heard of, and who.
    """

    def __init__(self, environ: Mapping[str, str], *, pid: int | None = None) -> None:
        self._pid = os.getpid() if pid is None else pid
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog = _watchdog(environ, self._pid) if self._address else 0.0
        self._silent = False

    @property
    def listens(self) -> bool:
        """Whether somebody listens."""
        return bool(self._address)

    @property
    def watchdog(self) -> float:
        """Seconds without being heard of after which it ends the service; 0.0 for never."""
        return self._watchdog

    def ready(self) -> None:
        """Connections are accepted."""
        self._send("READY=1")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def status(self, line: str) -> None:
        """Say how it is going, in a line."""
        self._send(f"STATUS={' '.join(line.split())}", wait=0.0)

    def works(self) -> None:
        """It still works."""
        if self._watchdog:
            self._send("WATCHDOG=1", wait=0.0)

    def hand_over(self, pid: int) -> None:
        """Another process is the service now; this one says no more."""
        self._send(f"MAINPID={pid}", wait=WAIT_FOR_THE_WORST)
        self._silent = True

    async def keep_telling(self, line: Callable[[], str], works: Callable[[], bool]) -> None:
        """Tell a line every few seconds, and that it works where it does, until cancelled."""
        pause = min(self._watchdog / 2 or TELL_EVERY, TELL_EVERY)
        told, last = time.monotonic(), ""
        while self._address:
            if works():
                self.works()
            now = time.monotonic()
            if now - told >= TELL_EVERY or not last:
                told, before, last = now, last, line()
                if last != before:
                    self.status(last)
            await asyncio.sleep(pause)

    def _send(self, *lines: str, wait: float = WAIT) -> None:
        if not self._address or self._silent:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            asking.settimeout(wait)
            asking.sendto("\n".join(lines).encode(), self._address)


def _address(named: str) -> str:
    """The socket's address as Python has it; empty for none, and for kinds that are not known."""
    if named.startswith("/"):
        return named
    if named.startswith("@"):
        return "\0" + named[1:]
    if named:
        log.warning("NOTIFY_SOCKET=%s is neither a path nor an abstract name: systemd is told nothing", named)
    return ""


def _watchdog(environ: Mapping[str, str], pid: int) -> float:
    meant = environ.get("WATCHDOG_PID", "")
    if meant and meant != str(pid):
        return 0.0
    usec = environ.get("WATCHDOG_USEC", "")
    return int(usec) / 1e6 if usec.isdecimal() else 0.0
