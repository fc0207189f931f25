"""The feature `rewrite`: a backend is asked for another path than the client asked for; the query stays.

    rewrite: {prefix: /api/v1, to: /v1}              /api/v1/users?id=1 becomes /v1/users?id=1
    rewrite: {regex: "^/user/([0-9]+)$", to: "/users/{1}"}
    rewrite: "/app{path}"                            every path

Paths are compared and changed as sent: percent-encoding stays as it is. A result with dot segments, in any spelling, is
refused with 400: the backend would read it as a path that no rule here has named. Slashes at the beginning become one,
since `//x` could be read as a host.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import model_validator

from lb_core import Feature, Response, Settings, hookimpl
from lb_filters.placeholders import OF_REQUEST, Template

if TYPE_CHECKING:
    from typing import Self

    from lb_core import Exchange, Route

Matched = tuple["Exchange", "re.Match[str]"]

_SLASH = r"(?:/|\\|%2f|%5c)"
_DOTS = re.compile(rf"{_SLASH}(?:\.|%2e){{1,2}}(?:;[^/]*)?(?:{_SLASH}|$)", re.IGNORECASE).search
_SENT = re.compile(r"[!\"$-~]*").fullmatch
_NAMED = frozenset(("client", "host", "method", "path", "scheme", "request_id"))

_REFUSED = {
    as_json: Response.problem(400, "ambiguous_path", "the path has dot segments where it is rewritten", as_json=as_json)
    for as_json in (False, True)
}


class RewriteSettings(Settings):
    """Another path for the backends; without `prefix` and `regex` every path becomes `to`."""

    short = "to"

    to: str
    """The path instead, perhaps with a query to which the request's is appended; with places in braces: {path}, and
    {1}, {2} or {name} for the groups of `regex`."""
    prefix: str = ""
    """The beginning of the path that is replaced, whole segments."""
    regex: str = ""
    """What must be found in the path; then the whole path becomes `to`."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.prefix and self.regex:
            raise ValueError("prefix and regex exclude each other: keep one of them")
        if self.prefix and (self.prefix[0] != "/" or not _SENT(self.prefix) or "?" in self.prefix):
            raise ValueError(f'"{self.prefix}" is no path prefix: write /old, percent-encoded as it is sent')
        if self.prefix and "?" in self.to:
            raise ValueError(f'"{self.to}" has a query, behind which the rest of the path cannot stand')
        if not self.to.startswith(("/", "{path}")) or not _SENT(self.to):
            raise ValueError(f'"{self.to}" is no path: write /new, percent-encoded, or begin with {{path}}')
        template(self)
        return self


def template(settings: RewriteSettings) -> tuple[re.Pattern[str], Template[Matched]]:
    """What is found in a path, and what it becomes. Raises ValueError."""
    try:
        pattern = re.compile(settings.regex or (re.escape(settings.prefix.rstrip("/")) + "(?P<rest>/.*)?$"), re.DOTALL)
    except re.error as error:
        raise ValueError(f'"{settings.regex}" is not a regular expression: {error}') from None
    values: dict[str, Callable[[Matched], str]] = {name: _of_request(name) for name in _NAMED}
    if settings.regex:
        groups = [*map(str, range(1, pattern.groups + 1)), *pattern.groupindex]
        values |= {name: _group(int(name) if name.isdigit() else name) for name in groups}
    return pattern, Template(settings.to, values)


def _of_request(name: str) -> Callable[[Matched], str]:
    value = OF_REQUEST[name]
    return lambda matched: value(matched[0])


def _group(name: int | str) -> Callable[[Matched], str]:
    return lambda matched: matched[1].group(name) or ""


class Rewrite:
    """Changes the path of the requests it concerns."""

    def __init__(self, settings: RewriteSettings) -> None:
        pattern, self._template = template(settings)
        self._find: Callable[[str], re.Match[str] | None] = pattern.match if settings.prefix else pattern.search
        self._rest = bool(settings.prefix)

    @hookimpl
    def before_request(self, exchange: Exchange) -> Response | None:
        """Set the backend's target."""
        path, mark, query = exchange.target.partition("?")
        found = self._find(path) if path[:1] == "/" else None  # else `OPTIONS *`
        if found is None:
            return None
        new = self._template.fill((exchange, found))
        if self._rest:
            new = new.rstrip("/") + (found["rest"] or "")
        new = "/" + new.lstrip("/\\")
        if _DOTS(new.partition("?")[0]):
            return _REFUSED["json" in exchange.headers.get("accept", "")]
        if mark:
            new = f"{new}{'&' if '?' in new else '?'}{query}"
        exchange.rewrite(new)
        return None


def build(route: Route, settings: RewriteSettings) -> Rewrite:
    """The rewriting of a route."""
    del route
    return Rewrite(settings)


FEATURE = Feature("rewrite", build, settings=RewriteSettings)
