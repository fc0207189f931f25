"""Who is at the other end of a connection, and the fields that tell the backend.

    X-Forwarded-For     the peer; behind a trusted proxy, the peer appended to what that proxy said
    X-Real-IP           the client: the first address from the right that is no trusted proxy
    X-Forwarded-Proto   http | https     kept from a trusted proxy
    X-Forwarded-Host    the Host field   kept from a trusted proxy
    X-Forwarded-Port    the listener's   kept from a trusted proxy
    Via                 1.1 lb           appended (RFC 9110 section 7.6.3)

`trusted_proxies` is empty by default and nobody is believed, loopback included: what a client sends under these names
is removed before ours are added. Who comes over a unix socket has no address: X-Forwarded-For, X-Real-IP and
X-Forwarded-Port are left out, unless `unix` is trusted and said them. An IPv4 address written as IPv6
(`::ffff:192.0.2.1`) is that IPv4 address.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lb_core.engine.special import Plain, Special

Network = IPv4Network | IPv6Network | Literal["unix"]
"""Whom to believe: an address range, or who comes over a unix socket and has no address."""

_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::[0-9]*)?").fullmatch
_KEPT_WHEN_TRUSTED = (b"x-forwarded-proto:", b"x-forwarded-host:", b"x-forwarded-port:", b"forwarded:")


class Origin:
    """The client's end of a connection; `fields` are our forwarding fields for ordinary requests to `host`."""

    __slots__ = ("_port", "_scheme", "fields", "host", "networks", "peer", "trusted")

    def __init__(self, peer: str, scheme: str, port: int, networks: tuple[Network, ...]) -> None:
        self.peer = peer = peer if peer[:7] != "::ffff:" else str(_address(peer) or peer)
        self.trusted = bool(networks) and is_trusted(peer, networks)
        self.networks = networks
        self._scheme = scheme.encode()
        self._port = port
        self.host: bytes | None = None
        self.fields = b""

    def block(self, host: bytes) -> bytes:
        """Our forwarding fields for an ordinary request; `host` is the raw Host value."""
        if host != self.host:
            peer = self.peer.encode()
            named = b"X-Forwarded-For: %b\r\nX-Real-IP: %b\r\n" % (peer, peer) if peer else b""
            port = b"X-Forwarded-Port: %d\r\n" % self._port if self._port else b""
            self.fields = b"%bX-Forwarded-Proto: %b\r\nX-Forwarded-Host:%b\r\n%bVia: 1.1 lb\r\n" % (
                named,
                self._scheme,
                host,
                port,
            )
            self.host = host
        return self.fields

    def believed(self, special: Special | Plain, host: bytes) -> tuple[bytes, list[bytes]]:
        """For a trusted peer: the block to append and what to cut, so that what it said stays."""
        cuts = [name for name in special.cuts if name not in _KEPT_WHEN_TRUSTED]
        chain = b", ".join([*special.forwarded_for, *([self.peer.encode()] if self.peer else ())])
        client = self.client(special).encode()
        lines = [b"X-Forwarded-For: %b\r\n" % chain] if chain else []
        if client:
            lines.append(b"X-Real-IP: %b\r\n" % client)
        for name, value in (
            (b"X-Forwarded-Proto", b" " + self._scheme),
            (b"X-Forwarded-Host", host),
            (b"X-Forwarded-Port", b" %d" % self._port if self._port else b""),
        ):
            key = name.lower() + b":"
            if not special.value(key):
                cuts.append(key)
                if value or key == b"x-forwarded-host:":  # an empty Host is said, as on the ordinary path
                    lines.append(b"%b:%b\r\n" % (name, value))
        return b"%bVia: 1.1 lb\r\n" % b"".join(lines), cuts

    def client(self, special: Special | Plain | None) -> str:
        """The client's address: X-Forwarded-For read from the right, as far as its writers are trusted."""
        if not self.trusted or special is None or not special.forwarded_for:
            return self.peer
        addresses = b",".join(special.forwarded_for).decode("latin-1").split(",")
        client = self.peer
        for text in reversed(addresses):
            address = _address(text.strip())
            if address is None:
                break
            client = str(address)
            if not is_trusted(client, self.networks):
                break
        return client


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as X-Forwarded-For may hold it: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`."""
    bracketed = _BRACKETED(text)
    if bracketed:
        text = bracketed[1]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


@lru_cache(maxsize=4096)
def is_trusted(text: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address lies in one of the networks; a unix socket has none and is trusted as `unix`."""
    if not text:
        return "unix" in networks
    address = _address(text)
    return address is not None and any(network != "unix" and address in network for network in networks)
