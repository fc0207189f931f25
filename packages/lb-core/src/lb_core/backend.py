"""One backend: an address that serves requests, with its state and its counters.

What may be chosen now is decided by three facts, each owned by somebody else:

    mode      active | draining | maintenance     an operator (API, CLI, label)
    health    starting | up | down                active checks
    ejected   until a moment, with a reason       passive ejection, a breaker

A backend is a candidate while it is active, up and not ejected. Only its Pool changes these facts, so that the
tuple of candidates is rebuilt exactly when one of them changes; the request path never asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Mode = Literal["active", "draining", "maintenance"]
Health = Literal["starting", "up", "down"]
State = Literal["up", "starting", "draining", "maintenance", "ejected", "down"]

NO_LIMIT = 1 << 60


class Backend:
    """An address that serves requests.

    `id` is `route/name` and outlives reloads. `weight` is 0-1000 (0 takes no new requests). `max_connections` is the
    number of requests it may have in flight (`NO_LIMIT` for none). `in_flight`, `requests` and `failures` count whole
    exchanges and failed attempts. `labels` are free-form strings and numbers for strategies. `idle` belongs to the
    engine: open connections without a request, freshest last.
    """

    __slots__ = (
        "address",
        "backup",
        "ejected",
        "failures",
        "health",
        "host",
        "id",
        "idle",
        "in_flight",
        "labels",
        "max_connections",
        "mode",
        "name",
        "port",
        "reason",
        "requests",
        "since",
        "weight",
        "zone",
    )

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        id: str = "",
        weight: int = 1,
        max_connections: int = 0,
        backup: bool = False,
        zone: str = "",
        labels: Mapping[str, str | int | float] | None = None,
    ) -> None:
        self.id = id or name
        self.name = name
        self.host = host
        self.port = port
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.weight = weight
        self.max_connections = max_connections or NO_LIMIT
        self.backup = backup
        self.zone = zone
        self.labels = dict(labels or {})
        self.mode: Mode = "active"
        self.health: Health = "up"
        self.ejected = False
        self.reason = ""
        self.since = 0.0
        self.in_flight = 0
        self.requests = 0
        self.failures = 0
        self.idle: dict[object, None] = {}

    @property
    def usable(self) -> bool:
        """Whether it may take requests, were it not ejected."""
        return self.mode == "active" and self.health == "up" and self.weight > 0

    @property
    def available(self) -> bool:
        """Whether it may take requests now."""
        return self.usable and not self.ejected

    @property
    def state(self) -> State:
        """The one word a person reads; the operator's wish first, then health, then ejection."""
        if self.mode != "active":
            return self.mode
        if self.health != "up":
            return self.health
        return "ejected" if self.ejected else "up"

    def __repr__(self) -> str:
        return f"<Backend {self.id} {self.address} {self.state}>"
