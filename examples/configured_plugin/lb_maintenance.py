"""A feature and a strategy with settings.

maintenance: back at six                        everybody gets a 503 with that text
maintenance: {message: back at six, retry_after: 30m, until: 2030-01-31T06:00:00Z, except: [10.0.0.0/8]}
strategy: {name: zone_first, zone: a, spill: 20}
"""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from ipaddress import ip_address

from pydantic import Field

from lb_core import Backend, Duration, Exchange, Feature, Network, Response, Route, Settings, Strategy, hookimpl


class MaintenanceSettings(Settings):
    """What visitors are told, and who gets through."""

    short = "message"

    message: str = "down for maintenance"
    retry_after: Duration = 600.0
    until: datetime | None = None
    let_through: tuple[Network, ...] = Field(default=(), alias="except")


class Maintenance:
    """The feature of one route; what costs time is done here, not for each request."""

    def __init__(self, settings: MaintenanceSettings, clock: Callable[[], float] = time.time) -> None:
        self.until = settings.until.timestamp() if settings.until else None
        self.networks = settings.let_through
        self.clock = clock
        headers = {"Retry-After": f"{settings.retry_after:.0f}", "Cache-Control": "no-store"}
        self.answer = Response(503, settings.message + "\n", headers)

    @property
    def over(self) -> bool:
        return self.until is not None and self.clock() >= self.until

    @hookimpl
    def before_request(self, exchange: Exchange) -> Response | None:
        """Answer at once, or return None: then the request goes on."""
        return None if self.over or self.may_pass(exchange.client) else self.answer

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        """Who got through is told that others do not."""
        if not self.over:
            exchange.response_headers["X-Maintenance"] = "on"

    def may_pass(self, client: str) -> bool:
        if not self.networks or not client:
            return False
        address = ip_address(client)
        return any(address in network for network in self.networks)


class ZoneFirstSettings(Settings):
    """The zone to stay in, and how many requests a backend there takes before others help."""

    zone: str
    spill: int = Field(default=100, ge=1)


class ZoneFirst:
    """The least busy backend of our zone; of all backends once those are as busy as `spill` allows."""

    def __init__(self, settings: ZoneFirstSettings) -> None:
        self.settings = settings
        self.candidates: tuple[Backend, ...] = ()
        self.near: tuple[Backend, ...] = ()

    @hookimpl
    def select_backend(self, candidates: tuple[Backend, ...]) -> Backend:
        if candidates is not self.candidates:  # the same tuple until the pool changes
            self.candidates = candidates
            self.near = tuple(backend for backend in candidates if backend.zone == self.settings.zone)
        if self.near:
            best = min(self.near, key=load)
            if best.in_flight < self.settings.spill:
                return best
        return min(candidates, key=load)


def load(backend: Backend) -> float:
    return backend.in_flight / backend.weight


def build(route: Route, settings: MaintenanceSettings) -> Maintenance:
    return Maintenance(settings)


@hookimpl
def register_features() -> Iterator[Feature]:
    yield Feature("maintenance", build, MaintenanceSettings)


@hookimpl
def register_strategies() -> Iterator[Strategy]:
    yield Strategy("zone_first", ZoneFirst, settings=ZoneFirstSettings)
