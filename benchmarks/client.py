"""A client of keep-alive connections, for what wrk cannot do: hold many open, send an exact number, large bodies."""

from __future__ import annotations

import re
import socket

from benchmarks.load import BROWSER
from benchmarks.processes import Failed

PATIENCE = 30.0
BLOCK = 256 * 1024
_length = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE).search


def head(method: str, path: str, length: int | None = None) -> bytes:
    """A request head with a browser's fields."""
    fields = {"Host": "example.com", **BROWSER, "Connection": "keep-alive"}
    if length is not None:
        fields["Content-Length"] = str(length)
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()


class Client:
    """One connection."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(source, 0))
        self._buffer = bytearray(BLOCK)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def send_body(self, size: int) -> None:
        """Send a body of zeros."""
        block = bytes(BLOCK)
        for begin in range(0, size, BLOCK):
            self._socket.sendall(block[: min(BLOCK, size - begin)])

    def receive(self) -> int:
        """Read one answer with a length and return the size of its body; anything but 200 is a failure."""
        answer = b""
        while b"\r\n\r\n" not in answer:
            count = self._socket.recv_into(self._buffer)
            if not count:
                raise Failed(f"the connection was closed after {answer[:200]!r}")
            answer += self._buffer[:count]
        start, _, body = answer.partition(b"\r\n\r\n")
        length = _length(start)
        if not start.startswith(b"HTTP/1.1 200 ") or not length:
            raise Failed(f"expected 200 with a length, got {start[:300]!r}")
        left = int(length[1]) - len(body)
        while left > 0:
            count = self._socket.recv_into(self._buffer, min(left, BLOCK))
            if not count:
                raise Failed(f"the connection was closed {left} bytes before the end of the body")
            left -= count
        return int(length[1])
