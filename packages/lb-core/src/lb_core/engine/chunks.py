"""The end of a chunked body, found without copying it (RFC 9112 section 7.1).

The scanner walks from size line to size line and hands on what it has checked, as received. An incomplete size line
is held back until its end has been seen, so that nobody downstream of it ever sees half a line that turns out to be
malformed. Trailer fields are checked and dropped, as a recipient may (section 7.1.2): merged into headers they would
be a way past every rule about headers.

    size line --> data --> CR LF --> size line ... --> size line of 0 --> trailer lines --> CR LF: finished
"""

from __future__ import annotations

import re

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})([ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n").match
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n").match

MAX_LINE = 4096
"""Bytes of a size line or trailer line, its CR LF included; the same whether it comes whole or in pieces."""
MAX_EXTENSIONS = 16 * 1024
MAX_TRAILERS = 16 * 1024


class ChunkError(ValueError):
    """The chunked framing is broken; the message says how."""


class ChunkScanner:
    """Reads a chunked body as it arrives.

    `feed(data)` returns what may be passed on; after it, `finished` says whether the body has ended and `rest` holds
    the bytes that follow it. With `decode` the payload alone is returned, for a client that knows no chunks
    (HTTP/1.0). Raises ChunkError.
    """

    __slots__ = ("_data_left", "_decode", "_extensions", "_part", "_trailers", "finished", "payload", "rest")

    def __init__(self, *, decode: bool = False) -> None:
        self._decode = decode
        self._data_left = 0
        """Bytes of chunk data and its CR LF still to come; -1 within the trailers."""
        self._extensions = 0
        self._trailers = 0
        self._part = b""
        self.finished = False
        self.payload = 0
        """Payload bytes seen so far, framing not counted."""
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the body; return what may be passed on."""
        if self._part:
            data = self._part + data
            self._part = b""
        length = len(data)
        position = 0
        pieces: list[bytes] | None = [] if self._decode else None
        while position < length:
            left = self._data_left
            if left > 2:
                if length - position < left - 1:
                    take = length - position
                    self._take(pieces, data, position, length, take)
                    self._data_left = left - take
                    return data if pieces is None else b"".join(pieces)
                self._take(pieces, data, position, position + left - 2, left - 2)
                position += left - 2
                self._data_left = left = 2
            if left == 2:
                if length - position < 2:
                    break
                if data[position : position + 2] != b"\r\n":
                    raise ChunkError("chunk data is not followed by CR LF")
                position += 2
                self._data_left = 0
                continue
            if left < 0:
                return self._read_trailers(pieces, data, position)
            line = _SIZE_LINE(data, position)
            if line is None:
                self._refuse_unless_partial(data, position)
                break
            size = int(line[1], 16)
            if line[2]:
                _check_length(line)
                self._extensions += len(line[2])
                if self._extensions > MAX_EXTENSIONS:
                    raise ChunkError(f"chunk extensions exceed {MAX_EXTENSIONS} bytes")
            position = line.end()
            self._data_left = size + 2 if size else -1
        self._part = data[position:]
        if pieces is not None:
            return b"".join(pieces)
        return data if position == length else data[:position]

    def _take(self, pieces: list[bytes] | None, data: bytes, start: int, end: int, size: int) -> None:
        self.payload += size
        if pieces is not None:
            pieces.append(data[start:end])

    def _read_trailers(self, pieces: list[bytes] | None, data: bytes, position: int) -> bytes:
        """Behind the last chunk: check and drop trailer fields, up to the empty line that ends the body."""
        start = position
        while True:
            if data.startswith(b"\r\n", position):
                self.finished = True
                self.rest = data[position + 2 :]
                if pieces is not None:
                    return b"".join(pieces)
                if position == start:
                    return data if not self.rest else data[: position + 2]
                return data[:start] + b"\r\n"
            line = _TRAILER_LINE(data, position)
            if line is None:
                break
            _check_length(line)
            self._trailers += line.end() - position
            if self._trailers > MAX_TRAILERS:
                raise ChunkError(f"trailer fields exceed {MAX_TRAILERS} bytes")
            position = line.end()
        self._refuse_unless_partial(data, position)
        self._part = data[position:]
        return data[:start] if pieces is None else b"".join(pieces)

    def _refuse_unless_partial(self, data: bytes, position: int) -> None:
        """A line that does not match is refused as soon as it is complete, too long, or holds a bare CR or LF."""
        rest = data[position : position + MAX_LINE]
        if b"\n" in rest or len(rest) == MAX_LINE or b"\r" in rest[:-1]:
            raise ChunkError(f"bad chunk line {rest[:40]!r}")


def _check_length(line: re.Match[bytes]) -> None:
    if line.end() - line.start() > MAX_LINE:
        raise ChunkError(f"a chunk line exceeds {MAX_LINE} bytes")
