"""The exchange of one limit that counts in windows: its processes' counts on one side, script calls on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lb_redis.exchange_call import Call
from lb_redis.link import Script
from lb_redis.policy import Rules
from lb_redis.policy_limit import Limit
from lb_redis.script import WINDOWS, answer, arguments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lb_redis.exchange_call import Counts, Place
    from lb_redis.policy import Batch, Told

SCRIPT = Script(WINDOWS)


class WindowExchange:
    """One limit; `now` is the time of the cluster's clock everywhere."""

    def __init__(self, counts: Counts, place: Place, nodes: int) -> None:
        self.counts = counts
        self.place = place
        self.rules = Rules(counts.limit, counts.window, sliding=getattr(counts, "sliding", True), nodes=nodes)
        self._limit = Limit(self.rules, place.fields.bucket if place.fields.buckets > 1 else None)
        self._name = f"{counts.name}:{counts.window:g}"

    def follow(self, counts: Counts, nodes: int) -> bool:
        """Go on with the counts as they are now; False where they are others."""
        if counts.window != self.rules.window or getattr(counts, "sliding", True) != self.rules.sliding:
            return False
        self.counts = counts
        self.rules.nodes = nodes
        self.rules.set_limit(counts.limit)
        return True

    def calls(self, now: float) -> Iterable[Call]:
        """What is to be said now."""
        self._tell(self._limit.settle(now), now)
        self._limit.add(self.counts.take_changes(), now)
        return [self._call(batch) for batch in self._limit.batches(now)]

    def check(self) -> None:
        """Have Redis say whether it still knows what it was told."""
        self._limit.check()

    def heal(self, now: float) -> None:
        """Redis may have lost everything: wait until the other nodes have said again what they have."""
        self._limit.heal(now)

    def release(self) -> None:
        """This node ends: give back what is reserved."""
        self._limit.release()

    def _call(self, batch: Batch) -> Call:
        key, bucket, index = self.place.key, batch.bucket, batch.index
        keys = (key(bucket, "counts", self._name, str(index)), key(bucket, "counts", self._name, str(index - 1)))
        fields = self.place.fields.column(batch.keys)

        def take(reply: Any, now: float) -> None:
            self._tell(self._limit.answered(batch, answer(reply, batch), now), now)

        return Call(SCRIPT, keys, arguments(batch, self.rules, self.place.node, fields), len(batch.keys) + 1, take)

    def _tell(self, told: Iterable[Told], now: float) -> None:
        current = self.rules.index(now)
        for key, index, others, before, cap in told:
            if index >= current:  # a window that is over is nothing a process decides by
                self.counts.set_elsewhere(key, index, others, before, cap)
