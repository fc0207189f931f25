"""The whole configuration, and the sections that stand in it once."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema, field_validator

from lb_core.listener_sections import ListenerConfig
from lb_core.pool_sections import PoolConfig
from lb_core.route_sections import RouteConfig, SectionChoice
from lb_core.section import Peers, Section, Words
from lb_core.settings import Duration, Whole
from lb_core.units import parse_listen, show


class AccessLogConfig(Section):
    """The access log. Short form: the format; `off` switches it off."""

    short = "format"

    format: Annotated[Literal["json", "clf", "off"], WithJsonSchema({"enum": ["json", "clf", "off", False]})] = Field(
        default="json", description="json, clf (the combined log format) or off"
    )
    file: str = Field(default="-", min_length=1, description='file to append to; "-" for standard output')

    @field_validator("format", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return "off" if value is False else value


class PluginsConfig(Section):
    """Which installed plugins must be there, and which are ignored."""

    require: Words = Field(
        default=(), description="plugins (or their packages) without which the balancer does not start"
    )
    disable: Words = Field(default=(), description="plugins (or their packages) to ignore")


class ReadinessConfig(Section):
    """Where others ask whether this node takes traffic: `GET /ready` and `GET /live`."""

    short = "address"

    address: str = Field(description="`host:port` or `:port` for the answers to `/ready` and `/live`")

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        if parse_listen(value).path:
            raise ValueError(f"{show(value)} is a unix socket: write HOST:PORT, or :PORT")
        return value


MOST_WORKERS = 31


def _workers(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_WORKERS):
        return value
    if isinstance(value, str) and value.isdecimal() and 1 <= int(value) <= MOST_WORKERS:
        return int(value)
    raise ValueError(f"{show(value)} is not a number of workers: write 1 to {MOST_WORKERS}, or auto for one a core")


class GlobalOptions(Section):
    """What a file may set once, beside its listeners, routes and pools."""

    trusted_proxies: Peers = Field(
        default=(),
        description="address ranges whose forwarding fields are believed, and `unix` for those who come over a unix "
        "socket; empty trusts nobody",
    )
    access_log: AccessLogConfig = AccessLogConfig()
    no_route_status: Whole = Field(
        default=404, ge=400, le=599, description="status of the answer when no route matches"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="how much the balancer says about itself"
    )
    plugins: PluginsConfig = PluginsConfig()
    workers: Annotated[
        Literal["auto"] | int,
        BeforeValidator(_workers),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": MOST_WORKERS}]}),
    ] = Field(
        default=1,
        description=f"processes that carry traffic, 1 to {MOST_WORKERS}; `auto` for as many as there are cores to use. "
        "With more than one, another process decides for all",
    )
    shutdown_delay: Duration = Field(
        default=0.0,
        description="how long connections are still accepted after SIGTERM, while `/ready` says 503 already",
    )
    readiness: ReadinessConfig | None = Field(
        default=None, description="where `GET /ready` says whether this node takes traffic; off without it"
    )
    control: Annotated[str, WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"const": False}]})] = Field(
        default="",
        description="unix socket over which `lb` commands reach the running balancer, or `off`; without it, a file "
        "named after the process in `$XDG_RUNTIME_DIR/lb`, `/run/lb` (root) or `/tmp/lb-UID`",
    )

    @field_validator("control", mode="before")
    @classmethod
    def _no_control(cls, value: object) -> object:
        if value is False:
            return "off"
        if value is True:
            raise ValueError("write the path of a unix socket, or off")
        return value


class Config(GlobalOptions):
    """A whole configuration, validated."""

    listeners: tuple[ListenerConfig, ...] = (ListenerConfig(name="web", address=":8080"),)
    routes: tuple[RouteConfig, ...] = ()
    pools: tuple[PoolConfig, ...] = ()
    sections: tuple[SectionChoice, ...] = ()
    files: tuple[str, ...] = ()

    def section(self, name: str) -> BaseModel | None:
        """The settings of a plugin's section at the top of the file; None where it is not there."""
        return next((each.settings for each in self.sections if each.name == name), None)
