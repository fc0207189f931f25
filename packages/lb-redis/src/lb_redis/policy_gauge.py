"""Requests under way by key in the sum of all nodes, and what a node says about them.

Each node says how many it has, and the script answers how many the others have. A node that is not heard of for
`LIFETIME` counts no more, so each says it again before. Whoever has few left of a limit keeps to an equal part of them
until the next exchange. What two nodes let through too much at the same moment ends with those requests.

    alone       nobody else has the key: nothing to be told
    shared      how many the others have, and a cap; asked again every second while they have any, because what ends
                there is not heard of otherwise, and forgotten after ten seconds in which this node had none
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from lb_redis.policy_window import MOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lb_redis.policy import Key

LIFETIME = 15.0
AGAIN = 5.0
"""Seconds after which a node says again what it has."""
ASK = 1.0
FORGET = 10.0


class Under(NamedTuple):
    """What the processes must know of a key: how many are under way elsewhere, and how many may be here."""

    key: Key
    others: int
    cap: float


@dataclass(slots=True)
class Standing:
    """What a node says: how many it has of each key."""

    keys: list[Key] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


class Held:
    """One key: how many were under way here when it was last said, and elsewhere; when it was last of use here."""

    __slots__ = ("here", "others", "told", "used")

    def __init__(self) -> None:
        self.here = 0
        self.others = 0
        self.told = False
        self.used = 0.0


class Gauge:
    """All keys of one limit; `count` says how many are under way in this node."""

    def __init__(self, limit: float, count: Callable[[Key], float], nodes: int = 1) -> None:
        self.limit = int(limit)
        self.nodes = nodes
        self._count = count
        self._held: dict[Key, Held] = {}
        self._dirty: dict[Key, Held] = {}
        self._flying: Standing | None = None
        self._timers: list[tuple[float, int, Key]] = []
        self._set = 0

    def settle(self, now: float) -> list[Under]:
        """Find what must be said again, and forget what is of no use any more."""
        forgotten: list[Under] = []
        while self._timers and self._timers[0][0] <= now:
            _, _, key = heapq.heappop(self._timers)
            held = self._held[key]
            if held.here or key in self._dirty or (held.others and now < held.used + FORGET):
                self._dirty[key] = held
                self._wait(key, now + (ASK if held.others else AGAIN))
                continue
            del self._held[key]
            if held.told:
                forgotten.append(Under(key, 0, inf))
        return forgotten

    def add(self, changes: Iterable[tuple[Key, int, float]], now: float) -> None:
        """Keys of which some have begun, ended, or were refused."""
        for key, _, _ in changes:
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = Held()
                self._wait(key, now + ASK)
            held.used = now
            self._dirty[key] = held

    def batch(self, now: float) -> Standing | None:  # noqa: ARG002 (what is said is how it stands)
        """What is to be said, None for nothing. It may be sent any number of times."""
        if self._flying is not None:
            return self._flying
        if not self._dirty:
            return None
        self._flying = made = Standing()
        for key in list(self._dirty)[:MOST]:
            held = self._dirty.pop(key)
            held.here = int(self._count(key))
            made.keys.append(key)
            made.counts.append(held.here)
        return made

    def answered(self, said: Standing, others: Sequence[int], now: float) -> list[Under]:  # noqa: ARG002
        """Take in how many the others have."""
        if said is not self._flying:
            return []
        self._flying = None
        told: list[Under] = []
        for key, count in zip(said.keys, others, strict=True):
            held = self._held.get(key)
            if held is None:
                continue
            held.others = count
            if count or held.told:
                held.told = count > 0
                told.append(Under(key, count, self._cap(held)))
        return told

    @property
    def due(self) -> float:
        """When something is to be said: a time that is over for at once, inf for never."""
        if self._flying is not None or self._dirty:
            return -inf
        return self._timers[0][0] if self._timers else inf

    def check(self) -> None:
        """Say everything again: Redis may have lost it."""
        self._flying = None
        self._dirty = dict(self._held)

    def lose(self, now: float) -> None:  # noqa: ARG002
        """Redis has nothing of what was said."""
        self.check()

    def _cap(self, held: Held) -> float:
        if not held.others:
            return inf
        left = self.limit - held.here - held.others
        if left > self.limit / 2:
            return held.here + left // 2
        return held.here + (max(1, left // max(1, self.nodes)) if left > 0 else 0)

    def _wait(self, key: Key, moment: float) -> None:
        self._set += 1
        heapq.heappush(self._timers, (moment, self._set, key))
