"""Which route serves a request: an immutable table from host and path to Route.

Hosts
    The Host value is checked against its grammar (RFC 9110 section 7.2), then lower-cased and stripped of port and
    trailing dot. `a.b` matches itself, `*.a.b` one label more, `**.a.b` one or more, `*` every host, the empty one too.

Order, the first difference decides
    1. higher `priority`
    2. exact host, then the longest wildcard (`*.a.b`, `**.a.b`, `*.b`, `**.b`), then `*`
    3. exact path, then the longest prefix, then none
    4. more further matchers (methods, headers, query, clients)
    5. declared earlier

    Every rule whose host matches takes part: a request that no rule of the exact host wants goes on to the wildcards.

Paths
    A rule is compared with the path as sent, and the path is forwarded byte for byte. A prefix ends at a segment: `/v2`
    matches `/v2` and `/v2/x`, not `/v21`. Backends may read a path more freely than we do: `/public/../admin`,
    `/%61dmin`, `//admin` and `/admin;x` can all arrive at `/admin`. So a path with such parts is also compared as a
    lenient backend would read it, and a request that would then belong to another route is refused with 400: nobody
    reaches a backend around a rule. A host whose first rule has no further condition passes every path.

Cost
    A Host value seen before is one dictionary lookup, with 1 route or 10,000; a new one costs a lookup for each label.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address
from operator import itemgetter
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from lb_core.errors import RequestError
from lb_core.rule import Rule

if TYPE_CHECKING:
    from lb_core.route import Route

LEARNED_MOST = 20_000
"""Host values remembered; then the memory starts afresh, so that random hosts cannot fill it."""

LEARNED_LONGEST = 300
"""A longer Host value is no name of the DNS (255 octets) and not worth remembering."""

SCANNED_MOST = 16
"""A host with more rules than this looks them up by path."""

_HOST = re.compile(
    rb"(\[([0-9a-f:.]+)\]|\[v[0-9a-f]+\.[a-z0-9\-._~!$&'()*+,;=:]+\]|(?:[a-z0-9\-._~!$&'()*+,;=]|%[0-9a-f]{2})*)"
    rb"(?::([0-9]*))?"
).fullmatch
_ABSOLUTE = re.compile(rb"(?i:https?)://[^/?#]*/?(.*)").fullmatch
_unusual = re.compile(rb"%|//|/\.|\\|;").search

_position = itemgetter(0)

Find = Callable[[bytes, bytes, bytes, str], "Route | None"]
Accepts = Callable[[bytes, bytes, bytes, str], bool]
_SLASH = ord("/")


class HostEntry:
    """What the table knows about one host.

    `route` is set when the host alone decides. Otherwise `find(method, target, head, client)` returns the Route or
    None, and raises RequestError for an ambiguous path. `rules` are those that can match, best first.
    """

    __slots__ = ("find", "host", "route", "rules")

    def __init__(self, host: bytes, chosen: _Rules) -> None:
        self.host = host
        self.route: Route | None = chosen.route
        self.rules: tuple[Rule, ...] = chosen.rules
        self.find: Find = chosen.find


class Table:
    """Host and path to Route; never changed, a new configuration makes a new one."""

    __slots__ = ("_exact", "_many", "_one", "_rest", "_sets", "learned", "rules")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.learned: dict[bytes, HostEntry] = {}
        self._exact: dict[bytes, list[Rule]] = {}
        self._one: dict[bytes, list[Rule]] = {}
        self._many: dict[bytes, list[Rule]] = {}
        self._rest: list[Rule] = []
        self._sets: dict[tuple[int, ...], _Rules] = {}
        rules = [Rule(route) for route in routes]
        for rule in rules:
            self._group(rule.host).append(rule)
        first = {rule.host: number for number, rule in reversed(list(enumerate(rules)))}
        self.rules = tuple(sorted(rules, key=lambda rule: (rule.host_rank, first[rule.host], rule.rank)))

    def learn(self, raw: bytes) -> HostEntry:
        """Look a Host value up and remember it; RequestError(400) where it breaks the grammar."""
        host = normalise(raw)
        entry = HostEntry(host, self._rules_for(host))
        if len(raw) <= LEARNED_LONGEST:
            if len(self.learned) >= LEARNED_MOST:
                self.learned.clear()
            self.learned[raw] = entry
        return entry

    def find(self, raw: bytes, method: bytes, target: bytes, head: bytes = b"", client: str = "") -> Route | None:
        """The route of a request; what the engine does in its own steps."""
        entry = self.learned.get(raw) or self.learn(raw)
        return entry.route or entry.find(method, target, head, client)

    def _group(self, pattern: str) -> list[Rule]:
        """The rules of one host pattern."""
        if pattern == "*":
            return self._rest
        kind, index = "", self._exact
        if pattern.startswith("**."):
            kind, index = "**.", self._many
        elif pattern.startswith("*."):
            kind, index = "*.", self._one
        return index.setdefault(normalise(pattern.removeprefix(kind).encode("latin-1")), [])

    def _rules_for(self, host: bytes) -> _Rules:
        """The rules that can match a host; hosts with the same patterns share them, so random names cost no sorting."""
        groups = [self._exact.get(host), self._rest]
        dot = host.find(b".") if not host.startswith(b"[") else -1
        if dot > 0:
            groups.append(self._one.get(host[dot + 1 :]))
        while dot > 0:
            groups.append(self._many.get(host[dot + 1 :]))
            dot = host.find(b".", dot + 1)
        found = [group for group in groups if group]
        key = tuple(id(group) for group in found)
        chosen = self._sets.get(key)
        if chosen is None:
            chosen = self._sets[key] = _Rules(rule for group in found for rule in group)
        return chosen


class _Rules:
    """The rules that share a set of host patterns, best first."""

    __slots__ = ("_as_read", "_as_sent", "route", "rules")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: rule.rank))
        self.route = self.rules[0].route if self.rules and self.rules[0].unconditional else None
        self._as_sent = _Paths(self.rules, bytes)
        self._as_read = _Paths(self.rules, as_read)

    def find(self, method: bytes, target: bytes, head: bytes, client: str) -> Route | None:
        """The route of the best rule that matches; RequestError(400) when a backend may see another rule's path."""
        query = target.find(b"?")
        path = path_of(target) if target[0] != _SLASH else target if query < 0 else target[:query]
        route = self._as_sent.find(path, method, target, head, client)
        if _unusual(path) and self._as_read.find(as_read(path), method, target, head, client) is not route:
            shown = path[:200].decode("latin-1")
            raise RequestError(
                400,
                "ambiguous_path",
                f"path {shown!r} could be read as one of another route; send it in its plain form",
            )
        return route


