"""The backend of a soak: `python -m tests.soak.backend [--resets]`. The path says what to do.

    /bytes/N        N bytes with a length
    /chunked/N      N bytes in two chunks
    /until-close/N  N bytes, ended by the connection
    /status/N       that status, no body
    /echo           the size of the request's body
    /ws             101, then every byte back
    /reset          with --resets a reset before any answer
    /wait           no answer
    /half           a head and a hundredth of its body
    /never          read no further
    /account        how much of large answers has been written, and of the bodies of /never read

It prints its port, and serves until standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import struct
import sys
from typing import cast

PIECE = b"x" * 65536
LARGE = 1_000_000
"""Answers of this size and more are accounted for."""
_length = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE).search
_chunk = re.compile(rb"([0-9a-fA-F]+)\r\n")


class Account:
    """Bytes of large answers that the kernel has taken, and of bodies of `/never` that were read."""

    def __init__(self) -> None:
        self.given = 0
        self.read = 0
        self.answering: set[Backend] = set()

    @property
    def written(self) -> int:
        """What has left the process."""
        return self.given - sum(each.transport.get_write_buffer_size() for each in self.answering)


class Backend(asyncio.Protocol):
    """One connection."""

    def __init__(self, account: Account, *, resets: bool) -> None:
        self.account = account
        self.resets = resets
        self.buffer = b""
        self.left = 0
        self.paused = self.echoes = self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.left = 0
        self.account.answering.discard(self)

    def data_received(self, data: bytes) -> None:
        if self.echoes:
            self.transport.write(data)
            return
        if self.stopped:
            self.account.read += len(data)
            return
        self.buffer += data
        head, blank, body = self.buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
        if target == b"/never":
            self.stopped = True
            self.account.read += len(body)
            self.transport.pause_reading()
            return
        size = _body_size(head, body)
        if size < 0:
            if b"\r\nexpect: 100-continue" in head.lower() and not body:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self.buffer = b""
        self.answer(method, target, size)

    def answer(self, method: bytes, target: bytes, size: int) -> None:
        """Answer a request with a body of that size."""
        name, _, number = target.partition(b"?")[0][1:].partition(b"/")
        count = int(number) if number.isdigit() else 2
        write = self.transport.write
        match name:
            case b"chunked":
                parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in (PIECE[: count // 2], PIECE[: -(-count // 2)])]
                write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts[0])
                write(parts[1] + b"0\r\n\r\n")
            case b"until-close":
                write(b"HTTP/1.1 200 OK\r\n\r\n" + PIECE[:count])
                self.transport.close()
            case b"status":
                write(b"HTTP/1.1 %d Said\r\nX-Kind: none\r\n\r\n" % count)
            case b"echo":
                text = b"%d" % size
                write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
            case b"ws":
                write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                self.echoes = True
            case b"reset" if self.resets:
                self.reset()
            case b"half":
                write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + PIECE[:1000])
            case b"wait":
                pass
            case b"account":
                text = b"%d %d" % (self.account.written, self.account.read)
                write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
            case _:
                write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % count)
                if method != b"HEAD":
                    self.send(count)

    def send(self, count: int) -> None:
        """So many bytes, as fast as they are taken."""
        self.left = count
        if count >= LARGE:
            self.account.answering.add(self)
        self.go_on()

    def go_on(self) -> None:
        """Write until the transport says stop."""
        while self.left and not self.paused:
            part = PIECE[: self.left]
            self.left -= len(part)
            if self in self.account.answering:
                self.account.given += len(part)
            self.transport.write(part)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.go_on()

    def reset(self) -> None:
        """End the connection with a reset."""
        opened = self.transport.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def _body_size(head: bytes, body: bytes) -> int:
    """The size of a body, -1 while it is not complete."""
    length = _length(head)
    if length:
        return int(length[1]) if len(body) >= int(length[1]) else -1
    if b"\r\ntransfer-encoding: chunked" not in head.lower():
        return 0
    if not body.endswith(b"0\r\n\r\n"):
        return -1
    size = at = 0
    while (found := _chunk.match(body, at)) is not None and (count := int(found[1], 16)):
        size += count
        at = found.end() + count + 2
    return size if body[at:] == b"0\r\n\r\n" else -1


async def main(*, resets: bool) -> None:
    """Listen, print the port, and serve until the parent has gone."""
    loop = asyncio.get_running_loop()
    account = Account()
    server = await loop.create_server(lambda: Backend(account, resets=resets), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    gone = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), gone.set)
    await gone.wait()


if __name__ == "__main__":
    import uvloop

    parser = argparse.ArgumentParser()
    parser.add_argument("--resets", action="store_true")
    uvloop.run(main(resets=parser.parse_args().resets))
