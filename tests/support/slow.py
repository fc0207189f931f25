"""Many clients that do little, slowly."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

TICK = 0.1

_AGENT = "Host: slow.example\r\nUser-Agent: slow\r\n"


@dataclass(frozen=True)
class Mode:
    """What a slow client does: what it sends first, then `drip` every `gap` seconds, and how many bytes it reads."""

    name: str
    opening: bytes
    drip: bytes = b""
    reads: int = 4096
    gap: float = 2.0
    receive_buffer: int = 0


HEADERS = Mode("slow headers", f"GET / HTTP/1.1\r\n{_AGENT}".encode(), b"X-Slow: 1\r\n")
BODY = Mode("slow body", f"POST / HTTP/1.1\r\n{_AGENT}Content-Length: 8192\r\n\r\n".encode(), b"x=1&")
CHUNKS = Mode("slow chunks", f"POST / HTTP/1.1\r\n{_AGENT}Transfer-Encoding: chunked\r\n\r\n".encode(), b"1\r\nx\r\n")
READ = Mode("slow read", f"GET /page HTTP/1.1\r\n{_AGENT}\r\n".encode(), reads=32, receive_buffer=1024)
READ_LARGE = Mode("slow read of 8 MB", READ.opening.replace(b"/page", b"/large"), reads=32, receive_buffer=1024)
_RANGES = ",".join(f"5-{end}" for end in range(1500))
RANGE = Mode("range", f"HEAD / HTTP/1.1\r\n{_AGENT}Range: bytes=0-,{_RANGES}\r\n\r\n".encode())
MODES = (HEADERS, BODY, CHUNKS, READ, READ_LARGE, RANGE)


class Crowd:
    """So many connections in one mode, opened again where they are closed, from a thread of its own."""

    def __init__(self, port: int, mode: Mode, size: int, *, rate: float = 1000.0, again: bool = True) -> None:
        self.closed: Counter[str] = Counter()
        """Connections that ended, by the first line of what they were told."""
        self.ages: list[float] = []
        """How old each was."""
        self.most = 0
        self._address = "127.0.0.1", port
        self._mode = mode
        self._size = size
        self._rate = rate
        self._again = again
        self._open: dict[socket.socket, tuple[float, bytes]] = {}
        self._due: dict[socket.socket, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def open(self) -> int:
        """How many are open."""
        return len(self._open)

    def stop(self) -> None:
        """Close all of them."""
        self._stopping.set()
        self._thread.join()
        for each in list(self._open):
            each.close()
        self._open.clear()

    def _run(self) -> None:
        left = self._size
        while not self._stopping.is_set():
            begin = time.monotonic()
            wanted = min(self._size - len(self._open) if self._again else left, int(self._rate * TICK))
            for _ in range(wanted):
                left -= self._connect()
            self.most = max(self.most, len(self._open))
            for each in [each for each, due in self._due.items() if due <= begin]:
                self._due[each] = begin + self._mode.gap
                self._turn(each)
            self._stopping.wait(max(TICK - (time.monotonic() - begin), 0.01))

    def _connect(self) -> bool:
        opened = socket.socket()
        if self._mode.receive_buffer:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._mode.receive_buffer)
        try:
            opened.settimeout(2.0)
            opened.connect(self._address)
            opened.setblocking(False)
            opened.send(self._mode.opening)
        except OSError as error:
            opened.close()
            self.closed[f"connecting: {errno.errorcode.get(error.errno or 0, str(error))}"] += 1
            return False
        now = time.monotonic()
        self._open[opened] = now, b""
        self._due[opened] = now + self._mode.gap
        return True

    def _turn(self, each: socket.socket) -> None:
        since, heard = self._open[each]
        try:
            with suppress(BlockingIOError):
                data = each.recv(self._mode.reads)
                if not data:
                    self._gone(each, heard.split(b"\r\n")[0].decode("latin-1") or "closed silently")
                    return
                self._open[each] = since, heard or data[:64]
            if self._mode.drip and not heard:
                with suppress(BlockingIOError):
                    each.send(self._mode.drip)
        except OSError:
            self._gone(each, heard.split(b"\r\n")[0].decode("latin-1") or "reset")

    def _gone(self, each: socket.socket, how: str) -> None:
        since, _ = self._open.pop(each)
        del self._due[each]
        self.closed[how] += 1
        self.ages.append(time.monotonic() - since)
        each.close()


def raise_file_limit() -> None:
    """As many open files for the test itself as it may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def rss_mb(pid: int) -> float:
    """The resident memory of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def cpu_seconds(pid: int) -> float:
    """The CPU time a process has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def descriptors(pid: int) -> int:
    """How many files a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
