"""One rule of the table: the host pattern, path and further matchers of a route, ready to compare and to sort."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

from lb_core.clients import Ranges
from lb_core.errors import ConfigError, Problem

if TYPE_CHECKING:
    from lb_core.route import Route

Check = Callable[[bytes], bool]
Rank = tuple[int, ...]

_SENT_PLAIN = "/!$&'()*+,;=:@~%-._"
"""What a path in a configuration may hold as it goes on the wire; the rest is percent-encoded."""


class Rule:
    """What a route asks of a request.

    `path` is compared whole, `prefix` (without a final slash unless it is `/`) by segments; both as sent, and at most
    one is set. `unconditional` is true where the host alone decides. `matchers` counts the further ones. `rank` sorts
    the rules of one host best first; `host_rank` sorts host patterns.
    """

    __slots__ = (
        "_clients",
        "_headers",
        "_methods",
        "_query",
        "host",
        "host_rank",
        "matchers",
        "path",
        "prefix",
        "rank",
        "route",
    )

    def __init__(self, route: Route) -> None:
        config = route.config
        match = config.match
        self.route = route
        self.host = config.host
        self.path = _as_sent(match.path)
        self.prefix = _as_sent(match.path_prefix)
        if len(self.prefix) > 1:
            self.prefix = self.prefix.rstrip(b"/") or b"/"
        if self.path and self.prefix:
            raise ConfigError(
                [Problem("path and path_prefix exclude each other", _place(route), hint="keep one of them")]
            )
        self._methods = frozenset(method.upper().encode("latin-1") for method in match.methods)
        self._headers = tuple(_header(name, wanted, route) for name, wanted in match.headers.items())
        self._query = tuple(_parameter(name, wanted, route) for name, wanted in match.query.items())
        self._clients = Ranges(match.clients)
        self.matchers = bool(self._methods) + len(self._headers) + len(self._query) + bool(self._clients)
        self.host_rank = _host_rank(self.host)
        where = (0, -len(self.path)) if self.path else (1, -len(self.prefix)) if self.prefix else (2, 0)
        self.rank: Rank = (-config.priority, *self.host_rank, *where, -self.matchers, config.order)

    @property
    def unconditional(self) -> bool:
        return not (self.path or self.prefix or self.matchers)

    def accepts(self, method: bytes, target: bytes, head: bytes, client: str) -> bool:
        """Whether everything but host and path matches."""
        if self._methods and method not in self._methods:
            return False
        if not self.matchers:
            return True
        if self._headers:
            head = head.partition(b"\r\n\r\n")[0]  # what came with the head, a body too, is no field
            if not all(check(head) for check in self._headers):
                return False
        return all(check(target) for check in self._query) and (not self._clients or client in self._clients)

    def __repr__(self) -> str:
        return f"<Rule {self.host}{(self.path or self.prefix).decode('latin-1')} -> {self.route.name}>"


def _host_rank(pattern: str) -> Rank:
    if pattern == "*":
        return (2, 0, 0)
    if pattern.startswith("**."):
        return (1, -len(pattern) + 3, 1)
    if pattern.startswith("*."):
        return (1, -len(pattern) + 2, 0)
    return (0, 0, 0)


def _as_sent(path: str) -> bytes:
    return quote(path, safe=_SENT_PLAIN).encode("ascii")


def _place(route: Route) -> str:
    return f"routes.{route.name}.match"


def _header(name: str, wanted: str, route: Route) -> Check:
    """Checks a head: true when a field of that name has the value, or one the expression after `~` is found in."""
    line = b"\r\n%b:" % name.lower().encode("latin-1")
    if wanted.startswith("~"):
        found = _expression(wanted[1:], f"{_place(route)}.headers.{name}").search
        return lambda head: any(found(_text(value)) for value in _values(head, line))
    exact = wanted.strip(" \t").encode("utf-8")
    return lambda head: exact in _values(head, line)


def _values(head: bytes, line: bytes) -> list[bytes]:
    """The values of the fields whose lines begin so; a search in the lower-cased head is five times as fast as `re`."""
    lowered = head.lower()
    values = []
    at = lowered.find(line)
    while at >= 0:
        begin = at + len(line)
        at = lowered.find(b"\r\n", begin)
        values.append(head[begin : at if at >= 0 else len(head)].strip(b" \t"))
        at = lowered.find(line, at) if at >= 0 else -1
    return values


def _parameter(name: str, wanted: str, route: Route) -> Check:
    """Checks a target: true when a parameter, decoded, has the value, or one the expression after `~` is found in."""
    if wanted.startswith("~"):
        accepts: Callable[[str], object] = _expression(wanted[1:], f"{_place(route)}.query.{name}").search
    else:
        accepts = wanted.__eq__

    def check(target: bytes) -> bool:
        query = _text(target.partition(b"?")[2])
        return any(key == name and accepts(value) for key, value in parse_qsl(query, keep_blank_values=True))

    return check


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _expression(pattern: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError([Problem(f"{pattern!r} is not a regular expression: {error}", where)]) from error
