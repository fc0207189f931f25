"""A copy of a request's body for who asked for it (`exchange.keep_body`): collected as it comes, without framing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.engine.chunks import ChunkScanner

if TYPE_CHECKING:
    from lb_core.engine.special import Plain, Special


class KeptBody:
    """The body so far; `whole` is all of it once it is complete, None before that and where it exceeds `limit`."""

    __slots__ = ("_left", "_limit", "_part", "_scanner", "whole")

    def __init__(self, special: Special | Plain | None, limit: int) -> None:
        length = max(special.length, 0) if special is not None else 0
        self._scanner = ChunkScanner(decode=True) if special is not None and special.chunked else None
        self._left = length
        self._limit = limit if length <= limit else -1
        self._part = b""
        self.whole: bytes | None = None if length or self._scanner is not None else b""

    @property
    def collects(self) -> bool:
        """Whether more is needed."""
        return self.whole is None and self._limit >= 0

    def take(self, data: bytes) -> None:
        """The next part of the body, its framing checked."""
        if not self.collects:
            return
        scanner = self._scanner
        if scanner is not None:
            data = scanner.feed(data)
        else:
            self._left -= len(data)
        self._part += data
        if len(self._part) > self._limit:
            self._limit = -1
            self._part = b""
        elif scanner.finished if scanner is not None else not self._left:
            self.whole, self._part = self._part, b""
