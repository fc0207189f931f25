"""One backend: an address that serves requests, with its state and its counters.

What may be chosen now is decided by three facts, each owned by somebody else:

    mode      active | draining | maintenance     an operator (API, CLI, label)
    health    starting | up | down                active checks
    ejected   until a moment, with a reason       passive ejection, a breaker

A backend is a candidate while it is active, up and not ejected. Only its Pool changes these facts, so that the
tuple of candidates is rebuilt exactly when one of them changes; the request path never asks.

How much it may take is decided by two more: its weight, which the configuration gives and a slow start lowers for a
while (`warmth`), and its limit of requests in flight, which the configuration gives and a half-open breaker lowers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lb_core.names import Name
    from lb_core.sharing.limited import Place

SendProxy = Literal["off", "v1", "v2"]
Mode = Literal["active", "draining", "maintenance"]
Health = Literal["starting", "up", "down"]
State = Literal["up", "starting", "draining", "maintenance", "ejected", "down"]

NO_LIMIT = 1 << 60


class Backend:
    """An address that serves requests: `host` and `port`, or the `path` of a unix socket; `address` is its text.

    `id` is `route/name` and outlives reloads. `authority` is what its Host field says, where the route asks for that.
    `send_proxy` is the version of the PROXY header it is sent (`v1`, `v2`), or `off`. `configured_weight` is 0-1000 (0
    takes no new requests); `weight` is that times `warmth`, which is below 1 during a slow start. `max_connections` is
    the number of requests it may have in flight (`NO_LIMIT` for none); `limit` is what holds now. `in_flight`,
    `requests` and `failures` count whole exchanges and failed attempts. `drains_until` is the moment, in seconds of the
    pool's clock, up to which clients that are its own may still use it while it drains; 0.0 when it does not.
    `freed` is called when a request of it has ended, while others wait for that; None while nobody does. `labels` are
    free-form strings and numbers for strategies. `idle` belongs to the engine: open connections without a request,
    freshest last. `lookup` holds the addresses of a host that is a name, None where it is an address.
    `shared` is where other workers read what is in flight here; None where nobody need know.
    """

    __slots__ = (
        "__weakref__",
        "address",
        "authority",
        "backup",
        "configured_weight",
        "drains_until",
        "ejected",
        "failures",
        "freed",
        "health",
        "host",
        "id",
        "idle",
        "in_flight",
        "labels",
        "limit",
        "lookup",
        "max_connections",
        "mode",
        "name",
        "path",
        "port",
        "reason",
        "requests",
        "restricted",
        "send_proxy",
        "shared",
        "since",
        "warmth",
        "weight",
        "zone",
    )

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        path: str = "",
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
        self.path = path
        self.address = f"unix:{path}" if path else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.authority = "localhost" if path else self.address
        self.send_proxy: SendProxy = "off"
        self.configured_weight = weight
        self.warmth = 1.0
        self.weight: float = weight
        self.max_connections = max_connections or NO_LIMIT
        self.restricted = NO_LIMIT
        self.limit = self.max_connections
        self.drains_until = 0.0
        self.freed: Callable[[], None] | None = None
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
        self.lookup: Name | None = None
        self.shared: Place | None = None

    @property
    def usable(self) -> bool:
        """Whether it may take requests, were it not ejected."""
        return self.mode == "active" and self.health == "up" and self.weight > 0

    @property
    def available(self) -> bool:
        """Whether it may take requests now."""
        return self.usable and not self.ejected

    def serves_known(self, now: float) -> bool:
        """Whether clients that are its own already may use it: those outlast a drain until its deadline.

        `now` is in seconds of the pool's clock.
        """
        if self.ejected or self.health != "up" or self.mode == "maintenance":
            return False
        return (self.mode == "active" and self.weight > 0) or now < self.drains_until

    @property
    def state(self) -> State:
        """The one word a person reads; the operator's wish first, then health, then ejection."""
        if self.mode != "active":
            return self.mode
        if self.health != "up":
            return self.health
        if self.ejected:
            return "ejected"
        return "up" if self.weight else "draining"

    def __repr__(self) -> str:
        return f"<Backend {self.id} {self.address} {self.state}>"
