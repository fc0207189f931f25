"""The feature `redirect`: every request of a route is answered with another address.

    redirect: https://www.example.com{uri}      the same path and query elsewhere
    redirect: {prefix: https://www.example.com/app}
    redirect: {https: true}                     what came by http goes to https; the rest goes to the backends

The address must name its host, or begin with `/`, before anything that a client sends may stand in it: nobody can make
it lead to a host of his own.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from lb_core import Feature, Response, Settings, hookimpl
from lb_filters.placeholders import OF_REQUEST, Template

if TYPE_CHECKING:
    from typing import Self

    from lb_core import Exchange, Route

_HOST = r"(?:[A-Za-z0-9._~-]|\{host\})+|\[[0-9A-Fa-f:.]+\]"
_LEADS = re.compile(rf"(?:(?:https?|\{{scheme\}})://(?:{_HOST})(?::[0-9]{{1,5}})?)?(?P<rest>.*)").fullmatch
_BEGINS = ("/", "{path}", "{uri}")
_SENT = re.compile(r"[!-~]*").fullmatch
_SLASHES = re.compile(r"[/\\]{2,}").match


class RedirectSettings(Settings):
    """Where the requests of a route are sent instead; one of `to`, `prefix` and `https`."""

    short = "to"

    to: str = ""
    """The address: `https://HOST/…` or `/…`, with places in braces: {uri} (path and query), {path}, {query}, {host},
    {scheme}."""
    prefix: str = ""
    """An address to which the request's path and query are appended."""
    https: bool = False
    """Whether requests that came by http go to the same address by https."""
    status: Literal[301, 302, 303, 307, 308] = 308
    """308 and 301 are for good, 307 and 302 for now; 307 and 308 keep the method, 303 asks for a GET."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.to) + bool(self.prefix) + self.https != 1:
            raise ValueError("write one of to, prefix and https: true")
        if not self.https:
            _template(self)
        return self


def _template(settings: RedirectSettings) -> Template[Exchange]:
    """The address as a template. Raises ValueError."""
    text = settings.to or settings.prefix.rstrip("/") + "{uri}"
    if settings.https:
        text = "https://{host}{uri}"
    if not _SENT(text):
        raise ValueError(f'"{text}" holds characters that no address may: percent-encode them')
    template = Template(text, OF_REQUEST)
    rest: str = _LEADS(text)["rest"]  # type: ignore[index]  # matches everything
    named_host = rest != text
    fine = rest.startswith((*_BEGINS, "?") if named_host else _BEGINS) or (named_host and not rest)
    if not fine or _SLASHES(rest):
        raise ValueError(
            f'"{settings.to or settings.prefix}" is no address: write https://HOST/…, /… or {{uri}}; '
            "behind a host comes /, {path} or {uri}"
        )
    return template


class Redirect:
    """Answers with the address."""

    def __init__(self, settings: RedirectSettings) -> None:
        self._status = settings.status
        self._only_http = settings.https
        self._template = _template(settings)
        constant = self._template.constant
        self._ready = None if constant is None else _answer(settings.status, constant)

    @hookimpl
    def before_request(self, exchange: Exchange) -> Response | None:
        """Answer, but what has come by https already where that is all that is wanted."""
        if self._only_http and exchange.client_scheme == "https":
            return None
        return self._ready or _answer(self._status, self._template.fill(exchange))


def _answer(status: int, address: str) -> Response:
    if address[:1] == "/":
        # `//host` and, to browsers, `/\host` are another host (RFC 3986 section 4.2)
        address = "/" + address.lstrip("/\\")
    return Response(status, f"{HTTPStatus(status).phrase}: {address}\n", {"Location": address})


def build(route: Route, settings: RedirectSettings) -> Redirect:
    """The redirect of a route."""
    del route
    return Redirect(settings)


FEATURE = Feature("redirect", build, settings=RedirectSettings, answers=lambda settings: not settings.https)
