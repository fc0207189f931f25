"""The exchange of one token bucket limit, and of one limit of requests under way."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lb_redis.exchange_call import Call
from lb_redis.link import Script
from lb_redis.policy_bucket import Additions, Buckets, Due
from lb_redis.policy_gauge import LIFETIME, Gauge, Standing, Under
from lb_redis.script_others import (
    BUCKETS,
    GAUGES,
    bucket_answer,
    bucket_arguments,
    gauge_answer,
    gauge_arguments,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lb_redis.exchange_call import Counts, Place
    from lb_redis.policy import Key

BUCKET_SCRIPT, GAUGE_SCRIPT = Script(BUCKETS), Script(GAUGES)

GENERATION = 60.0
"""The least seconds of a generation of buckets."""


class BucketExchange:
    """A token bucket's. Its keys are not divided into parts of Redis by key, but all of a limit are in one."""

    def __init__(self, counts: Counts, place: Place, nodes: int) -> None:
        self.counts = counts
        self.place = place
        self._buckets = Buckets(counts.window / counts.limit, _burst(counts), nodes)
        self._name = f"{counts.name}:{counts.window:g}"
        self._part = place.fields.bucket(self._name)

    def follow(self, counts: Counts, nodes: int) -> bool:
        """Go on with the counts as they are now; False where they are others."""
        if counts.window != self.counts.window:
            return False
        self.counts = counts
        buckets = self._buckets
        buckets.interval = counts.window / counts.limit
        buckets.burst, buckets.nodes = _burst(counts), nodes
        return True

    def calls(self, now: float) -> Iterable[Call]:
        """What is to be said now."""
        self._tell(self._buckets.settle(now))
        self._buckets.add(self.counts.take_changes(), now)
        said = self._buckets.batch(now)
        return [] if said is None else [self._call(said, now)]

    def check(self) -> None:
        """Have Redis say whether it still knows what it was told."""
        self._buckets.check()

    def heal(self, now: float) -> None:
        """Redis may have lost everything; that is made good as it comes."""

    def release(self) -> None:
        """This node ends, and has reserved nothing."""

    def _call(self, said: Additions, now: float) -> Call:
        length = max(GENERATION, 2 * self._buckets.capacity)
        generation = int(now / length)
        key = partial(self.place.key, self._part, "buckets", self._name)
        fields = self.place.fields.column(said.keys)

        def take(reply: Any, now: float) -> None:
            self._tell(self._buckets.answered(said, bucket_answer(reply, len(said.keys)), now))

        arguments = bucket_arguments(said, self.place.node, 2 * length, fields)
        keys = (key(str(generation)), key(str(generation - 1)))
        return Call(BUCKET_SCRIPT, keys, arguments, len(said.keys) + 1, take)

    def _tell(self, told: Iterable[Due]) -> None:
        for key, time, cap in told:
            self.counts.set_elsewhere(key, 0, time, 0.0, cap)


class GaugeExchange:
    """That of requests under way."""

    def __init__(self, counts: Counts, place: Place, nodes: int) -> None:
        self.counts = counts
        self.place = place
        self._gauge = Gauge(counts.limit, self._count, nodes)
        self._part = place.fields.bucket(counts.name)

    def follow(self, counts: Counts, nodes: int) -> bool:
        """Go on with the counts as they are now."""
        self.counts = counts
        self._gauge.limit, self._gauge.nodes = int(counts.limit), nodes
        return True

    def calls(self, now: float) -> Iterable[Call]:
        """What is to be said now."""
        self._tell(self._gauge.settle(now))
        self._gauge.add(self.counts.take_changes(), now)
        said = self._gauge.batch(now)
        return [] if said is None else [self._call(said)]

    def check(self) -> None:
        """Say everything again."""
        self._gauge.check()

    def heal(self, now: float) -> None:
        """Redis may have lost everything; that is made good as it comes."""

    def release(self) -> None:
        """This node ends, and has reserved nothing."""

    def _call(self, said: Standing) -> Call:
        fields = self.place.fields.column(said.keys)

        def take(reply: Any, now: float) -> None:
            self._tell(self._gauge.answered(said, gauge_answer(reply, len(said.keys)), now))

        arguments = gauge_arguments(said, bytes.fromhex(self.place.node), LIFETIME, fields)
        keys = (self.place.key(self._part, "under-way", self.counts.name),)
        return Call(GAUGE_SCRIPT, keys, arguments, len(said.keys) + 1, take)

    def _tell(self, told: Iterable[Under]) -> None:
        for key, others, cap in told:
            self.counts.set_elsewhere(key, 0, others, 0.0, cap)

    def _count(self, key: Key) -> float:
        return self.counts.node_total(key, 0)


def _burst(counts: Counts) -> float:
    return getattr(counts, "burst", 0.0) or counts.limit
