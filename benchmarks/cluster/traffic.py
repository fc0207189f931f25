"""Who sends how much: keys whose rates follow Zipf's law, over nodes that each get the same part of all traffic.

With millions of keys every sum over them is taken over groups of ranks: the first ones each by itself, the others in
groups whose last rank is two per cent beyond the first, with the rank in the middle standing for all of a group.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import expm1, sqrt
from random import Random

ALONE = 400
WIDER = 1.02


@dataclass(frozen=True)
class Traffic:
    """`rate` requests a second in all, of `keys` keys; the key of rank k has a part that falls as 1 / k ** skew."""

    keys: int
    rate: float
    skew: float = 1.0

    @cached_property
    def groups(self) -> list[tuple[float, float]]:
        """(how many keys, the part of all requests that each of them sends), most active first."""
        ranks: list[tuple[float, float]] = []
        first = 1
        while first <= self.keys:
            last = first if first < ALONE else min(self.keys, int(first * WIDER))
            ranks.append((last - first + 1, sqrt(first * last)))
            first = last + 1
        total = sum(count * rank**-self.skew for count, rank in ranks)
        return [(count, rank**-self.skew / total) for count, rank in ranks]

    def part(self, rank: int) -> float:
        """The part of all requests that the key of this rank sends."""
        passed = 0.0
        for count, part in self.groups:
            passed += count
            if rank <= passed:
                return part
        raise ValueError(f"rank {rank} of {self.keys} keys: choose one between 1 and {self.keys}")

    def distinct(self, requests: float) -> float:
        """How many different keys so many requests have, on average."""
        return self.expected(lambda part: -expm1(-requests * part))

    def expected(self, each: Callable[[float], float]) -> float:
        """The sum over all keys of a function of a key's part."""
        return sum(count * each(part) for count, part in self.groups)

    def draw(self, random: Random, requests: int) -> list[int]:
        """The ranks of so many requests, drawn one by one: what `distinct` is checked against."""
        sums = list(accumulate(count * part for count, part in self.groups))
        begins = list(accumulate((count for count, _ in self.groups), initial=1.0))
        drawn = []
        for _ in range(requests):
            group = min(bisect_left(sums, random.random() * sums[-1]), len(sums) - 1)
            drawn.append(int(begins[group] + random.random() * self.groups[group][0]))
        return drawn
