"""Text with places in braces: `https://{host}{uri}`; read when a configuration is loaded, filled in for a request.

    {client} {host} {method} {path} {query} {uri} {scheme} {request_id}     of the request
    {status} {backend}                                                      of a backend's answer
    {{ }}                                                                   a brace itself

What is filled in comes from a request that the engine has accepted: a path and a query hold no blanks, no control
characters and nothing outside ASCII, a host no more than its grammar. So nothing filled in can end a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from lb_core import Exchange

Source = TypeVar("Source")

_PARTS = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


def _path(exchange: Exchange) -> str:
    path = exchange.path
    return path if path[:1] == "/" else "/"  # `OPTIONS *`


def _uri(exchange: Exchange) -> str:
    target = exchange.target
    return target if target[:1] == "/" else "/"


OF_REQUEST: Mapping[str, Callable[[Exchange], str]] = {
    "client": lambda exchange: exchange.client,
    "host": lambda exchange: exchange.host,
    "method": lambda exchange: exchange.method,
    "path": _path,
    "query": lambda exchange: exchange.query,
    "uri": _uri,
    "scheme": lambda exchange: exchange.client_scheme,
    "request_id": lambda exchange: exchange.request_id,
}
"""What is known of a request. `uri` is the path and the query, `client` empty for who comes over a unix socket."""

OF_RESPONSE: Mapping[str, Callable[[Exchange], str]] = {
    **OF_REQUEST,
    "status": lambda exchange: str(exchange.status),
    "backend": lambda exchange: exchange.backend.name if exchange.backend is not None else "",
}
"""What is known once a backend has answered."""


class Template(Generic[Source]):
    """A text with places. `constant` is the whole of it where it has none, else None.

    Raises ValueError for a place that is not among `values`, and for a brace without its other.
    """

    __slots__ = ("_parts", "constant", "places")

    def __init__(self, text: str, values: Mapping[str, Callable[[Source], str]]) -> None:
        parts: list[str | Callable[[Source], str]] = []
        self.places: list[str] = []
        for found in _PARTS.finditer(text):
            piece, name = found[0], found[1]
            if name is not None:
                if name not in values:
                    raise ValueError(_unknown(text, name, values))
                parts.append(values[name])
                self.places.append(name)
            elif piece in ("{", "}"):
                raise ValueError(f'"{text}" has a brace without its other: write {piece * 2} for a brace itself')
            else:
                parts.append(piece[0] if piece in ("{{", "}}") else piece)
        self._parts = tuple(parts)
        self.constant = None if self.places else "".join(map(str, parts))

    def fill(self, source: Source) -> str:
        """The text for one request."""
        return "".join([part if isinstance(part, str) else part(source) for part in self._parts])


def _unknown(text: str, name: str, values: Mapping[str, object]) -> str:
    near = get_close_matches(name, values, 1)
    hint = f"did you mean {{{near[0]}}}?" if near else f"known are {', '.join(f'{{{each}}}' for each in values)}"
    return f'"{text}": nothing is called {{{name}}}; {hint}'
