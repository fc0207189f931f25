"""What would happen to a request, without sending it: the route and why, the plugins in order, the choice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from lb_core.backend import NO_LIMIT
from lb_core.errors import LbError
from lb_core.exchange import Exchange
from lb_core.headers import check_field
from lb_core.hosts import normalise_pattern

if TYPE_CHECKING:
    from lb_core.backend import Backend
    from lb_core.pool import Pool
    from lb_core.route import Route
    from lb_core.table import Table


@dataclass(frozen=True, slots=True)
class BackendView:
    """A backend as a person sees it."""

    name: str
    address: str
    state: str
    reason: str
    weight: int
    in_flight: int
    candidate: bool
    limit: int = 0
    """How many requests it may have in flight; 0 for any number."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The way a request would take; `route` is empty and `why` says so where no route matches."""

    method: str
    url: str
    client: str
    route: str
    why: str
    strategy: str
    plugins: tuple[str, ...]
    backends: tuple[BackendView, ...]
    choice: str
    outcome: str
    states: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """What the strategy and the features say about themselves, by name."""

    def as_data(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://").match
_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_TARGET = re.compile(r"[\x21-\x7e]+").fullmatch


class _Asked:
    """The connection of a request that is only asked about."""

    def __init__(self, peer: str, scheme: str, port: int) -> None:
        self.peer = peer
        self.scheme = scheme
        self.port = port


def explain(
    table: Table,
    method: str,
    url: str,
    *,
    client: str,
    headers: Mapping[str, str] | None = None,
    no_route_status: int = 404,
) -> Explanation:
    """Ask the table and the route's strategy. Raises LbError for a method, URL or header that cannot be sent."""
    parts, port = _split(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _TARGET(target):
        raise LbError(f"{url!r} holds characters that cannot stand in a request: percent-encode them")
    if not _METHOD(method):
        raise LbError(f"{method!r} is no request method: write one like GET")
    if method in ("CONNECT", "TRACE"):
        raise LbError(f"{method} is answered with 405 whatever the route: ask about another method")
    fields = _fields(_ascii_host(parts.netloc.rpartition("@")[2]), headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
    entry = table.learn(fields["Host"].encode("latin-1"))
    route = entry.route or entry.find(method.encode(), target.encode(), head, client)
    if route is None:
        why = f"no route matches host {entry.host.decode()!r} and path {parts.path or '/'!r}"
        return Explanation(method, url, client, "", why, "", (), (), "", f"answered with {no_route_status} (no_route)")
    connection = _Asked(client, parts.scheme, port)
    exchange = Exchange(route, connection, client, method.encode(), target.encode(), entry.host, head)
    choice, outcome = _choose(route, exchange)
    if route.askers and not route.pool.backends:
        outcome = f"answered by {' or '.join(route.askers)}: the route has no backends"
    elif route.askers:
        outcome += f", unless {' or '.join(route.askers)} decides otherwise: it is not asked here"
    strategy = route.config.strategy.name
    backends = tuple(_views(route))
    return Explanation(
        method, url, client, route.name, _why(route), strategy, route.plugins, backends, choice, outcome, _states(route)
    )


def _split(url: str) -> tuple[SplitResult, int]:
    """The parts of a URL, whose scheme may be left out, and its port."""
    try:
        parts = urlsplit(url if _SCHEME(url) else f"http://{url}")
        port = parts.port
    except ValueError as error:
        raise LbError(f"{url!r} is no URL to ask about: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LbError(f"{url!r} is no URL to ask about: write one like http://example.com/path")
    return parts, port or (443 if parts.scheme == "https" else 80)


def _ascii_host(authority: str) -> str:
    """The authority as a browser sends it: international names in their ASCII form."""
    if authority.isascii():
        return authority
    name, colon, port = authority.partition(":")
    try:
        return f"{normalise_pattern(name)}{colon}{port}"
    except ValueError as error:
        raise LbError(str(error)) from None


def _fields(host: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The request's fields; a Host among `headers` takes the place of the URL's."""
    fields = {"Host": host}
    for name, value in headers.items():
        fields["Host" if name.lower() == "host" else name] = value
    for name, value in fields.items():
        try:
            check_field(name, value)
        except ValueError as error:
            raise LbError(str(error)) from None
    return fields


def _why(route: Route) -> str:
    match = route.config.match
    parts = [f"host {route.config.host}"]
    parts += [f"path {match.path}"] if match.path else []
    parts += [f"path prefix {match.path_prefix}"] if match.path_prefix else []
    parts += [f"method {' or '.join(match.methods)}"] if match.methods else []
    parts += [f"header {name}: {value}" for name, value in match.headers.items()]
    parts += [f"query {name}={value}" for name, value in match.query.items()]
    parts += [f"client in {', '.join(map(str, match.clients))}"] if match.clients else []
    parts += [f"priority {route.config.priority}"] if route.config.priority else []
    return ", ".join(parts)


def _views(route: Route) -> Iterator[BackendView]:
    """The backends of the route, and those of the pool that serves instead of its own."""
    serving = _serving(route)
    for pool in dict.fromkeys((route.pool, serving)):
        for b in pool.backends:
            name = b.name if pool is route.pool else b.id
            limit = 0 if b.limit == NO_LIMIT else b.limit
            candidate = b in serving.candidates
            reason = "; ".join(filter(None, (b.reason, _drain(b, pool))))
            yield BackendView(name, b.address, b.state, reason, b.configured_weight, b.in_flight, candidate, limit)


def _drain(backend: Backend, pool: Pool) -> str:
    """How long a backend that drains still serves clients that are its own."""
    left = backend.drains_until - pool.clock() if backend.state == "draining" else 0.0
    return f"serves clients that are its own for {left:.0f}s more" if left > 0 else ""


def _states(route: Route) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What the parts of a route have to say about their state; one that fails says so."""
    found = []
    for name, part in route.parts:
        if hasattr(part, "describe"):
            try:
                told = part.describe()
            except Exception as error:
                told = f"describe failed: {error!r}"
            lines = (told,) if isinstance(told, str) else tuple(map(str, told))
            if lines:
                found.append((name, lines))
    return tuple(found)


def _choose(route: Route, exchange: Exchange) -> tuple[str, str]:
    """The backend's name, or none, and what becomes of the request."""
    pool = _serving(route)
    candidates = pool.candidates
    if not candidates:
        word = route.gate.word if route.gate is not None else "no_backend"
        return "", "waits for a first health check, else 503" if pool.starting else f"answered with 503 ({word})"
    try:
        chosen = route.select_backend(exchange, candidates)
    except Exception as error:
        return "", f"answered with 500: plugin {route.culprit(error)!r} failed in select_backend: {error!r}"
    if chosen is None:
        return "", "answered with 500: no plugin chose a backend"
    if chosen.in_flight >= chosen.limit:
        full, chosen = chosen, pool.with_room(candidates)
        if chosen is None:
            may_wait = route.queue_timeout and route.queued < route.queue_limit
            return "", "waits in the queue: all are full" if may_wait else "answered with 503 (queue_full)"
        return chosen.name, f"sent to {chosen.address}, since {full.name} is full"
    instead = f", {route.standby.word} to {route.standby.route}" if route.standby and pool is not route.pool else ""
    return chosen.name, f"sent to {chosen.address}{instead}"


def _serving(route: Route) -> Pool:
    """The pool in which a backend would be chosen, were the request no probe."""
    if route.serving is not route.diverted:
        return route.serving
    lent = route.lent()
    if lent is not None and lent.candidates:
        return lent
    return route.serving if route.shut else route.pool
