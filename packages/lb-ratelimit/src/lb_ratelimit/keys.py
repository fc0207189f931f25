"""What is limited: from the `key` of a limit to a function that names whom a request counts for.

    client_ip         the address; of IPv6 its /64 network, because one client has all of it
    route             one count for everybody
    path              the path as sent, without the query
    header:NAME       the value of a field         a request without one counts for its client_ip,
    cookie:NAME       the value of a cookie        apart from whoever sends that address as a value
    module:function   what a Python function of the exchange returns: a text, or None for "not limited"

What is longer than 64 characters is kept as a hash of 16 bytes, so that a client cannot make keys large. The hash is
BLAKE2b, because with a fast one a client could make its key equal to somebody else's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from hashlib import blake2b
from importlib import import_module
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lb_core import network_of
from lb_ratelimit.recent import Key

if TYPE_CHECKING:
    from lb_core import Exchange

KeyFunction = Callable[["Exchange"], Key | None]

LONGEST = 64
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*").fullmatch
_KNOWN = "write client_ip, route, path, header:NAME, cookie:NAME or module:function"


def client_ip(exchange: Exchange) -> Key:
    """The client's IPv4 address, or the /64 of its IPv6 address; one key for all who come over a unix socket."""
    client = exchange.client
    return client if ":" not in client else _network(client)


def key_function(key: str) -> KeyFunction:
    """The function that a key stands for; ValueError says how to write one."""
    kind, colon, name = key.partition(":")
    if not colon:
        return _plain(key)
    if kind in ("header", "cookie"):
        if not _TOKEN(name):
            raise ValueError(f'"{name}" is not the name of a {kind}: write {kind}:X-Api-Key')
        return _by_header(name) if kind == "header" else _by_cookie(name)
    return _by_function(_imported(key), key)


def look_beside(source: str) -> None:
    """Let modules beside the configuration file be imported; last on the path, so that they hide nothing."""
    folder = str(Path(source).resolve().parent)
    if source and folder not in sys.path:
        sys.path.append(folder)


def short(text: str) -> Key:
    """The text itself, or the hash of a long one."""
    if len(text) <= LONGEST:
        return text
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _network(client: str) -> Key:
    """An IPv4-mapped address counts as the IPv4 address it is."""
    key = network_of(client)
    return key if key.endswith(b"/") else short(key.decode("utf-8", "surrogatepass"))


def _nameless(exchange: Exchange) -> Key:
    """The key of a request that lacks the header or cookie; a field value cannot hold the zero."""
    key = client_ip(exchange)
    return "\0" + key if isinstance(key, str) else b"\0" + key


def _plain(key: str) -> KeyFunction:
    match key:
        case "client_ip":
            return client_ip
        case "route":
            return lambda exchange: ""  # noqa: ARG005 (the signature of a key function)
        case "path":
            return lambda exchange: short(exchange.path)
    raise ValueError(f'"{key}" is not a key: {_KNOWN}')


def _by_header(name: str) -> KeyFunction:
    def key(exchange: Exchange) -> Key:
        value = exchange.headers.get(name)
        return short(value) if value else _nameless(exchange)

    return key


def _by_cookie(name: str) -> KeyFunction:
    def key(exchange: Exchange) -> Key:
        value = exchange.cookie(name)
        return short(value) if value else _nameless(exchange)

    return key


def _by_function(function: Callable[[Exchange], Any], target: str) -> KeyFunction:
    def key(exchange: Exchange) -> Key | None:
        value = function(exchange)
        if value is None:
            return None
        if not isinstance(value, str):
            raise TypeError(f"{target} returned {value!r}: a key is a str, or None for no limit")
        return short(value)

    return key


def _imported(target: str) -> Callable[[Exchange], Any]:
    if not _TARGET(target):
        raise ValueError(f'"{target}" is not a key: {_KNOWN}')
    module, _, attribute = target.partition(":")
    try:
        found: Any = import_module(module)
    except Exception as error:
        raise ValueError(f'"{target}" cannot be imported: {type(error).__name__}: {error}') from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f'{module} has no "{attribute}"')
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f'"{target}" is a {type(found).__name__}, not a function of the exchange')
    if iscoroutinefunction(found):
        raise ValueError(f'"{target}" is a coroutine function: a key is needed at once, write a plain def')
    return found  # type: ignore[no-any-return]  # checked as far as that can be
