"""What stands for keys in Redis: digests with a secret that all nodes share, remembered while they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_redis.script import digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_redis.policy import Key

REMEMBERED = 50_000
"""Digests in each of two generations: about 8 MB."""


class Fields:
    """The digests of keys, and the parts of Redis they belong to, of which there are `buckets`."""

    def __init__(self, secret: bytes, buckets: int = 1) -> None:
        self.secret = secret
        self.buckets = buckets
        self._digest: Callable[[Key], bytes] = digest(secret)
        self._young: dict[Key, bytes] = {}
        self._old: dict[Key, bytes] = {}

    def of(self, key: Key) -> bytes:
        """The 8 bytes that stand for a key."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key) or self._digest(key)
            if len(self._young) >= REMEMBERED:
                self._old, self._young = self._young, {}
            self._young[key] = found
        return found

    def bucket(self, key: Key) -> int:
        """In which part of Redis it is counted."""
        return self.of(key)[0] % self.buckets
