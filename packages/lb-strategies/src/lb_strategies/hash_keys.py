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
from typing import TYPE_CHECKING

from lb_core import network_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lb_core import Exchange

    Key = Callable[[Exchange], bytes]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_PARAMETER = re.compile(r"[!$'-;?-~]+").fullmatch
EXAMPLES = "write client, path, header:X-User, cookie:session or query:id"


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
    def key(exchange: Exchange) -> bytes:
        return exchange.cookie(name).encode("latin-1") or _client(exchange)

    return key


def _in_query(name: str) -> Key:
    find = re.compile(rb"[?&]%b=([^&#]+)" % re.escape(name.encode())).search

    def key(exchange: Exchange) -> bytes:
        found = find(exchange.raw_target)
        return found[1] if found else _client(exchange)

    return key
