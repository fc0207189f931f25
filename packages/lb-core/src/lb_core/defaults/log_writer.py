"""Writing log lines without ever holding up traffic.

    event loop  ── write(bytes) ──>  queue  ──>  thread: os.write  ──>  file or stdout

A disk that is slow or a pipe whose reader has stopped blocks the thread alone. What waits is bounded, and so is the
time that closing takes; lines beyond that are dropped and counted. A failure is reported once, and its end with what
was lost. Before `start` and after `close` there is no thread, and `write` writes.
"""

from __future__ import annotations

import errno
import logging
import os
import select
from queue import SimpleQueue
from threading import Thread

from lb_core.defaults.taking_turns import Turns, needs_turns, portions
from lb_core.errors import StartError

WAITING_MOST = 8 << 20
"""Bytes that may wait for a slow file."""

CLOSING_MOST = 2.0
"""Seconds that `close` waits for what is still to be written."""

STDOUT = "-"

log = logging.getLogger("lb.access_log")


class LogWriter:
    """Appends to a file, or to standard output where it is named `-`; StartError where it cannot be opened.

    A file that is not there yet is made by `start` or the first line: `lb check` leaves nothing behind.
    """

    def __init__(self, file: str, *, together: int | None = None) -> None:
        self.name = "standard output" if file == STDOUT else file
        self._path = "" if file == STDOUT else file
        self._descriptor = self._open_existing()
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread: Thread | None = None
        # Each of the two is written by one thread only; their difference is what waits.
        self._taken = 0
        self._done = 0
        self._reopen = False
        self._together = Turns(together) if together is not None else None
        self._failing = False
        self.lost = 0

    def start(self) -> None:
        """Write in a thread from now on."""
        if self._thread is None:
            self._write(b"")
            self._thread = Thread(target=self._run, name="lb-access-log", daemon=True)
            self._thread.start()

    def write(self, lines: bytes) -> None:
        """Take whole lines; they are dropped when too much is waiting already."""
        if self._thread is None:
            self._write(lines)
        elif self._taken - self._done > WAITING_MOST:
            self._failed(f"the reader is too slow, {WAITING_MOST >> 20} MiB are waiting", lines)
        else:
            self._taken += len(lines)
            self._queue.put(lines)

    def reopen(self) -> None:
        """Open the file by its name again, after it was moved away; what was taken before still goes to the old one."""
        if self._thread is None:
            self._change_file()
        else:
            self._reopen = True
            self._queue.put(b"")

    def close(self) -> None:
        """Write what waits, for a bounded time, and let go of the file."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(CLOSING_MOST)
            if thread.is_alive():
                log.error("access log: %s takes no more; %d bytes are lost", self.name, self._taken - self._done)
                return
        if self._path and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _run(self) -> None:
        while (lines := self._queue.get()) is not None:
            if self._reopen and not lines:
                self._reopen = False
                self._change_file()
            self._write(lines)
            self._done += len(lines)

    def _open_existing(self) -> int:
        """The file's descriptor; -1 where it is still to be made, and can be."""
        if not self._path:
            return 1
        try:
            return self._open(0)
        except FileNotFoundError as error:
            directory = os.path.dirname(self._path) or "."
            if os.access(directory, os.W_OK | os.X_OK):
                return -1
            raise self._refused(errno.EACCES if os.path.isdir(directory) else errno.ENOENT) from error
        except OSError as error:
            raise self._refused(error.errno or errno.EIO) from error

    def _refused(self, number: int) -> StartError:
        return StartError(
            f"access_log.file: cannot open {self._path!r}: {os.strerror(number)}; name a file in a directory that "
            "exists and can be written"
        )

    def _open(self, flags: int = os.O_CREAT) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | flags, 0o640)

    def _change_file(self) -> None:
        if not self._path:
            return
        try:
            descriptor = self._open()
        except OSError as error:
            log.error("access log: cannot open %s: %s; the old file goes on", self.name, error.strerror)
            return
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor

    def _write(self, lines: bytes) -> None:
        rest = memoryview(lines)
        try:
            if self._descriptor < 0:
                self._descriptor = self._open()
            if self._together is not None and lines and needs_turns(self._descriptor):
                rest = self._write_in_turn(self._together, lines)
            while rest:
                rest = rest[self._write_some(rest) :]
        except OSError as error:
            self._failed(error.strerror or str(error), lines[len(lines) - len(rest) :])
            return
        if self._failing and lines:
            self._failing = False
            log.warning("access log: %s can be written again; %d bytes were lost", self.name, self.lost)

    def _write_in_turn(self, turns: Turns, lines: bytes) -> memoryview:
        """Write beside other processes, line by line; returns what is left, which is nothing."""
        for portion in portions(lines):
            rest = portion
            with turns.turn(len(portion)):
                while rest:
                    rest = rest[self._write_some(rest) :]
        return memoryview(b"")

    def _write_some(self, lines: memoryview) -> int:
        try:
            return os.write(self._descriptor, lines)
        except BlockingIOError:  # a standard output that somebody else made non-blocking
            select.select([], [self._descriptor], [], 0.1 if self._thread is None else None)
            return os.write(self._descriptor, lines)

    def _failed(self, reason: str, lines: bytes) -> None:
        self.lost += len(lines)
        if not self._failing:
            self._failing = True
            log.error("access log: cannot write to %s: %s; lines are dropped until it works again", self.name, reason)
