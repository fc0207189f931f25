"""The feature `respond`: every request of a route gets the same answer, from here.

respond: {status: 503, body: "Back at noon.\\n", headers: {Retry-After: "3600"}}
respond: 404
respond: "pong"
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le
from pydantic import Field, model_validator

from lb_core import Feature, Response, Settings, Whole, hookimpl

if TYPE_CHECKING:
    from typing import Self

    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema

    from lb_core import Exchange, Route


class RespondSettings(Settings):
    """The answer; a bare number stands for its status, a bare text for its body."""

    short = "body"

    status: Annotated[Whole, Ge(200), Le(599)] = 200
    """Its status."""
    body: str = ""
    """Its body, sent as UTF-8."""
    content_type: str = "text/plain; charset=utf-8"
    """What the body is."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Further header fields."""

    @classmethod
    def expand(cls, value: object) -> object:
        """A number is a status."""
        if isinstance(value, int) and not isinstance(value, bool):
            return {"status": value}
        return super().expand(value)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        outer = super().__get_pydantic_json_schema__(core, handler)
        handler.resolve_ref_schema(outer)["anyOf"].insert(0, {"type": "integer", "minimum": 200, "maximum": 599})
        return outer

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        response(self)
        return self


def response(settings: RespondSettings) -> Response:
    """The answer. Raises ValueError for what must not go on the wire."""
    fields = dict(settings.headers)
    names = [name.lower() for name in fields]
    if len(set(names)) < len(names):
        raise ValueError("headers: a name stands there twice; keep one")
    if settings.body:
        if "content-type" in names:
            raise ValueError("headers: write Content-Type as content_type")
        fields["Content-Type"] = settings.content_type
    return Response(settings.status, settings.body, fields)


class Respond:
    """Answers."""

    def __init__(self, settings: RespondSettings) -> None:
        self._response = response(settings)

    @hookimpl
    def before_request(self, exchange: Exchange) -> Response:
        """The one answer."""
        del exchange
        return self._response

    def describe(self) -> str:
        """What it says."""
        return f"every request is answered with {self._response.status} {_phrase(self._response.status)}".rstrip()


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""


def build(route: Route, settings: RespondSettings) -> Respond:
    """The answer of a route."""
    del route
    return Respond(settings)


FEATURE = Feature("respond", build, settings=RespondSettings, answers=lambda _: True)
