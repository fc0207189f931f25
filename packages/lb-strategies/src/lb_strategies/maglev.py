"""Maglev's lookup table (Eisenbud et al., NSDI 2016, section 3.4): a key's backend in one index.

Each backend has an order of preference over all slots, drawn from its identity. The backends take turns to take the
slot they like best among the free ones, until none is left. With weights a backend is passed over in the rounds it has
not earned: the heaviest takes a slot every round, one with half its weight every second round. All take one in the
first round, so that the lightest is not left without.

A backend's order does not depend on the others, so when one leaves, its slots are spread over the rest and few other
slots change hands: 1 % with 5 backends, 2 % with 16, 3 % with 63 (tests/test_maglev.py).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALL, LARGE = 4_099, 16_411
"""Primes. The paper's 65,537 takes five times as long to fill as 16,411, too long for an event loop."""
MANY = 64
"""With this many backends 4,099 slots are fewer than 64 each, and shares get coarse."""


def size_for(backends: int) -> int:
    """How many slots a table for so many backends has."""
    return SMALL if backends < MANY else LARGE


def fill(names: Sequence[str], weights: Sequence[int], size: int) -> list[int]:
    """The table: for each slot the position of its backend in `names`."""
    preferences = [_preference(name, size) for name in names]
    start = [first for first, _ in preferences]
    heaviest = max(weights)
    earned = [heaviest - weight for weight in weights]
    table = [-1] * size
    free = size
    while True:
        for place, weight in enumerate(weights):
            earned[place] += weight
            if earned[place] < heaviest:
                continue
            earned[place] -= heaviest
            slot, step = start[place], preferences[place][1]
            while table[slot] >= 0:
                slot += step
                if slot >= size:
                    slot -= size
            table[slot] = place
            start[place] = slot
            free -= 1
            if not free:
                return table


def _preference(name: str, size: int) -> tuple[int, int]:
    """Where a backend starts and how far it steps; crc32 gives web1 and web2 related orders and moves more keys."""
    digest = blake2b(name.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big") % size, int.from_bytes(digest[8:], "big") % (size - 1) + 1
