"""Credentials that were found right, remembered for a short time, so that a slow hash is computed once.

What is kept is a keyed digest of them (BLAKE2b, RFC 7693, with a key that this process drew): neither a password nor
anything it could be guessed from outlives the request, and looking one up tells nothing by the time it takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import blake2b
from secrets import token_bytes

MOST = 10_000
SECONDS = 300.0


class Verified:
    """Remembers who was behind credentials, for at most `seconds` and of at most `most`: the oldest go first."""

    __slots__ = ("_clock", "_key", "_known", "_most", "_seconds")

    def __init__(
        self, *, most: int = MOST, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._key = token_bytes(32)
        self._known: dict[bytes, tuple[str, float]] = {}
        self._most = most
        self._seconds = seconds
        self._clock = clock

    def digest(self, credentials: str) -> bytes:
        """What stands for these credentials."""
        return blake2b(credentials.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).digest()

    def find(self, digest: bytes) -> str | None:
        """The user, where the credentials were right not long ago."""
        known = self._known.get(digest)
        if known is None:
            return None
        if known[1] < self._clock():
            del self._known[digest]
            return None
        return known[0]

    def add(self, digest: bytes, user: str) -> None:
        """Remember a user."""
        self._known.pop(digest, None)
        if len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        self._known[digest] = user, self._clock() + self._seconds

    def clear(self) -> None:
        """Forget everybody."""
        self._known.clear()
