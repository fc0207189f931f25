"""Clients by their addresses: in which ranges one lies, and what of an address stays with its owner.

An IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2) is the IPv4 address in it; a zone behind `%` is no part of an
address. A client over a unix socket has an empty address.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from socket import AF_INET6, inet_pton
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

LEARNED = 20_000
"""Addresses whose answer is known; then the memory starts afresh."""
_MAPPED = bytes(10) + b"\xff\xff"


class Ranges:
    """Address ranges: `client in ranges`. `unix` among them stands for clients over a unix socket.

    Answers are learned, because reading an address takes as long as a tenth of a request. False without any range.
    """

    __slots__ = ("_learned", "_networks", "_unix")

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network | Literal["unix"]]) -> None:
        networks = [*networks]
        self._unix = "unix" in networks
        self._networks = [each for each in networks if each != "unix"]
        self._learned: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def __contains__(self, client: str) -> bool:
        known = self._learned.get(client)
        return self._learn(client) if known is None else known

    def _learn(self, client: str) -> bool:
        if len(self._learned) >= LEARNED:
            self._learned.clear()
        address = address_of(client)
        answer = self._unix and not client
        if address is not None:
            answer = any(address in network for network in self._networks)
        self._learned[client] = answer
        return answer


def address_of(client: str) -> IPv4Address | IPv6Address | None:
    """The address a text stands for; None for one that stands for none."""
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


@lru_cache(maxsize=8192)
def network_of(client: str) -> bytes:
    """What a client keeps of its address: an IPv4 address as text, or the 8 bytes of an IPv6 /64 and a slash, since one
    customer is given all of it and moves about in it. Text that is no address is its own.
    """
    if ":" not in client:
        return client.encode()
    try:
        packed = inet_pton(AF_INET6, client.partition("%")[0])
    except OSError:
        return client.encode("utf-8", "surrogatepass")
    return ".".join(map(str, packed[12:])).encode() if packed.startswith(_MAPPED) else packed[:8] + b"/"
