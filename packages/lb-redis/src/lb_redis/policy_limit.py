"""All windows of one limit that still count, and what is to be said about them."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from lb_redis.policy_window import HEALING, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lb_redis.policy import Answer, Batch, Key, Rules, Told

KEPT = 2
"""Windows: the current one and the one before it."""


class Limit:
    """One limit as one node sees it. `bucket` says in which part of Redis a key is counted, where there are several."""

    def __init__(self, rules: Rules, bucket: Callable[[Key], int] | None = None) -> None:
        self.rules = rules
        self._bucket = bucket
        self._windows: dict[tuple[int, int], Window] = {}
        self._newest = 0
        self._healing = -inf

    def settle(self, now: float) -> list[Told]:
        """Before changes are read: lower caps that are higher than they need be, forget windows that count no more."""
        newest = self.rules.index(now)
        if newest != self._newest:
            self._newest = newest
            for place in [place for place in self._windows if place[0] <= newest - KEPT]:
                del self._windows[place]
        return [told for window in list(self._windows.values()) for told in window.settle(now)]

    def add(self, changes: Iterable[tuple[Key, int, float]], now: float) -> None:
        """What this node's processes have counted since the last call."""
        oldest, bucket, windows = self.rules.index(now) - KEPT, self._bucket, self._windows
        last, window = oldest, None
        for key, index, amount in changes:
            if index <= oldest:
                continue
            if window is None or index != last or bucket is not None:
                place = index, bucket(key) if bucket is not None else 0
                last, window = index, windows.get(place) or self._window(place)
            window.add(key, amount, now)

    def batches(self, now: float) -> list[Batch]:
        """What is to be said now, the window before first, because answers about the current one depend on it."""
        made = (window.batch(now) for _, window in sorted(self._windows.items()))
        return [batch for batch in made if batch is not None]

    def answered(self, batch: Batch, answer: Answer, now: float) -> list[Told]:
        """Take in the answer to a batch; returns what the processes must know."""
        window = self._windows.get((batch.index, batch.bucket))
        if window is None:
            return []
        if not answer.known:
            self.check()
            self.heal(now)
        return window.answered(batch, answer, now)

    @property
    def due(self) -> float:
        """When something is to be said, if nothing is added before: a time that is over for at once, inf for never."""
        return min((window.due for window in self._windows.values()), default=inf)

    def check(self) -> None:
        """Have Redis say whether it still knows what it was told."""
        for window in self._windows.values():
            window.check()

    def heal(self, now: float) -> None:
        """Redis may have lost everything: ask for nothing until the other nodes have said again what they have."""
        self._healing = now + HEALING
        for window in self._windows.values():
            window.heal(self._healing)

    def release(self) -> None:
        """Give back all that is reserved and not used."""
        for window in self._windows.values():
            window.release()

    def used(self, key: Key, index: int) -> int:
        """What this node has let through in a window, as far as it was added here."""
        place = index, self._bucket(key) if self._bucket is not None else 0
        window = self._windows.get(place)
        return window.used(key) if window is not None else 0

    def _window(self, place: tuple[int, int]) -> Window:
        index, bucket = place
        made = self._windows[place] = Window(index, bucket, self.rules, lambda: self._windows.get((index - 1, bucket)))
        made.heal(self._healing)
        return made
