"""Bodies compressed as they pass: gzip (RFC 1952) and Zstandard (RFC 8878).

A body that comes in one piece is compressed at once. Of any other the compressor keeps what it may need again: for gzip
a quarter of a megabyte, for Zstandard about one, with the window held to 128 KiB (clients must take 8 MiB, RFC 9659).
Where the length is not known, what has come is flushed at the end of each piece: an event stream is not delayed.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from zstandard import ZstdCompressionObj, ZstdCompressor

GZIP = 31
"""zlib's word for a gzip header and the largest window."""
WINDOW_LOG = 17
KEPT = 32
"""Zstandard compressors that wait to be used again."""


class Compressed(Protocol):
    """One body."""

    def feed(self, data: bytes) -> bytes:
        """The next part of the body; what of it can go on now."""

    def finish(self) -> bytes:
        """The end of the body."""


class Gzip:
    """Compresses with gzip."""

    def __init__(self, level: int) -> None:
        self._level = level

    def begin(self, length: int) -> Compressed:
        """A body of this length, -1 where it is not known."""
        return _Gzipped(self._level, length)


class _Gzipped:
    __slots__ = ("_length", "_level", "_stream")

    def __init__(self, level: int, length: int) -> None:
        self._level = level
        self._length = length
        self._stream: zlib._Compress | None = None

    def feed(self, data: bytes) -> bytes:
        stream = self._stream
        if stream is None:
            if len(data) == self._length:
                return zlib.compress(data, self._level, GZIP)
            stream = self._stream = zlib.compressobj(self._level, wbits=GZIP)
        out = stream.compress(data)
        return out if self._length >= 0 else out + stream.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        stream = self._stream
        if stream is None and self._length >= 0:
            return b""
        return (stream or zlib.compressobj(self._level, wbits=GZIP)).flush()


class Zstd:
    """Compresses with Zstandard; compressors are used again, one body after the other."""

    def __init__(self, level: int) -> None:
        import zstandard

        self._parameters = zstandard.ZstdCompressionParameters.from_level(level, window_log=WINDOW_LOG)
        self._make = zstandard.ZstdCompressor
        self._at_once = self._made()
        self._idle: list[ZstdCompressor] = []

    def begin(self, length: int) -> Compressed:
        """A body of this length, -1 where it is not known."""
        return _Zstandard(self, length)

    def compress(self, data: bytes) -> bytes:
        """A whole body."""
        return self._at_once.compress(data)

    def take(self) -> ZstdCompressor:
        """A compressor for one body."""
        return self._idle.pop() if self._idle else self._made()

    def give_back(self, compressor: ZstdCompressor) -> None:
        """That body has ended."""
        if len(self._idle) < KEPT:
            self._idle.append(compressor)

    def _made(self) -> ZstdCompressor:
        return self._make(compression_params=self._parameters)


class _Zstandard:
    __slots__ = ("_compressor", "_length", "_maker", "_stream")

    def __init__(self, maker: Zstd, length: int) -> None:
        self._maker = maker
        self._length = length
        self._compressor: ZstdCompressor | None = None
        self._stream: ZstdCompressionObj | None = None

    def feed(self, data: bytes) -> bytes:
        stream = self._stream
        if stream is None:
            if len(data) == self._length:
                return self._maker.compress(data)
            stream = self._begin()
        out = stream.compress(data)
        return out if self._length >= 0 else out + stream.flush(1)  # COMPRESSOBJ_FLUSH_BLOCK

    def finish(self) -> bytes:
        stream = self._stream
        if stream is None:
            if self._length >= 0:
                return b""
            stream = self._begin()
        out = stream.flush()
        compressor, self._compressor, self._stream = self._compressor, None, None
        if compressor is not None:
            self._maker.give_back(compressor)
        return out

    def _begin(self) -> ZstdCompressionObj:
        self._compressor = self._maker.take()
        self._stream = self._compressor.compressobj()
        return self._stream
