"""Token buckets: each key's theoretical arrival time in the sum of all nodes, and what a node says about it.

    arrival time     when the bucket will be full again, by the cluster's clock; each request moves it on by `interval`

Redis adds up what the nodes have added. What was let through too much, because two nodes did not know of each other, is
debt: the arrival time is that much later and everybody waits longer, so the rate holds in the long run by itself.

    alone       the arrival time is what this node's own additions make it: nothing to be told
    shared      told to the processes, with a cap: half of what is left where that is plenty, else an equal part of it

A cap is for the moment: after some tenths of a second without news it is lifted, because the bucket has filled since.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from lb_redis.policy_window import HEALING, IDLE, MOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lb_redis.policy import Key

CLOSE = 1e-4
"""Seconds by which two nodes' arithmetic may differ."""


class Due(NamedTuple):
    """What the processes must know of a key: its arrival time, and the one this node may go to."""

    key: Key
    time: float
    cap: float


@dataclass(slots=True)
class Additions:
    """What a node says: seconds added since `since`, and arrival times that are known to be the least."""

    number: int
    since: float
    keys: list[Key] = field(default_factory=list)
    adds: list[float] = field(default_factory=list)
    least: list[float] = field(default_factory=list)


class Bucket:
    """One key: when it is full as far as is known, and what is not said yet."""

    __slots__ = ("added", "time", "told")

    def __init__(self) -> None:
        self.added = 0.0
        self.time = 0.0
        self.told = 0.0


class Buckets:
    """All keys of one limit: `burst` tokens at most, one more after each `interval` seconds."""

    def __init__(self, interval: float, burst: float, nodes: int = 1) -> None:
        self.interval = interval
        self.burst = burst
        self.nodes = nodes
        self._buckets: dict[Key, Bucket] = {}
        self._dirty: dict[Key, Bucket] = {}
        self._flying: Additions | None = None
        self._number = 0
        self._since = 0.0
        self._checked = True
        self._healing = -inf
        self._timers: list[tuple[float, int, Key]] = []
        self._set = 0

    @property
    def capacity(self) -> float:
        """Seconds in which an empty bucket fills."""
        return self.interval * self.burst

    def settle(self, now: float) -> list[Due]:
        """Lift the caps of keys of which nothing was heard for a while, and forget those whose bucket is full."""
        lifted: list[Due] = []
        while self._timers and self._timers[0][0] <= now:
            _, _, key = heapq.heappop(self._timers)
            bucket = self._buckets.get(key)
            if bucket is None:
                continue
            if bucket.told and bucket.told + IDLE <= now:
                bucket.told = 0.0
                lifted.append(Due(key, bucket.time, inf))
            if bucket.time <= now and not bucket.added:
                del self._buckets[key]
            else:
                self._wait(key, max(bucket.time, now + IDLE))
        return lifted

    def add(self, changes: Iterable[tuple[Key, int, float]], now: float) -> None:
        """What this node's processes have added, in seconds; 0 where they have refused for want of a newer cap."""
        for key, _, amount in changes:
            bucket = self._buckets.get(key)
            if bucket is None:
                bucket = self._buckets[key] = Bucket()
                self._wait(key, now + IDLE)
            bucket.added += amount
            self._dirty[key] = bucket

    def batch(self, now: float) -> Additions | None:
        """What is to be said; the same again until it is answered, None for nothing."""
        if self._flying is not None:
            return self._flying
        if not self._dirty and self._checked:
            self._since = now
            return None
        self._number += 1
        self._checked = True
        self._flying = made = Additions(self._number, self._since or now)
        chosen = list(self._dirty)[:MOST]
        healing = now < self._healing
        for key in chosen:
            bucket = self._dirty.pop(key)
            made.keys.append(key)
            made.adds.append(bucket.added)
            made.least.append(bucket.time if healing else 0.0)
            bucket.added = 0.0
        if not self._dirty:
            self._since = now
        return made

    def answered(self, said: Additions, times: Sequence[float] | None, now: float) -> list[Due]:
        """Take in the arrival times after what was said; None: nothing of it is known any more."""
        if said is not self._flying:
            return []
        self._flying = None
        if times is None:
            for key, added in zip(said.keys, said.adds, strict=True):
                self._buckets[key].added += added
            self.lose(now)
            return []
        told: list[Due] = []
        for key, added, least, time in zip(said.keys, said.adds, said.least, times, strict=True):
            bucket = self._buckets[key]
            alone = max(max(bucket.time, said.since) + added, least) + CLOSE
            bucket.time = time
            if time > alone or bucket.told:
                bucket.told = now
                told.append(Due(key, time, self._cap(time, now)))
        return told

    @property
    def due(self) -> float:
        """When there is something to be said: a time that is over for at once, inf for never."""
        return -inf if self._flying is not None or self._dirty or not self._checked else inf

    def check(self) -> None:
        """Say something, even if there is nothing new, to hear whether what was said before is still known."""
        self._checked = self._number == 0

    def lose(self, now: float) -> None:
        """Redis has nothing of what was said: say what is known, and go on."""
        self._flying = None
        self._number = 0
        self._healing = now + HEALING
        self._dirty = {key: bucket for key, bucket in self._buckets.items() if bucket.time > now or bucket.added}

    def _cap(self, time: float, now: float) -> float:
        left = now + self.capacity - max(time, now)
        part = left / 2 if left > self.capacity / 2 else left / max(1, self.nodes)
        return max(time, now) + max(part, self.interval) + CLOSE

    def _wait(self, key: Key, moment: float) -> None:
        self._set += 1
        heapq.heappush(self._timers, (moment, self._set, key))
