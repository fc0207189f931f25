"""Points: where a client stands on a line of 65,536, whose parts belong to the pools in proportion to their weights.

    0                                                          62,259      65,535
    |------------------------- self: 95 ----------------------------|-- canary: 5 --|
                                 x this client

A client keeps its point for good, so it keeps its pool for as long as the weights stay. When the part of the last pool
grows, clients of its neighbour move over to it and nobody moves away; a pool without a part has no clients.

A client is given the next of a low-discrepancy sequence (multiples of the golden ratio), so that the shares of new
clients are close to the weights from the first hundred on; or the hash of its address.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING
from zlib import crc32

from lb_core import network_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

POINTS = 1 << 16
GOLDEN = 40503
"""65,536 divided by the golden ratio, made odd, so that every point comes once before any comes again."""


def sequence(start: int) -> Iterator[int]:
    """Points for new clients, without end."""
    point = start % POINTS
    while True:
        yield point
        point = (point + GOLDEN) % POINTS


def borders(weights: Sequence[float]) -> list[float]:
    """Where one part ends and the next begins; at least one weight, and every one above 0."""
    total = sum(weights)
    return [end * POINTS / total for end in accumulate(weights[:-1])]


place = bisect_right
"""In whose part a point lies: `place(borders, point)`."""


@lru_cache(maxsize=8192)
def of_client(client: str) -> int:
    """The point of a client's address: of the whole IPv4 address, or of the /64 network of an IPv6 address."""
    return crc32(network_of(client)) % POINTS
