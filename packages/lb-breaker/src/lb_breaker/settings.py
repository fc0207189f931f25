"""The section `circuit_breaker:` of a route."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from pydantic import BeforeValidator

from lb_core import Duration, PositiveDuration, Settings, Share, Whole

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema

_PATTERN = r"[0-9]+ ?/ ?[0-9].*"
_SHORT = re.compile(_PATTERN).fullmatch


def _number(value: object) -> object:
    if isinstance(value, str) and not value.strip().isdecimal():
        raise ValueError(f'"{value}" is not a threshold: write 5, or 5/60s with the time for which it stays open')
    return value


class BreakerSettings(Settings):
    """When a backend, or a whole route, that fails is left alone, and how it is tried again.

    Short forms: `true`, a threshold (`5`), and a threshold with its timeout (`5/60s`).
    """

    short = "threshold"

    threshold: Annotated[Whole, Ge(1), BeforeValidator(_number)] = 5
    """Failures in a row that open the breaker; where only `error_ratio` is written, that alone decides."""
    timeout: PositiveDuration = 60.0
    """How long it stays open before it is tried again."""
    scope: Literal["backend", "route"] = "backend"
    """What is judged and left alone: each backend by itself, or all of the route together."""
    error_ratio: Annotated[Share, Gt(0)] | None = None
    """The share of failures among the requests of `window` that opens it."""
    min_requests: Annotated[Whole, Ge(1)] = 20
    """Requests in `window` below which no share is judged."""
    window: PositiveDuration = 10.0
    """The time over which shares are taken, in ten steps."""
    slow_call: Duration = 0.0
    """A response head that takes longer counts as slow; 0s for none. Queues and uploads are not counted in."""
    slow_ratio: Annotated[Share, Gt(0)] = 0.5
    """The share of slow ones among the requests of `window` that opens it, where `slow_call` is set."""
    probes: Annotated[Whole, Ge(1)] = 1
    """Requests let through at a time while it is tried again."""
    passes: Annotated[Whole, Ge(1)] = 2
    """Probes that must succeed to close it; one that fails opens it again."""
    statuses: tuple[Annotated[Whole, Ge(400), Le(599)], ...] = (502, 503, 504)
    """Response statuses that count as failures, beside attempts that ended before a response."""

    @property
    def in_a_row(self) -> int:
        """Failures in a row that open it; 0 where they are not counted."""
        only_ratio = self.error_ratio is not None and "threshold" not in self.model_fields_set
        return 0 if only_ratio else self.threshold

    @property
    def counts_all(self) -> bool:
        """Whether requests that succeed must be counted too."""
        return self.error_ratio is not None or self.slow_call > 0

    @classmethod
    def expand(cls, value: object) -> object:
        """`5/60s` stands for a threshold and a timeout."""
        if isinstance(value, str) and _SHORT(value.strip()):
            threshold, _, timeout = value.partition("/")
            return {"threshold": threshold.strip(), "timeout": timeout.strip()}
        return super().expand(value)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        outer = super().__get_pydantic_json_schema__(core, handler)
        schema = handler.resolve_ref_schema(outer)
        forms = schema.get("anyOf", [])
        schema["anyOf"] = [*forms, {"type": "string", "pattern": f"^{_PATTERN}$", "examples": ["5/60s"]}]
        return outer


def replaces(settings: BreakerSettings) -> Iterable[str]:
    """A breaker for each backend takes the place of passive ejection."""
    return ("ejection",) if settings.scope == "backend" else ()
