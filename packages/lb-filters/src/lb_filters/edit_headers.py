"""The feature `edit_headers`: fields set, added and removed, on the way to a backend and on the way back.

    edit_headers:
      request:  {set: {X-Client: "{client}"}, remove: [Cookie]}
      response: {set: {Strict-Transport-Security: max-age=31536000}, remove: [Server, X-Powered-By]}

In each direction the order is remove, set, add. Edits of the response are made to what a backend answers; the answers
lb makes itself (a redirect, a 401, a 503) stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from lb_core import Feature, Headers, Settings, hookimpl
from lb_filters.client_fields import ClientFields, check_name, check_request_field
from lb_filters.placeholders import OF_REQUEST, OF_RESPONSE, Template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self

    from lb_core import Exchange, Route


class Edits(Settings):
    """What happens to the fields of one direction; values may hold places in braces."""

    set: dict[str, str] = Field(default_factory=dict)
    """Fields that replace those of the same name."""
    add: dict[str, str] = Field(default_factory=dict)
    """Fields beside those of the same name."""
    remove: tuple[str, ...] = ()
    """Names of fields that go."""

    @property
    def names(self) -> Iterable[str]:
        """Every name."""
        return (*self.set, *self.add, *self.remove)


class EditHeadersSettings(Settings):
    """Fields set, added and removed in each direction."""

    request: Edits = Edits()
    """On the way to a backend; values may hold {client}, {host}, {method}, {path}, {query}, {uri}, {scheme},
    {request_id}."""
    response: Edits = Edits()
    """On the way back to the client; values may hold {status} and {backend} too."""

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        for name in self.request.names:
            check_request_field(name)
        for name in self.response.names:
            check_name(name)
        for edits, values in ((self.request, OF_REQUEST), (self.response, OF_RESPONSE)):
            _fields(edits.set, values)
            _fields(edits.add, values)
        if not (*self.request.names, *self.response.names):
            raise ValueError("nothing is edited: write request: or response: with set, add or remove")
        return self


class _Field:
    """A field to write: its value ready, or a template."""

    __slots__ = ("name", "template", "value")

    def __init__(self, name: str, text: str, values: Mapping[str, Callable[[Exchange], str]]) -> None:
        self.name = name
        self.template = Template(text, values)
        self.value = self.template.constant
        Headers().add(name, self.template.constant or "".join(char for char in text if char not in "{}"))

    def of(self, exchange: Exchange) -> str:
        """The value for one request."""
        return self.template.fill(exchange) if self.value is None else self.value


def _fields(written: Mapping[str, str], values: Mapping[str, Callable[[Exchange], str]]) -> tuple[_Field, ...]:
    """Raises ValueError for what must not go on the wire."""
    return tuple(_Field(name, text, values) for name, text in written.items())


class RequestEdits:
    """Edits on the way to a backend."""

    def __init__(self, settings: EditHeadersSettings) -> None:
        edits = settings.request
        self._gone = ClientFields((*edits.remove, *edits.set))
        self._removed = edits.remove
        self._set = _fields(edits.set, OF_REQUEST)
        self._added = _fields(edits.add, OF_REQUEST)

    @hookimpl
    def before_request(self, exchange: Exchange) -> None:
        """Edit the request."""
        self._gone.remove(exchange)
        headers = exchange.headers
        _edit(headers, self._removed, self._set, self._added, exchange)


class ResponseEdits:
    """Edits on the way back."""

    def __init__(self, settings: EditHeadersSettings) -> None:
        edits = settings.response
        self._removed_back = edits.remove
        self._set_back = _fields(edits.set, OF_RESPONSE)
        self._added_back = _fields(edits.add, OF_RESPONSE)

    @hookimpl
    def on_response(self, exchange: Exchange) -> None:
        """Edit the backend's answer."""
        _edit(exchange.response_headers, self._removed_back, self._set_back, self._added_back, exchange)


class BothEdits(RequestEdits, ResponseEdits):
    """Edits both ways."""

    def __init__(self, settings: EditHeadersSettings) -> None:
        RequestEdits.__init__(self, settings)
        ResponseEdits.__init__(self, settings)


def _edit(
    headers: Headers, removed: tuple[str, ...], put: tuple[_Field, ...], added: tuple[_Field, ...], exchange: Exchange
) -> None:
    for name in removed:
        if name in headers:
            del headers[name]
    for field in put:
        headers[field.name] = field.of(exchange)
    for field in added:
        headers.add(field.name, field.of(exchange))


def build(route: Route, settings: EditHeadersSettings) -> RequestEdits | ResponseEdits:
    """The edits of a route: a direction without any is not asked about."""
    del route
    if not settings.response.names:
        return RequestEdits(settings)
    return BothEdits(settings) if settings.request.names else ResponseEdits(settings)


FEATURE = Feature("edit_headers", build, settings=EditHeadersSettings)
