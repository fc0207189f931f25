"""Routes: what one sets, and what it is once everything it inherits is merged in."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, SerializeAsAny, WithJsonSchema, field_validator

from lb_core import units
from lb_core.backend import SendProxy
from lb_core.match_section import MatchConfig
from lb_core.section import Section, words
from lb_core.settings import Duration, PositiveDuration, Share, Size, Whole


class Timeouts(Section):
    """How long a route waits for its backends."""

    connect: PositiveDuration = Field(default=3.0, description="for a connection; then another backend is tried")
    response_header: Duration = Field(
        default=60.0, description="for a response head, from the request's last byte; 504 beyond, 0s for no limit"
    )
    idle: Duration = Field(default=60.0, description="gap between two reads of a response's body; 0s for no limit")
    queue: Duration = Field(
        default=5.0, description="for a backend with room, or one that passes its first check; 503 beyond"
    )
    request: Duration = Field(default=0.0, description="for a whole exchange; 0s for no limit")
    tunnel_idle: Duration = Field(default=3600.0, description="silence in a tunnel (WebSocket); 0s for no limit")


class Retry(Section):
    """When a route tries another backend."""

    attempts: Whole = Field(default=1, ge=0, le=10, description="further attempts after the first; 0 for none")
    on: Annotated[
        tuple[Literal["connect", "reset", "timeout"], ...],
        BeforeValidator(words),
        WithJsonSchema({"type": "array", "items": {"enum": ["connect", "reset", "timeout"]}}),
    ] = Field(
        default=("connect", "reset"),
        description="connect: refused, unreachable, too slow; reset: closed before a response; timeout: no response",
    )
    budget: Share = Field(
        default=0.2, description="retries at most, as a share of the route's requests in flight (never fewer than 3)"
    )


class StrategyChoice(Section):
    """The strategy of a route: a registered one by name, or a class of one's own."""

    name: str
    settings: SerializeAsAny[BaseModel] | None = None
    custom: Any = Field(
        default=None, exclude=True, description="the class, for `module:Class`; None for a registered strategy"
    )


class FeatureChoice(Section):
    """A feature that a route switches on."""

    name: str
    settings: SerializeAsAny[BaseModel]


class SectionChoice(Section):
    """A section at the top of the file that belongs to a plugin."""

    name: str
    settings: SerializeAsAny[BaseModel]


class UsedConfig(Section):
    """Another pool or route that a feature's settings name, and the pool it leads to."""

    kind: Literal["pool", "route"]
    name: str
    pool: str


def _off(value: object) -> object:
    return "off" if value is False else value


class RouteOptions(Section):
    """What a route may set, beside its backends, strategy and features."""

    timeouts: Timeouts = Timeouts()
    retry: Retry = Retry()
    queue: Whole = Field(
        default=100,
        ge=0,
        description="requests that may wait while every backend has its max_connections in flight; 503 beyond",
    )
    max_body: Size = Field(default=0, description="bytes of a request's body; 413 beyond, 0B for no limit")
    strip_prefix: Annotated[str, WithJsonSchema({"type": ["string", "boolean"]})] = Field(
        default="",
        description="path prefix to remove (it goes on as X-Forwarded-Prefix); `true` for the rule's path_prefix",
    )
    host_header: Literal["preserve", "backend"] = Field(
        default="preserve", description="Host to send: the client's, or the backend's address"
    )
    send_proxy: Annotated[SendProxy, BeforeValidator(_off), WithJsonSchema({"enum": ["off", "v1", "v2", False]})] = (
        Field(
            default="off",
            description="tell the backends each client's address in a PROXY header of this version; every request then "
            "gets a connection of its own",
        )
    )
    priority: Whole = Field(default=0, ge=-1000, le=1000, description="higher is asked first, before any other order")

    @field_validator("strip_prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if value and (not value.startswith("/") or any(sign in value for sign in "?#\r\n") or not value.isascii()):
            raise ValueError(f"{units.show(value)} is not a path prefix: write /v2")
        return value.rstrip("/")


class RouteConfig(RouteOptions):
    """One route, merged with everything it inherits. `order` is its position among the routes of its host."""

    name: str
    host: str
    match: MatchConfig = MatchConfig()
    order: int = 0
    pool: str
    strategy: StrategyChoice = StrategyChoice(name="least_connections")
    features: tuple[FeatureChoice, ...] = ()
    uses: tuple[UsedConfig, ...] = ()
