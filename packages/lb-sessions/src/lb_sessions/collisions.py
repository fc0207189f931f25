"""Routes of one host that would take each other's cookie away.

Two rules of a host with backends of their own, and the same cookie for both: a client that goes from one to the other
brings a token that means nothing there, gets another, and has lost its backend when it comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lb_core import Route
    from lb_sessions.settings import StickySettings


def collisions(sticky: Iterable[tuple[Route, StickySettings]]) -> Iterator[str]:
    """A sentence for each route whose cookie is that of an earlier one before another pool."""
    first: dict[tuple[str, str, str, str], Route] = {}
    for route, settings in sticky:
        place = route.config.host, settings.cookie, settings.domain, settings.path
        other = first.setdefault(place, route)
        if other.pool is not route.pool:
            yield (
                f"sticky_sessions: the routes {other.name!r} and {route.name!r} have different backends and the same "
                f"cookie {settings.cookie}: clients that use both lose their backend each time; give one of them "
                "another name with cookie:"
            )
