"""Highest random weight: each slot's backend is the one that scores best for it (Thaler and Ravishankar, 1998).

A backend's score for a slot depends on nobody else. So when a backend leaves, only its own slots change hands, spread
over all others; when it joins, it takes its share and nothing else moves; and a slot's backends in the order of their
scores say who is next when one has failed or is full. Maglev's table, which is the usual way, moves more than that: of
ten backends one that leaves moves 11.3 % of 4,099 slots, or 10.3 % of 65,537, which take 50 ms to fill.

Keys share 65,537 slots; the share of one of 10 backends is within 0.4 % of a tenth of them (three standard deviations).
The backend of a slot is worked out when the slot is first used, so that a change of backends stops nobody: 3 us with 10
backends, about 100 with 1,000. With weights the score is the logarithm of a uniform number over the weight
(Schindelhauer and Schomaker, 2005).
"""

from __future__ import annotations

from copy import copy
from hashlib import blake2b
from math import log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOTS = 65_537
UNKNOWN = -1
ORDERS = 65_536
"""Places in the orders that are kept, all together."""
_RANGE = 1 << 60
"""Scores are below this: 60 bits are two digits of a Python int, and products of two such half as dear as of three."""
_MASK = _RANGE - 1


class Rendezvous:
    """Which of some names owns each of the slots, as positions among the names.

    `owners` has UNKNOWN for a slot that was not used yet: ask `owner` for it.
    """

    __slots__ = ("_equal", "_factors", "_orders", "_weights", "owners")

    def __init__(self, names: Sequence[str], weights: Sequence[int]) -> None:
        self._factors = [_number(name) for name in names]
        self._weights = weights
        self._equal = len(set(weights)) == 1
        self._orders: dict[int, list[int]] = {}
        self.owners = [UNKNOWN] * SLOTS

    def only(self, staying: Sequence[int]) -> Rendezvous:
        """The same for some of the names, in their order: what is known of their slots holds on."""
        some = copy(self)
        some._factors = [self._factors[place] for place in staying]
        some._weights = [self._weights[place] for place in staying]
        some._equal = len(set(some._weights)) == 1
        some._orders = {}
        places = [UNKNOWN] * (len(self._factors) + 1)  # the last one stands for UNKNOWN itself
        for new, old in enumerate(staying):
            places[old] = new
        some.owners = [places[owner] for owner in self.owners]
        return some

    def owner(self, slot: int) -> int:
        """Who owns a slot."""
        owner = self.owners[slot]
        if owner == UNKNOWN:
            scores = self._scores(slot)
            owner = self.owners[slot] = scores.index(min(scores))
        return owner

    def order(self, slot: int) -> list[int]:
        """Everybody in the order in which they would own a slot."""
        found = self._orders.get(slot)
        if found is None:
            scores = self._scores(slot)
            if len(self._orders) * len(scores) >= ORDERS:
                self._orders.clear()
            found = self._orders[slot] = sorted(range(len(scores)), key=scores.__getitem__)
        return found

    def _scores(self, slot: int) -> Sequence[float]:
        """The least is the best."""
        by = _number(f"slot {slot}")
        numbers = [factor * by & _MASK for factor in self._factors]  # multiply-shift hashing (Dietzfelbinger, 1997)
        if self._equal:
            return numbers
        pairs = zip(numbers, self._weights, strict=True)
        return [-log((_RANGE - number) / _RANGE) / weight for number, weight in pairs]


def _number(text: str) -> int:
    """An odd number, the same in every process; texts that are alike have numbers that are not."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") & _MASK | 1
