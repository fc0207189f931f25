"""Listeners: where connections are accepted, and what is asked of clients."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from lb_core import units
from lb_core.section import Peers, Section
from lb_core.settings import Mode, PositiveDuration, Size, Whole, Written

AUTO = -1


def _connections(value: object) -> object:
    """A number of connections, or `auto`."""
    if value == "auto" or (value == AUTO and type(value) is int):
        return AUTO
    if type(value) is not int or value < 0:
        raise ValueError(f"{units.show(value)} is not a number of connections: write auto, 0 for no limit, or 10000")
    return value


Connections = Annotated[
    int,
    BeforeValidator(_connections),
    Written(lambda value: "auto" if value == AUTO else str(value)),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 0}]}),
]


class ClientTimeouts(Section):
    """How long a listener waits for its clients."""

    header: PositiveDuration = Field(
        default=15.0, description="from the first byte of a request to the end of its head"
    )
    body: PositiveDuration = Field(default=60.0, description="in which more of a request's body must come")
    write: PositiveDuration = Field(
        default=60.0, description="in which a client must read some of a response that waits for it"
    )
    keep_alive: PositiveDuration = Field(default=75.0, description="idle connection between two requests")


class ClientLimits(Section):
    """What a listener accepts from its clients."""

    head: Size = Field(default=16384, gt=0, description="bytes of a request's head; 431 beyond")
    fields: Whole = Field(default=100, ge=1, description="header fields of a request; 431 beyond")
    target: Size = Field(default=8192, gt=0, description="bytes of a request's target; 414 beyond")
    requests: Whole = Field(
        default=1000, ge=0, description="requests on one connection before it is closed; 0 for no limit"
    )
    connections: Connections = Field(
        default=AUTO,
        description="open connections, 503 beyond; `auto`: all listeners together may hold half of the limit on open "
        "files, less 256; 0 for no limit",
    )
    per_client: Whole = Field(
        default=0,
        ge=0,
        description="open connections from one IPv4 address or one IPv6 /64, 503 beyond; `trusted_proxies` are exempt; "
        "0 for no limit, since many people may share an address",
    )
    body_rate: Size = Field(
        default=500,
        description="bytes a second that a request's body must bring; a client may be `timeouts.body` late with them; "
        "`0B` for no minimum",
    )
    read_rate: Size = Field(
        default=500,
        description="bytes a second that a client must read of a response that waits for it, measured over half of "
        "`timeouts.write`; `0B` for no minimum",
    )


class ProxyProtocolConfig(Section):
    """Who tells us the client's address in a PROXY header. Short form: the address ranges."""

    short = "trusted"

    trusted: Peers = Field(
        default=(),
        description="address ranges that send a PROXY header, version 1 or 2, and must; or `unix`. Others are served "
        "without one",
    )
    timeout: PositiveDuration = Field(default=3.0, description="for the whole header to come")

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.trusted:
            raise ValueError("nobody is trusted to send a PROXY header: write trusted: [10.0.0.0/8]")
        return self


class ListenerConfig(Section):
    """An address to accept connections on. Short form: the address."""

    short = "address"
    computed = frozenset(("name", "host", "port", "path"))

    name: str = Field(default="web", description="the name of the listener")
    address: str = Field(
        description='where to listen: ":8080" (all interfaces), "127.0.0.1:8080", "[::1]:8080", "unix:/run/lb.sock"'
    )
    host: str = Field(default="", description="the host part of the address; empty for all interfaces")
    port: int = Field(default=0, description="the port of the address; 0 for any free port")
    path: str = Field(default="", description="the socket file of a unix socket; empty for TCP")
    mode: Mode = Field(default=0o660, description="of a unix socket: the rights on its file")
    proxy_protocol: ProxyProtocolConfig | None = Field(
        default=None, description="who tells the client's address in a PROXY header: below"
    )
    timeouts: ClientTimeouts = ClientTimeouts()
    limits: ClientLimits = ClientLimits()

    @field_validator("proxy_protocol", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value is False else value

    @model_validator(mode="before")
    @classmethod
    def _split_address(cls, value: Any) -> Any:
        value = cls.expand(value)
        if not isinstance(value, Mapping):
            return value
        if "address" not in value and "port" in value:
            host, port = value.get("host", ""), value["port"]
            return {**value, "address": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}
        if "address" in value and "port" not in value:
            address = units.parse_listen(value["address"])
            if address.path:
                return {**value, "address": f"unix:{address.path}", "port": 0, "path": address.path}
            if "mode" in value:
                raise ValueError("mode is of a unix socket's file: leave it out, or listen on unix:/run/lb.sock")
            shown = value["address"] if ":" in str(value["address"]) else f":{address.port}"
            return {**value, "address": shown, "host": address.host, "port": address.port}
        return value
