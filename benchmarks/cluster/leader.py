"""How long nobody leads, and how long two think they do, when the leader changes.

The leader's own part is the real one (lb_redis.lease.Lease): it renews at the first beat after a third of the lease,
and stops a tenth before the lease can be over. The others ask at each beat, about once a second, each in a phase of its
own, so only the first beat after the lease is free counts.

    stopped    the leader gives the lease back as it ends
    killed     it does not, so the lease runs out first
    cut off    it cannot reach Redis any more, and leads until it must not
    emptied    Redis comes back without the lease, and whoever reaches it first takes it
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from lb_redis.cluster import LEAST_PAUSE, RedisCluster
from lb_redis.lease import Holder, Lease
from lb_redis.link import LONGEST_PAUSE

Ending = Literal["stopped", "killed", "cut off", "emptied"]
ENDINGS: tuple[Ending, ...] = ("stopped", "killed", "cut off", "emptied")
BEAT = RedisCluster.every + LEAST_PAUSE


@dataclass(frozen=True)
class Changes:
    """Of many changes: seconds in which nobody led, and in which two did, each sorted."""

    nobody: tuple[float, ...]
    two: tuple[float, ...]


def quantile(values: tuple[float, ...], part: float) -> float:
    """What this part of sorted values does not exceed."""
    return values[min(len(values) - 1, int(part * len(values)))]


def changes(
    random: Random, nodes: int, ending: Ending, *, lease: float = 10.0, latency: float = 0.0005, times: int = 1000
) -> Changes:
    """So many changes of the leader among so many nodes."""
    gaps = [_change(random, nodes, ending, lease, latency) for _ in range(times)]
    return Changes(
        tuple(sorted(max(0.0, gap) for gap in gaps)),
        tuple(sorted(max(0.0, -gap) for gap in gaps)),
    )


def _change(random: Random, nodes: int, ending: Ending, lease: float, latency: float) -> float:
    """From when the old leader leads no more until a new one does; below 0 where both do for a while."""
    old = _Leader(lease, latency)
    ended = old.lead(20 * lease + random.random() * lease)
    others = min(random.random() for _ in range(nodes - 1))
    match ending:
        case "stopped":
            return latency + others * BEAT + 2 * latency
        case "killed":
            return old.free + others * BEAT + 2 * latency - ended
        case "cut off":
            return old.free + others * BEAT + 2 * latency - old.until
        case "emptied":
            # All try to reach it again, at most so long after their last try; the old leader learns by its own beat.
            first, own = others * LONGEST_PAUSE, random.random() * LONGEST_PAUSE
            return 0.0 if own <= first else first - own


class _Leader:
    """A leader's beats, one after another, until it ends."""

    def __init__(self, seconds: float, latency: float) -> None:
        self.now = 0.0
        self.until = 0.0
        self.free = 0.0
        """When the key in Redis is gone."""
        self._latency = latency
        self._lease = Lease("own", seconds, lambda: self.now)

    def lead(self, end: float) -> float:
        """Beat until `end`, and return that."""
        lease, holder = self._lease, Holder("own", 1, "own")
        while self.now < end:
            asked = lease.ask() if lease.due() else None
            if asked is not None:
                self.free = self.now + self._latency + lease.seconds
            lease.heard(holder, asked)
            self.until = self.now + lease.remaining
            self.now += BEAT
        return end
