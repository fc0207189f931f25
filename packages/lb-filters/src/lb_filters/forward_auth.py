"""The feature `forward_auth`: another service decides whether a request may pass, as Traefik's forwardAuth and nginx's
auth_request have it.

    forward_auth: http://auth.internal:4181/verify
    forward_auth: {use: auth, path: /verify, copy_headers: [X-Auth-User]}

The service gets a GET with the request's fields, without its body, and with

    X-Forwarded-Method   GET, POST …            X-Forwarded-Uri    path and query as the client sent them
    X-Forwarded-Proto, -Host, -For, -Port       as the backends get them

    2xx              the request goes on; `copy_headers` are taken from the answer, never from the client
    anything else    is the client's answer, with its fields (Location, Set-Cookie, WWW-Authenticate) and its body
    no answer        503: what cannot be asked about does not pass
"""

from __future__ import annotations

import logging
import re
from time import monotonic
from typing import TYPE_CHECKING

from pydantic import model_validator

from lb_core import (
    AttemptError,
    Backend,
    Feature,
    Headers,
    Pool,
    PositiveDuration,
    Response,
    Settings,
    Use,
    hookimpl,
    subrequest,
)
from lb_filters.client_fields import ClientFields, check_request_field

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from lb_core import Exchange, Route

log = logging.getLogger("lb.filters")

LARGEST_ANSWER = 256 * 1024
"""Bytes of the body that a client may be answered with."""

_ADDRESS = re.compile(
    r"(?i:http)://(?P<host>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?P<target>|[/?][!\"$-~]*)"
).fullmatch
_TARGET = re.compile(r"/[!\"$-~]*").fullmatch
_NOT_ASKED = frozenset(
    (
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
        "x-forwarded-method",
        "x-forwarded-uri",
    )
)
"""What belongs to the request itself and says nothing about who sends it, and what we say instead."""
_NOT_ANSWERED = frozenset(
    (
        "accept-ranges",
        "connection",
        "content-length",
        "content-range",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


class ForwardAuthSettings(Settings):
    """The service that is asked about every request."""

    short = "address"

    address: str = ""
    """Where it is: `http://HOST:PORT/PATH`."""
    use: str = ""
    """A pool under `pools:` that it is instead."""
    path: str = "/"
    """The path to ask that pool for, perhaps with a query."""
    timeout: PositiveDuration = 5.0
    """How long it may take; beyond, the client is answered with 503."""
    copy_headers: tuple[str, ...] = ()
    """Fields of its answer that the backend gets; what a client sends under these names is removed."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if bool(self.address) == bool(self.use):
            raise ValueError("write one of address: http://HOST:PORT/PATH and use: with the name of a pool")
        if self.address:
            parse_address(self.address)
        if not _TARGET(self.path):
            raise ValueError(f'"{self.path}" is no path: write /verify, percent-encoded')
        for name in self.copy_headers:
            check_request_field(name)
        return self


def parse_address(address: str) -> tuple[str, int, str]:
    """Host, port and target of the service. Raises ValueError."""
    if address[:8].lower() == "https://":
        raise ValueError(f'"{address}": the service is asked by http; for https put a pool before it')
    found = _ADDRESS(address)
    if found is None or not 1 <= int(found["port"] or 80) <= 65535:
        raise ValueError(f'"{address}" is no address: write http://HOST:PORT/PATH')
    target = found["target"]
    return found["host"].strip("[]"), int(found["port"] or 80), target if target[:1] == "/" else f"/{target}"


class ForwardAuth:
    """Asks the service."""

    def __init__(self, route: Route, settings: ForwardAuthSettings) -> None:
        self._own: Pool | None = None
        if settings.use:
            self._pool, self._target = route.pools[settings.use], settings.path
        else:
            host, port, self._target = parse_address(settings.address)
            self._pool = self._own = Pool(f"{route.name} forward_auth", [Backend("forward_auth", host, port)])
        self._timeout = settings.timeout
        self._silent = 0.0
        self._copied = settings.copy_headers
        self._taken = ClientFields(settings.copy_headers)
        self._unavailable = {
            as_json: Response.problem(
                503, "auth_unavailable", "nobody can be asked whether this may pass", as_json=as_json
            )
            for as_json in (False, True)
        }

    @hookimpl
    async def before_request(self, exchange: Exchange) -> Response | None:
        """Let a request pass, or answer it as the service does."""
        try:
            answer = await subrequest.send(
                self._pool,
                "GET",
                self._target,
                _question(exchange),
                timeout=self._timeout,
                limit=LARGEST_ANSWER,
            )
        except AttemptError as error:
            exchange.flag(error.flag)
            self._complain(exchange, error)
            return self._unavailable["json" in exchange.headers.get("accept", "")]
        if not 200 <= answer.status <= 299:
            return _passed_on(answer)
        self._taken.remove(exchange)
        for name in self._copied:
            if name in exchange.headers:
                del exchange.headers[name]
            for value in answer.headers.get_all(name):
                exchange.headers.add(name, value)
        return None

    def _complain(self, exchange: Exchange, error: AttemptError) -> None:
        """Say why, once a second."""
        now = monotonic()
        if now >= self._silent:
            self._silent = now + 1.0
            log.warning("route %r: forward_auth: %s", exchange.route.name, error)

    def close(self) -> None:
        """The connections to a service of its own are not needed any more."""
        if self._own is not None:
            subrequest.close(self._own)


def _question(exchange: Exchange) -> Iterable[tuple[str, str]]:
    """The fields of the question about a request."""
    fields = [field for field in subrequest.copy_of(exchange).headers if field[0].lower() not in _NOT_ASKED]
    fields.append(("X-Forwarded-Method", exchange.method))
    fields.append(("X-Forwarded-Uri", exchange.target))
    return fields


def _passed_on(answer: subrequest.Answer) -> Response:
    """The service's answer as the client gets it."""
    if answer.truncated:
        return Response.problem(502, "auth_answer", "the answer about this request is too long")
    named = {name.strip(" \t").lower() for name in answer.headers.get("connection", "").split(",")}
    dropped = _NOT_ANSWERED | named
    fields = Headers(field for field in answer.headers.fields() if field[0].lower() not in dropped)
    body = b"" if answer.status in (304, 205) else answer.body
    return Response(answer.status, body, fields)


def build(route: Route, settings: ForwardAuthSettings) -> ForwardAuth:
    """The question of a route."""
    return ForwardAuth(route, settings)


def _uses(settings: ForwardAuthSettings) -> Iterable[Use]:
    return [Use("pool", settings.use, key=("use",))] if settings.use else []


FEATURE = Feature("forward_auth", build, settings=ForwardAuthSettings, uses=_uses)
