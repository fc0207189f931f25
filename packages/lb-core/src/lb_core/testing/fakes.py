"""Backends and exchanges for tests: real objects, made with a word instead of a running balancer."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from lb_core.backend import Backend
from lb_core.exchange import Exchange
from lb_core.headers import check_field
from lb_core.pool import Pool
from lb_core.route import Route
from lb_core.route_sections import RouteConfig

NAME = "testing"
_TAKEN = frozenset(inspect.signature(Backend).parameters) - {"name", "labels"}


class Connection:
    """The client's connection."""

    __slots__ = ("peer", "port", "scheme")

    def __init__(self, peer: str = "192.0.2.1", scheme: str = "http") -> None:
        self.peer = peer
        self.scheme = scheme
        self.port = 443 if scheme == "https" else 80


def pool(n: int = 0, **backends: Mapping[str, Any]) -> tuple[Backend, ...]:
    """Backends to choose from, in order: those named, and `n` more called b0, b1, …

    A mapping holds what `Backend` takes (`weight`, `max_connections`, `zone`, …) and `in_flight`; any other key becomes
    a label. The tuple is one that a pool might pass as `candidates`.

        a, b = pool(a={"cost": 1}, b={"cost": 5, "weight": 3})
    """
    named = [*backends.items(), *((f"b{number}", {}) for number in range(n))]
    return tuple(_backend(name, number, of) for number, (name, of) in enumerate(named))


def _backend(name: str, number: int, of: Mapping[str, Any]) -> Backend:
    given = {key: value for key, value in of.items() if key in _TAKEN}
    labels = {key: value for key, value in of.items() if key not in _TAKEN and key != "in_flight"}
    given.setdefault("host", f"10.0.{number >> 8}.{number & 255}")
    given.setdefault("port", 8080)
    given.setdefault("id", f"{NAME}/{name}")
    made = Backend(name, labels=labels, **given)
    made.in_flight = of.get("in_flight", 0)
    return made


def exchange(
    path: str = "/",
    *,
    method: str = "GET",
    host: str = "example.com",
    headers: Mapping[str, str] | None = None,
    client: str = "192.0.2.1",
    scheme: str = "http",
    backends: Iterable[Backend] = (),
) -> Exchange:
    """A request that has just come, on a route over `backends`; `path` may have a query.

    Raises ValueError for a header that cannot be sent.
    """
    fields = {"Host": host, **(headers or {})}
    for name, text in fields.items():
        check_field(name, text)
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in fields.items())]
    head = ("\r\n".join(lines) + "\r\n").encode("latin-1")
    connection = Connection(client, scheme)
    target = path.encode("latin-1")
    return Exchange(route_over(backends), connection, client, method.encode(), target, host.encode(), head)


def route_over(backends: Iterable[Backend], **options: Any) -> Route:
    """A route with no plugins over a pool of these; `options` are keyword arguments of its configuration."""
    return Route(RouteConfig(name=NAME, host="*", pool=NAME, **options), Pool(NAME, backends))
