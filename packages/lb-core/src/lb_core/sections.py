"""The whole configuration, and the sections that stand in it once."""

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema, field_validator

from lb_core.listener_sections import ListenerConfig
from lb_core.pool_sections import PoolConfig
from lb_core.route_sections import RouteConfig
from lb_core.section import Peers, Section, Words
from lb_core.settings import Whole


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
    files: tuple[str, ...] = ()
