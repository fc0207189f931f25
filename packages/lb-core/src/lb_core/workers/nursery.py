"""The nursery: a process without loop or threads that forks workers, in milliseconds and with everything imported.

A process that has threads, as the control process has, must not fork: a lock that another thread holds at that moment
stays locked in the child for ever. So this one is forked first, and does nothing but fork, wait and report.

    control -> nursery    seat, with the worker's end of its link
    nursery -> control    forked: seat, pid, with a descriptor of the process (pidfd)
                          ended: seat, status as waitpid gives it
                          failed: seat, error number

It ends when the control process does: at the end of file, and where the system can, by a signal. The terminal's Ctrl+C
and systemd's SIGTERM reach all processes of a service; here and in the workers they are ignored, because the control
process decides what they mean.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from lb_core.errors import StartError

log = logging.getLogger("lb.workers")

REPORT = struct.Struct("!Bii")
SEAT = struct.Struct("!i")
FORKED, ENDED, FAILED = 1, 2, 3
REPORTS_MOST = 64
ENDS_WITHIN = 1.0
PR_SET_PDEATHSIG = 1
IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGRTMIN")

Work = Callable[[socket.socket, int], int]
"""What a worker does, with its end of the link and its seat; returns the exit status."""


class Nursery:
    """The nursery, seen from the control process: `fork` asks for a worker, `on_*` are called with what comes of it.

    Raises StartError where it cannot be made: threads run already, or the system is none that can.
    """

    def __init__(self, work: Work, release: Callable[[], None] = lambda: None) -> None:
        """Fork it; in the child `release` lets go of what only the control process needs."""
        _demand_fork()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control = os.getpid()
        _flush()  # or the child writes the same once more
        self.pid = os.fork()
        if not self.pid:
            ours.close()
            _end_with(_guarded(lambda: _Forking(theirs, work, release).run(control)))
        theirs.close()
        ours.setblocking(False)
        self._socket = ours
        self.on_forked: Callable[[int, int, int], None] = _nobody
        self.on_ended: Callable[[int, int], None] = _nobody
        self.on_failed: Callable[[int, int], None] = _nobody
        self.on_lost: Callable[[], None] = _nobody
        self.alive = True

    def follow(self) -> None:
        """Hear its reports from now on; needs the running loop."""
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def fork(self, seat: int, link: socket.socket) -> None:
        """Ask for a worker with this end of a link; raises OSError where the nursery cannot be asked."""
        socket.send_fds(self._socket, [SEAT.pack(seat)], [link.fileno()])

    def close(self) -> None:
        """Let it end; its workers go on for as long as their links do."""
        if self._socket.fileno() >= 0:
            with suppress(RuntimeError):  # there is no loop any more
                asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
        with suppress(ChildProcessError):
            end = time.monotonic() + ENDS_WITHIN
            while not os.waitpid(self.pid, os.WNOHANG)[0]:
                if time.monotonic() > end:
                    os.kill(self.pid, signal.SIGKILL)
                time.sleep(0.002)

    def _readable(self) -> None:
        for _ in range(REPORTS_MOST):
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, REPORT.size, 1)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._end()
                return
            self._hear(data, descriptors)

    def _hear(self, data: bytes, descriptors: list[int]) -> None:
        kind, seat, number = REPORT.unpack(data)
        if kind == FORKED:
            for each in descriptors:
                os.set_inheritable(each, False)
            self.on_forked(seat, number, descriptors[0])
        elif kind == ENDED:
            self.on_ended(seat, number)
        else:
            self.on_failed(seat, number)

    def _end(self) -> None:
        self.alive = False
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self.on_lost()


def _nobody(*report: int) -> None:
    """Hears a report before anybody is there who does."""


class _Forking:
    """The nursery itself."""

    def __init__(self, control: socket.socket, work: Work, release: Callable[[], None]) -> None:
        self._control = control
        self._work = work
        self._release = release
        self._seats: dict[int, int] = {}
        self._wake, self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self, parent: int) -> int:
        """Fork, wait and report until the control process has gone."""
        _follow_into_death(parent)
        for name in IGNORED:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        self._release()
        gc.collect()
        gc.freeze()  # what is here now is shared with every worker for as long as nobody writes to it
        signal.set_wakeup_fd(self._woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if self._control.fileno() in ready and not self._take():
                return 0

    def _take(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, SEAT.size, 1)
        if not data:
            return False
        (seat,) = SEAT.unpack(data)
        link = socket.socket(fileno=descriptors[0])
        link.set_inheritable(False)
        try:
            pid = os.fork()
        except OSError as error:
            link.close()
            self._report(FAILED, seat, error.errno or 0)
            return True
        if not pid:
            _end_with(_guarded(lambda: self._become(seat, link)))
        link.close()
        self._seats[pid] = seat
        descriptor = os.pidfd_open(pid)  # before it is waited for, so it is nobody else's number
        self._report(FORKED, seat, pid, descriptor)
        os.close(descriptor)
        return True

    def _become(self, seat: int, link: socket.socket) -> int:
        """In the child: be a worker."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        os.close(self._wake)
        os.close(self._woken)
        return self._work(link, seat)

    def _reap(self) -> None:
        while self._seats:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            seat = self._seats.pop(pid, None)
            if seat is not None:
                self._report(ENDED, seat, status)

    def _report(self, kind: int, seat: int, number: int, *descriptors: int) -> None:
        with suppress(OSError):  # the control process has gone, and the next read says so
            socket.send_fds(self._control, [REPORT.pack(kind, seat, number)], list(descriptors))


def _demand_fork() -> None:
    """Raise StartError where several workers cannot be had."""
    if not (hasattr(os, "pidfd_open") and hasattr(os, "fork") and hasattr(socket, "SO_REUSEPORT")):
        raise StartError("workers: several of them need Linux: write workers: 1")
    threads = [each.name for each in threading.enumerate() if each is not threading.current_thread()]
    if threads:
        raise StartError(
            f"workers: threads run already ({', '.join(threads)}), and a process with threads cannot be forked: "
            "start them in a plugin's lifespan, or write workers: 1"
        )
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise StartError(
            "workers: an event loop runs already, and a process with one cannot be forked: "
            "call balancer.run() without one, or write workers: 1"
        )


def _follow_into_death(parent: int) -> None:
    """Be killed when the parent ends, where the system can; a second line behind the end of file."""
    with suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        _end_with(0)  # it ended before we asked


def _guarded(run: Callable[[], int]) -> int:
    """The status of what a forked process does; an exception is logged and is status 1."""
    try:
        return run()
    except BaseException:
        log.exception("pid %d failed", os.getpid())
        return 1


def _end_with(status: int) -> NoReturn:
    """End a forked process: what the parent registered for its own end is not ours to do."""
    with suppress(Exception):
        _flush()
    os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # as it is where it was closed at the start
            stream.flush()