class _Paths:
    """Rules with their paths in one reading, and the way to the first that matches."""

    __slots__ = ("_anywhere", "_by_path", "_by_prefix", "_deepest", "_few")

    def __init__(self, rules: tuple[Rule, ...], reading: Callable[[bytes], bytes]) -> None:
        self._few: list[tuple[Route, bytes, bytes, Accepts | None]] | None = [] if len(rules) <= SCANNED_MOST else None
        self._anywhere: list[tuple[int, Rule]] = []
        self._by_path: dict[bytes, list[tuple[int, Rule]]] = {}
        self._by_prefix: dict[bytes, list[tuple[int, Rule]]] = {}
        self._deepest = 0
        for number, rule in enumerate(rules):
            path, prefix = reading(rule.path), reading(rule.prefix).rstrip(b"/")
            if self._few is not None:
                accepts = rule.accepts if rule.matchers else None
                self._few.append((rule.route, path, prefix + b"/" if rule.prefix else b"", accepts))
            elif rule.path:
                self._by_path.setdefault(path, []).append((number, rule))
            elif rule.prefix:
                self._by_prefix.setdefault(prefix, []).append((number, rule))
                self._deepest = max(self._deepest, prefix.count(b"/"))
            else:
                self._anywhere.append((number, rule))

    def find(self, path: bytes, method: bytes, target: bytes, head: bytes, client: str) -> Route | None:
        """The route of the best rule that matches."""
        if self._few is None:
            return self._look_up(path, method, target, head, client)
        path_and_slash = path + b"/"
        for route, exact, prefix, accepts in self._few:
            if exact:
                if path != exact:
                    continue
            elif prefix and not path_and_slash.startswith(prefix):
                continue
            if accepts is None or accepts(method, target, head, client):
                return route
        return None

    def _look_up(self, path: bytes, method: bytes, target: bytes, head: bytes, client: str) -> Route | None:
        found: list[tuple[int, Rule]] = [*self._anywhere, *self._by_path.get(path, ())]
        if path.startswith(b"/"):
            end = 0
            for _ in range(self._deepest + 1):
                found += self._by_prefix.get(path[:end], ())
                if end == len(path):
                    break
                end = path.find(b"/", end + 1)
                if end < 0:
                    end = len(path)
        found.sort(key=_position)
        for _, rule in found:
            if rule.accepts(method, target, head, client):
                return rule.route
        return None


def normalise(raw: bytes) -> bytes:
    """The host of a Host value, empty for an empty one; RequestError(400) where it breaks the grammar."""
    value = raw.strip(b" \t").lower()
    match = _HOST(value)
    if match is None:
        raise _bad_host(raw, "a name or an address and at most a port")
    host, address, port = match.groups()
    if port and (len(port) > 5 or int(port) > 65535):
        raise _bad_host(raw, "a port up to 65535")
    if address is not None:
        try:
            return b"[%b]" % IPv6Address(address.decode("ascii")).compressed.encode("ascii")
        except ValueError:
            raise _bad_host(raw, "an IPv6 address in brackets") from None
    if port is not None and not host:
        raise _bad_host(raw, "a name before the port")
    if len(host) > 255:  # RFC 3986 section 3.2.2; also bounds the lookups below
        raise _bad_host(raw, "a name of at most 255 characters")
    return host[:-1] if host.endswith(b".") else host


def _bad_host(raw: bytes, wanted: str) -> RequestError:
    shown = raw.strip(b" \t")[:80].decode("latin-1")
    return RequestError(400, "bad_host", f"Host {shown!r} is not valid: expected {wanted}")


def as_read(path: bytes) -> bytes:
    """A path as a lenient backend may read it: decoded, without dot segments, empty segments and parameters."""
    kept: list[bytes] = []
    part = b""
    for segment in unquote_to_bytes(path).replace(b"\\", b"/").split(b"/"):
        part = segment.partition(b";")[0]
        if part == b"..":
            del kept[-1:]
        elif part not in (b"", b"."):
            kept.append(part)
    if not path.startswith(b"/"):
        return path
    end = b"/" if kept and part in (b"", b".", b"..") else b""
    return b"/" + b"/".join(kept) + end


def path_of(target: bytes) -> bytes:
    """The path of a request target, of the absolute form too (RFC 9112 section 3.2)."""
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE(target)
        if absolute:
            target = b"/" + absolute[1]
    return target.partition(b"?")[0]
