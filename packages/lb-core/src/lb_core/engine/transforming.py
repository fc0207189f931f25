"""A response's body on its way through a transform: out of the backend's framing, into one of our own.

What comes of it is sent with Content-Length where all of it is there at once, else in chunks; to a client of HTTP/1.0,
which knows no chunks, up to the end of the connection (RFC 9112 section 6.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.engine.chunks import ChunkScanner

if TYPE_CHECKING:
    from lb_core.engine.response_heads import ResponseHead
    from lb_core.exchange import Transform


class Transforming:
    """One body; `ended` after its last byte, and `clean` where nothing followed that.

    `feed` raises ChunkError for broken chunks, and whatever the transform raises.
    """

    __slots__ = ("_chunked", "_left", "_scanner", "_transform", "clean", "ended", "until_close")

    def __init__(self, transform: Transform, head: ResponseHead) -> None:
        self._transform = transform
        self._scanner = ChunkScanner(decode=True) if head.chunked else None
        self._left = head.length
        self._chunked = False
        self.until_close = not head.chunked and head.length < 0
        self.ended = False
        self.clean = True

    def feed(self, data: bytes) -> bytes:
        """What the client is sent now for what the backend sent."""
        payload = self._payload(data)
        out = self._transform.feed(payload) if payload else b""
        if self.ended:
            out += self._transform.finish()
        return self._framed(out)

    def close(self) -> bytes:
        """The same for the end of the backend's connection, where that is the end of the body."""
        self.ended = True
        return self._framed(self._transform.finish())

    def begin_chunks(self, first: bytes) -> bytes:
        """Frame everything from now on in chunks; `first`, which came before, too."""
        self._chunked = True
        return self._framed(first)

    def _payload(self, data: bytes) -> bytes:
        scanner = self._scanner
        if scanner is not None:
            data = scanner.feed(data)
            self.ended = scanner.finished
            self.clean = not scanner.rest
        elif not self.until_close:
            left = self._left - len(data)
            if left < 0:
                self.clean = False
                data = data[: self._left]
            self._left = max(left, 0)
            self.ended = left <= 0
        return data

    def _framed(self, out: bytes) -> bytes:
        if not self._chunked:
            return out
        last = b"0\r\n\r\n" if self.ended else b""
        return b"%x\r\n%b\r\n%b" % (len(out), out, last) if out else last
