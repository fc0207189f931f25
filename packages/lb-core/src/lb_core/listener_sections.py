"""Listeners: where connections are accepted, and what is asked of clients."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from lb_core import units
from lb_core.section import Section
from lb_core.settings import PositiveDuration, Size, Whole


class ClientTimeouts(Section):
    """How long a listener waits for its clients."""

    header: PositiveDuration = Field(
        default=15.0, description="from the first byte of a request to the end of its head"
    )
    body: PositiveDuration = Field(default=60.0, description="gap between two reads of a request's body")
    write: PositiveDuration = Field(
        default=60.0, description="gap between two writes of a response, when the client does not read"
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


class ListenerConfig(Section):
    """An address to accept connections on. Short form: the address."""

    short = "address"
    computed = frozenset(("name", "host", "port"))

    name: str = Field(default="web", description="the name of the listener")
    address: str = Field(description='where to listen: ":8080" (all interfaces), "127.0.0.1:8080", "[::1]:8080"')
    host: str = Field(default="", description="the host part of the address; empty for all interfaces")
    port: int = Field(default=0, description="the port of the address; 0 for any free port")
    timeouts: ClientTimeouts = ClientTimeouts()
    limits: ClientLimits = ClientLimits()

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
            shown = value["address"] if ":" in str(value["address"]) else f":{address.port}"
            return {**value, "address": shown, "host": address.host, "port": address.port}
        return value
