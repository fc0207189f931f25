"""What stands for keys in Redis: digests with a secret that all nodes share, remembered while they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_redis.script import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
        return self._young.get(key) or self._find(key)

    def column(self, keys: Iterable[Key]) -> list[bytes]:
        """Those of several."""
        known, find = self._young.get, self._find
        return [known(key) or find(key) for key in keys]

    def bucket(self, key: Key) -> int:
        """In which part of Redis it is counted."""
        return self.of(key)[0] % self.buckets

    def _find(self, key: Key) -> bytes:
        found = self._old.get(key) or self._digest(key)
        if len(self._young) >= REMEMBERED:
            self._old = dict(self._young)
            self._young.clear()
        self._young[key] = found
        return found
