"""Fields that say something to a backend on our word, so that a client must not be able to say it.

Many backends (CGI, WSGI) read `X_User` as `X-User`: both go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lb_core import Headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lb_core import Exchange

OURS = frozenset(
    (
        "host",
        "keep-alive",
        "proxy-connection",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-real-ip",
        "x-request-id",
        "expect",
    )
)
"""Request fields that lb itself writes, or that the two ends settle between them."""


class ClientFields:
    """Fields of these names, as a client may have sent them."""

    __slots__ = ("_find",)

    def __init__(self, names: Iterable[str]) -> None:
        keys = {name.lower().replace("_", "-") for name in names}
        self._find = _search(keys) if keys else None

    def remove(self, exchange: Exchange) -> None:
        """Take them from the request; where there are none, that is one search."""
        for found in self._find(exchange.head) if self._find is not None else ():
            name = found.decode("latin-1")
            if name in exchange.headers:  # else it is gone already, in another case
                del exchange.headers[name]


def check_request_field(name: str) -> None:
    """Raise ValueError for a field of a request that is not for a plugin to write."""
    check_name(name)
    if name.lower() == "host":
        raise ValueError("Host is how the request was routed: use host_header: backend, or a route of its own")
    if name.lower() in OURS:
        raise ValueError(f"{name} is written by lb itself: name another field")


def check_name(name: str) -> None:
    """Raise ValueError for what is no field name, and for fields of message framing."""
    Headers().add(name, "")


def _search(names: Iterable[str]) -> Callable[[bytes], list[bytes]]:
    """Finds these names in a head, as they stand there; each letter in both cases is much faster than folding case."""
    return re.compile(f"\n({'|'.join(map(_letters, sorted(names)))}):".encode("latin-1")).findall


def _letters(name: str) -> str:
    either = {"-": "[-_]"}
    return "".join(
        f"[{letter.upper()}{letter}]" if letter.isalpha() else either.get(letter, re.escape(letter)) for letter in name
    )
