"""The link between the control process and one worker: messages with descriptors, over a pair of unix sockets.

    frame       4 bytes of length, 1 byte of how many descriptors come with it, a pickled message

Neither side ever waits for the other: what the kernel does not take is kept, up to a bound. Whoever loses more than
that is a process that has been stopped, and will be replaced.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

log = logging.getLogger("lb.workers")

HEAD = struct.Struct("!IB")
READ = 1 << 18
DESCRIPTORS_MOST = 64
"""Of one message; the kernel takes 253."""
KEPT_MOST = 64 << 20
"""Bytes that may wait for the other side."""

Receive = Callable[[Any, list[int]], None]


class Link:
    """One end of a link; `receive(message, descriptors)` owns the descriptors it is given.

    `lost` is called once, when the other side has gone. Needs the running loop.
    """

    def __init__(self, connection: socket.socket, receive: Receive, lost: Callable[[], None]) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._receive = receive
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()
        self._kept: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._waiting = 0
        self._dropping = False
        self._open = True
        self._loop.add_reader(connection.fileno(), self._readable)

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Send a message and copies of some descriptors; nothing happens once the other side has gone.

        Raises what pickling raises for a message that cannot be sent.
        """
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if not self._open:
            return
        if self._waiting > KEPT_MOST:
            self._drop()
            return
        self._dropping = False
        frame = memoryview(HEAD.pack(len(data), len(descriptors)) + data)
        self._kept.append((frame, tuple(os.dup(each) for each in descriptors)))
        self._waiting += len(frame)
        if len(self._kept) == 1:
            self._writable()

    def finish(self) -> None:
        """The other side has ended: take what it still said, and close."""
        while self._open and self._read():
            pass
        self.close()

    def close(self) -> None:
        """Let go of it; what was not sent yet is lost."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            _close(*self._descriptors, *(each for _, copies in self._kept for each in copies))
            self._kept.clear()
            self._descriptors.clear()

    def _drop(self) -> None:
        if not self._dropping:
            self._dropping = True
            log.error("a process takes no messages: %d MiB wait for it, further ones are lost", KEPT_MOST >> 20)

    def _writable(self) -> None:
        try:
            while self._kept:
                frame, copies = self._kept[0]
                sent = self._send(frame, copies)
                _close(*copies)
                self._waiting -= sent
                if sent < len(frame):
                    self._kept[0] = frame[sent:], ()
                else:
                    self._kept.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._writable)
            return
        except OSError:
            self._end()
            return
        self._loop.remove_writer(self._socket.fileno())

    def _send(self, frame: memoryview, copies: tuple[int, ...]) -> int:
        return socket.send_fds(self._socket, [frame], list(copies)) if copies else self._socket.send(frame)

    def _readable(self) -> None:
        if self._read() is False:
            self._end()

    def _read(self) -> bool | None:
        """Take what has come: True, None where nothing has, False at the end."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, READ, DESCRIPTORS_MOST)
        except BlockingIOError:
            return None
        except OSError:
            return False
        for each in descriptors:
            os.set_inheritable(each, False)
        self._descriptors.extend(descriptors)
        self._buffer += data
        self._deliver()
        return bool(data)

    def _deliver(self) -> None:
        while self._open and len(self._buffer) >= HEAD.size:
            length, count = HEAD.unpack_from(self._buffer)
            end = HEAD.size + length
            if len(self._buffer) < end:
                return
            message = bytes(self._buffer[HEAD.size : end])
            del self._buffer[:end]
            given = [self._descriptors.popleft() for _ in range(count)]
            try:
                self._receive(pickle.loads(message), given)
            except Exception:
                log.exception("a message between processes could not be taken")

    def _end(self) -> None:
        if self._open:
            self.close()
            self._lost()


def _close(*descriptors: int) -> None:
    for each in descriptors:
        with suppress(OSError):
            os.close(each)
