"""The section `sticky_sessions` of a route."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from lb_core import Duration, Settings

SHORTEST_SECRET = 16
_HEADER = re.compile(r"header:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)").fullmatch


class StickySettings(Settings):
    """A client stays with its backend, by a cookie or by a header of its own."""

    short = "by"

    by: str = "cookie"
    """`cookie` gives each client a cookie; `header:NAME` goes by what the clients send in that header."""
    cookie: Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$")] = "lb_sticky"
    """The cookie's name; not the one of the application's own session."""
    ttl: Duration = 0.0
    """How long a browser keeps the cookie, from when it gets it; 0s for as long as it runs."""
    same_site: Literal["lax", "strict", "none"] = "lax"
    """To which requests from other sites a browser adds the cookie."""
    secure: Literal["auto", "always", "never"] = "auto"
    """Whether a browser returns it over TLS only: `auto` where it came over TLS, to us or to a trusted proxy."""
    domain: Annotated[str, Field(pattern=r"^(\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*)?$")] = ""
    """The domain whose hosts all get the cookie; nothing for the host of the request alone."""
    path: Annotated[str, Field(pattern=r"^/[!-:<-~]*$")] = "/"
    """The path below which a browser returns it."""
    secret: SecretStr = SecretStr("")
    """What the cookie's value is computed with, 16 characters at least; the same for all that share clients."""
    secret_file: str = "./data/sticky.key"
    """Where a secret is kept that is made at the first start; for when `secret` is empty."""

    @field_validator("by")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != "cookie" and not _HEADER(value):
            raise ValueError(f'"{value}" is nothing to know a client by: write cookie or header:X-User')
        return value

    @field_validator("ttl")
    @classmethod
    def _whole_seconds(cls, value: float) -> float:
        if 0 < value < 1:
            raise ValueError("a cookie lives for whole seconds: write 1s or more, or 0s")
        return value

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < SHORTEST_SECRET:
            raise ValueError(f"a secret has {SHORTEST_SECRET} characters at least: `openssl rand -hex 32` makes one")
        return value

    @field_validator("secret_file")
    @classmethod
    def _is_path(cls, value: str) -> str:
        if not value or "\0" in value:
            raise ValueError("this is no path: write one like ./data/sticky.key")
        return value

    @model_validator(mode="after")
    def _accepted_by_browsers(self) -> Self:
        if self.same_site == "none" and self.secure == "never":
            raise ValueError("browsers refuse same_site: none without secure: leave `secure: never` out")
        if self.cookie.startswith(("__Host-", "__Secure-")) and self.secure != "always":
            raise ValueError(f'browsers refuse "{self.cookie}" without secure: write secure: always')
        if self.cookie.startswith("__Host-") and (self.domain or self.path != "/"):
            raise ValueError(f'browsers refuse "{self.cookie}" with a domain or a path: leave them out')
        return self

    @property
    def header(self) -> str:
        """The header clients are known by; empty where it is a cookie."""
        found = _HEADER(self.by)
        return found[1] if found else ""
