"""Sticky sessions for lb: a client stays with its backend, by cookie or header."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING

from lb_core import Feature, hookimpl
from lb_sessions.by_cookie import CookieSessions
from lb_sessions.by_header import HeaderSessions
from lb_sessions.collisions import collisions
from lb_sessions.secret import log
from lb_sessions.session_names import is_session_name
from lb_sessions.settings import StickySettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from lb_core import LoadBalancer, Route

__all__ = ["CookieSessions", "HeaderSessions", "StickySettings"]


@hookimpl
def register_features() -> Iterator[Feature]:
    """`sticky_sessions`."""
    yield Feature("sticky_sessions", build, StickySettings)


@hookimpl
@asynccontextmanager
async def lifespan(balancer: LoadBalancer) -> AsyncIterator[None]:
    """Have the secrets ready before the first request; what only checks a configuration makes no files."""
    sticky = [(route, part) for route in balancer.routes.values() for _, part in route.parts]
    cookies = [(route, part) for route, part in sticky if isinstance(part, CookieSessions)]
    for _, part in cookies:
        part.ready()
    if balancer.controls:
        for collision in collisions((route, part.settings) for route, part in cookies):
            log.warning("%s", collision)
    yield


def build(route: Route, settings: StickySettings) -> CookieSessions | HeaderSessions:
    """The sticky sessions of a route."""
    sessions = HeaderSessions(settings.header) if settings.header else CookieSessions(settings, route)
    route.keeps = sessions.keeps
    if not settings.header and not route.sharing.seat and is_session_name(settings.cookie):
        _warn_of_name(settings.cookie)
    return sessions


@cache  # once, however many routes inherit the name
def _warn_of_name(name: str) -> None:
    log.warning(
        "sticky_sessions: the cookie %s looks like an application's session, which it would overwrite; choose another "
        "name, such as lb_sticky",
        name,
    )
