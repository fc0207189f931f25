"""Highest random weight: the backend that scores best for a key serves it (Thaler and Ravishankar, 1998).

A score depends on the key, on the backend's id and on its weight, and on nothing else: so every process and every start
has the same answer without a table, and when a backend leaves or joins only keys move that were or become its own. With
weights the score is the logarithm of a uniform number over the weight (Schindelhauer and Schomaker, 2005).
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from math import log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lb_core import Backend

_PRIME = (1 << 61) - 1


def best(slot: int, backends: Iterable[Backend]) -> Backend:
    """Who serves the keys of a slot; of backends at least one."""
    key = _number(f"slot {slot}")
    return min(backends, key=lambda backend: _score(key, backend))


def _score(key: int, backend: Backend) -> float:
    """The least is the best; a backend that drains by weight 0 keeps a part, since its clients may still come."""
    uniform = (_PRIME - _number(backend.id) * key % _PRIME) / _PRIME
    return -log(uniform) / (backend.configured_weight or 1)


@lru_cache(maxsize=16_384)
def _number(text: str) -> int:
    """The same in every process, and as far from the others' for texts that are much alike."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % _PRIME
