"""What requests that must go to the same backend have in common.

    client          the IPv4 address, or the /64 network of an IPv6 address: one person owns a whole /64 and changes
                    addresses inside it
    header:NAME     the field's value
    cookie:NAME     the cookie's value
    query:NAME      the parameter's value as it is written, percent-encoding included
    path            the target up to `?`

A request that lacks the header, cookie or parameter, or has it empty, goes by its client.
"""

from __future__ import annotations

import re
from socket import AF_INET6, inet_pton
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core import Exchange

    Key = Callable[[Exchange], bytes]

_MAPPED = bytes(10) + b"\xff\xff"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_PARAMETER = re.compile(r"[!$'-;?-~]+").fullmatch
EXAMPLES = "write client, path, header:X-User, cookie:session or query:id"


def network_of(client: str) -> bytes:
    """The part of an address that a client keeps; text that is no address is its own key."""
    if ":" not in client:
        return client.encode()
    try:
        packed = inet_pton(AF_INET6, client.partition("%")[0])
    except OSError:
        return client.encode()
    if packed.startswith(_MAPPED):
        return ".".join(map(str, packed[12:])).encode()
    return packed[:8]


def key_of(on: str) -> Key:
    """The function that finds a request's key; ValueError for a text that names none."""
    kind, colon, name = on.partition(":")
    if on == "client":
        return _client
    if on == "path":
        return _path
    if not colon or kind not in ("header", "cookie", "query"):
        raise ValueError(f'"{on}" is nothing to go by: {EXAMPLES}')
    if kind == "query":
        if not _PARAMETER(name):
            raise ValueError(f'"{name}" is not the name of a parameter: write it as it stands in a URL')
        return _in_query(name)
    if not _TOKEN(name):
        raise ValueError(f'"{name}" is not the name of a {kind}: {EXAMPLES}')
    return _in_header(name) if kind == "header" else _in_cookie(name)


def _client(exchange: Exchange) -> bytes:
    return network_of(exchange.client)


def _path(exchange: Exchange) -> bytes:
    return exchange.raw_target.partition(b"?")[0]


def _in_header(name: str) -> Key:
    def key(exchange: Exchange) -> bytes:
        value: str = exchange.headers.get(name, "")
        return value.encode("latin-1") or _client(exchange)

    return key


def _in_cookie(name: str) -> Key:
    find = re.compile(rf"(?:^|[;,])[ \t]*{re.escape(name)}=([^;,\t ]+)").search  # two Cookie fields are joined by ", "

    def key(exchange: Exchange) -> bytes:
        found = find(exchange.headers.get("Cookie", ""))
        return found[1].encode("latin-1") if found else _client(exchange)

    return key


def _in_query(name: str) -> Key:
    find = re.compile(rb"[?&]%b=([^&#]+)" % re.escape(name.encode())).search

    def key(exchange: Exchange) -> bytes:
        found = find(exchange.raw_target)
        return found[1] if found else _client(exchange)

    return key
