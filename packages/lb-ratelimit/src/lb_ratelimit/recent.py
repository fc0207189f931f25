"""A mapping that holds a bounded number of keys and forgets those that were used least recently.

Two plain dictionaries, each with room for half of the keys. A key that is used is in the young one, or moves there.
When that is full it becomes the old one, and what was in the old one, not used since, is forgotten:

    use --> young --(full, or `turn`)--> old --(again)--> retired --> gone
              ^                           |
              +---------- used -----------+

So the most recently used half is always there, no key is kept that was not used for two generations, and a use costs
one or two look-ups. What is retired is taken apart two keys at a time, so that nobody waits while 50,000 of them are
freed; there is never more than the bound, that included. (An OrderedDict drops exactly the oldest key, costs twice
as much where keys come once, and makes the collector look at its links: pauses of 15 ms against 2.)
"""

from __future__ import annotations

from typing import Generic, TypeVar

Key = str | bytes
Value = TypeVar("Value")


class Recent(Generic[Value]):
    """At most `most` keys (2 or more) with a value each."""

    __slots__ = ("_half", "_old", "_retired", "_young")

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}
        self._retired: dict[Key, Value] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    @property
    def held(self) -> int:
        """How many keys are in memory, with those that are forgotten and not yet freed."""
        return len(self) + len(self._retired)

    def get(self, key: Key) -> Value | None:
        """The value of a key, which is now the most recently used; None for a key that is not there."""
        value = self._young.get(key)
        return value if value is not None else self._older(key)

    def put(self, key: Key, value: Value) -> None:
        """Set the value of a key that `get` was asked for."""
        young = self._young
        young[key] = value
        if len(young) >= self._half:
            self.turn()
        retired = self._retired
        if retired:
            retired.popitem()
            if retired:
                retired.popitem()

    def turn(self) -> None:
        """Begin a new generation: what was not used since the last one began is forgotten."""
        self._retired = self._old
        self._old = self._young
        self._young = {}

    def resize(self, most: int) -> None:
        """Hold another number of keys from now on; with fewer, those of the older generation go first, at once."""
        half = most // 2
        if half < self._half:
            older_keys = [each for each in self._old.items() if each[0] not in self._young]
            kept = [*older_keys, *self._young.items()][1 - 2 * half :]
            older = max(0, len(kept) - half + 1)
            self._old, self._young, self._retired = dict(kept[:older]), dict(kept[older:]), {}
        self._half = half

    def _older(self, key: Key) -> Value | None:
        value = self._old.pop(key, None)
        if value is not None:
            self.put(key, value)
        return value
