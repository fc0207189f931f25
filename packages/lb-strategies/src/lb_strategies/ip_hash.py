"""IP hash: a client keeps its backend for as long as that backend is there.

The key is the client's IPv4 address, or the /64 network of its IPv6 address, because one person owns a whole /64 and
changes addresses inside it. The hash is crc32, the same in every process and after every restart.
"""

from __future__ import annotations

from socket import AF_INET6, inet_pton
from typing import TYPE_CHECKING
from zlib import crc32

from lb_core import hookimpl
from lb_strategies.maglev import fill, size_for
from lb_strategies.recent import Recent
from lb_strategies.weights import reduced

if TYPE_CHECKING:
    from lb_core import Backend, Exchange

_MAPPED = bytes(10) + b"\xff\xff"


class IpHash:
    """The strategy `ip_hash`."""

    __slots__ = ("_candidates", "_recent", "_table")

    def __init__(self) -> None:
        self._recent = Recent(table_of)
        self._candidates: tuple[Backend, ...] = ()
        self._table: list[Backend] = []

    @hookimpl
    def select_backend(self, exchange: Exchange, candidates: tuple[Backend, ...]) -> Backend:
        """The backend of the client's address; on a retry the one that would be next for it."""
        if candidates is not self._candidates:
            found = self._next_after(exchange, candidates)
            if found is not None:
                return found
            self._candidates = candidates
            self._table = self._recent.get(candidates)
        table = self._table
        return table[crc32(key_of(exchange.client)) % len(table)]

    def _next_after(self, exchange: Exchange, candidates: tuple[Backend, ...]) -> Backend | None:
        """For a retry, the owner of the nearest slot that is not the failed backend's.

        That saves building a table for every set of candidates with one missing, and spreads the failed backend's
        clients over all the others.
        """
        failed = exchange.backend
        if failed is None or failed in candidates or len(candidates) != len(self._candidates) - 1:
            return None
        table = self._table
        slot = crc32(key_of(exchange.client)) % len(table)
        for owner in (*table[slot:], *table[:slot]):
            if owner is not failed and owner in candidates:
                return owner
        return None


def table_of(candidates: tuple[Backend, ...]) -> list[Backend]:
    """The lookup table, holding the backends themselves."""
    places = fill([backend.id for backend in candidates], reduced(candidates), size_for(len(candidates)))
    return [candidates[place] for place in places]


def key_of(client: str) -> bytes:
    """What clients that must stay together have in common; text that is no address is its own key."""
    if ":" not in client:
        return client.encode()
    try:
        packed = inet_pton(AF_INET6, client.partition("%")[0])
    except OSError:
        return client.encode()
    if packed.startswith(_MAPPED):
        return ".".join(map(str, packed[12:])).encode()
    return packed[:8]
