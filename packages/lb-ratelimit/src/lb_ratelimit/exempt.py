"""Clients that a limit leaves alone, by address range."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_core import Network

LEARNED = 10_000


class Exempt:
    """Whether an address lies in one of the ranges; answers are learned, because reading an address takes a while."""

    __slots__ = ("_learned", "_networks")

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)
        self._learned: dict[str, bool] = {}

    def __contains__(self, client: str) -> bool:
        known = self._learned.get(client)
        return known if known is not None else self._learn(client)

    def _learn(self, client: str) -> bool:
        if len(self._learned) >= LEARNED:
            self._learned = {}
        answer = self._learned[client] = self._is_in(client)
        return answer

    def _is_in(self, client: str) -> bool:
        try:
            address = ip_address(client)
        except ValueError:
            return False
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        return any(address in network for network in self._networks)
