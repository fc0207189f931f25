"""The section `rate_limit` of a route: one limit, its short form, or a list of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from lb_core import Network, PositiveDuration, Settings, Whole
from lb_ratelimit.keys import key_function, look_beside

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema

MOST = 1_000_000_000
_SHORT = re.compile(r"([0-9]+) ?/ ?([0-9]*[0-9.a-z]+)").fullmatch
_NAME = re.compile(r"[A-Za-z0-9_.-]{0,64}").fullmatch
_PATTERN = r"^[0-9]+ ?/ ?([0-9]+(\.[0-9]+)?)?(us|ms|s|m|h|d)([0-9.]+(us|ms|s|m|h|d))*$"


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _off(value: object) -> object:
    return "off" if value is False else value


def parse_short(text: str) -> dict[str, object] | None:
    """`1000/60s` (or `1000/m` for one of a unit) as a mapping; None for another text."""
    found = _SHORT(text.strip())
    if found is None:
        return None
    window = found[2] if found[2][0].isdigit() else f"1{found[2]}"
    return {"requests": int(found[1]), "window": window}


class LimitSettings(Settings):
    """One limit; the short form is `requests` and `window`: `1000/60s`."""

    requests: Annotated[Whole, Field(ge=1, le=MOST)]
    """How many may pass in a `window`; for `concurrency`, how many may be under way at the same time."""
    window: PositiveDuration = 60.0
    """For how long requests count; of no meaning for `concurrency`."""
    algorithm: Literal["sliding_window", "token_bucket", "fixed_window", "concurrency"] = "sliding_window"
    """How they are counted."""
    key: str = "client_ip"
    """Whom they count for: `client_ip` (IPv6: its /64), `route` (everybody together), `path`, `header:NAME`,
    `cookie:NAME`, or `module:function`, a Python function of the exchange that returns a text, or None for no limit."""
    burst: Annotated[Whole, Field(ge=1, le=MOST)] | None = None
    """For `token_bucket`: how many may pass at once after a quiet time; `requests` unless given."""
    name: str = ""
    """What clients and events call it; `default`, or in a list `default`, `limit2`, `limit3` …"""
    exempt: Annotated[tuple[Network, ...], BeforeValidator(_one_or_many)] = ()
    """Address ranges of clients that are not limited, and not counted."""
    headers: Annotated[Literal["refused", "draft", "legacy", "off"], BeforeValidator(_off)] = "refused"
    """Fields that tell clients where they stand: `refused` for RateLimit and RateLimit-Policy on refusals, `draft` for
    both on every answer, `legacy` for X-RateLimit-Limit, -Remaining and -Reset on every answer, `off` for none."""
    dry_run: bool = False
    """Count, flag and tell, but refuse nobody."""
    max_keys: Annotated[Whole, Field(ge=2, le=10_000_000)] = 100_000
    """How many keys are remembered; the least recently used are forgotten first."""

    @classmethod
    def expand(cls, value: object) -> object:
        """Turn `1000/60s` into the mapping it stands for."""
        if isinstance(value, str):
            return parse_short(value) or value
        return super().expand(value)

    @model_validator(mode="before")
    @classmethod
    def _known_form(cls, value: object) -> object:
        value = cls.expand(value)
        if not isinstance(value, (Mapping, BaseModel)):
            shown = f'"{value}"' if isinstance(value, str) else "null" if value is None else value
            raise ValueError(f"{shown} is not a rate limit: write 1000/60s, or requests: 1000 and window: 60s")
        return value

    @field_validator("name")
    @classmethod
    def _sendable(cls, value: str) -> str:
        if not _NAME(value):
            raise ValueError(f'"{value[:80]}" is not a name: use up to 64 letters, digits, _, . and -')
        return value

    @field_validator("key")
    @classmethod
    def _known_key(cls, value: str, info: ValidationInfo) -> str:
        look_beside((info.context or {}).get("source", ""))
        key_function(value)
        return value

    @model_validator(mode="after")
    def _burst_of_a_bucket(self) -> Self:
        if self.burst is not None and self.algorithm != "token_bucket":
            raise ValueError(f"burst is for token_bucket, and this is a {self.algorithm}: leave burst out")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        outer = super().__get_pydantic_json_schema__(core, handler)
        schema = handler.resolve_ref_schema(outer)
        networks = schema["properties"]["exempt"]
        schema["properties"]["exempt"] = {"anyOf": [networks["items"], networks]}
        schema["properties"]["headers"] = {"enum": ["refused", "draft", "legacy", "off", False], "default": "refused"}
        mapping = {key: schema.pop(key) for key in list(schema) if key not in ("title", "description")}
        schema["anyOf"] = [{"type": "string", "pattern": _PATTERN, "examples": ["1000/60s"]}, mapping]
        return outer


class RateLimitSettings(Settings):
    """How many requests may pass: one limit, or a list of limits that must all let a request pass."""

    short = "limits"

    limits: tuple[LimitSettings, ...]
    """The limits, asked in this order."""

    @classmethod
    def expand(cls, value: object) -> object:
        """One limit in its long form, so that it is inherited key by key; a list stays one and is inherited whole."""
        return LimitSettings.expand(value)

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        value = cls.expand(value)
        if isinstance(value, (list, tuple)):
            return {"limits": value}
        if isinstance(value, cls) or (isinstance(value, Mapping) and "limits" in value):
            return value
        return {"limits": [value]}

    @model_validator(mode="after")
    def _together(self) -> Self:
        if not self.limits:
            raise ValueError("this list is empty: write off for no limit")
        named = Counter(self.names)
        twice = next((name for name, count in named.items() if count > 1), "")
        if twice:
            raise ValueError(f'the name "{twice}" is there {named[twice]} times: give each limit another')
        if len(self.forms) > 1:
            raise ValueError("headers is legacy for one limit and not for another: say the same in all, or off")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """What each limit is called."""
        return tuple(
            limit.name or (f"limit{number}" if number > 1 else "default") for number, limit in enumerate(self.limits, 1)
        )

    @property
    def forms(self) -> set[str]:
        """In which forms clients are told, `draft` or `legacy`: one for all limits, or none."""
        return {"legacy" if limit.headers == "legacy" else "draft" for limit in self.limits if limit.headers != "off"}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        outer = super().__get_pydantic_json_schema__(core, handler)
        schema = handler.resolve_ref_schema(outer)
        several = schema["anyOf"][0]
        schema["anyOf"] = [several["items"], {**several, "minItems": 1}]
        return outer
