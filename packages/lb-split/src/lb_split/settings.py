"""The section `split` of a route."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from lb_core import Duration, Network, PositiveDuration, Settings, Share, Whole

SELF = "self"
LARGEST_WEIGHT = 1000

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


class PoolSettings(Settings):
    """One pool of a split: its share, and the requests that are its own whatever the shares are."""

    use: str
    """`self` for the backends of the route, or the name of a pool under `pools:`."""
    weight: Annotated[Whole, Field(ge=0, le=LARGEST_WEIGHT)] | None = None
    """Its share of the requests, in proportion to the other weights, 0-1000; 0 for those of its rules alone."""
    sticky: bool = False
    """Remember by a cookie where a client was sent. True for one pool is true for all of the split: else the clients
    of the others would be drawn again and again, until all of them had ended up here."""
    header: dict[str, str] = Field(default={})
    """Requests with all of these header fields go here, whatever the weights; `"~…"` is a regular expression."""
    clients: tuple[Network, ...] = ()
    """Requests from these address ranges go here, whatever the weights."""

    @field_validator("header", mode="before")
    @classmethod
    def _texts(cls, value: object) -> object:
        for name, wanted in value.items() if isinstance(value, dict) else ():
            if not isinstance(wanted, str):
                raise ValueError(f'{name}: {wanted} is not text: put it in quotes, "{wanted}"')
        return value

    @field_validator("header")
    @classmethod
    def _fields(cls, value: dict[str, str]) -> dict[str, str]:
        for name, wanted in value.items():
            if not _TOKEN(name):
                raise ValueError(f'"{name}" is not the name of a header field')
            if wanted.startswith("~"):
                try:
                    re.compile(wanted[1:])
                except (re.error, RecursionError, OverflowError) as error:
                    raise ValueError(f'{name}: "{wanted[1:]}" is not a regular expression: {error}') from None
        return value

    @model_validator(mode="after")
    def _has_requests(self) -> Self:
        if self.weight is None and not self.header and not self.clients:
            raise ValueError(f'pool "{self.use}" has no weight: write weight: 5, or give it a header: or clients:')
        return self


class RollbackSettings(Settings):
    """When a pool of the split is taken out of it because it fails more often than the stable one; `off` never does.

    The stable pool is `self`, or the first of the list where `self` is not in it. All conditions must hold.
    """

    short = "enabled"

    enabled: bool = True
    """Whether it happens at all."""
    ratio: Annotated[float, Field(ge=1, le=1000)] = 2.0
    """Its share of failed requests exceeds so many times that of the stable pool …"""
    margin: Share = 0.05
    """… and is above it by more than so many percent of its requests."""
    window: PositiveDuration = 60.0
    """Over how long requests are counted."""
    min_requests: Annotated[Whole, Field(ge=1)] = 20
    """How many requests it must have had in that time."""


class SplitSettings(Settings):
    """Requests divided among pools; the short form is the list of `pools`."""

    short = "pools"

    pools: Annotated[tuple[PoolSettings, ...], Field(min_length=1)]
    """The pools and their shares; where several have a rule for a request, the first takes it."""
    by: Literal["request", "cookie", "client"] | None = None
    """`request` draws for each request; `cookie` for each client, remembered by a cookie; `client` by the hash of its
    address (IPv6: of its /64). Without it `cookie` where a pool is `sticky`, else `request`."""
    cookie: Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$")] = "lb_split"
    """The cookie's name."""
    ttl: Duration = 0.0
    """How long a browser keeps the cookie; 0s for as long as it runs."""
    rollback: RollbackSettings = RollbackSettings()
    """When a pool that fails is taken out."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [pool.use for pool in self.pools]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'pool "{name}" is there {names.count(name)} times: keep one of them')
        if not any(pool.weight for pool in self.pools):
            raise ValueError("no pool has a weight above 0: requests without a rule would have nowhere to go")
        if self.by == "request" and any(pool.sticky for pool in self.pools):
            raise ValueError("by: request remembers no client and sticky: true does: leave one of them out")
        return self

    @property
    def sticks_by(self) -> str:
        """`request`, `cookie` or `client`."""
        return self.by or ("cookie" if any(pool.sticky for pool in self.pools) else "request")
