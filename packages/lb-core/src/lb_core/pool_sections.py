"""Pools: backends, and how they are checked."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from lb_core import units
from lb_core.backend import SendProxy
from lb_core.section import TOKEN, Section
from lb_core.settings import Port, PositiveDuration, Whole, Written

_TARGET = re.compile(r"/[!-~]*").fullmatch
_HOST = re.compile(r"[A-Za-z0-9_.:\[\]-]+").fullmatch
_SPAN = re.compile(r"([1-5][0-9]{2})(?: ?- ?([1-5][0-9]{2}))?").fullmatch


class BackendConfig(Section):
    """An address that serves requests. Short form: `host:port`, `http://host:port` or `unix:/path`."""

    short = "url"
    computed = frozenset(("host", "port", "path"))
    also = frozenset(("url", "address"))

    name: str = Field(default="", description="the name; in a list, the address unless given")
    host: str = Field(default="", description="the host part of the address; empty for a unix socket")
    port: Whole = Field(default=0, ge=0, le=65535, description="the port of the address; 0 for a unix socket")
    path: str = Field(default="", description="the socket file of a unix socket; empty for TCP")
    weight: Whole = Field(
        default=1,
        ge=0,
        le=1000,
        description="share of the requests relative to the other backends; 0 takes no new ones",
    )
    max_connections: Whole = Field(default=0, ge=0, description="requests in flight at most; 0 for no limit")
    backup: bool = Field(default=False, description="serves only when every other backend is unavailable")
    zone: str = Field(default="", description="free text for strategies that prefer near backends")
    labels: dict[str, str | int | float] = Field(default={}, description="free-form values for strategies")

    @model_validator(mode="before")
    @classmethod
    def _split_address(cls, value: Any) -> Any:
        value = cls.expand(value)
        if not isinstance(value, Mapping):
            return value
        written = [key for key in ("url", "address") if key in value]
        if not written:
            if not {"host", "port", "path"} & value.keys():
                raise ValueError('the address is missing: write url: "http://web1:8080"')
            return value
        if len(written) == 2:
            raise ValueError("url and address say the same thing: keep one of them")
        address = units.parse_backend(value[written[0]])
        rest = {key: item for key, item in value.items() if key != written[0]}
        return {**rest, "host": address.host, "port": address.port, "path": address.path}

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.path) == bool(self.host and self.port):
            raise ValueError('a backend is at a host and port, or at a socket file: write url: "http://web1:8080"')
        return self


class HealthCheckConfig(Section):
    """Active checks of a pool's backends. Short form: the path; `off` switches them off."""

    short = "path"

    type: Literal["http", "tcp"] = Field(default="http", description="http asks for `path`; tcp only connects")
    path: str = Field(default="/", description="path and query to ask for")
    method: str = Field(default="GET", description="method of the probe")
    interval: PositiveDuration = Field(default=10.0, description="between two checks of a backend, give or take 10 %")
    timeout: PositiveDuration = Field(default=3.0, description="a check that takes longer has failed")
    interval_down: PositiveDuration = Field(default=2.0, description="between two checks after one has failed")
    healthy_after: Whole = Field(default=2, ge=1, description="passed checks in a row that bring a backend back")
    unhealthy_after: Whole = Field(default=3, ge=1, description="failed checks in a row that take a backend out")
    expect: Annotated[
        tuple[tuple[int, int], ...],
        Written(lambda spans: ", ".join(f"{low}-{high}" if low != high else str(low) for low, high in spans)),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string"},
                    {"type": "integer"},
                    {"type": "array", "items": {"type": ["string", "integer"]}},
                ]
            }
        ),
    ] = Field(default=((200, 399),), description="statuses that pass: 200-399, 204, or a list of both")
    port: Port | None = Field(default=None, description="port to check instead of the backend's own")
    host: str | None = Field(default=None, description="Host of the probe instead of the route's")

    @field_validator("path")
    @classmethod
    def _path(cls, value: str) -> str:
        if not _TARGET(value):
            raise ValueError(f"{units.show(value)} is not a path: begin it with / and percent-encode what is not ASCII")
        return value

    @field_validator("method")
    @classmethod
    def _method(cls, value: str) -> str:
        if not TOKEN(value):
            raise ValueError(f"{units.show(value)} is not a method: write GET or HEAD")
        return value.upper()

    @field_validator("host")
    @classmethod
    def _host(cls, value: str | None) -> str | None:
        if value is not None and not _HOST(value):
            raise ValueError(f"{units.show(value)} is not a host: write app.example.com or app.example.com:8080")
        return value

    @field_validator("expect", mode="before")
    @classmethod
    def _spans(cls, value: object) -> object:
        parts = value if isinstance(value, (list, tuple)) else value.split(",") if isinstance(value, str) else [value]
        return tuple(part if isinstance(part, tuple) else _span(part) for part in parts) or _span(None)

    def accepts(self, status: int) -> bool:
        """Whether a probe answered with this status has passed."""
        return any(low <= status <= high for low, high in self.expect)


def _span(part: object) -> tuple[int, int]:
    found = _SPAN(str(part).strip())
    if not found or isinstance(part, bool):
        raise ValueError(f"{units.show(part)} is not a range of statuses: write 200-399, 204 or [200, 301-308]")
    low, high = int(found[1]), int(found[2] or found[1])
    if low > high:
        raise ValueError(f"{units.show(part)} is an empty range of statuses: write {high}-{low}")
    return low, high


class PoolConfig(Section):
    """A set of backends. `host` is the Host of its probes; empty for the backend's address.

    `send_proxy` is what the routes that use it say: a backend either expects a PROXY header or does not.
    """

    name: str
    backends: tuple[BackendConfig, ...]
    health_check: HealthCheckConfig | None = None
    host: str = ""
    send_proxy: SendProxy = "off"
