"""Match rules: what a request must look like to belong to a route."""

import re
from collections.abc import Mapping
from typing import Self

from pydantic import Field, field_validator, model_validator

from lb_core import units
from lb_core.section import TOKEN, Networks, Section, Words


class MatchConfig(Section):
    """What a request must look like; all of it must match."""

    path_prefix: str = Field(
        default="", description="what the path begins with, by whole segments: /v2 matches /v2 and /v2/x, not /v20"
    )
    path: str = Field(default="", description="the whole path")
    methods: Words = Field(default=(), description="methods, one or a list")
    headers: dict[str, str] = Field(
        default={}, description='header fields and their values; "~…" is a regular expression found in the value'
    )
    query: dict[str, str] = Field(
        default={}, description='query parameters and their values; "~…" is a regular expression'
    )
    clients: Networks = Field(default=(), description="address ranges of the client")

    @field_validator("path_prefix", "path")
    @classmethod
    def _path(cls, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError(f"{units.show(value)} is not a path: begin it with /")
        if any(sign in value for sign in "?#\r\n"):
            raise ValueError(f"{units.show(value)} is not a path: it ends before ? and #, parameters belong to `query`")
        return value

    @field_validator("path_prefix")
    @classmethod
    def _no_final_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @field_validator("methods")
    @classmethod
    def _methods(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for method in value:
            if not TOKEN(method):
                raise ValueError(f"{units.show(method)} is not a method: write GET, or [GET, HEAD]")
        return tuple(dict.fromkeys(method.upper() for method in value))

    @field_validator("headers", "query", mode="before")
    @classmethod
    def _texts(cls, value: object) -> object:
        if isinstance(value, Mapping):
            for name, wanted in value.items():
                if isinstance(wanted, (int, float)):
                    shown = units.show(wanted)
                    raise ValueError(f'{name}: {shown} is not text: put it in quotes, "{shown}"')
        return value

    @field_validator("headers", "query")
    @classmethod
    def _expressions(cls, value: dict[str, str]) -> dict[str, str]:
        for name, wanted in value.items():
            if wanted.startswith("~"):
                try:
                    re.compile(wanted[1:])
                except (re.error, RecursionError, OverflowError) as error:
                    raise ValueError(f"{name}: {units.show(wanted[1:])} is not a regular expression: {error}") from None
        return value

    @field_validator("headers")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not TOKEN(name):
                raise ValueError(f"{units.show(name)} is not the name of a header field")
        return {name.lower(): wanted for name, wanted in value.items()}

    @model_validator(mode="after")
    def _one_path(self) -> Self:
        if self.path and self.path_prefix:
            raise ValueError("path and path_prefix exclude each other: keep one of them")
        return self

    def key(self, host: str) -> object:
        """Equal for two rules that match the same requests."""
        sets = (self.methods, self.headers.items(), self.query.items(), self.clients)
        return (host, self.path_prefix, self.path, *map(frozenset, sets))

    def label(self) -> str:
        """The rule in one line, for the name of its route; empty when everything matches."""
        parts = [self.path_prefix, f"={self.path}" if self.path else "", ",".join(self.methods)]
        parts += [f"{name}={wanted}" for name, wanted in self.headers.items()]
        parts += [f"?{name}={wanted}" for name, wanted in self.query.items()]
        parts += [str(network) for network in self.clients]
        return " ".join(part for part in parts if part)
